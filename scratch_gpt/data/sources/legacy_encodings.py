# SPDX-License-Identifier: Apache-2.0
"""Which encoding a text that is not UTF-8 has: the one in which its letters are those of a language that it is made for."""

import codecs
import re
import unicodedata
from collections import Counter
from typing import NamedTuple


class Language(NamedTuple):
    """How text of a language looks, beside ASCII.

    Args:
        letters: of the language, in lower case, as a class of `re`.
        common: the commonest of them.
        share: the least part of all its letters that are common ones.
    """

    letters: str
    common: str = ""
    share: float = 0.0


# Languages with Latin letters that are written in cp1252, each by its letters: a text with others is not in it.
WESTERN = (
    *(
        "àâæçèéêëîïôœùûüÿ",
        "äöüß",
        "áéíóúüñªº",
        "àáâãçéêíóôõúü",
        "àèéìíîòóùú",
        "åäöéü",
        "æøåéòô",
        "áàéèëêïíóöüú",
    ),
    *("áéíóúýþæðö", "àçèéíïòóúü", "äõöüšž"),
)
# What texts in several of these languages have, or an English one with foreign words.
MIXED = Language("àáâãäåæçèéêëìíîïñòóôõöøœùúûüßÿªº")
CZECH = Language("áčďéěíňóřšťúůýž", "áíéě", 0.3)
SLOVAK = Language("áäčďéíľňóôŕšťúýž", "áíčý", 0.3)
POLISH = Language("ąćęłńóśźż", "ąęłó", 0.3)
HUNGARIAN = Language("áéíóöőúüű", "áéö", 0.3)
ROMANIAN = Language("ăâîşţșț", "ăîâ", 0.3)
CROATIAN = Language("čćđšž", "čšž", 0.3)
CENTRAL = (CZECH, SLOVAK, POLISH, HUNGARIAN, ROMANIAN, CROATIAN)
TURKISH = Language("çğıi̇İöşüâîû", "ıüşğ", 0.3)
BALTIC = (
    Language("ąčęėįšųūž", "ėąšį", 0.3),
    Language("āčēģīķļņšūž", "āīē", 0.3),
    Language("äõöüšž", "äõü", 0.3),
)
RUSSIAN = Language("а-яё", "оеаинтсрвл", 0.45)
CYRILLIC = (
    RUSSIAN,
    Language("а-щьюяєіїґ", "оаніиірвте", 0.45),
    Language("а-ии-шђјљњћџ", "аиоенрсутј", 0.45),
    Language("а-зй-шы-яёіў", "анеіртслко", 0.45),
)
GREEK = Language("α-ωάέήίόύώϊϋΐΰς", "ατοιενρσκη", 0.45)
HEBREW = Language("א-ת\u05b0-\u05c2", "יוהלרבתמאש", 0.45)
ARABIC = Language("\u0621-\u0652پچژگکی", "اليمونرتبةی", 0.45)
THAI = Language("\u0e01-\u0e4e", "านรอกเงมยล\u0e31\u0e34\u0e35\u0e48\u0e49", 0.4)
# Of scripts with thousands of characters the common ones distinguish a text from its bytes read otherwise.
CHINESE = Language(
    "一-鿿㐀-䶿",
    "的一是不了在人有我他这这個个们們中来來上大为為和国國地到以说說时時要就出会會可也你对對生能而子那得于於着著下自之年过過发發后後作里裡用"
    "道行所然家种種事成方多经經么麼去法学學如都同现現当當没沒动動面起看定天分还還进進好小部其些主样樣理心她本前开開但因只从從想实實日军者意"
    "无無力它与與长長把机機十民第公此已工使情明性知全三又关關点點正业業外将將两兩高间間由问問很最重并並物手应應向头頭文体體",
    0.15,
)
JAPANESE = Language("ぁ-ゖァ-ヺーｦ-ﾟ一-鿿々〆", "".join(map(chr, range(0x3041, 0x30FD))), 0.25)
KOREAN = Language(
    "가-힣",
    "이다는의에을하고를가은지로서기한사대시리도인스일으년어나아자그해들수있라게여만전부정보장주상생",
    0.25,
)
_LATIN = tuple(map(Language, WESTERN))

