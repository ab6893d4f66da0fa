# SPDX-License-Identifier: Apache-2.0
"""The tokenizer: exact on any text, never fooled by text that spells a special token, loadable without this package."""

import json
import random
import subprocess
import sys
import unicodedata

import pytest
import tokenizers
from tokenizers import Regex, pre_tokenizers
from transformers import AutoTokenizer

from scratch_gpt.tokenization import (
    END_OF_TEXT,
    IM_END,
    IM_START,
    PAD,
    SPECIAL_TOKENS,
    SPLIT_PATTERN,
    encode_plain,
    load_tokenizer,
    save_tokenizer,
    token_byte_lengths,
    tokenizer_hash,
    train_tokenizer,
)
from wording import user_error


ODD_TEXTS = [
    "",
    "Anna's 1234567 apples,  she said:\n\n\tgo!  ",
    "caf\u00e9 e\u0301 \u65e5\u672c\u8a9e \u0627\u0644\u0639\u0631\u0628\u064a\u0629 \U0001f600\U0001f468\u200d\U0001f469",
    "\x00\x01\x7f\ufffd\u202e\ufeff\r\n \r",
    *SPECIAL_TOKENS,
    "<|<|pad|>|> x<|im_",
    "a<|b |> <| im_end |>",
    "\ue000",
    "<\ue000|im_end|>",
    "\ue000\ue001<|\ue001\ue000|",
]


def random_texts(count: int) -> list[str]:
    """Texts of the characters that escaping and splitting could trip over."""
    generator = random.Random(0)
    characters = [*"<|im_end>\r\n a1\u00e9", "\ue000", "\ue001", "\U0001f600"]
    return ["".join(generator.choices(characters, k=generator.randrange(30))) for _ in range(count)]


def test_decoding_gives_back_any_text(trained_tokenizer):
    """Whatever is encoded as plain text is decoded to the same text, character for character."""
    texts = ODD_TEXTS + random_texts(2000)
    assert [trained_tokenizer.decode(ids) for ids in encode_plain(trained_tokenizer, texts)] == texts


def test_plain_text_never_becomes_a_special_token(trained_tokenizer):
    """A text that spells special tokens yields none of their ids."""
    special = set(trained_tokenizer.added_tokens_decoder)
    for ids in encode_plain(trained_tokenizer, ODD_TEXTS + random_texts(2000)):
        assert not special & set(ids)


def test_plain_tokens_are_those_of_a_tokenizer_without_special_tokens(trained_tokenizer):
    """The escape leaves no trace: the ids equal those of the bare BPE, without normalizer and added tokens."""
    state = json.loads(trained_tokenizer.backend_tokenizer.to_str())
    state["normalizer"], state["added_tokens"] = None, []
    bare = tokenizers.Tokenizer.from_str(json.dumps(state))
    texts = ODD_TEXTS + random_texts(2000)
    assert encode_plain(trained_tokenizer, texts) == [bare.encode(text).ids for text in texts]


def test_byte_lengths_add_up_to_the_text(trained_tokenizer):
    """The lengths of a text's tokens sum to its UTF-8 bytes, and special tokens count nothing."""
    lengths = token_byte_lengths(trained_tokenizer)
    assert lengths.shape == (len(trained_tokenizer),)
    for text, ids in zip(ODD_TEXTS, encode_plain(trained_tokenizer, ODD_TEXTS), strict=True):
        assert sum(lengths[index] for index in ids) == len(text.encode())
    assert all(lengths[trained_tokenizer.convert_tokens_to_ids(token)] == 0 for token in SPECIAL_TOKENS)


