# SPDX-License-Identifier: Apache-2.0
"""Text to token ids by byte-level BPE: training, loading, special tokens that no text can spell, the chat template.

The result is a stock `PreTrainedTokenizerFast`: its folder loads with `AutoTokenizer` and needs no code of ours.

Special tokens are matched in raw text, before any other step. Text of users and of data must therefore never hold
their spelling: `escape` breaks each "<|" (all our special tokens begin so) with a private-use character, and the
tokenizer's own normalizer, which runs after special tokens were matched, mends it. What comes out are exactly the
tokens of the plain text. The chat template does the same to every message. `protect_control_tokens` gives other
tokenizers such a normalizer and such a template.
"""

import hashlib
import json
import logging
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from scratch_gpt.errors import UserError
from scratch_gpt.plain_messages import escaping_template


logger = logging.getLogger(__name__)

END_OF_TEXT = "<|endoftext|>"
PAD = "<|pad|>"
# What ends a document: here and in GPT-2, Qwen and SmolLM2; in Llama 3; in Gemma; in Llama 2 and Mistral.
DOCUMENT_ENDS = (END_OF_TEXT, "<|end_of_text|>", "<eos>", "</s>")
IM_START = "<|im_start|>"
IM_END = "<|im_end|>"
SPECIAL_TOKENS = (END_OF_TEXT, PAD, IM_START, IM_END)
# Stands for a token that a masked language model is to find.
MASK = "<|mask|>"
# A sentinel replaces the n-th span that span corruption takes out (T5, hf.co/papers/1910.10683, section 3.1.4). One
# for each 64 tokens of vocabulary, at most T5's hundred: a small vocabulary serves short blocks, with few spans.
SENTINEL = "<|extra_{}|>"
MAX_SENTINELS = 100
TOKENS_PER_SENTINEL = 64

# Fills a vocabulary for which the text yields too few merges.
RESERVED = "<|reserved_{}|>"
# A vocabulary of a multiple of 64 keeps the embedding and the output matrix on fast matrix-multiplication shapes.
VOCAB_MULTIPLE = 64

# The pre-tokenizer of GPT-4 (cl100k_base), with digits in groups of at most two instead of three, since a small
# vocabulary has no room for a thousand number tokens, and with the combining marks of a word inside it: GPT-4's cuts
# Hindi at every vowel sign. Marks that follow no letter, as in emoji, stay with the signs before them.
SPLIT_PATTERN = r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}[\p{L}\p{M}]*|\p{N}{1,2}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"

BREAK = "\ue000"
# A text that holds BREAK itself gets this mark behind it, so that escaping loses nothing.
LITERAL = "\ue001"
# How all special tokens of this project begin.
OUR_SPELLINGS = ("<|",)


def escape(text: str, spellings: Sequence[str] = OUR_SPELLINGS) -> str:
    """Return `text` in a form whose tokens are those of the plain text, whatever special token it spells.

    Args:
        spellings: how the special tokens of the tokenizer begin, see `special_spellings`.
    """
    text = text.replace(BREAK, BREAK + LITERAL)
    for spelling in spellings:
        text = text.replace(spelling, spelling[0] + BREAK + spelling[1:])
    return text


def _mending(spellings: Sequence[str]) -> normalizers.Normalizer:
    """The normalizer that undoes `escape`."""
    # Takes out the one character only: a replacement of more would lose the offsets of what stays, and with them the
    # assistant mask of an answer that begins with "<|".
    pairs = dict.fromkeys((re.escape(text[0]), re.escape(text[1])) for text in spellings)
    breaks = [rf"(?<={first}){BREAK}(?={second})" for first, second in pairs]
    return normalizers.Replace(Regex("|".join([*breaks, rf"(?<={BREAK}){LITERAL}"])), "")


