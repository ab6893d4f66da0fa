# SPDX-License-Identifier: Apache-2.0
"""Tokens a second of the shards stage beside those of the tokenizers library alone, and the memory that it takes.

    accelerate launch eval/engineering/shards_speed.py --tokenizer runs/demo/tokenizer --megabytes 1000
    accelerate launch eval/engineering/shards_speed.py --tokenizer runs/tokenizer --text data/book.txt --megabytes 200

The text is that of a source, repeated with a different number in front of each document, as .jsonl on disk. The
library gets the same documents, held in memory, in one `encode_batch_fast` a megabyte: its best case. Both use all
cores, in turns: each figure is the median of --repeats, the ratio that of the pairs.
"""

import scratch_gpt.native_libraries  # noqa: F401  # before torch

import itertools
import json
import os
import shutil
import statistics
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

from scratch_gpt.data.shards.arguments import ShardsArguments
from scratch_gpt.data.shards.blocks import PackedBlocks
from scratch_gpt.data.shards.corpus import BATCH_BYTES
from scratch_gpt.data.shards.writing import write_shards
from scratch_gpt.data.sources.bad_rows import BadRows
from scratch_gpt.data.sources.source import parse_sources, read_documents
from scratch_gpt.settings.checking import Count
from scratch_gpt.settings.parsing import run_stage
from scratch_gpt.settings.sources import PRIMER
from scratch_gpt.tokenization import escape, load_tokenizer


# The library is measured on this many first bytes: they are held in memory.
LIBRARY_BYTES = 50_000_000
# Documents of the primer are short: this many make one of about 2 kB, the usual length on the web.
JOINED = 16
DISTINCT_DOCUMENTS = 20_000
MEMORY_SAMPLES = 10


@dataclass
class ShardsSpeedArguments:
    """Settings of `eval/engineering/shards_speed.py`."""

    tokenizer: str = field(metadata={"help": "Folder of the tokenizer stage."})
    text: str = field(default="primer", metadata={"help": "Path of a source: primer, or a file of text."})
    megabytes: Count = field(default=100, metadata={"help": "Size of the text that is tokenized."})
    repeats: Count = field(default=5, metadata={"help": "Measurements of the speed."})
    sequence_length: int = field(default=1024, metadata={"help": "Tokens in one packed block."})


def write_text(path: Path, documents: list[str], num_bytes: int) -> None:
    """About `num_bytes` of distinct documents as .jsonl."""
    with path.open("w", encoding="utf-8") as file:
        for number, text in enumerate(itertools.cycle(documents)):
            file.write(json.dumps({"text": f"{number} {text}"}) + "\n")
            if file.tell() >= num_bytes:
                return


def library_speed(arguments: ShardsSpeedArguments, path: Path) -> float:
    """Tokens a second of the tokenizers library on the first LIBRARY_BYTES of the text."""
    encoder = load_tokenizer(arguments.tokenizer).backend_tokenizer
    batches: list[list[str]] = [[]]
    total = size = 0
    with path.open(encoding="utf-8") as file:
        for line in file:
            batches[-1].append(escape(json.loads(line)["text"]))
            size += len(line)
            if size >= BATCH_BYTES:
                total, size = total + size, 0
                batches.append([])
            if total >= LIBRARY_BYTES:
                break
    start = time.perf_counter()
    tokens = sum(
        len(encoding)
        for batch in batches
        for encoding in encoder.encode_batch_fast(batch, add_special_tokens=False)
    )
    return tokens / (time.perf_counter() - start)


def shards_speed(arguments: ShardsSpeedArguments, path: Path, memory: list[tuple[int, int]]) -> float:
    """Tokens a second of the whole stage; (bytes written, resident bytes) are added to `memory` every half second."""
    output_dir = path.with_name("shards")
    done = threading.Event()

    def sample() -> None:
        written = output_dir.with_name("shards.tmp") / "train" / "tokens.bin"
        while not done.wait(0.5):
            size = written.stat().st_size if written.is_file() else 0
            memory.append((size, psutil.Process().memory_info().rss))

    sampler = threading.Thread(target=sample)
    sampler.start()
    shutil.rmtree(output_dir, ignore_errors=True)  # the round before wrote the same
    start = time.perf_counter()
    write_shards(
        ShardsArguments(
            sources=[{"name": "text", "path": str(path)}],
            tokenizer=arguments.tokenizer,
            output_dir=str(output_dir),
            sequence_length=arguments.sequence_length,
        )
    )
    seconds = time.perf_counter() - start
    done.set()
    sampler.join()
    return PackedBlocks(output_dir / "train").manifest["tokens"] / seconds


def main(arguments: ShardsSpeedArguments) -> None:
    """Write the text, measure in turns, print both speeds and the curve of the memory."""
    os.environ["TOKENIZERS_PARALLELISM"] = "true"
    (source,) = parse_sources([{"name": "text", "path": arguments.text}])
    documents = list(itertools.islice(read_documents(source, BadRows(), seed=0), DISTINCT_DOCUMENTS))
    if arguments.text == PRIMER:
        documents = [
            " ".join(documents[start : start + JOINED]) for start in range(0, len(documents), JOINED)
        ]
    pairs, memory = [], []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "text.jsonl"
        write_text(path, documents, arguments.megabytes * 1_000_000)
        for _ in range(arguments.repeats):
            memory = []
            pairs.append((library_speed(arguments, path), shards_speed(arguments, path, memory)))
    library, shards = (statistics.median(speeds) for speeds in zip(*pairs))
    ratio = statistics.median(shards / library for library, shards in pairs)
    console = Console()
    console.print(
        f"tokenizers library: {library:,.0f} tokens/s; shards stage: {shards:,.0f} tokens/s; ratio {ratio:.2f}"
    )
    table = Table("MB written", "resident MB", title=f"memory, last run of {arguments.megabytes} MB of text")
    for size, resident in memory[:: max(1, len(memory) // MEMORY_SAMPLES)]:
        table.add_row(f"{size / 1e6:,.0f}", f"{resident / 1e6:,.0f}")
    console.print(table)


if __name__ == "__main__":
    run_stage(main, ShardsSpeedArguments)
