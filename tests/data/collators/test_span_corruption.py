# SPDX-License-Identifier: Apache-2.0
"""T5's span corruption: the noise of its paper, sources and targets that give the text back, seed and position alone."""

import numpy as np
import pytest
import torch
from transformers import PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration

from scratch_gpt.data.collators.packed import IGNORED
from scratch_gpt.data.collators.span_corruption import SpanCorruptionCollator, noise_mask
from scratch_gpt.tokenization import encode_plain, sentinel_ids
from wording import user_error


TEXTS = [
    "The farmer's dog sleeps in the barn.",
    "Hm",
    "Anna has twelve apples and gives Tom half of them.",
    "A",
]


@pytest.fixture(scope="module")
def block(trained_tokenizer: PreTrainedTokenizerFast) -> np.ndarray:
    """Four documents, the last one cut off by the end of the block, and one before it a single token."""
    ids = encode_plain(trained_tokenizer, TEXTS)
    ids[1] = ids[1][:1]
    text = [token for document in ids for token in [*document, trained_tokenizer.eos_token_id]]
    return np.array(text + ids[0][:7])


@pytest.mark.parametrize("length", [2, 3, 7, 20, 21, 64, 100, 512])
def test_noise_is_that_of_the_paper(length) -> None:
    """15% of the tokens in spans of 3 on average, at the beginning, the end and in between."""
    random = np.random.default_rng(0)
    masks = np.stack([noise_mask(length, random) for _ in range(500)])
    assert set(masks.sum(1)) == {max(1, round(0.15 * length))}
    spans = np.diff(masks.astype(int), prepend=0, axis=1).clip(0).sum(1)
    assert set(spans) == {max(1, round(masks[0].sum() / 3))}
    assert masks.any(axis=0).all()


def test_all_ways_are_equally_likely() -> None:
    """One of 7 tokens: 7 ways. 5 of 33 in two spans: a first span of 1, 2, 3 or 4 tokens."""
    random = np.random.default_rng(0)
    places = np.bincount([noise_mask(7, random).argmax() for _ in range(7000)], minlength=7)
    assert abs(places - 1000).max() < 120
    first = np.bincount([noise_mask(33, random).argmax() for _ in range(100)], minlength=33)
    assert first.max() < 30
    masks = [np.flatnonzero(noise_mask(33, random)) for _ in range(4000)]
    lengths = np.bincount([int(np.diff(mask).argmax()) + 1 for mask in masks], minlength=5)
    assert abs(lengths[1:] - 1000).max() < 120


def test_source_and_target_give_the_text_back(trained_tokenizer, block) -> None:
    """Each sentinel of a source, in their order, replaced by what follows it in the target; no document in another's row."""
    collator = SpanCorruptionCollator(trained_tokenizer, 0, len(block))
    eos, sentinels = trained_tokenizer.eos_token_id, sentinel_ids(trained_tokenizer)
    for position in range(20):
        batch = collator([block], [position])
        documents = collator.documents(block)
        assert len(documents) == 5
        assert batch["input_ids"].shape[0] == batch["labels"].shape[0] == 5
        for number, document in enumerate(documents):
            source = batch["input_ids"][number][batch["attention_mask"][number] == 1].tolist()
            target = [token for token in batch["labels"][number].tolist() if token != IGNORED]
            assert target.pop() == eos
            spans: dict[int, list[int]] = {}
            for token in target:
                if token in sentinels:
                    spans[token] = []
                else:
                    spans[list(spans)[-1]].append(token)
            used = [token for token in source if token in sentinels]
            assert used == list(spans) == sentinels[: len(used)]
            restored = [text for token in source for text in spans.get(token, [token])]
            assert restored == document.tolist()
            assert bool(used) == (len(document) > 2)  # one token and the end: nothing to take out


def test_seed_and_position_decide(trained_tokenizer, block) -> None:
    """The same in another batch and after other draws; another position or seed takes out something else."""
    collator = SpanCorruptionCollator(trained_tokenizer, 0, len(block))
    whole = collator([block, block, block], [3, 4, 5])
    torch.manual_seed(5)
    np.random.seed(5)
    part = collator([block], [4])
    assert (part["input_ids"] == whole["input_ids"][5:10, : part["input_ids"].shape[1]]).all()
    assert (part["labels"] == whole["labels"][5:10, : part["labels"].shape[1]]).all()
    other = SpanCorruptionCollator(trained_tokenizer, 1, len(block))([block], [4])
    assert not torch.equal(other["input_ids"], part["input_ids"])
    assert not torch.equal(collator([block], [9])["input_ids"], part["input_ids"])


def test_padding_does_not_change_the_loss(trained_tokenizer, block) -> None:
    """transformers' T5 finds the same loss in a padded batch as over the rows one by one."""
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=512,
        d_model=16,
        d_kv=8,
        d_ff=32,
        num_layers=1,
        num_heads=2,
        decoder_start_token_id=1,
        pad_token_id=1,
    )
    model = T5ForConditionalGeneration(config).eval()
    batch = SpanCorruptionCollator(trained_tokenizer, 0, len(block))([block], [0])
    with torch.no_grad():
        together = model(**batch).loss
        losses, counts = [], []
        for ids, mask, labels in zip(*batch.values(), strict=True):
            labels = labels[labels != IGNORED]
            losses.append(model(input_ids=ids[mask == 1][None], labels=labels[None]).loss * len(labels))
            counts.append(len(labels))
    assert together.item() == pytest.approx(sum(losses).item() / sum(counts), rel=1e-5)


def test_too_few_sentinels_are_told(trained_tokenizer, tmp_path) -> None:
    """512 tokens of vocabulary have 8: enough for blocks of 160 tokens, not for 512; an old tokenizer has none."""
    SpanCorruptionCollator(trained_tokenizer, 0, 160)
    with user_error("too_few_sentinels", 512, needed=26, found=8):
        SpanCorruptionCollator(trained_tokenizer, 0, 512)
    trained_tokenizer.save_pretrained(tmp_path)
    file = tmp_path / "tokenizer.json"
    file.write_text(file.read_text().replace("<|extra_", "<|other_"))
    with user_error("token_missing", tmp_path, token="<|extra_0|>"):
        SpanCorruptionCollator(PreTrainedTokenizerFast.from_pretrained(tmp_path), 0, 64)
