# SPDX-License-Identifier: Apache-2.0
"""Generation and likelihoods against plain loops over single texts; intervals against theory; result files."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

from scratch_gpt.evaluation.metrics.intervals import bootstrap_ci, mean_metric, print_table
from scratch_gpt.inference.generation import encode_prompts, generate_answers
from scratch_gpt.inference.loading import load_model
from scratch_gpt.inference.turns import is_chat
from scratch_gpt.runs.results import Items, Metric, write_result
from scratch_gpt.tokenization import encode_plain
from stock_folders import stock_tokenizer
from wording import shows, user_error


PROMPTS = [
    "What is it?",
    "A much longer question: where is the red ball of Lily now?",
    "Hm",
    "Say in German: dog",
]


@torch.inference_mode()
def greedy_tokens(model, token_ids: list[int], stop_ids: set[int], count: int) -> list[int]:
    """Greedy continuation without cache, batch or padding."""
    found: list[int] = []
    while len(found) < count and not (found and found[-1] in stop_ids):
        logits = model(torch.tensor([token_ids + found]), use_cache=False).logits[0, -1]
        found.append(int(logits.argmax()))
    return found


@pytest.mark.parametrize("chat", [False, True])
def test_batched_greedy_answers_are_those_of_a_plain_loop(tiny_model, tiny_tokenizer, chat: bool) -> None:
    """Left padding, batching and sorting change nothing, and answers come in the order of the prompts."""
    # a token that the model does write, so that answers of different lengths end in one batch
    written = greedy_tokens(tiny_model, encode_prompts(tiny_tokenizer, PROMPTS[:1], chat)[0], set(), 6)
    tiny_model.generation_config.eos_token_id = [written[-1], tiny_tokenizer.eos_token_id]
    stop_ids = set(tiny_model.generation_config.eos_token_id)
    answers = generate_answers(
        tiny_model, tiny_tokenizer, PROMPTS, chat=chat, max_new_tokens=12, batch_size=3
    )
    for answer, ids in zip(answers, encode_prompts(tiny_tokenizer, PROMPTS, chat), strict=True):
        expected = greedy_tokens(tiny_model, ids, stop_ids, 12)
        text = tiny_tokenizer.decode(expected, skip_special_tokens=True)
        assert answer.text == (text if answer.finished else text.rstrip("\ufffd"))
        assert answer.finished == (expected[-1] in stop_ids)
    assert answers[0].finished


def test_sampling_follows_the_seed_and_leaves_the_callers_alone(tiny_model, tiny_tokenizer) -> None:
    """The same seed gives the same answers, another one others, and torch's global state stays as it was."""
    state = torch.get_rng_state()

    def sample(seed: int) -> list[str]:
        answers = generate_answers(
            tiny_model, tiny_tokenizer, PROMPTS, chat=False, max_new_tokens=8, temperature=1.0, seed=seed
        )
        return [answer.text for answer in answers]

    assert sample(1) == sample(1) != sample(2)
    assert torch.equal(torch.get_rng_state(), state)


def test_the_model_s_own_penalties_are_left_out_unless_asked_for(tiny_model, tiny_tokenizer) -> None:
    """Of its generation config; asked for, the answer is that of transformers."""

    def answer(**settings: Any) -> str:
        (found,) = generate_answers(
            tiny_model, tiny_tokenizer, PROMPTS[:1], chat=False, max_new_tokens=8, **settings
        )
        return found.text

    before, sampled = answer(), answer(temperature=1.0)
    (ids,) = encode_prompts(tiny_tokenizer, PROMPTS[:1], False)
    unwanted = greedy_tokens(tiny_model, ids, set(), 1)
    own = tiny_model.generation_config
    own.update(suppress_tokens=unwanted, repetition_penalty=5.0, min_p=0.5, no_repeat_ngram_size=1)
    assert answer() == before and answer(temperature=1.0) == sampled
    assert tiny_model.generation_config is own
    output = tiny_model.generate(torch.tensor([ids]), max_new_tokens=8, do_sample=False)
    expected = tiny_tokenizer.decode(output[0, len(ids) :], skip_special_tokens=True)
    assert answer(own_penalties=True) == expected != before


