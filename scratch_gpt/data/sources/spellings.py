# SPDX-License-Identifier: Apache-2.0
"""What is odd about how a text spells its letters: nothing is changed, but the user should know."""

import re
import unicodedata
from collections.abc import Iterator


NOT_NFC = (
    "documents that are not in Unicode's NFC, such as letters with their accents apart; they stay as they are"
)
ENCODED_TWICE = "documents with letters that were encoded twice, such as Ã© for é; they stay as they are"
TWICE = re.compile("[ÂÃÐÑ][\u0080-\u00bf]|â€[\u0080-\u00bf\u2018-\u201d\u2020-\u2022™œž]")


def odd_spellings(text: str) -> Iterator[str]:
    """What to note of a document."""
    if text.isascii():
        return
    if not unicodedata.is_normalized("NFC", text):
        yield NOT_NFC
    if TWICE.search(text):
        yield ENCODED_TWICE
