# SPDX-License-Identifier: Apache-2.0
"""Encodings: marks are heeded, declared ones are read, others are guessed; bytes that are no text are found."""

import array

import pytest

from scratch_gpt.data.sources.encodings import TextFile, is_text_encoding, likely_encodings
from wording import shows, user_error


# Text in the script that an encoding is made for, long enough to be told apart.
# punctuation of these languages
SAMPLES = {
    "cp1252": "Die Bäume über dem Fluß waren größer und schöner; „schön“ – sagte er.",
    "cp1251": "Жила-была кошка, она любила смотреть на реку и спать на солнце.",
    "koi8_r": "Жила-была кошка, она любила смотреть на реку и спать на солнце.",
    "cp1250": "Wczoraj wieczorem poszliśmy nad rzekę i zobaczyliśmy kota, który siedział na dachu.",
    "cp1253": "Η γάτα κοιμάται στον ήλιο και κοιτάζει το ποτάμι.",
    "iso8859_2": "Dnes ráno v městě hustě pršelo, lidé zůstali doma. Příliš žluťoučký kůň úpěl.",
    "cp1255": "הבוקר ירד גשם חזק בעיר ואנשים נשארו בבית. בערב צפוי שלג.",
    "iso8859_6": "هطلت أمطار غزيرة في المدينة هذا الصباح وبقي الناس في منازلهم.",
    "cp866": "Жила-была кошка, она любила смотреть на реку и спать на солнце.",
    "iso8859_5": "Жила-была кошка, она любила смотреть на реку и спать на солнце.",
    "cp874": "เช้าวันนี้ฝนตกหนักในเมือง ผู้คนจึงอยู่บ้าน",
    "shift_jis": "猫は太陽の下で眠り、川を見ています。",
    "euc_jp": "猫は太陽の下で眠り、川を見ています。",
    "gb18030": "猫在阳光下睡觉，看着河流。",
    "big5": "貓在陽光下睡覺，看著河流。",
    "euc_kr": "고양이는 햇빛 아래에서 자고 강을 바라봅니다.",
}
# What Windows made of these, which has all of their characters.
WINDOWS = {"shift_jis": "cp932", "euc_kr": "cp949", "big5": "cp950"}


def file_of(path, data, encoding=None):
    path.write_bytes(data)
    return TextFile(path, encoding)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_tells_the_encoding(tmp_path, encoding):
    """It is no part of the text, also where the encoding is declared, and in either order of bytes."""
    text = "猫 é\r\nzwei\n"
    for declared in (None, encoding.removesuffix("-sig")):
        assert list(file_of(tmp_path / "a", text.encode(encoding), declared).lines()) == ["猫 é\n", "zwei\n"]
    big = b"\xfe\xff" + text.encode("utf-16-be")
    assert list(file_of(tmp_path / "b", big).lines()) == ["猫 é\n", "zwei\n"]


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_zero_bytes_tell_utf_16_and_32_without_a_mark(tmp_path, encoding):
    """Their places do; the file is read, and what it was taken for is known."""
    for text in ("Gr\u00fc\u00dfe\nvon mir\n", "猫 在\n阳光 下\n" * 9):
        file = file_of(tmp_path / "a", text.encode(encoding))
        assert "".join(file.lines()) == text
        assert file.recognized == encoding


ZH = "他们在院子里说话，天气很好。老人坐在树下，看着来来往往的人，一个孩子问他：这是什么地方？"
WIDE_SAMPLES = [
    ZH,
    ZH + "\n" + ZH,
    "猫は太陽の下で眠り、川を見ています。今日は雨が降るかもしれません。",
    "고양이는햇빛아래에서자고강을바라봅니다.",
    "เช้าวันนี้ฝนตกหนักในเมืองผู้คนจึงอยู่บ้าน",
    "हिन्दी में लिखो। यह एक वाक्य है।",
    "Жила-была кошка, она любила смотреть на реку.",
    "هطلت أمطار غزيرة في المدينة هذا الصباح.",
    "Η γάτα κοιμάται στον ήλιο.",
    "Tất cả mọi người sinh ra đều được tự do.",
    "no mark, in English",
]


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("text", WIDE_SAMPLES)
def test_utf_16_without_a_mark_is_read_in_every_script(tmp_path, encoding, text):
    """Also where no byte is zero, as in Chinese without spaces; the end of the file may be missing."""
    file = file_of(tmp_path / "a", (text * 20).encode(encoding))
    assert (file.recognized, "".join(file.lines())) == (encoding, text * 20)
    assert file_of(tmp_path / "b", (text * 20).encode(encoding)[:-1]).recognized == encoding


@pytest.mark.parametrize(
    "text",
    [
        "\x01".join(["12", "Paris", "3.5", "some words"] * 50) + "\n",
        "".join(f"{each}\b{each}" for each in "overstruck" * 50) + "\n",
        "plain ASCII with one zero byte: " * 20 + "\0",
        "Жила-была кошка, она любила смотреть на реку. " * 20 + "\0",
        "\x1b[1mbold\x1b[0m and plain\n" * 50,
    ],
)
def test_utf_8_with_controls_is_no_utf_16(tmp_path, text):
    """Two letters of ASCII would be a Chinese character, two of Russian a Korean one."""
    file = file_of(tmp_path / "a", text.encode())
    assert (file.recognized, "".join(file.lines())) == (None, text)