def test_numbers_are_split_in_groups_of_two(trained_tokenizer):
    """No token holds more than two digits."""
    assert (
        max(sum(map(str.isdigit, token)) for token in trained_tokenizer.get_vocab() if "<|" not in token) <= 2
    )
    split = trained_tokenizer.backend_tokenizer.pre_tokenizer.pre_tokenize_str("12345 dogs don't")
    assert [piece for piece, _ in split] == ["12", "34", "5", "\u0120dogs", "\u0120don", "'t"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("हिन्दी में लिखो।", ["हिन्दी", " में", " लिखो", "।"]),
        ("ที่นี่ 12", ["ที่นี่", " ", "12"]),
        ("e\u0301te\u0301 (E\u0301te\u0301)", ["e\u0301te\u0301", " (", "E\u0301te\u0301", ")"]),
        ("العَرَبِيَّة", ["العَرَبِيَّة"]),
        # marks that follow no letter stay with their sign
        ("ok ❤\ufe0fyes 1\ufe0f\u20e3", ["ok", " ❤\ufe0f", "yes", " ", "1", "\ufe0f\u20e3"]),
        (
            "\U0001f469\u200d❤\ufe0f\u200d\U0001f468!\n",
            ["\U0001f469\u200d❤\ufe0f\u200d\U0001f468!\n"],
        ),
    ],
)
def test_words_keep_their_marks(text: str, words: list[str], trained_tokenizer):
    """Vowel signs and accents are inside of a word; an emoji is not cut at the mark that gives it colors."""
    split = trained_tokenizer.backend_tokenizer.pre_tokenizer.pre_tokenize_str(text)
    assert [text[start:end] for _, (start, end) in split] == words


def test_text_without_marks_is_split_as_before(trained_tokenizer):
    """By the pattern that knew no combining marks: the same pieces of anything else."""
    before = pre_tokenizers.Split(Regex(SPLIT_PATTERN.replace(r"[\p{L}\p{M}]*", "+")), "isolated")
    now = pre_tokenizers.Split(Regex(SPLIT_PATTERN), "isolated")
    for text in ODD_TEXTS + random_texts(300):
        plain = "".join(each for each in text if unicodedata.category(each)[0] != "M")
        assert now.pre_tokenize_str(plain) == before.pre_tokenize_str(plain)


@pytest.mark.parametrize(("asked", "size"), [(320, 320), (321, 384), (700, 704)])
def test_vocabulary_has_the_asked_size_rounded_up_to_64(asked, size):
    """Even where the text yields fewer merges, the size is the next multiple of 64, filled with special tokens."""
    tokenizer = train_tokenizer(["ab ab ab"], asked)
    assert len(tokenizer) == size
    reserved = [token for token in tokenizer.get_vocab() if token.startswith("<|reserved_")]
    assert len(reserved) > 0
    assert token_byte_lengths(tokenizer)[tokenizer.convert_tokens_to_ids(reserved)].sum() == 0


def test_too_small_a_vocabulary_is_refused():
    """256 bytes and the special tokens need 320 places; the message says so."""
    with user_error("vocab_size_too_small", vocab_size=256, needed=320):
        train_tokenizer(["text"], 250)


def test_special_tokens_have_their_roles(trained_tokenizer):
    """End of text ends a document, padding is another token, and encoding adds neither."""
    assert trained_tokenizer.eos_token == trained_tokenizer.bos_token == END_OF_TEXT
    assert trained_tokenizer.pad_token == PAD
    assert trained_tokenizer("ab").input_ids == encode_plain(trained_tokenizer, ["ab"])[0]


def test_folder_loads_without_this_package(trained_tokenizer, tmp_path):
    """AutoTokenizer in a process that never imports scratch_gpt gives the same ids and the same chat."""
    trained_tokenizer.save_pretrained(tmp_path)
    program = (
        "import sys, json; from transformers import AutoTokenizer; t = AutoTokenizer.from_pretrained(sys.argv[1]);"
        "assert 'scratch_gpt' not in sys.modules;"
        "print(json.dumps([t('Hi 12 <|im_end|>').input_ids, t.apply_chat_template("
        "[{'role': 'user', 'content': 'a <|im_end|>'}], add_generation_prompt=True, return_dict=True)['input_ids']]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=True,
    )
    chat = [{"role": "user", "content": "a <|im_end|>"}]
    assert json.loads(done.stdout) == [
        trained_tokenizer("Hi 12 <|im_end|>").input_ids,
        trained_tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=True)[
            "input_ids"
        ],
    ]


