# SPDX-License-Identifier: Apache-2.0
"""Words of a text in any script: runs of letters, and single characters where a script has no spaces between words.

Chinese, Japanese, Thai, Lao, Khmer, Burmese and Tibetan write no spaces between words: each of their characters counts as
a word, with its combining marks, and so does an emoji. All other text is split as English is.
"""

import logging
import re
import string
import unicodedata
from collections.abc import Iterable


logger = logging.getLogger(__name__)


# The blocks of Unicode's line breaking class SA (South East Asian), and Tibetan, whose syllables end with a sign.
_COMPLEX = (
    *((0x0E00, 0x0FFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x1950, 0x19DF), (0x1A20, 0x1AAF)),
    *((0xA9E0, 0xA9FF), (0xAA60, 0xAADF)),
)
# Where marks and punctuation are: all but Han and Hangul of the first two planes.
_BEYOND_LATIN = ((0x300, 0x33FF), (0xA000, 0xABFF), (0xD7B0, 0x1FFFF))
# Kana, bopomofo and Han, without the punctuation among them.
_EAST_ASIAN = (
    r"\u3005-\u3007\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u312f\u31a0-\u31bf\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    r"\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
)
_EMOJI = r"\u2600-\u27bf\U0001f000-\U0001faff"


def _characters(ranges: Iterable[tuple[int, int]], kinds: str) -> str:
    """The characters of these ranges whose Unicode category begins with one of `kinds`, for a class of `re`."""
    spans: list[list[int]] = []
    for first, last in ranges:
        for code in range(first, last + 1):
            if unicodedata.category(chr(code))[0] not in kinds:
                continue
            if spans and spans[-1][1] == code - 1:
                spans[-1][1] = code
            else:
                spans.append([code, code])
    return "".join(f"{chr(start)}-{chr(end)}" for start, end in spans)


# `re` has no class for combining marks, and its \w leaves them out: it would split Hindi at every vowel sign.
_MARKS = _characters(_BEYOND_LATIN, "M")
# Letters and digits of the scripts without spaces, for a class of `re`.
SINGLE = _characters(_COMPLEX, "LN") + _EAST_ASIAN
_PUNCTUATION = re.compile(
    f"[{re.escape(string.punctuation)}{_characters([(0xA0, 0x2FF), *_BEYOND_LATIN], 'P')}]"
)
# Soft hyphens, joiners, marks of direction, byte order marks, selectors of a form, and the stroke that stretches Arabic.
_INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u0640\u180b-\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff"
    "\U000e0100-\U000e01ef]"
)

# The pattern of a word; an underscore is a part of it, as in `\w`.
WORD = rf"[{SINGLE}][{_MARKS}]*|(?:[^\W{SINGLE}]+|[{_MARKS}])+"
_WORD, _PLAIN_WORD = re.compile(WORD), re.compile(r"\w+")
_NOT_PLAIN = re.compile(f"[{SINGLE}{_MARKS}]")
# An emoji is one with its skin tone and tags, a flag is two letters, and joiners make one of several.
_EMOJI_MODIFIERS = rf"[{_MARKS}\U0001f3fb-\U0001f3ff\U000e0020-\U000e007f]*"
_ONE_EMOJI = rf"[{_EMOJI}]{_EMOJI_MODIFIERS}"
_ALONE = re.compile(
    rf"[{SINGLE}][{_MARKS}]*|[\U0001f1e6-\U0001f1ff]{{2}}|{_ONE_EMOJI}(?:\u200d{_ONE_EMOJI})*"
)
_UNIT = re.compile(rf"{_ALONE.pattern}|[^\s{SINGLE}{_EMOJI}]+")
_JOINT = re.compile(rf"(?<=[{SINGLE}{_MARKS}]) (?=[{SINGLE}])")


def normalized(text: str) -> str:
    """One spelling for texts that a reader takes as the same: NFKC, without case and invisible characters."""
    if text.isascii():
        return text.lower()
    folded = unicodedata.normalize("NFKC", text).casefold()
    # Turkish has two letters i, each with its capital: without case all four are one.
    folded = folded.replace("i\u0307", "i").replace("\u0131", "i")
    return unicodedata.normalize("NFKC", _INVISIBLE.sub("", folded))


def letter_name(letter: str) -> str:
    """The Unicode name of a letter, which begins with its script; empty for a letter of no script."""
    # in NFKC, since those of wide, narrow and raised letters begin otherwise
    name = unicodedata.name(unicodedata.normalize("NFKC", letter)[0], "")
    name = re.sub("^KATAKANA-HIRAGANA ", "KATAKANA ", re.sub("^IDEOGRAPHIC ", "CJK ", name))
    return "" if name.startswith("MODIFIER ") else name


def without_punctuation(text: str) -> str:
    """The text without ASCII punctuation and what Unicode calls punctuation."""
    return _PUNCTUATION.sub("", text)


def words(text: str) -> list[str]:
    """The words of a text without punctuation, normalized."""
    text = normalized(text)
    # the same, ten times as fast
    pattern = _WORD if _NOT_PLAIN.search(text) else _PLAIN_WORD
    return pattern.findall(text)


def spaced(text: str) -> str:
    """The text with blanks around the characters that are words; text of other scripts stays as it is."""
    return _ALONE.sub(r" \g<0> ", text)


def units(text: str) -> list[str]:
    """The text split at blanks, and between the characters of scripts that have none; punctuation stays."""
    return spaced(text).split()


def first_units(text: str, count: int) -> str:
    """The first units of a text, blanks made single."""
    end = 0
    for _, found in zip(range(count), _UNIT.finditer(text), strict=False):
        end = found.end()
    return " ".join(text[:end].split())


def joined(parts: list[str]) -> str:
    """Words as a text: a space between two, and none where their script has none."""
    return _JOINT.sub("", " ".join(parts))


def warn_wordless(place: str, texts: Iterable[str]) -> None:
    """Warn of texts that hold something but no word: no score of words can measure them."""
    texts = list(texts)
    wordless = [text for text in texts if text.strip() and not words(text)]
    if wordless:
        logger.warning(
            "%s: %d of %d texts hold no word, such as %.40r: scores that compare words are blind to them",
            place,
            len(wordless),
            len(texts),
            wordless[0],
        )