@pytest.mark.parametrize(
    "data",
    [
        "\0".join(["./folder/file", "./other", "./third.txt"] * 50).encode(),
        array.array("H", [11, 262, 13, 198, 1000, 50256, 318] * 99).tobytes(),
        array.array("I", [11, 262, 13, 198, 1000, 50256, 318] * 99).tobytes(),
        array.array("h", range(-500, 500)).tobytes(),
        array.array("f", [0.5, 1.25, -3.0, 1e-3] * 99).tobytes(),
        "кошка\0собака\0".encode() * 50,
        b"\x7fELF\x02\x01\x01" + b"\0" * 9 + b"\x03\0>\0\x01\0\0\0" * 20,
    ],
)
def test_binary_files_are_refused(tmp_path, data):
    """Names between zero bytes, numbers, programs."""
    with user_error("binary_file"):
        file_of(tmp_path / "a", data)


@pytest.mark.parametrize("encoding", SAMPLES)
def test_declared_encodings_are_read_and_others_recognized(tmp_path, encoding):
    """What the letters leave no doubt of is read, and known to be no UTF-8; a declared encoding is always used."""
    text = f"plain\n1. {SAMPLES[encoding]}\n"
    declared = file_of(tmp_path / "a", text.encode(encoding), encoding)
    assert ("".join(declared.lines()), declared.recognized) == (text, None)
    file = file_of(tmp_path / "b", text.encode(encoding))
    assert ("".join(file.lines()), file.recognized) == (text, WINDOWS.get(encoding, encoding))
    assert "".join(file_of(tmp_path / "c", text.encode(encoding), "latin-1").lines()) != text


@pytest.mark.parametrize(
    ("text", "encoding", "others"),
    [
        ("Dvo\u0159\u00e1k wrote it.", "cp1250", ["cp1257"]),
        ("A na\u00efve idea.", "mac_roman", ["cp850"]),
    ],
)
def test_a_doubtful_encoding_is_not_guessed(tmp_path, text, encoding, others):
    """The error shows what the text would be in each: the reader sees which is right."""
    file = file_of(tmp_path / "a", text.encode(encoding))
    _, reason = file.fault("".join(file.lines()))
    assert file.recognized is None
    assert shows(reason, "set encoding", encoding, text.split()[0][:4], *others)


@pytest.mark.parametrize(
    ("encoding", "sample", "beyond"),
    [("cp932", "shift_jis", "①㈱"), ("cp949", "euc_kr", "똠펲"), ("cp950", "big5", "碁")],
)
def test_characters_of_windows_may_come_late(tmp_path, encoding, sample, beyond):
    """What is looked at holds none of them; the standard that Windows extended would not have them."""
    text = f"{SAMPLES[sample]}\n" * 2000 + beyond
    file = file_of(tmp_path / "a", text.encode(encoding))
    assert ("".join(file.lines()), file.recognized) == (text, encoding)


def test_foreign_words_do_not_change_the_encoding(tmp_path):
    """An English text with words of several languages; one with typographic quotes alone."""
    for text in (
        "El Ni\u00f1o, na\u00efve caf\u00e9, fa\u00e7ade, \u00fcber, f\u00eate",
        "\u201cDon\u2019t\u201d \u2013 it\u2019s",
    ):
        assert file_of(tmp_path / "a", text.encode("cp1252")).recognized == "cp1252"
    assert file_of(tmp_path / "b", "\u201cDon\u2019t\u201d".encode("mac_roman")).recognized == "mac_roman"


def test_encodings_of_seven_bits(tmp_path):
    """Escape sequences tell them; what only looks like them is ASCII."""
    for encoding, sample in (("iso2022_jp", "shift_jis"), ("iso2022_kr", "euc_kr"), ("hz", "gb18030")):
        file = file_of(tmp_path / encoding, f"plain\n{SAMPLES[sample]}\n".encode(encoding))
        assert ("".join(file.lines()), file.recognized) == (f"plain\n{SAMPLES[sample]}\n", encoding)
    for text in (b"x~{\\bf y} and ~{\\it z}~}\n", b"\x1b[31mred\x1b[0m \x1b$B\n"):
        assert file_of(tmp_path / "a", text).recognized is None


def test_damaged_utf_8_is_not_taken_for_something_else(tmp_path):
    """One bad byte among many good letters is no reason to read all of them otherwise."""
    data = "größer\n".encode() * 9 + b"caf\xe9\n"
    file = file_of(tmp_path / "a", data)
    assert file.fault("".join(file.lines())) == (9, "byte 0xe9 is not UTF-8")
    assert list(likely_encodings(tmp_path / "a")) == ["utf-8"]
    hopeless = file_of(tmp_path / "b", bytes(range(0x80, 0x100)) * 9)
    assert shows(hopeless.fault("".join(hopeless.lines()))[1], "0x80", "set encoding")


def test_faults_in_other_encodings(tmp_path):
    """A byte that the declared encoding does not have, half a character at the end of UTF-16, a zero byte."""
    file = file_of(tmp_path / "a", b"a\n\x81", "cp1252")
    assert file.fault("".join(file.lines())) == (1, "byte 0x81 is not CP1252")
    file = file_of(tmp_path / "b", "ab".encode("utf-16") + b"c")
    assert file.fault("".join(file.lines())) == (0, "byte 0x63 is not UTF-16")
    assert file.fault("a\n\0") == (1, "a zero byte")
    assert file.fault("gr\u00fcn \U0001f600") is None


def test_ends_of_lines(tmp_path):
    """Those of Windows and of old Macintosh become ours; a return within other text stays."""
    assert list(file_of(tmp_path / "a", b"a\rb\r\rc").lines()) == ["a\n", "b\n", "\n", "c"]
    assert list(file_of(tmp_path / "b", b"a\rb\r\n\nc").lines()) == ["a\rb\n", "\n", "c"]


def test_names_of_encodings():
    """Every codec of Python for text, under any of its names."""
    assert all(map(is_text_encoding, ("cp1252", "windows-1252", "UTF-16", "gb18030")))
    assert not any(map(is_text_encoding, ("cp9999", "base64", "rot13", "")))
