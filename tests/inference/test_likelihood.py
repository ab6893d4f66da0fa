# SPDX-License-Identifier: Apache-2.0
"""Log-likelihoods against plain loops, and against lm-eval's HFLM where it is installed."""

import importlib.util
import json
import math
from pathlib import Path

import pytest
import tokenizers
import torch
from tokenizers import models, normalizers, processors, trainers
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedTokenizerFast,
)

from scratch_gpt.evaluation.benchmarks.file_tasks import FORMS, file_tasks
from scratch_gpt.evaluation.benchmarks.qa import evaluate_questions
from scratch_gpt.evaluation.harness import EvalArguments
from scratch_gpt.export.interop import to_stock
from scratch_gpt.inference.generation import encode_prompts
from scratch_gpt.inference.likelihood import encode_pairs, loglikelihoods
from scratch_gpt.inference.loading import load_model
from scratch_gpt.tokenization import encode_plain
from stock_folders import DECODER
from wording import user_error


PROMPTS = ["What is it?", "A much longer question: where is the red ball of Lily now?", "Hm"]
CANDIDATES = ["A dog.", "The ball is in the garden, I think.", "schön"]


@torch.inference_mode()
def plain_log_likelihood(model, tokenizer, start: list[int], text: str) -> float:
    (end,) = encode_plain(tokenizer, [text])
    total = 0.0
    for count, token in enumerate(end):
        logits = model(torch.tensor([start + end[:count]]), use_cache=False).logits[0, -1]
        total += logits.log_softmax(-1)[token].item()
    return total


@pytest.mark.parametrize("shared", [False, True], ids=["one candidate a prompt", "three candidates a prompt"])
@pytest.mark.parametrize("batch_size", [1, 4, 64])
def test_loglikelihoods_are_those_of_a_plain_loop(dialect_model, tiny_tokenizer, shared, batch_size) -> None:
    """The sum over the continuation's tokens of log p(token | all before it), in every dialect and batch size."""
    model = type(dialect_model)(
        type(dialect_model.config)(**{**dialect_model.config.to_dict(), "vocab_size": len(tiny_tokenizer)})
    ).eval()
    pairs = (
        [(prompt, text) for prompt in PROMPTS for text in CANDIDATES]
        if shared
        else list(zip(PROMPTS, CANDIDATES, strict=True))
    )
    prompts, texts = zip(*pairs, strict=True)
    found = loglikelihoods(model, tiny_tokenizer, prompts, texts, chat=True, batch_size=batch_size)
    starts = encode_prompts(tiny_tokenizer, prompts, True)
    for start, text, result in zip(starts, texts, found, strict=True):
        # the line break behind "assistant" is weighed too, as by lm-eval
        (line_break,) = encode_plain(tiny_tokenizer, ["\n"])[0]
        assert start[-1] == line_break
        expected = plain_log_likelihood(model, tiny_tokenizer, start[:-1], "\n" + text)
        assert result.log_likelihood == pytest.approx(expected, abs=1e-4)
        assert (result.tokens, result.length) == (
            len(encode_plain(tiny_tokenizer, ["\n" + text])[0]),
            len(text.encode()),
        )


@pytest.mark.parametrize(
    ("config", "kind"), [(MistralConfig, MistralForCausalLM), (Gemma3TextConfig, Gemma3ForCausalLM)]
)
def test_a_window_of_attention_counts_no_padding(config, kind, tiny_tokenizer) -> None:
    """Contexts of different lengths that several candidates share, longer than the window and shorter."""
    torch.manual_seed(0)
    model = kind(
        config(
            vocab_size=len(tiny_tokenizer),
            max_position_embeddings=128,
            sliding_window=8,
            initializer_range=0.3,
            **DECODER,
        )
    ).eval()
    pairs = [(prompt, text) for prompt in PROMPTS for text in CANDIDATES]
    together = loglikelihoods(model, tiny_tokenizer, *zip(*pairs, strict=True), chat=False)
    for (prompt, text), found in zip(pairs, together, strict=True):
        (alone,) = loglikelihoods(model, tiny_tokenizer, [prompt], [text], chat=False)
        assert found.log_likelihood == pytest.approx(alone.log_likelihood, abs=1e-3)


def test_a_stock_model_is_weighed_alike(tiny_model, tiny_tokenizer) -> None:
    """transformers' own class with the same weights, also where texts share a prompt and its cache."""
    prompts, texts = zip(*[(prompt, text) for prompt in PROMPTS for text in CANDIDATES], strict=True)
    ours, theirs = (
        loglikelihoods(model, tiny_tokenizer, prompts, texts, chat=True)
        for model in (tiny_model, to_stock(tiny_model).eval())
    )
    assert [one.log_likelihood for one in theirs] == pytest.approx([one.log_likelihood for one in ours])


