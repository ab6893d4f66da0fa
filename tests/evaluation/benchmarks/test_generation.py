# SPDX-License-Identifier: Apache-2.0
"""Bits per byte against a plain loop over documents, variety against counting by hand."""

import gzip
import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from scratch_gpt.data.sources.source import parse_sources
from scratch_gpt.evaluation.benchmarks import generation
from scratch_gpt.evaluation.benchmarks.generation import GenerationArguments
from scratch_gpt.inference.generation import Answer
from scratch_gpt.primer.tasks import TASKS
from scratch_gpt.tokenization import END_OF_TEXT, IM_END, encode_plain, tokenizer_hash
from wording import shows, user_error


DOCUMENTS = [
    "The dog sleeps.",
    "A small red ball is schön, isn't it?",
    "One two three.",
    "Lily has a hat. " * 3,
]


@torch.inference_mode()
def plain_bits_per_byte(model, tokenizer, documents: list[str]) -> float:
    """Each document alone: nats of all tokens but the first, over the bytes of all tokens but the first."""
    nats, num_bytes = 0.0, 0
    for text in documents:
        (ids,) = encode_plain(tokenizer, [text])
        num_bytes += len(text.encode()) - len(tokenizer.decode(ids[:1]).encode())
        ids = [*ids, tokenizer.convert_tokens_to_ids(END_OF_TEXT)]
        logits = model(torch.tensor([ids]), use_cache=False).logits[0, :-1]
        nats -= logits.log_softmax(-1).gather(1, torch.tensor(ids[1:])[:, None]).sum().item()
    return nats / math.log(2) / num_bytes


@pytest.mark.parametrize("chat", [False, True])
def test_packed_documents_cost_what_they_cost_alone(tiny_model, tiny_tokenizer, chat: bool) -> None:
    """Documents in one block do not see each other, padding costs nothing, in a chat model's folder too."""
    if chat:
        tiny_tokenizer.eos_token = IM_END
    expected = plain_bits_per_byte(tiny_model, tiny_tokenizer, DOCUMENTS)
    blocks = generation.document_blocks(tiny_model, tiny_tokenizer, DOCUMENTS)
    assert len(blocks) < len(DOCUMENTS)
    metric = generation.bits_per_byte(tiny_model, tiny_tokenizer, blocks, seed=0)
    assert metric.value == pytest.approx(expected, rel=1e-5)
    assert metric.ci95[0] <= metric.value <= metric.ci95[1]
    assert metric.chance == 8.0


def test_long_documents_are_cut_to_the_models_positions(tiny_model, tiny_tokenizer) -> None:
    """No block is longer than the model has positions, and no token is lost."""
    text = "Lily has a red ball. " * 100
    blocks = generation.document_blocks(tiny_model, tiny_tokenizer, [text])
    assert {len(block) for block in blocks} == {tiny_model.config.max_position_embeddings}
    tokens = [token for block in blocks for token in block if token != tiny_tokenizer.pad_token_id]
    assert len(tokens) == len(encode_plain(tiny_tokenizer, [text])[0]) + 1


