# SPDX-License-Identifier: Apache-2.0
"""Several sources as one stream of documents whose proportions follow the weights."""

from collections.abc import Callable, Iterator
from typing import Literal

from scratch_gpt.data.sources import PRIMER, Source
from scratch_gpt.errors import UserError


class Mixture:
    """Documents of several sources, interleaved so that the bytes consumed follow the weights.

    The next document always comes from the source that is furthest behind its share (deficit round-robin), so the
    shares hold at any point of the stream, within one document.

    Args:
        sources: those with weight 0 are not read.
        read: makes one pass over a source.
        stop: when the stream ends: `first_used_up`, when a source has no more; `all_used_up`, when every finite
            source was read once, smaller ones being repeated meanwhile; `never`, where sources are repeated for as
            long as the caller asks.
    """

    def __init__(
        self,
        sources: list[Source],
        read: Callable[[Source], Iterator[str]],
        stop: Literal["first_used_up", "all_used_up", "never"],
    ) -> None:
        self.sources = [source for source in sources if source.weight]
        self.read = read
        self.stop = stop
        self.consumed = {source.name: 0 for source in self.sources}
        self.pass_bytes: dict[str, int] = {}

    def __iter__(self) -> Iterator[tuple[Source, str]]:
        streams = {source.name: self.read(source) for source in self.sources}
        finite = [source.name for source in self.sources if source.path != PRIMER]
        while True:
            source = min(self.sources, key=lambda source: self.consumed[source.name] / source.weight)
            text = next(streams[source.name], None)
            if text is None:
                if not self.consumed[source.name]:
                    raise UserError(f"source {source.name!r}: no text in {source.path}")
                self.pass_bytes.setdefault(source.name, self.consumed[source.name])
                all_read = all(name in self.pass_bytes for name in finite)
                if self.stop == "first_used_up" or (self.stop == "all_used_up" and all_read):
                    return
                streams[source.name] = self.read(source)
                continue
            self.consumed[source.name] += len(text.encode())
            yield source, text

    def epochs(self, source: Source, used_bytes: int) -> float | None:
        """Passes over a source that `used_bytes` make; None as long as its size is unknown, for the primer always."""
        if source.name not in self.pass_bytes:
            return None
        return used_bytes / self.pass_bytes[source.name]

    def first_pass(self, source: Source) -> bool:
        """Whether the documents of this source that come now have not come before."""
        return source.name not in self.pass_bytes
