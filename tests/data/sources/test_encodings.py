# SPDX-License-Identifier: Apache-2.0
"""Encodings: marks are heeded, declared ones are read, others are guessed; bytes that are no text are found."""

import pytest

from scratch_gpt.data.sources.encodings import TextFile, guess_encoding, is_text_encoding


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
        assert file.unmarked == encoding


@pytest.mark.parametrize("encoding", SAMPLES)
def test_declared_encodings_are_read_and_others_guessed(tmp_path, encoding):
    """The error of a file that is not UTF-8 names the key that reads it."""
    text = "".join(f"{number}. {SAMPLES[encoding]}\n" for number in range(20))
    assert "".join(file_of(tmp_path / "a", text.encode(encoding), encoding).lines()) == text
    file = file_of(tmp_path / "b", b"plain\n" + text.encode(encoding))
    line, reason = file.fault("".join(file.lines()))
    assert (line, reason.split()[0]) == (1, "byte")
    assert f"set encoding: {encoding}" in reason


def test_damaged_utf_8_is_not_taken_for_something_else(tmp_path):
    """One bad byte among many good letters is no reason to read all of them otherwise."""
    data = "größer\n".encode() * 9 + b"caf\xe9\n"
    file = file_of(tmp_path / "a", data)
    assert file.fault("".join(file.lines())) == (9, "byte 0xe9 is not UTF-8")
    assert guess_encoding(tmp_path / "a") == ""


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
