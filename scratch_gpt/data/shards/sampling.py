# SPDX-License-Identifier: Apache-2.0
"""The text that a tokenizer learns from: all parts of every document, and a little kept aside to measure it on."""

import re
import zlib
from collections.abc import Iterator

from scratch_gpt.data.shards.corpus import Corpus, Document
from scratch_gpt.data.sources.source import Source
from scratch_gpt.settings.sources import PRIMER


# One piece in this many is not learned from, by its hash: it is the same one in every pass.
KEPT_ASIDE = 50
# On so much text, at most, the bytes per token are measured.
MEASURED_CHARACTERS = 1_000_000
# A piece ends where the next one begins with white space, as the pre-tokenizer's words do.
_PIECES = re.compile(r".{1,1000}\S{0,100}", re.DOTALL)
# The least number of pieces of a document that is too long to be learned completely: one place says little of it.
LEAST_PIECES = 10
PIECE_CHARACTERS = 1000


def spread_pieces(text: str, max_characters: int) -> list[str]:
    """A text in pieces of about 1,000 characters; of a longer text, pieces of that length in total, evenly spaced over it."""
    if len(text) <= max_characters:
        return _PIECES.findall(text)
    count = max(LEAST_PIECES, max_characters // PIECE_CHARACTERS)
    starts = (index * len(text) // count for index in range(count))
    return [text[start : start + max_characters // count] for start in starts]


class TokenizerSample:
    """Pieces of the mixed documents, until `max_characters` are drawn, and other pieces to measure the tokenizer on.

    Of the primer, which is endless, whole documents are drawn, and those that follow are kept aside.

    Args:
        max_document_characters: of a longer document, pieces of this length in total, from its whole length.

    Attributes:
        aside: pieces that are not learned from, MEASURED_CHARACTERS at most.
        learned: the first ones that are, as many.
        used: source -> bytes of its pieces, learned from or kept aside, in the first pass.
        shortened: number of documents that were too long to be taken whole.
    """

    def __init__(self, corpus: Corpus, max_document_characters: int, max_characters: int) -> None:
        self.corpus = corpus
        self.max_document_characters, self.max_characters = max_document_characters, max_characters
        self.aside: list[str] = []
        self.learned: list[str] = []
        self.used = dict.fromkeys(corpus.streams, 0)
        self.shortened = 0

    def __iter__(self) -> Iterator[str]:
        drawn = aside = 0
        for source, document in self.corpus.mixture:
            endless, text = source.path == PRIMER, document.text
            self.shortened += document.first_pass and not endless and len(text) > self.max_document_characters
            for piece in [text] if endless else spread_pieces(text, self.max_document_characters):
                if drawn >= self.max_characters or (not endless and _is_kept_aside(piece)):
                    aside += self._keep(self.aside, piece, aside, source, document)
                else:
                    piece = piece[: self.max_characters - drawn]
                    drawn += len(piece)
                    self._keep(self.learned, piece, drawn, source, document)
                    yield piece
            if drawn >= self.max_characters and aside >= min(drawn // KEPT_ASIDE, MEASURED_CHARACTERS):
                return

    def _keep(self, kept: list[str], piece: str, size: int, source: Source, document: Document) -> int:
        """Count a piece of a first pass, and keep it while there are not too many of its kind; its characters."""
        if not document.first_pass:
            return 0
        self.used[source.name] += len(piece.encode())
        if size <= MEASURED_CHARACTERS or not kept:
            kept.append(piece)
        return len(piece)


def _is_kept_aside(piece: str) -> bool:
    return zlib.crc32(piece.encode()) % KEPT_ASIDE == 0
