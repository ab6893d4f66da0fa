# SPDX-License-Identifier: Apache-2.0
"""Words of every script, against splits written by hand."""

import logging
import re

import pytest

from scratch_gpt.tasks import words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Don't stop_it: 3.5!", ["don", "t", "stop_it", "3", "5"]),
        ("Шторм, «город».", ["шторм", "город"]),
        ("العربية جميلة، أليس كذلك؟", ["العربية", "جميلة", "أليس", "كذلك"]),
        ("हिन्दी में लिखो।", ["हिन्दी", "में", "लिखो"]),
        ("한국어 문장.", ["한국어", "문장"]),
        ("北京。是，中国2024年", ["北", "京", "是", "中", "国", "2024", "年"]),
        ("カメラ・です", ["カ", "メ", "ラ", "で", "す"]),
        ("ที่นี่ abc", ["ที่", "นี่", "abc"]),
        ("ត្រូវ", ["ត្", "រូ", "វ"]),
        ("cafe\u0301 CAFÉ Straße", ["café", "café", "strasse"]),
        ("ｆｕｌｌ\u200f wi\u00addth", ["full", "width"]),
        ("😊!?", []),
    ],
)
def test_words_of_a_script(text: str, expected: list[str]) -> None:
    """Runs of letters with their marks; single characters of scripts without spaces; no punctuation."""
    assert words.words(text) == expected


@pytest.mark.parametrize("text", ["a  b_c\n d's, (e).", "Über naïve “quotes” — 1½", "Это, да!\u2003Нет."])
def test_other_scripts_are_split_as_ever(text: str) -> None:
    """At blanks alone where punctuation stays; `\\w+` where it does not, of a normalized text."""
    assert words.units(text) == text.split()
    assert words.spaced(text) == text
    assert words.words(text) == re.findall(r"\w+", words.normalized(text))


def test_units_of_a_script_without_spaces() -> None:
    """Emoji stand alone, punctuation where it is found; the beginning keeps what stood between the units."""
    assert words.units("北京，ok 😊😊") == ["北", "京", "，ok", "😊", "😊"]
    assert words.first_units("北京 是，\n中国", 4) == "北京 是，"
    assert words.first_units("a  b\nc d", 3) == "a b c"
    assert words.joined(["北", "京", "in", "the", "north"]) == "北京 in the north"


@pytest.mark.parametrize(
    "emoji",
    [
        "\U0001f469\u200d\U0001f469\u200d\U0001f467",
        "\U0001f44d\U0001f3fd",
        "\U0001f1e9\U0001f1ea",
        "❤\ufe0f",
        "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
        "\U0001f9d1\U0001f3fd\u200d❤\ufe0f\u200d\U0001f9d1\U0001f3fb",
    ],
)
def test_an_emoji_of_several_characters_is_one(emoji: str) -> None:
    """A family, a skin tone, a flag: two in a row are two."""
    assert words.units(f"ok{emoji}{emoji} 北") == ["ok", emoji, emoji, "北"]
    assert words.first_units(emoji * 3, 2) == emoji * 2


@pytest.mark.parametrize(
    ("letters", "script"),
    [
        ("カﾃー", "KATAKANA"),
        ("一々", "CJK"),
        ("aＡªᵃ", "LATIN"),
        ("\u00b5α", "GREEK"),
        ("か", "HIRAGANA"),
        ("ह", "DEVANAGARI"),
    ],
)
def test_letters_are_of_their_script(letters: str, script: str) -> None:
    """Also the wide, the narrow and the raised ones, and the signs for a long vowel and for a repeated character."""
    assert {words.letter_name(letter).split()[0] for letter in letters} == {script}
    assert words.letter_name("\u02bc") == ""


def test_texts_without_a_word_are_a_warning(caplog) -> None:
    """One line with their number and the first of them; empty texts are none of them."""
    with caplog.at_level(logging.WARNING):
        words.warn_wordless("references", ["a", "", "日"])
        assert not caplog.records
        words.warn_wordless("references", ["a", "😊", "!!"])
    assert "references: 2 of 3" in caplog.text
    assert "😊" in caplog.text