def objective_tokens(vocab_size: int) -> list[str]:
    """The mask token and the sentinels of a vocabulary of this size, in the order of their ids."""
    count = min(MAX_SENTINELS, vocab_size // TOKENS_PER_SENTINEL)
    return [MASK, *(SENTINEL.format(index) for index in range(count))]


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """Learn byte-pair merges (Sennrich et al. 2016, on bytes as in GPT-2) from `texts`.

    Args:
        texts: the training text; only the counts of distinct words stay in memory.
        vocab_size: number of tokens, rounded up to a multiple of 64. Where the text yields too few merges, reserved
            special tokens fill the rest, so the size is always as asked.

    Returns:
        A tokenizer with the chat template attached, whose end-of-sequence token is END_OF_TEXT.

    Raises:
        UserError: `vocab_size` has no room for the 256 bytes and the special tokens.
    """
    vocab_size = -(-vocab_size // VOCAB_MULTIPLE) * VOCAB_MULTIPLE
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    last_tokens = objective_tokens(vocab_size)
    needed = len(alphabet) + len(SPECIAL_TOKENS) + len(last_tokens)
    if vocab_size < needed:
        smallest = -(-needed // VOCAB_MULTIPLE) * VOCAB_MULTIPLE
        message = f"vocab_size {vocab_size} is too small: at least {smallest} (256 bytes and special tokens)"
        raise UserError("vocab_size_too_small", message, vocab_size=vocab_size, needed=smallest)
    backend = Tokenizer(models.BPE())
    backend.normalizer = _mending(OUR_SPELLINGS)
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT_PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - len(last_tokens),
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=alphabet,
        show_progress=False,
    )
    backend.train_from_iterator(map(escape, texts), trainer)
    missing = vocab_size - len(last_tokens) - backend.get_vocab_size()
    last_tokens += [RESERVED.format(index) for index in range(missing)]
    # A mask takes the space before it along, as RoBERTa's does: a word's token begins with its space.
    backend.add_special_tokens(
        [AddedToken(token, special=True, lstrip=token == MASK) for token in last_tokens]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=END_OF_TEXT,
        eos_token=END_OF_TEXT,
        pad_token=PAD,
        mask_token=AddedToken(MASK, special=True, lstrip=True),
        additional_special_tokens=[IM_START, IM_END],
        clean_up_tokenization_spaces=False,
        model_input_names=["input_ids", "attention_mask"],
    )
    tokenizer.chat_template = Path(__file__).with_name("chat_template.jinja").read_text(encoding="utf-8")
    return tokenizer


def count_reserved(tokenizer: PreTrainedTokenizerFast) -> int:
    """Number of tokens that encode nothing, since the text yielded too few merges for the vocabulary."""
    return sum(token.startswith(RESERVED.partition("{")[0]) for token in tokenizer.get_vocab())


def save_tokenizer(tokenizer: PreTrainedTokenizerFast, folder: str | Path) -> None:
    """Write the tokenizer into `folder`, readable by transformers 4.51 and every later version.

    Versions before 5 do not know the class `TokenizersBackend` and fail on a list of `extra_special_tokens`; version 5 reads
    the older names of both.
    """
    tokenizer.save_pretrained(folder)
    path = Path(folder) / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    if config["tokenizer_class"] == "TokenizersBackend":
        config["tokenizer_class"] = "PreTrainedTokenizerFast"
    if isinstance(config.get("extra_special_tokens"), list):
        config["additional_special_tokens"] = config.pop("extra_special_tokens")
    path.write_text(json.dumps(config, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")


def special_spellings(tokenizer: PreTrainedTokenizerFast) -> list[str]:
    """How the special tokens of a tokenizer begin: what `escape` has to break."""
    added = tokenizer.backend_tokenizer.get_added_tokens_decoder().values()
    return _beginnings(token.content for token in added if token.special)


def _beginnings(tokens: Iterable[str]) -> list[str]:
    """Beginnings of at least two characters, such that each token has one: `<|a|>` and `<|b|>` share `<|`."""
    beginnings: dict[str, str] = {}
    for token in tokens:
        shared = beginnings.setdefault(token[:2], token)
        while not token.startswith(shared):
            shared = shared[:-1]
        beginnings[token[:2]] = shared
    # `str.replace` passes over a beginning that overlaps the one before: as often as it could, it is replaced again.
    return [text for text in beginnings.values() for _ in range(1 + text[1:].count(text[0]))]


def protect_control_tokens(tokenizer: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    """Let no text become a control token, neither of documents nor of messages, also where others tokenize them.

    Control tokens are the special tokens, and what else the chat template writes of the tokenizer's added tokens
    (Qwen3's `<think>` and `<tool_call>`); the latter an assistant may write too, since models say them.

    A tokenizer of this project is left as it is. Any other gets a normalizer that mends escaped text, and a chat
    template that escapes messages, tools and documents. All other text keeps its token ids.

    Returns:
        The tokenizer, changed in place.

    Raises:
        UserError: a special token of one character, which no text can avoid.
    """
    templates = tokenizer.chat_template
    written = templates if isinstance(templates, str) else "".join((templates or {}).values())
    added = tokenizer.backend_tokenizer.get_added_tokens_decoder().values()
    tags = [
        token
        for token in added
        if not token.special
        and len(token.content) > 1
        and token.content in written
        and not token.content.isspace()
    ]
    spellings = _mend_escapes(tokenizer, tags), _beginnings(token.content for token in tags)
    _warn_of_ordinary_tokens(tokenizer, [*spellings[0], *spellings[1]])
    vocabulary = tokenizer.get_vocab()
    if isinstance(templates, dict):
        tokenizer.chat_template = {
            name: escaping_template(template, *spellings, vocabulary) for name, template in templates.items()
        }
    elif templates:
        tokenizer.chat_template = escaping_template(templates, *spellings, vocabulary)
    return tokenizer


def _mend_escapes(tokenizer: PreTrainedTokenizerFast, tags: Sequence[AddedToken] = ()) -> list[str]:
    """Let the tokenizer undo `escape` after it has matched its control tokens; return its `special_spellings`."""
    backend = tokenizer.backend_tokenizer
    special = [token for token in backend.get_added_tokens_decoder().values() if token.special]
    for token in special:
        if len(token.content) < 2:
            message = (
                f"tokenizer {tokenizer.name_or_path} has the special token {token.content!r}: any text can spell a "
                "single character; use a tokenizer whose special tokens are longer"
            )
            raise UserError("special_token_too_short", message, token=token.content)
    # `normalized` tokens are matched after the normalizer, in mended text
    for add, tokens in ((backend.add_special_tokens, special), (backend.add_tokens, tags)):
        if late := [token for token in tokens if token.normalized]:
            add([_matched_first(token) for token in late])
    spellings = _beginnings(token.content for token in special)
    broken = [*spellings, *_beginnings(token.content for token in tags)]
    steps: Any = backend.normalizer or []
    steps = steps if isinstance(steps, normalizers.Sequence | list) else [steps]
    probe, normalizer = BREAK + "".join(broken), normalizers.Sequence(list(steps))
    if normalizer.normalize_str(escape(probe, broken)) != normalizer.normalize_str(probe):
        # instead of one of ours, for fewer tokens: both together would take a literal mark for one of `escape`
        others = [step for step in steps if BREAK not in repr(step)]
        backend.normalizer = normalizers.Sequence([_mending(broken), *others])
    return spellings


def _warn_of_ordinary_tokens(tokenizer: PreTrainedTokenizerFast, spellings: Sequence[str]) -> None:
    """Report control tokens that the model itself makes of text, as some Unigram models do."""
    backend = tokenizer.backend_tokenizer
    unknown = getattr(backend.model, "unk_token", None)
    for index, token in backend.get_added_tokens_decoder().items():
        text = escape(token.content, spellings)
        if text != token.content != unknown and index in backend.encode(text, add_special_tokens=False).ids:
            logger.warning(
                "tokenizer %s has %s as an ordinary token too: text that spells it becomes the control token",
                *(tokenizer.name_or_path, token.content),
            )


def _matched_first(token: AddedToken) -> AddedToken:
    flags = {name: getattr(token, name) for name in ("single_word", "lstrip", "rstrip", "special")}
    return AddedToken(token.content, normalized=False, **flags)


def load_tokenizer(path: str | Path) -> PreTrainedTokenizerFast:
    """Load a tokenizer or model folder of this project.

    Raises:
        UserError: the folder holds no tokenizer, or one that lacks our special tokens.
    """
    tokenizer = load_any_tokenizer(path)
    missing = [token for token in SPECIAL_TOKENS if token not in tokenizer.get_vocab()]
    if missing:
        message = f"tokenizer {path} lacks the token {missing[0]}: use one made by the tokenizer stage"
        raise UserError("token_missing", message, token=missing[0])
    return tokenizer


def load_any_tokenizer(path: str | Path) -> PreTrainedTokenizerFast:
    """Load the tokenizer in a folder, of this project or another; its control tokens are protected.

    Raises:
        UserError: the folder holds no tokenizer.
    """
    if not (Path(path) / "tokenizer.json").is_file():
        message = f"no tokenizer in {path} (tokenizer.json is missing): run the tokenizer stage first"
        raise UserError("no_tokenizer", message, folder=path)
    return protect_control_tokens(AutoTokenizer.from_pretrained(path, trust_remote_code=False))


def mask_id(tokenizer: PreTrainedTokenizerFast) -> int:
    """The id of the mask token.

    Raises:
        UserError: the tokenizer has none.
    """
    if tokenizer.mask_token_id is None:
        message = (
            f"tokenizer {tokenizer.name_or_path} has no mask token, which masked language modelling needs: train one "
            "with the tokenizer stage, which reserves it"
        )
        raise UserError("token_missing", message, token="mask")
    return int(tokenizer.mask_token_id)


def sentinel_ids(tokenizer: PreTrainedTokenizerFast) -> list[int]:
    """The ids of the sentinels, first span first.

    Raises:
        UserError: the tokenizer has none.
    """
    vocabulary = tokenizer.get_vocab()
    names = (SENTINEL.format(index) for index in range(MAX_SENTINELS))
    found = [vocabulary[name] for name in names if name in vocabulary]
    if not found:
        message = (
            f"tokenizer {tokenizer.name_or_path} has no sentinels such as {SENTINEL.format(0)}, which span corruption "
            "needs: train one with the tokenizer stage, which reserves them"
        )
        raise UserError("token_missing", message, token=SENTINEL.format(0))
    return found


def document_end(tokenizer: PreTrainedTokenizerFast) -> int:
    """The token that ends a document: not a chat model's own end of sequence, which ends a turn.

    Raises:
        UserError: the tokenizer has none, nor an end of sequence.
    """
    vocabulary = tokenizer.get_vocab()
    known = (vocabulary[token] for token in DOCUMENT_ENDS if token in vocabulary)
    end: int | None = next(known, tokenizer.eos_token_id)
    if end is None:
        message = f"tokenizer {tokenizer.name_or_path} has no eos_token: set the one that ends a document in tokenizer_config.json"
        raise UserError("token_missing", message, token="eos_token")
    return end


def encode_plain(tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> list[list[int]]:
    """Token ids of each text, on all cores; the spelling of a special token comes out as plain text."""
    return encode_escaped(tokenizer, escape_all(tokenizer, texts))


def escape_all(tokenizer: PreTrainedTokenizerFast, texts: Iterable[str]) -> list[str]:
    """Each text escaped for this tokenizer, which learns to mend it if it cannot yet."""
    spellings = _mend_escapes(tokenizer)
    return [escape(text, spellings) for text in texts]


def encode_escaped(tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> list[list[int]]:
    """Token ids of each text in which control tokens are kept as such, and all else is escaped, such as a template's."""
    backend = tokenizer.backend_tokenizer
    # a padded or truncated call of somebody else's would still be in force
    backend.no_padding()
    backend.no_truncation()
    return [encoding.ids for encoding in backend.encode_batch_fast(texts, add_special_tokens=False)]


def token_byte_lengths(tokenizer: PreTrainedTokenizerFast) -> np.ndarray:
    """Bytes of text that each token encodes, shape (len(tokenizer),), int64; 0 for special tokens.

    The byte-level alphabet writes one character for one byte, so the length of the written token is the answer.
    SentencePiece writes a space as U+2581, and the byte of an unknown character as <0x0A>. Added tokens are written as
    they are; some are ordinary text, such as the runs of spaces of GPT-NeoX.
    """
    is_byte_level = isinstance(tokenizer.backend_tokenizer.decoder, decoders.ByteLevel)
    lengths = np.zeros(len(tokenizer), dtype=np.int64)
    added = tokenizer.added_tokens_decoder
    for token, index in tokenizer.get_vocab().items():
        if index in added and added[index].special:
            continue
        is_byte = re.fullmatch("<0x[0-9A-F]{2}>", token)
        text = token.replace("\u2581", " ").encode()
        written = is_byte_level and index not in added
        lengths[index] = len(token) if written else 1 if is_byte else len(text)
    return lengths


def tokenizer_hash(tokenizer: PreTrainedTokenizerFast) -> str:
    """SHA-256 of what decides the token ids of a text: equal hashes mean that shards and models fit together."""
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    state["truncation"] = state["padding"] = None
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()