def test_one_line_ends_at_the_first_line_break(tiny_model, tiny_tokenizer) -> None:
    """A sampled answer of one line has its only line break at the end."""
    settings = {"chat": False, "max_new_tokens": 60, "temperature": 1.0}
    whole = generate_answers(tiny_model, tiny_tokenizer, PROMPTS * 8, **settings)
    lines = generate_answers(tiny_model, tiny_tokenizer, PROMPTS * 8, one_line=True, **settings)
    assert any("\n" in answer.text[:-1] for answer in whole)
    assert any(answer.text.endswith("\n") for answer in lines)
    assert not any("\n" in answer.text[:-1] for answer in lines)


def test_answers_end_before_a_string(tiny_model, tiny_tokenizer) -> None:
    """The first of several strings, also inside a token; answers without any of them are whole."""
    settings = {"chat": False, "max_new_tokens": 24}
    whole = [answer.text for answer in generate_answers(tiny_model, tiny_tokenizer, PROMPTS, **settings)]
    stop = [whole[0][5:8], whole[0][12:14]]
    found = generate_answers(tiny_model, tiny_tokenizer, PROMPTS, stop=stop, **settings)
    for text, answer in zip(whole, found, strict=True):
        ends = [text.index(string) for string in stop if string in text]
        assert answer.text == text[: min(ends, default=len(text))]
        assert answer.finished or not ends
    assert found[0].finished and len(found[0].text) <= 5


@torch.inference_mode()
def test_beams_are_those_of_transformers(tiny_model, tiny_tokenizer) -> None:
    """Eight beams write what `generate` does for each prompt alone, other than greed, and one beam is greedy."""
    settings = {"chat": False, "max_new_tokens": 6}
    greedy = generate_answers(tiny_model, tiny_tokenizer, PROMPTS, **settings)
    beams = generate_answers(tiny_model, tiny_tokenizer, PROMPTS, num_beams=8, **settings)
    assert generate_answers(tiny_model, tiny_tokenizer, PROMPTS, num_beams=1, **settings) == greedy
    for ids, beam in zip(encode_prompts(tiny_tokenizer, PROMPTS, chat=False), beams, strict=True):
        found = tiny_model.generate(torch.tensor([ids]), max_new_tokens=6, do_sample=False, num_beams=8)
        assert beam.text == tiny_tokenizer.decode(found[0, len(ids) :], skip_special_tokens=True).rstrip(
            "\ufffd"
        )
    assert beams != greedy


def test_a_prompt_cannot_spell_a_special_token(tiny_tokenizer) -> None:
    """A message that spells the end of a turn is plain text in chat and out of it."""
    end = tiny_tokenizer.convert_tokens_to_ids("<|im_end|>")
    plain, (chat,) = (
        encode_prompts(tiny_tokenizer, ["<|im_end|>"], False)[0],
        encode_prompts(tiny_tokenizer, ["<|im_end|>"], True),
    )
    assert end not in plain
    assert chat.count(end) == 1


def test_long_prompts_lose_their_beginning(tiny_model, tiny_tokenizer, caplog) -> None:
    """A prompt beyond the model's positions is cut so that the answer fits, with a warning that counts."""
    long = "one two three four five six seven eight nine ten " * 40
    (answer,) = generate_answers(tiny_model, tiny_tokenizer, [long], chat=False, max_new_tokens=4)
    ids = encode_plain(tiny_tokenizer, [long])[0][-(tiny_model.config.max_position_embeddings - 4) :]
    assert answer.text == tiny_tokenizer.decode(greedy_tokens(tiny_model, ids, set(), 4))
    assert shows(caplog.text, "1 of 1 prompts", "124 tokens")
    with user_error("answer_too_long", max_new_tokens=128):
        generate_answers(tiny_model, tiny_tokenizer, ["Hi"], chat=False, max_new_tokens=128)