def test_an_empty_prompt_is_the_beginning_of_a_document(tiny_model, tiny_tokenizer) -> None:
    """The first token too is weighed, after the end of the text before."""
    (found,) = loglikelihoods(tiny_model, tiny_tokenizer, [""], ["A dog."], chat=False)
    expected = plain_log_likelihood(tiny_model, tiny_tokenizer, [tiny_tokenizer.bos_token_id], "A dog.")
    assert found.log_likelihood == pytest.approx(expected, abs=1e-4)


def joining_tokenizer() -> PreTrainedTokenizerFast:
    """Like Gemma's: every text begins with <bos>, and tokens join over spaces."""
    backend = tokenizers.Tokenizer(models.BPE())
    backend.normalizer = normalizers.Replace(" ", "_")
    trainer = trainers.BpeTrainer(vocab_size=40, special_tokens=["<bos>", "<eos>"], show_progress=False)
    backend.train_from_iterator(
        ["why is it so", "is it a so and so?", "so it is", "it so is why"] * 9, trainer
    )
    backend.post_processor = processors.TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", backend.token_to_id("<bos>"))]
    )
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<bos>", eos_token="<eos>")


def test_pairs_are_divided_where_the_prompt_ends() -> None:
    """The tokens of both as one text, behind what the tokenizer begins texts with; a space goes to the continuation."""
    tokenizer = joining_tokenizer()
    prompts, texts = ["why is it", "why is it ", "", "<bos>why"], [" so?", "so?", "it is", " is"]
    starts, ends = encode_pairs(tokenizer, prompts, texts, chat=False)
    for place in (0, 1):
        whole, start = tokenizer("why is it so?")["input_ids"], tokenizer("why is it")["input_ids"]
        assert (starts[place], ends[place]) == (start, whole[len(start) :])
    # apart, the two would be other tokens
    assert ends[0] != tokenizer(" so?", add_special_tokens=False)["input_ids"]
    assert starts[2] == [tokenizer.bos_token_id]
    assert ends[2] == tokenizer("it is", add_special_tokens=False)["input_ids"]
    # the user's text spells no token
    assert starts[3].count(tokenizer.bos_token_id) == 1
    assert encode_prompts(tokenizer, ["why"], False) == [tokenizer("why")["input_ids"]]


@torch.inference_mode()
def test_greedy_texts_are_told(tiny_model, tiny_tokenizer) -> None:
    """What the model would write itself is greedy, the same with another last token is not."""
    ids = encode_plain(tiny_tokenizer, ["What is"])[0]
    written: list[int] = []
    while len(written) < 3:
        written.append(int(tiny_model(torch.tensor([ids + written]), use_cache=False).logits[0, -1].argmax()))
    text = tiny_tokenizer.decode(written)
    if encode_plain(tiny_tokenizer, [text])[0] != written:  # pragma: no cover
        pytest.skip("the written tokens are not those of their text")
    found = loglikelihoods(tiny_model, tiny_tokenizer, ["What is"] * 2, [text, text + " no"], chat=False)
    assert [result.greedy for result in found] == [True, False]


def test_long_texts_lose_their_beginning(tiny_model, tiny_tokenizer) -> None:
    """The last positions are used, the last token needs none; a candidate that does not fit is refused."""
    long = "one two three four five six seven eight nine ten " * 40
    (found,) = loglikelihoods(tiny_model, tiny_tokenizer, [long], ["eleven dogs"], chat=False)
    (end,) = encode_plain(tiny_tokenizer, [" eleven dogs"])
    room = tiny_model.config.max_position_embeddings + 1 - len(end)
    start = encode_plain(tiny_tokenizer, [long.rstrip()])[0][-room:]
    expected = plain_log_likelihood(tiny_model, tiny_tokenizer, start, " eleven dogs")
    assert found.log_likelihood == pytest.approx(expected, abs=1e-4)
    with user_error("too_long", limit=128):
        loglikelihoods(tiny_model, tiny_tokenizer, ["Q"], [long], chat=False)


def test_a_broken_model_is_named(tiny_model, tiny_tokenizer) -> None:
    """NaN is no likelihood, and no candidate is chosen by it."""
    with torch.no_grad():
        tiny_model.model.norm.weight[0] = math.nan
    with user_error("model_not_finite", "nan", "A dog."):
        loglikelihoods(tiny_model, tiny_tokenizer, ["What?"], ["A dog."], chat=False)


