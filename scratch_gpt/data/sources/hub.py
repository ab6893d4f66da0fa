# SPDX-License-Identifier: Apache-2.0
"""Hub datasets, streamed by `datasets`: their shards are parts of a source."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import datasets

from scratch_gpt.data.sources.formats import Part, Record
from scratch_gpt.errors import UserError


class HubSource(Protocol):
    """What a source says of a Hub dataset."""

    name: str
    path: str
    subset: str | None
    split: str
    revision: str | None
    commit: str | None


def hub_parts(source: HubSource) -> list[Part]:
    """The shards of a dataset as parts; the source learns of its commit.

    Raises:
        UserError: it cannot be reached.
    """

    def rows_of(index: int) -> Callable[[int], Iterator[tuple[int, Record]]]:
        def rows(start: int) -> Iterator[tuple[int, Record]]:
            part = dataset.shard(num_shards=dataset.num_shards, index=index)
            with _hub_errors(source):
                yield from enumerate(part.skip(start) if start else part, start=start + 1)

        return rows

    with _hub_errors(source):
        builder = datasets.load_dataset_builder(source.path, source.subset, revision=source.revision)
        dataset = builder.as_streaming_dataset(split=source.split)
    source.commit = builder.hash
    if dataset.num_shards == 1:
        return [Part(source.path, rows_of(0))]
    return [Part(f"{source.path}[{index}]", rows_of(index)) for index in range(dataset.num_shards)]


def pin_commits(sources: Sequence[HubSource], commits: dict[str, str | None]) -> None:
    """Let an interrupted stage read on in the commits, by the name of the source, that it began with."""
    for source in sources:
        source.revision = commits.get(source.name) or source.revision


@contextmanager
def _hub_errors(source: HubSource) -> Iterator[None]:
    """Whatever fails at the Hub, say that the path was taken for a Hub dataset."""
    try:
        yield
    except UserError:
        raise
    except (OSError, ValueError) as error:
        message = (
            f"source {source.name!r}: no file {source.path}, and no Hub dataset of that name can be read ({error}): "
            "is the name right, and the network there?"
        )
        raise UserError("dataset_unreachable", message, path=source.path) from None