def write_shards(
    folder: Path, blocks: np.ndarray, tokenizer_id: str, sources: Sequence[dict] = ({"name": "all"},)
) -> str:
    folder.mkdir()
    blocks.astype(np.uint16).tofile(folder / "tokens.bin")
    manifest = {
        "dtype": "uint16",
        "blocks": len(blocks),
        "sequence_length": blocks.shape[1],
        "tokenizer_hash": tokenizer_id,
        "sources": list(sources),
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return str(folder)


def test_shards_and_sources_are_measured_apart(
    tiny_model, tiny_tokenizer, base_folder, tmp_path: Path, caplog
) -> None:
    """The shards' blocks and the documents of a file each cost what their text costs document by document; a bad one is told."""
    blocks = np.stack(generation.document_blocks(tiny_model, tiny_tokenizer, DOCUMENTS))
    shards = write_shards(tmp_path / "shards", blocks, tokenizer_hash(tiny_tokenizer))
    text = "\n\n".join(text.strip() for text in DOCUMENTS).encode()
    (tmp_path / "book.txt").write_bytes(text + b"\n\n\xff")
    sources = parse_sources([{"name": "book", "path": str(tmp_path / "book.txt")}])
    arguments = GenerationArguments(model=[str(base_folder)], shards=shards)
    metrics = generation.evaluate_text(tiny_model, tiny_tokenizer, sources, arguments)
    assert shows(caplog.text, "book.txt", f"1 of {len(DOCUMENTS) + 1} rows", "0xff")
    assert metrics["bits_per_byte"].value == pytest.approx(
        plain_bits_per_byte(tiny_model, tiny_tokenizer, DOCUMENTS), rel=1e-5
    )
    text = "\n".join(text.strip() for text in DOCUMENTS).encode()
    assert metrics["book/bits_per_byte"].baselines == {"gzip": 8 * len(gzip.compress(text, 9)) / len(text)}
    assert metrics["book/bits_per_byte"].value == pytest.approx(
        plain_bits_per_byte(tiny_model, tiny_tokenizer, [text.strip() for text in DOCUMENTS]), rel=1e-5
    )


def test_each_source_of_the_shards_is_measured(tiny_model, tiny_tokenizer, tmp_path: Path) -> None:
    """Sources with blocks of their own: each costs what its documents cost, and all together the sum."""
    parts = [DOCUMENTS[:2], DOCUMENTS[2:]]
    rows = [
        np.concatenate(
            [np.array([*ids, tiny_tokenizer.eos_token_id]) for ids in encode_plain(tiny_tokenizer, texts)]
        )
        for texts in parts
    ]
    blocks = np.full((2, max(map(len, rows))), tiny_tokenizer.pad_token_id)
    for block, row in zip(blocks, rows, strict=True):
        block[: len(row)] = row
    sources = [{"name": "a", "block_range": [0, 1]}, {"name": "b", "block_range": [1, 2]}, {"name": "c"}]
    shards = write_shards(tmp_path / "shards", blocks, tokenizer_hash(tiny_tokenizer), sources)
    metrics = generation.shards_metrics(tiny_model, tiny_tokenizer, shards, None, seed=0)
    expected = {
        f"{prefix}bits_per_byte": plain_bits_per_byte(tiny_model, tiny_tokenizer, texts)
        for prefix, texts in (("", DOCUMENTS), ("a/", parts[0]), ("b/", parts[1]))
    }
    assert {name: metric.value for name, metric in metrics.items()} == pytest.approx(expected, rel=1e-5)
    assert [metric.n for metric in metrics.values()] == [2, 1, 1]
    only = generation.shards_metrics(tiny_model, tiny_tokenizer, shards, 1, seed=0)
    assert only["bits_per_byte"].value == metrics["a/bits_per_byte"].value


def test_a_broken_model_has_no_bits_per_byte(tiny_model, tiny_tokenizer) -> None:
    """NaN in one block of text: how many, in one line."""
    with torch.no_grad():
        tiny_model.model.norm.weight[0] = math.nan
    blocks = generation.document_blocks(tiny_model, tiny_tokenizer, DOCUMENTS)
    with user_error("model_not_finite", f"{len(blocks)} of {len(blocks)}"):
        generation.bits_per_byte(tiny_model, tiny_tokenizer, blocks, seed=0)


def test_continuations_are_compared_to_the_real_text(
    monkeypatch, tiny_model, tiny_tokenizer, base_folder
) -> None:
    """The first words are given, as many real words as the model wrote are the baseline."""
    documents = ["one two three four five six", "one two seven eight nine ten", "too short"]
    asked = []

    def generate(model, tokenizer, prompts, **settings) -> list[Answer]:
        asked.extend(prompts)
        return [Answer("go go", True), Answer("go", True)]

    monkeypatch.setattr(generation, "generate_answers", generate)
    arguments = GenerationArguments(model=[str(base_folder)], prompt_words=2)
    metrics = generation.evaluate_continuations(tiny_model, tiny_tokenizer, "book", documents, arguments)
    assert asked == ["one two", "one two"]
    assert metrics["book/sampled_distinct_1"].value == 1 / 3
    assert metrics["book/sampled_distinct_1"].baselines == {"real_text": 1.0}
    assert set(metrics) == {
        f"book/sampled_{name}" for name in ("repetition", "distinct_1", "distinct_2", "self_bleu")
    }
    asked.clear()
    documents = ["北京是中国的首都", "今天，天气很好"]
    metrics = generation.evaluate_continuations(tiny_model, tiny_tokenizer, "zh", documents, arguments)
    assert asked == ["北京", "今天"]
    assert metrics["zh/sampled_distinct_1"].baselines == {"real_text": 1.0}
    arguments = GenerationArguments(model=[str(base_folder)], prompt_words=8)
    with user_error("documents_too_short", "prompt_words 8", source="book"):
        generation.evaluate_continuations(tiny_model, tiny_tokenizer, "book", documents, arguments)


def test_text_that_does_not_fit_the_model_is_refused(tiny_model, tiny_tokenizer, tmp_path: Path) -> None:
    """Blocks of another tokenizer, and blocks longer than the model's positions."""
    other = write_shards(tmp_path / "other", np.ones((2, 8)), "another")
    with user_error("another_tokenizer", folder=other):
        generation.shards_metrics(tiny_model, tiny_tokenizer, other, None, seed=0)
    long = write_shards(tmp_path / "long", np.ones((2, 129)), tokenizer_hash(tiny_tokenizer))
    with user_error("too_long", length=129, limit=128):
        generation.shards_metrics(tiny_model, tiny_tokenizer, long, None, seed=0)


def test_stories_are_ended_greedily_and_sampled(monkeypatch, tiny_model, tiny_tokenizer, base_folder) -> None:
    """The right endings are coherent and finished; all endings alike are not varied."""
    examples = TASKS["stories"].examples("test")[:20]
    temperatures = []

    def generate(model, tokenizer, prompts, *, temperature: float, **settings) -> list[Answer]:
        temperatures.append(temperature)
        if temperature:
            return [Answer("go go go go go", False)] * len(prompts)
        return [Answer(example.references[0], True) for example in examples]

    monkeypatch.setattr(generation, "generate_answers", generate)
    arguments = GenerationArguments(model=[str(base_folder)])
    metrics = generation.evaluate_stories(tiny_model, tiny_tokenizer, TASKS["stories"], examples, arguments)
    values = {name.removeprefix("stories/"): metric.value for name, metric in metrics.items()}
    assert temperatures == [0.0, 1.0]
    assert values["greedy_coherence"] == values["greedy_finished"] == 1.0
    assert metrics["stories/greedy_coherence"].chance < 0.8
    assert values["sampled_finished"] == 0.0
    assert values["sampled_repetition"] == 0.5
    assert values["sampled_distinct_1"] == 1 / 100
    assert values["sampled_self_bleu"] == pytest.approx(100)
    assert values["greedy_self_bleu"] < 100
    assert values["greedy_distinct_1"] > values["sampled_distinct_1"]


def test_the_interval_of_distinct_n_is_the_jackknife() -> None:
    """It equals leaving out each text in turn and counting anew."""
    random = np.random.default_rng(0)
    texts = [" ".join(random.choice(list("abcdefghijkl"), size=9)) for _ in range(30)]
    metric = generation.distinct_metric(texts, 2)
    grams = [[text.split()[i] + text.split()[i + 1] for i in range(8)] for text in texts]
    left = []
    for index in range(len(grams)):
        rest = [gram for other, own in enumerate(grams) if other != index for gram in own]
        left.append(len(set(rest)) / len(rest))
    error = math.sqrt(29 / 30 * sum((value - sum(left) / 30) ** 2 for value in left))
    flat = [gram for own in grams for gram in own]
    assert metric.value == pytest.approx(len(set(flat)) / len(flat))
    assert metric.ci95 == pytest.approx((metric.value - 1.96 * error, metric.value + 1.96 * error))