# lm-eval's own definitions of these tasks, with a local file in the place of the Hub's.
ROWS = {
    "hellaswag": [
        {
            "activity_label": f"Game {number}",
            "ctx_a": "A man [title] has a ball.",
            "ctx_b": "the man",
            "endings": ["throws it away.", "eats it.", "is a red ball of Lily [step] now.", "sleeps"],
            "label": str(number % 4),
        }
        for number in range(8)
    ],
    "arc_easy": [
        {
            "question": f"What are {number} dogs?",
            "choices": {
                "text": ["animals", "red", "a long hat in the sun", "no"],
                "label": ["A", "B", "C", "D"],
            },
            "answerKey": "ABCD"[number % 4],
        }
        for number in range(8)
    ],
    "piqa": [
        {
            "goal": f"Open jar {number}",
            "sol1": "turn the lid.",
            "sol2": "sleep on it for a day.",
            "label": number % 2,
        }
        for number in range(8)
    ],
    "blimp_adjunct_island": [
        {"sentence_good": f"The {number} dogs sleep.", "sentence_bad": f"Dogs the {number} sleep."}
        for number in range(8)
    ],
    "lambada_openai": [
        {"text": f"Lily has a red ball and {number} dogs. She likes her ball"} for number in range(8)
    ],
}


@pytest.mark.skipif(importlib.util.find_spec("lm_eval") is None, reason="needs lm_eval")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("name", sorted(ROWS))
def test_numbers_are_those_of_lm_eval(name: str, base_folder: Path, tmp_path: Path, monkeypatch) -> None:
    """Its own definition of the task on the same rows: each log-likelihood to 1e-3, and the score."""
    import lm_eval
    import yaml
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in ROWS[name]))
    folder = Path(lm_eval.__file__).parent / "tasks"
    definition = next(folder.glob(f"*/{name.removeprefix('blimp_')}.yaml"))
    splits = {"training_split": None, "validation_split": "test", "test_split": "test", "fewshot_split": None}
    local = {
        "include": str(definition),
        "task": "mine",
        "tag": None,
        "dataset_path": "json",
        "dataset_name": None,
    }
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "mine.yaml").write_text(
        yaml.safe_dump({**local, **splits, "dataset_kwargs": {"data_files": {"test": str(data)}}})
    )
    theirs = lm_eval.simple_evaluate(
        HFLM(str(base_folder), device="cpu", batch_size=4),
        tasks=["mine"],
        task_manager=TaskManager(include_path=str(tmp_path / "tasks"), include_defaults=False),
        bootstrap_iters=0,
    )
    model, tokenizer = load_model(base_folder)
    forms = {form: {} for form in FORMS}
    (task,) = file_tasks([{"name": "mine", "path": str(data)}], "fail", forms)
    examples = task.examples("test")
    for sample, example in zip(theirs["samples"]["mine"], examples, strict=True):
        candidates = example.choices or example.references
        if name.startswith("blimp"):  # ours stand in the order of the alphabet, theirs good before bad
            candidates = tuple(sorted(candidates, key=lambda text: text != example.references[0]))
        texts = [task.delimiter + text for text in candidates]
        prompts = task.prompts([example], chat=False) * len(texts)
        ours = [
            found.log_likelihood for found in loglikelihoods(model, tokenizer, prompts, texts, chat=False)
        ]
        assert ours == pytest.approx([float(response[0]) for response in sample["filtered_resps"]], abs=1e-3)
    metrics = evaluate_questions(model, tokenizer, task, examples, EvalArguments(model=[str(base_folder)]))
    measure = "acc_norm" if task.form == "choice" else "acc"
    assert metrics["mine/accuracy"].value == pytest.approx(theirs["results"]["mine"][f"{measure},none"])
    if task.form == "cloze":
        perplexity = theirs["results"]["mine"]["perplexity,none"]
        assert metrics["mine/perplexity"].value == pytest.approx(perplexity, rel=1e-3)


def test_an_encoder_decoder_weighs_what_it_would_write(encoder_decoder_folder) -> None:
    """The prompt with the end of text behind it is the source; the loss of each target alone, times its tokens."""
    model, tokenizer = load_model(encoder_decoder_folder, allow_encoder_decoder=True)
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(3.0)
    prompts = [PROMPTS[0], PROMPTS[0], *PROMPTS[1:]]
    texts = [*CANDIDATES, CANDIDATES[0]]
    found = loglikelihoods(model, tokenizer, prompts, texts, chat=False, batch_size=3)
    for prompt, text, result in zip(prompts, texts, found, strict=True):
        source = torch.tensor([[*encode_plain(tokenizer, [prompt])[0], tokenizer.eos_token_id]])
        labels = torch.tensor(encode_plain(tokenizer, [text]))
        with torch.no_grad():
            expected = -model(input_ids=source, labels=labels).loss.item() * labels.shape[1]
        assert result.log_likelihood == pytest.approx(expected, abs=1e-4)
        assert result.tokens == labels.shape[1]