# Encodings with their languages, the likely ones before the rare ones; of several names the first one that has all bytes.
# Windows' versions come before the standards that they extend: what they add may lie beyond the bytes that are looked at.
LIKELY: dict[tuple[str, ...], tuple[Language, ...]] = {
    ("cp1252",): _LATIN,
    ("cp1250",): CENTRAL,
    ("iso8859_2",): CENTRAL,
    ("cp1254",): (TURKISH,),
    ("cp1257",): BALTIC,
    ("cp1251",): CYRILLIC,
    ("koi8_r",): (RUSSIAN,),
    ("koi8_u",): CYRILLIC,
    ("cp1253",): (GREEK,),
    ("cp1255",): (HEBREW,),
    ("cp1256",): (ARABIC,),
    ("cp874",): (THAI,),
    ("gb18030",): (CHINESE,),
    ("cp950", "big5hkscs", "big5"): (CHINESE,),
    ("cp932", "shift_jis"): (JAPANESE,),
    ("euc_jp",): (JAPANESE,),
    ("cp949",): (KOREAN,),
}
RARE: dict[tuple[str, ...], tuple[Language, ...]] = {
    ("mac_roman",): _LATIN,
    ("iso8859_15",): _LATIN,
    ("cp850",): _LATIN,
    ("cp437",): _LATIN,
    ("cp852",): CENTRAL,
    ("mac_latin2",): CENTRAL,
    ("cp857",): (TURKISH,),
    ("cp866",): CYRILLIC,
    ("mac_cyrillic",): CYRILLIC,
    ("iso8859_5",): CYRILLIC,
    ("iso8859_7",): (GREEK,),
    ("cp737",): (GREEK,),
    ("iso8859_8",): (HEBREW,),
    ("cp862",): (HEBREW,),
    ("iso8859_6",): (ARABIC,),
    ("johab",): (KOREAN,),
}
# What is left where none of those fits.
UNCLEAR: dict[tuple[str, ...], tuple[Language, ...]] = {
    (name,): (MIXED,) for name in ("cp1252", "mac_roman", "cp850")
}
# Encodings of 7 bits, with what announces them.
ESCAPED = {
    b"\x1b$B": (("iso2022_jp", "iso2022_jp_2", "iso2022_jp_3", "iso2022_jp_2004"), JAPANESE),
    b"\x1b$@": (("iso2022_jp", "iso2022_jp_2"), JAPANESE),
    b"\x1b$)C": (("iso2022_kr",), KOREAN),
    b"~{": (("hz",), CHINESE),
}
# With fewer bytes beyond ASCII a rare encoding is as likely as a common one that fits as well.
FEW = 20
ABOVE_ASCII = bytes(range(0x80, 0x100))
FIRST_OF_OTHER_SCRIPTS = "\u0370"
# By how much the share of common letters must be larger than that of another reading.
NEARLY = 0.1
# Bytes of a text that are looked at.
LOOKED_AT = 1 << 14
# The part of a text's characters that may be wrong: foreign names, damage.
WRONG_SHARE = 0.03
# Of two readings of a text, what is shown of each: characters on either side of the first difference.
SHOWN = 12
# Signs that no text has, that no word has inside, and that no word begins with; capitals behind small letters; letters of
# a script that is not written beside Latin ones in a word.
_SIGNS = "¡-©«®-´¸¹»-¿×÷„“”‚‹›†‡•‰™€ƒˆˇ˘-˝"
_LETTER = r"[^\W\d_]"
_FOREIGN = r"[\u0370-\u1cff]"
_MISPLACED = re.compile(
    "|".join(
        (
            "[\u2200-\u259f\u25ca¤¦¬¶]",
            rf"(?<={_LETTER})\u00ad*[{_SIGNS}][{_SIGNS}\u00ad]*(?={_LETTER})",
            rf"[†‡‰¨¸×÷ˆ˘-˝ˇ¯](?={_LETTER})|(?<={_LETTER})(?<!l)·(?={_LETTER})",
            "(?<=[a-zß-öø-ÿ])[À-ÖØ-Þ]|(?<=[а-яё])[А-ЯЁ]|(?<=[α-ωά-ώ])[Α-Ω]",
            rf"(?<=[A-Za-z]){_FOREIGN}|{_FOREIGN}(?=[A-Za-z])",
        )
    )
)

# Han, kana, Hangul.
_EASTERN = re.compile("[\u3041-\u30ff\u3400-\u9fff\uac00-\ud7a3\U00020000-\U0003ffff]")
# Controls, halves of surrogate pairs, marks of bad bytes.
_CONTROLS = re.compile("[\0-\x08\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffd]")


