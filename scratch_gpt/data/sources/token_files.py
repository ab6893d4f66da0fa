# SPDX-License-Identifier: Apache-2.0
"""Files of token ids that other projects wrote: nanoGPT, llm.c, OLMo, datatrove; divided into documents.

| file | content |
|---|---|
| `.bin` of llm.c | 256 int32 of header (magic, version, tokens), then ids; the magic says uint16 or uint32 |
| other `.bin` (nanoGPT) | ids without a header |
| `.npy` | an array of numpy, or (OLMo) ids without a header |
| `.ds` (datatrove) | ids without a header; `.ds.index` beside it has the end of each document, uint64 |

Ids without a header are uint16 where that holds the whole vocabulary, else uint32, as these projects write them.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from scratch_gpt.errors import UserError


TOKEN_SUFFIXES = (".bin", ".npy", ".ds")
LLM_C_HEADER = 256
LLM_C_TYPES = {20240520: "<u2", 20240801: "<u4"}
# Beside a .ds file.
INDEX_SUFFIX = ".index"
# Ids that are looked through at once.
CHUNK = 1 << 20


def hold_tokens(files: Sequence[Path]) -> bool:
    """Whether the files of a source hold token ids.

    Raises:
        UserError: some do and others do not.
    """
    tokenized = [file for file in files if file.suffix.lower() in TOKEN_SUFFIXES]
    if tokenized and len(tokenized) < len(files):
        message = f"{tokenized[0]} holds token ids and others beside it do not: make two sources of them"
        raise UserError("unsupported_format", message, file=tokenized[0])
    return bool(tokenized)


def read_tokens(path: Path, vocab_size: int) -> np.ndarray:
    """Map the ids of a file into memory, shape (tokens,).

    Raises:
        UserError: the file is no array of ids, or not as long as it says.
    """
    dtype = "<u2" if vocab_size <= 1 << 16 else "<u4"
    size, offset = path.stat().st_size, 0
    with path.open("rb") as file:
        start = file.read(4 * LLM_C_HEADER)
    suffix = path.suffix.lower()
    if suffix == ".npy" and start.startswith(b"\x93NUMPY"):
        try:
            array = np.load(path, mmap_mode="r", allow_pickle=False)
        except (ValueError, OSError) as error:
            message = f"{path}: cannot be read as npy ({error})"
            raise UserError("unreadable_file", message, file=path) from None
        if array.ndim != 1 or array.dtype.kind not in "ui":
            message = f"{path}: an array of {array.dtype}, {array.ndim} dimensions: token ids are one row of integers"
            raise UserError("unreadable_file", message, file=path)
        return array
    magic = int.from_bytes(start[:4], "little")
    if suffix == ".bin" and magic in LLM_C_TYPES and len(start) == 4 * LLM_C_HEADER:
        dtype, count, offset = LLM_C_TYPES[magic], int(np.frombuffer(start, "<i4")[2]), len(start)
        expected = offset + count * np.dtype(dtype).itemsize
        if size != expected:
            message = (
                f"{path} has {size} bytes, its header says {expected}: it is incomplete, download it again"
            )
            raise UserError("damaged_file", message, file=path)
    elif size % np.dtype(dtype).itemsize:
        message = f"{path} has {size} bytes, which is not a number of complete {np.dtype(dtype).name} ids: it is cut off, download it again"
        raise UserError("damaged_file", message, file=path)
    # an empty file cannot be mapped
    return np.memmap(path, dtype, "r", offset=offset) if size > offset else np.zeros(0, dtype)


def token_documents(path: Path, vocab_size: int, end_of_text: int) -> Iterator[np.ndarray]:
    """The documents of a file, without the end-of-text ids between them, each of at least one id.

    Raises:
        UserError: as for `read_tokens`; an id beyond the vocabulary; an index that does not fit.
    """
    tokens = read_tokens(path, vocab_size)
    ends = _index(path, len(tokens)) if path.suffix.lower() == ".ds" else _ends(tokens, end_of_text)
    start = 0
    for end in ends:
        document = np.array(tokens[start:end])
        if len(document) and not 0 <= document.min() <= document.max() < vocab_size:
            place = int(np.flatnonzero((document < 0) | (document >= vocab_size))[0])
            message = (
                f"{path}: token {document[place]} at {start + place} is not among the tokenizer's {vocab_size}: give "
                "tokenizer, the folder of the one that the file was written with"
            )
            raise UserError("unknown_token", message, token=int(document[place]))
        document = document[document != end_of_text]
        if len(document):
            yield document
        start = end


def _ends(tokens: np.ndarray, end_of_text: int) -> Iterator[int]:
    """One past each end-of-text id, and the end of the file."""
    for start in range(0, len(tokens), CHUNK):
        yield from (np.flatnonzero(tokens[start : start + CHUNK] == end_of_text) + start + 1).tolist()
    yield len(tokens)


def _index(path: Path, length: int) -> Iterator[int]:
    index = path.with_name(path.name + INDEX_SUFFIX)
    if not index.is_file():
        message = f"{index} not found: it says where the documents of {path.name} end"
        raise UserError("file_not_found", message, file=index)
    ends = np.fromfile(index, "<u8")
    if (ends[1:] < ends[:-1]).any() or int(ends[-1:].sum()) != length:
        message = (
            f"{index} does not fit {path.name} of {length} ids, or these are not of this tokenizer's width"
        )
        raise UserError("damaged_file", message, file=index)
    return map(int, ends)