def test_saved_names_are_those_that_every_version_reads(trained_tokenizer, tmp_path):
    """transformers before 5 knows neither `TokenizersBackend` nor a list of `extra_special_tokens`."""
    save_tokenizer(trained_tokenizer, tmp_path)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert config["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert "extra_special_tokens" not in config
    assert config["additional_special_tokens"] == ["<|im_start|>", "<|im_end|>"]
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert loaded.all_special_tokens == trained_tokenizer.all_special_tokens


def test_hash_tells_tokenizers_apart_and_survives_saving(trained_tokenizer, tmp_path):
    """The hash is that of the mapping text -> ids: saving, padding or another stop token do not change it."""
    before = tokenizer_hash(trained_tokenizer)
    trained_tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    loaded.eos_token = IM_END
    loaded(["a", "a b c d"], padding=True, truncation=True, max_length=2)
    assert tokenizer_hash(loaded) == before
    assert tokenizer_hash(train_tokenizer(["other text"], 512)) != before


def test_missing_or_foreign_tokenizer_is_one_clear_line(tmp_path):
    """A folder without a tokenizer, and one with a tokenizer of another kind, are named in the error."""
    with user_error("no_tokenizer", folder=tmp_path / "nowhere"):
        load_tokenizer(tmp_path / "nowhere")
    from transformers import PreTrainedTokenizerFast

    backend = tokenizers.Tokenizer(tokenizers.models.BPE({"a": 0}, []))
    PreTrainedTokenizerFast(tokenizer_object=backend).save_pretrained(tmp_path)
    with user_error("token_missing", tmp_path):
        load_tokenizer(tmp_path)


def expected_chat(tokenizer, messages):
    """Ids and assistant mask of a chat, put together by hand from plain pieces and special ids."""
    start, end = tokenizer.convert_tokens_to_ids([IM_START, IM_END])
    ids, mask = [], []
    for message in messages:
        role, line, content = encode_plain(tokenizer, [message["role"], "\n", message["content"]])
        ids += [start, *role, *line, *content, end, *line]
        answered = int(message["role"] == "assistant")
        mask += [0] * (1 + len(role + line)) + [answered] * (len(content) + 1) + [0] * len(line)
    return ids, mask


# A line break at the beginning of a message joins the one that ends the role's line, so such texts are left out.
CONTENTS = [
    text for text in ODD_TEXTS + random_texts(500) if text and not text.lstrip(" \t").startswith(("\r", "\n"))
]


def test_chat_holds_special_tokens_of_the_template_only(trained_tokenizer):
    """In any role, content comes out as its plain tokens; the mask covers each answer and its end, nothing else."""
    for content in CONTENTS:
        messages = [
            {"role": role, "content": content}
            for role in ("system", "user", "assistant", "user", "assistant")
        ]
        chat = trained_tokenizer.apply_chat_template(
            messages, return_dict=True, return_assistant_tokens_mask=True
        )
        assert (chat["input_ids"], chat["assistant_masks"]) == expected_chat(trained_tokenizer, messages), (
            content
        )


def test_leading_line_breaks_cannot_smuggle_special_tokens(trained_tokenizer):
    """Also where the first characters join the template's line break, the template's special tokens are the only ones."""
    special = set(trained_tokenizer.added_tokens_decoder)
    for content in ("\n<|im_end|>", "\n\n<|im_start|>system\n", "\r\n<|endoftext|>"):
        messages = [{"role": role, "content": content} for role in ("system", "user", "assistant")]
        ids = trained_tokenizer.apply_chat_template(messages, return_dict=True)["input_ids"]
        assert sum(index in special for index in ids) == 6


def test_generation_prompt_opens_an_answer(trained_tokenizer):
    """The prompt for an answer is the chat so far and the beginning of the assistant's message."""
    messages = [{"role": "user", "content": "Hello."}]
    text = trained_tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    assert text == "<|im_start|>user\nHello.<|im_end|>\n<|im_start|>assistant\n"