def find_encodings(data: bytes) -> dict[str, str]:
    """The encodings in which some lines are text, each with the text: several only where they are equally likely.

    Those that give the same text are one: the likeliest.
    """
    found: dict[
        str, tuple[str, tuple[float, int], float]
    ] = {}  # text -> encoding, rank, share of common letters
    few = len(data) - len(data.translate(None, ABOVE_ASCII)) < FEW
    for tier, candidates in enumerate((LIKELY, RARE, UNCLEAR)):
        for names, languages in candidates.items():
            name, text = _decoded(data, names)
            wrong, common = _judged(text, languages)
            if wrong <= WRONG_SHARE and text not in found:
                found[text] = (name, (wrong, 0 if few and tier < 2 else tier), common)
    best = min((rank for _, rank, _ in found.values()), default=None)
    likely = [(name, text, common) for text, (name, rank, common) in found.items() if rank == best]
    commonest = max((common for *_, common in likely), default=0.0)
    return {name: text for name, text, common in likely if common > commonest - NEARLY}


def find_escaped(data: bytes) -> str | None:
    """The encoding of 7 bits that switches between character sets by escape sequences, if a text has one."""
    for announced, (names, language) in ESCAPED.items():
        if announced in data:
            name, text = _decoded(data[data.index(announced) :][:LOOKED_AT], names)
            if not text.isascii() and _judged(text, (language,))[0] <= WRONG_SHARE:
                return name
    return None


def odd_share(text: str) -> float:
    """The share of controls and of characters without a meaning, which no text has."""
    characters = Counter(text)
    odd = sum(
        count
        for each, count in characters.items()
        if each not in "\t\n\f\r\x85" and unicodedata.category(each) in ("Cc", "Cn", "Co")
    )
    return odd / max(len(text), 1)


def is_plausible(text: str) -> bool:
    """Whether a text that is mostly in East Asian characters has the common ones, and not those of bytes read in pairs."""
    letters = [each for each in text[:LOOKED_AT] if each.isalpha()]
    eastern = [each for each in letters if _EASTERN.match(each)]
    return 2 * len(eastern) <= len(letters) or any(
        len(re.findall(f"[{language.common}]", "".join(eastern))) >= language.share * len(eastern)
        for language in (CHINESE, JAPANESE, KOREAN)
    )


def differing(texts: list[str]) -> list[str]:
    """What each of several readings of the same bytes has around the first place where they differ."""
    lines = [text.splitlines() for text in texts]
    for versions in zip(*lines, strict=False):
        if len(set(versions)) == len(texts):
            place = next(
                index for index, each in enumerate(zip(*versions, strict=False)) if len(set(each)) > 1
            )
            first = max(0, place - SHOWN)
            return [version[first : place + SHOWN].strip() for version in versions]
    return [text[: 2 * SHOWN] for text in texts]


def _decoded(data: bytes, names: tuple[str, ...]) -> tuple[str, str]:
    """The first of some encodings that has all bytes, and the text; else the first of all, with marks for the others."""
    for name in names:
        try:
            # it may end in the middle of a character
            return name, codecs.getincrementaldecoder(name)().decode(data)
        except UnicodeDecodeError:
            continue
    return names[0], data.decode(names[0], "replace")


def _judged(text: str, languages: tuple[Language, ...]) -> tuple[float, float]:
    """The share of the characters beyond ASCII that cannot be right in any of some languages, and that of common letters.

    All are wrong where the common letters are not common, or where there are more signs than letters. Latin text has most
    of its letters from ASCII.
    """
    odd = Counter(re.sub("[\0-\x7f]+", "", text))
    letters = Counter(
        {each: count for each, count in odd.items() if each.isalpha() or unicodedata.category(each)[0] == "M"}
    )
    of_ascii = len(re.findall("[A-Za-z]", text))
    found = [(1.0, 0.0)]
    misplaced: int | None = None
    for language in languages:
        in_latin = language.letters < FIRST_OF_OTHER_SCRIPTS
        common = (
            _count(letters, re.escape(language.common)) / max(letters.total(), 1) if language.common else 1.0
        )
        if common < language.share or odd.total() > of_ascii + (0 if in_latin else 2 * letters.total()):
            continue
        if misplaced is None:
            misplaced = len(_MISPLACED.findall(text)) + len(_CONTROLS.findall(text))
            misplaced += sum(
                count for each, count in odd.items() if unicodedata.category(each) in ("Cn", "Co")
            )
        foreign = letters.total() - _count(letters, language.letters)
        # of Latin letters only those beyond ASCII are counted: none of them is common in all texts
        found.append(((foreign + misplaced) / max(odd.total(), 1), 1.0 if in_latin else common))
    return min(found, key=lambda each: each[0])


def _count(letters: Counter[str], wanted: str) -> int:
    """How many letters are of a class of `re`, in capitals or not."""
    pattern = re.compile(f"[{wanted}]")
    return sum(count for letter, count in letters.items() if pattern.match(letter.lower()))