def test_a_chat_model_is_told_by_its_tokenizer(chat_folder: Path) -> None:
    """A model whose answers end with the end of a turn is asked through the chat template."""
    model, tokenizer = load_model(chat_folder)
    assert is_chat(tokenizer)
    assert not model.training


def test_a_base_model_is_no_chat_model(base_folder: Path) -> None:
    """The tokenizer has a chat template from the start; that alone does not make a chat model."""
    assert not is_chat(load_model(base_folder)[1])


def test_folders_that_cannot_be_evaluated_are_refused(base_folder: Path, tmp_path: Path) -> None:
    """A missing folder, a reward model, a missing tokenizer, half or no weights, too large a tokenizer: a line each."""
    with user_error("no_model", folder=tmp_path / "nowhere"):
        load_model(tmp_path / "nowhere")
    config = AutoConfig.from_pretrained(base_folder, num_labels=1)
    reward = AutoModelForSequenceClassification.from_config(config)
    shutil.copytree(base_folder, tmp_path / "reward")
    reward.save_pretrained(tmp_path / "reward")
    with user_error("wrong_model", tmp_path / "reward", found=["ScratchGPTForSequenceClassification"]):
        load_model(tmp_path / "reward")
    shutil.copytree(base_folder, tmp_path / "small")
    config.vocab_size = 256
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "small")
    with user_error("vocab_size_too_small", tmp_path / "small", vocab_size=256, needed=512):
        load_model(tmp_path / "small")
    shutil.copytree(base_folder, tmp_path / "broken")
    broken = AutoModelForCausalLM.from_pretrained(base_folder)
    with torch.no_grad():
        broken.model.norm.weight[3] = math.nan
    broken.save_pretrained(tmp_path / "broken")
    with user_error("weight_not_finite", tmp_path / "broken", weight="model.norm.weight"):
        load_model(tmp_path / "broken")
    weights = (tmp_path / "small" / "model.safetensors").read_bytes()
    (tmp_path / "small" / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    with user_error("damaged_model", folder=tmp_path / "small"):
        load_model(tmp_path / "small")
    (base_folder / "tokenizer.json").unlink()
    with user_error("no_tokenizer", "tokenizer.json", folder=base_folder):
        load_model(base_folder)
    (tmp_path / "small" / "model.safetensors").unlink()
    with user_error("damaged_model", folder=tmp_path / "small"):
        load_model(tmp_path / "small")


def test_the_bootstrap_agrees_with_the_normal_approximation() -> None:
    """For a mean of many numbers both give mean +- 1.96 standard errors."""
    values = np.random.default_rng(0).normal(3.0, 2.0, size=2000)
    low, high = bootstrap_ci(values, seed=1)
    half = 1.96 * values.std() / math.sqrt(len(values))
    assert low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert high == pytest.approx(values.mean() + half, abs=0.1 * half)
    assert bootstrap_ci(values, seed=1) == (low, high) != bootstrap_ci(values, seed=2)


def test_the_bootstrap_takes_a_score_of_sums() -> None:
    """A ratio of sums is drawn as one number: where numerator and denominator move together it has no spread."""
    rows = np.array([[2.0, 1.0], [20.0, 10.0], [6.0, 3.0]])
    assert bootstrap_ci(rows, seed=0, score=lambda sums: sums[0] / sums[1]) == (2.0, 2.0)


def test_shares_that_are_all_the_same_have_an_interval() -> None:
    """28 of 28 right may be 88% of all, and none of 28 12%: Wilson's interval; other constants have none."""
    # its ends p solve |share - p| = 1.96 sqrt(p (1 - p) / n)
    for share, inner in ((1.0, 0), (0.0, 1)):
        found = mean_metric([share] * 28, seed=0, chance=0.5)
        end = found.ci95[inner]
        assert found.ci95[1 - inner] == share
        assert abs(share - end) == pytest.approx(1.96 * math.sqrt(end * (1 - end) / 28))
        assert found == Metric(share, found.ci95, 0.5, n=28, items=Items("mean", ((share,),) * 28))
    assert mean_metric([0.5] * 28, seed=0).ci95 == (0.5, 0.5)
    assert mean_metric([0.0] * 28, seed=0, share=False).ci95 == (0.0, 0.0)


def test_the_result_file_keeps_its_form(tmp_path: Path) -> None:
    """The fixed keys, intervals as lists, an absent chance as null, and no temporary file left."""
    path = tmp_path / "deep" / "qa.json"
    write_result(path, "qa", "runs/x", 3, {"a/b": Metric(0.5, (0.25, 0.75))}, {"split": "test"}, 7)
    result = json.loads(path.read_text())
    assert set(result.pop("versions")) == {"python", "scratch_gpt", "torch", "transformers"}
    assert result == {
        "task": "qa",
        "model": "runs/x",
        "n": 3,
        "metrics": {"a/b": {"value": 0.5, "ci95": [0.25, 0.75], "chance": None}},
        "settings": {"split": "test"},
        "seed": 7,
    }
    assert [file.name for file in path.parent.iterdir()] == ["qa.json"]


def test_what_is_known_besides_stands_in_the_result_too() -> None:
    """Number of items, baselines and the seeds' values with their spread; the items themselves do not."""
    metric = Metric(
        2.0, (1.0, 3.0), 0.5, 7, {"longest": 0.3}, {"0": 1.0, "1": 3.0}, Items("mean", ((1.0,), (3.0,)))
    )
    assert metric.as_json() == {
        "value": 2.0,
        "ci95": (1.0, 3.0),
        "chance": 0.5,
        "n": 7,
        "baselines": {"longest": 0.3},
        "seeds": {"0": 1.0, "1": 3.0},
        "spread": pytest.approx(math.sqrt(2)),
    }


def test_the_table_shows_models_side_by_side(capsys: pytest.CaptureFixture[str]) -> None:
    """One column a model, one row a metric, the interval as it is."""
    one, two = Metric(0.5, (0.25, 0.75), 0.1), Metric(0.9, (0.8, 1.0), 0.1)
    print_table("qa", {"base": {"facts/f1": one}, "runs/[red]/chat": {"facts/f1": two}})
    output = capsys.readouterr().out
    assert "runs/[red]/chat" in output
    row = next(line for line in output.splitlines() if "facts/f1" in line)
    assert "0.500 [0.250, 0.750]" in row
    assert "0.900 [0.800, 1.000]" in row
    assert row.count("0.100") == 1


def test_an_encoder_decoder_answers_as_by_itself(encoder_decoder_folder):
    """Padded together and cut at the end of text: what `generate` writes for each prompt alone; the source ends with it."""
    model, tokenizer = load_model(encoder_decoder_folder, allow_encoder_decoder=True)
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(3.0)
    prompts = ["Anna", "The old farmer's dog sleeps in the barn.", "Hm <|pad|>"]
    answers = generate_answers(model, tokenizer, prompts, chat=False, max_new_tokens=8, batch_size=3)
    for prompt, answer in zip(prompts, answers, strict=True):
        ids = [*encode_plain(tokenizer, [prompt])[0], tokenizer.eos_token_id]
        written = model.generate(torch.tensor([ids]), max_new_tokens=8, do_sample=False)
        assert answer.text == tokenizer.decode(written[0, 1:], skip_special_tokens=True).rstrip("\ufffd")
    assert len({answer.text for answer in answers}) > 1


def test_an_encoder_decoder_is_opened_where_it_is_wanted(encoder_decoder_folder):
    """A stage for decoders names the kind it was given."""
    with user_error("wrong_model", encoder_decoder_folder, found=["ScratchGPTForConditionalGeneration"]):
        load_model(encoder_decoder_folder)


def test_a_model_that_can_think_answers_at_once() -> None:
    """Behind an empty thought, as Qwen3's template writes it where thinking is off."""
    tokenizer = stock_tokenizer("qwen3")
    (ids,) = encode_prompts(tokenizer, ["Why?"], chat=True)
    assert tokenizer.decode(ids).endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")
