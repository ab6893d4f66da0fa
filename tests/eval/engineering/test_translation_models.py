# SPDX-License-Identifier: Apache-2.0
"""The race's parts: same pairs for both, rows as each kind reads them, a model that learns."""

import itertools

import pytest
import torch
from translation_models import (
    Corpus,
    RaceSettings,
    SentencePair,
    batches,
    build_models,
    collate,
    compare_architecture,
    encode_rows,
    file_corpus,
    primer_corpus,
    target_loss,
)

from scratch_gpt.data.sources.bad_rows import BadRows
from scratch_gpt.data.sources.source import parse_sources
from scratch_gpt.settings.hardware import ComputeSettings
from scratch_gpt.tokenization import encode_plain
from wording import user_error


PAIRS = [
    SentencePair("the red dog", "der rote Hund"),
    SentencePair("a cat", "eine Katze"),
    SentencePair("the cat sleeps", "die Katze schläft"),
]
SMALL = {"hidden_size": 32, "num_attention_heads": 2, "max_position_embeddings": 64}
CONFIGS = {
    "decoder": {**SMALL, "num_hidden_layers": 2, "intermediate_size": 104},
    "encoder-decoder": {**SMALL, "num_hidden_layers": 1, "intermediate_size": 84},
}


def test_each_kind_reads_its_own_rows(trained_tokenizer) -> None:
    """The decoder goes on after a line break and learns the target alone; the other has source and target apart."""
    end = [trained_tokenizer.eos_token_id]
    (target,) = encode_plain(trained_tokenizer, ["der rote Hund"])
    (row,) = encode_rows("decoder", PAIRS[:1], trained_tokenizer, 64)
    (source,) = encode_plain(trained_tokenizer, ["the red dog\n"])
    assert row == {"input_ids": source + target + end, "labels": [-100] * len(source) + target + end}
    (row,) = encode_rows("encoder-decoder", PAIRS[:1], trained_tokenizer, 64)
    (source,) = encode_plain(trained_tokenizer, ["the red dog"])
    assert row == {"input_ids": source + end, "labels": target + end}
    with user_error("too_long", "max_position_embeddings", "'the red dog'", limit=8):
        encode_rows("decoder", PAIRS, trained_tokenizer, 8)


def test_an_epoch_of_batches_has_each_row_once() -> None:
    """Whatever the lengths; similar ones together; another seed, another order."""
    rows = [{"input_ids": [0] * (1 + number * 7 % 50)} for number in range(64)]
    epoch = list(itertools.islice(batches(rows, 4, seed=0), 16))
    assert sorted(itertools.chain(*epoch)) == list(range(64))
    lengths = [[len(rows[number]["input_ids"]) for number in batch] for batch in epoch]
    assert max(max(batch) - min(batch) for batch in lengths) < 8
    assert epoch != list(itertools.islice(batches(rows, 4, seed=1), 16))


def test_unequal_models_are_refused(trained_tokenizer) -> None:
    """Both counts are named."""
    models = build_models(CONFIGS, trained_tokenizer, seed=0)
    sizes = [model.num_parameters() for model in models.values()]
    assert max(sizes) < 1.02 * min(sizes)
    larger = {**CONFIGS, "decoder": {**CONFIGS["decoder"], "num_hidden_layers": 4}}
    with user_error("unequal_models", "decoder", "encoder-decoder"):
        build_models(larger, trained_tokenizer, seed=0)


def test_the_primer_holds_its_test_words_out() -> None:
    """No sentence stands on two sides."""
    corpus = primer_corpus()
    sides = [{pair.source for pair in side} for side in corpus]
    assert min(map(len, sides)) > 100
    assert not sides[0] & sides[1] | sides[0] & sides[2] | sides[1] & sides[2]


def test_test_sentences_of_a_file_are_not_trained_on(tmp_path) -> None:
    """Also not under another translation; too few rows are told."""
    train, test = tmp_path / "train.jsonl", tmp_path / "test.jsonl"
    train.write_text("".join(f'{{"en": "s{number}", "de": "t"}}\n' for number in range(100)))
    test.write_text('{"en": "s3", "de": "other"}\n')
    columns = {"source": "en", "target": "de"}
    sources = parse_sources(
        [{"name": str(path), "path": str(path), "columns": columns} for path in (train, test)]
    )
    corpus = file_corpus(*sources, BadRows("skip"))
    assert len(corpus.train) == 95
    assert len(corpus.dev) == 4
    assert {pair.source for pair in corpus.train + corpus.dev} == {f"s{n}" for n in range(100)} - {"s3"}
    with user_error("too_few_pairs", source=sources[1].name, count=0):
        file_corpus(sources[1], sources[1], BadRows("skip"))


@pytest.mark.parametrize("kind", ["decoder", "encoder-decoder"])
def test_the_loss_is_that_of_the_model(kind, trained_tokenizer) -> None:
    """Rows of several lengths: the same mean, and the same gradients."""
    batch = collate(encode_rows(kind, PAIRS, trained_tokenizer, 64), trained_tokenizer.pad_token_id, "cpu")
    gradients = []
    for loss_of in (target_loss, lambda model, batch: model(**batch).loss):
        model = build_models(CONFIGS, trained_tokenizer, seed=0)[kind]
        loss = loss_of(model, batch)
        loss.backward()
        gradients.append((loss, *(weight.grad for weight in model.parameters())))
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("kind", ["decoder", "encoder-decoder"])
def test_a_model_learns_in_its_time(kind, trained_tokenizer) -> None:
    """Three pairs again and again: after three seconds it writes most of them."""
    model = build_models(CONFIGS, trained_tokenizer, seed=0)[kind]
    corpus = Corpus(PAIRS * 8, PAIRS, PAIRS)
    settings = RaceSettings(3.0, "processor", 0, 8, 1e-2, 0.1, 12, ComputeSettings(1, "no"))
    result = compare_architecture(kind, model, corpus, trained_tokenizer, settings)
    assert result.scores["chrf"] > 50
    assert result.dev_loss < 2.0
    assert result.steps > 10
    assert torch.get_num_threads() == 1
