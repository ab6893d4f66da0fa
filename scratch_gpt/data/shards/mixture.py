# SPDX-License-Identifier: Apache-2.0
"""Several sources as one stream of documents whose proportions follow the weights."""

from collections.abc import Callable, Iterator
from typing import Any, Generic, Literal, TypeVar

from scratch_gpt.data.sources.source import Source
from scratch_gpt.errors import UserError
from scratch_gpt.settings.sources import PRIMER


Document = TypeVar("Document")


def utf8_bytes(text: str) -> int:
    """Bytes of a text on disk."""
    return len(text.encode())


class Mixture(Generic[Document]):
    """Documents of several sources, interleaved so that the bytes consumed follow the weights.

    The next document always comes from the source that is furthest behind its share (deficit round-robin), so the
    shares hold at any point of the stream, within one document.

    Args:
        sources: those with weight 0 are not read.
        read: makes one pass over a source.
        stop: when the stream ends: `first_exhausted`, when a source has no more; `all_exhausted`, when every finite
            source was read once, smaller ones being repeated meanwhile; `never`, where sources are repeated for as
            long as the caller asks.
        size: bytes of a document.
    """

    def __init__(
        self,
        sources: list[Source],
        read: Callable[[Source], Iterator[Document]],
        stop: Literal["first_exhausted", "all_exhausted", "never"],
        size: Callable[[Any], int] = utf8_bytes,
    ) -> None:
        self.sources = [source for source in sources if source.weight]
        self.read = read
        self.stop = stop
        self.size = size
        self.consumed = {source.name: 0 for source in self.sources}
        self.pass_bytes: dict[str, int] = {}

    def __iter__(self) -> Iterator[tuple[Source, Document]]:
        streams = {source.name: self.read(source) for source in self.sources}
        finite = [source.name for source in self.sources if source.path != PRIMER]
        while True:
            source = min(self.sources, key=lambda source: self.consumed[source.name] / source.weight)
            document = next(streams[source.name], None)
            if document is None:
                if not self.consumed[source.name]:
                    message = f"source {source.name!r}: no text in {source.path}"
                    raise UserError("source_empty", message, source=source.name)
                self.pass_bytes.setdefault(source.name, self.consumed[source.name])
                all_read = all(name in self.pass_bytes for name in finite)
                if self.stop == "first_exhausted" or (self.stop == "all_exhausted" and all_read):
                    return
                streams[source.name] = self.read(source)
                continue
            self.consumed[source.name] += self.size(document)
            yield source, document

    def state(self) -> dict[str, dict[str, int]]:
        """What `restore` needs beside the places in the sources."""
        return {"consumed": dict(self.consumed), "pass_bytes": dict(self.pass_bytes)}

    def restore(self, state: dict[str, dict[str, int]]) -> None:
        """Resume from an earlier `state`; `read` must resume at its places."""
        self.consumed, self.pass_bytes = dict(state["consumed"]), dict(state["pass_bytes"])

    def epochs(self, source: Source, used_bytes: int) -> float | None:
        """Passes over a source that `used_bytes` make; None as long as its size is unknown, for the primer always."""
        if source.name not in self.pass_bytes:
            return None
        return used_bytes / self.pass_bytes[source.name]
