# SPDX-License-Identifier: Apache-2.0
"""Byte-level BPE: training, special tokens that no text can spell, and the chat template.

The result is a stock `PreTrainedTokenizerFast`: its folder loads with `AutoTokenizer` and needs no code of ours.

Special tokens are matched in raw text, before any other step. Text of users and of data must therefore never hold
their spelling: `escape` breaks each "<|" (all our special tokens begin so) with a private-use character, and the
tokenizer's own normalizer, which runs after special tokens were matched, mends it. What comes out are exactly the
tokens of the plain text. The chat template does the same to every message.
"""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from scratch_gpt.errors import UserError


END_OF_TEXT = "<|endoftext|>"
PAD = "<|pad|>"
IM_START = "<|im_start|>"
IM_END = "<|im_end|>"
SPECIAL_TOKENS = (END_OF_TEXT, PAD, IM_START, IM_END)
# Stands for a token that a masked language model is to find.
MASK = "<|mask|>"
# A sentinel stands for the n-th span that span corruption takes out (T5, hf.co/papers/1910.10683, section 3.1.4). One
# for each 64 tokens of vocabulary, at most T5's hundred: a small vocabulary serves short blocks, with few spans.
SENTINEL = "<|extra_{}|>"
MAX_SENTINELS = 100
TOKENS_PER_SENTINEL = 64

# A vocabulary of a multiple of 64 keeps the embedding and the output matrix on fast matrix-multiplication shapes.
VOCAB_MULTIPLE = 64

# The pre-tokenizer of GPT-4 (cl100k_base), with digits in groups of at most two instead of three: a small
# vocabulary has no room for a thousand number tokens.
SPLIT_PATTERN = r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,2}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"

BREAK = "\ue000"
# A text that holds BREAK itself gets this mark behind it, so that escaping loses nothing.
LITERAL = "\ue001"


def escape(text: str) -> str:
    """Return `text` in a form whose tokens are those of the plain text, whatever special token it spells."""
    return text.replace(BREAK, BREAK + LITERAL).replace("<|", f"<{BREAK}|")


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
        raise UserError(
            f"vocab_size {vocab_size} is too small: at least {smallest} (256 bytes and special tokens)"
        )
    backend = Tokenizer(models.BPE())
    # Takes out the one character only: a replacement of more would lose the offsets of what stays, and with them the
    # assistant mask of an answer that begins with "<|".
    backend.normalizer = normalizers.Replace(Regex(rf"(?<=<){BREAK}(?=\|)|(?<={BREAK}){LITERAL}"), "")
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
    last_tokens += [f"<|reserved_{index}|>" for index in range(missing)]
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


def load_tokenizer(path: str | Path) -> PreTrainedTokenizerFast:
    """Load a tokenizer or model folder of this project.

    Raises:
        UserError: the folder holds no tokenizer, or one that lacks our special tokens.
    """
    if not (Path(path) / "tokenizer.json").is_file():
        raise UserError(f"no tokenizer in {path} (tokenizer.json is missing): run the tokenizer stage first")
    tokenizer = AutoTokenizer.from_pretrained(path)
    missing = [token for token in SPECIAL_TOKENS if token not in tokenizer.get_vocab()]
    if missing:
        raise UserError(f"tokenizer {path} lacks the token {missing[0]}: use one made by the tokenizer stage")
    return tokenizer


def mask_id(tokenizer: PreTrainedTokenizerFast) -> int:
    """The id of the mask token.

    Raises:
        UserError: the tokenizer has none.
    """
    if tokenizer.mask_token_id is None:
        raise UserError(
            f"tokenizer {tokenizer.name_or_path} has no mask token, which masked language modelling needs: train one "
            "with the tokenizer stage, which reserves it"
        )
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
        raise UserError(
            f"tokenizer {tokenizer.name_or_path} has no sentinels such as {SENTINEL.format(0)}, which span corruption "
            "needs: train one with the tokenizer stage, which reserves them"
        )
    return found


def encode_plain(tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> list[list[int]]:
    """Token ids of each text, on all cores; the spelling of a special token comes out as plain text."""
    tokenizer.backend_tokenizer.no_padding()  # a padded call of somebody else's would still be in force
    encodings = tokenizer.backend_tokenizer.encode_batch_fast(
        [escape(text) for text in texts], add_special_tokens=False
    )
    return [encoding.ids for encoding in encodings]


def token_byte_lengths(tokenizer: PreTrainedTokenizerFast) -> np.ndarray:
    """Bytes of text that each token stands for, shape (len(tokenizer),), int64; 0 for special tokens.

    The byte-level alphabet writes one character for one byte, so the length of the written token is the answer.
    """
    lengths = np.zeros(len(tokenizer), dtype=np.int64)
    special = set(tokenizer.added_tokens_decoder)
    for token, index in tokenizer.get_vocab().items():
        if index not in special:
            lengths[index] = len(token)
    return lengths


def tokenizer_hash(tokenizer: PreTrainedTokenizerFast) -> str:
    """SHA-256 of what decides the token ids of a text: equal hashes mean that shards and models fit together."""
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    state["truncation"] = state["padding"] = None
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()
