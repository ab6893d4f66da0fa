# SPDX-License-Identifier: Apache-2.0
"""The table of layouts against lm-eval's own definitions, where it is installed."""

import importlib.util
from pathlib import Path

import pytest
import torch
from layout_rows import ask, task_of

from scratch_gpt import ScratchGPTForCausalLM
from scratch_gpt.evaluation.benchmarks import qa
from scratch_gpt.inference.generation import Answer
from scratch_gpt.inference.likelihood import Likelihood
from scratch_gpt.inference.loading import load_model


DEFINITIONS = {
    "arc_easy": "arc/arc_easy",
    "arc_challenge": "arc/arc_challenge",
    "boolq": "super_glue/boolq/default",
    "copa": "super_glue/copa/default",
    "winogrande": "winogrande/default",
    "mmlu": "mmlu/default/mmlu_college_biology",
    "truthfulqa_mc1": "truthfulqa/truthfulqa_mc1",
    "truthfulqa_mc2": "truthfulqa/truthfulqa_mc2",
    "blimp": "blimp/adjunct_island",
    "lambada": "lambada/lambada_openai",
    **{name: f"{name}/{name}" for name in ("hellaswag", "piqa", "openbookqa", "gsm8k")},
}
SCORES = {"strict_match": "exact_match,strict-match", "flexible_extract": "exact_match,flexible-extract"}


@pytest.fixture
def long_folder(tiny_model, tiny_tokenizer, chat_folder: Path, tmp_path: Path) -> Path:
    """The tiny chat model with room for many shots."""
    torch.manual_seed(0)
    config = type(tiny_model.config)(**{**tiny_model.config.to_dict(), "max_position_embeddings": 2048})
    model = ScratchGPTForCausalLM(config)
    model.generation_config.eos_token_id = tiny_model.generation_config.eos_token_id
    model.save_pretrained(chat_folder)
    return chat_folder


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("lm_eval") is None, reason="needs lm_eval")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::RuntimeWarning")
@pytest.mark.parametrize("chat", [False, True], ids=["text", "chat template"])
@pytest.mark.parametrize("count", [0, 3])
def test_all_is_as_in_lm_eval(count: int, chat: bool, long_folder: Path, tmp_path: Path, monkeypatch) -> None:
    """Its own definitions on the same rows: shots, contexts, continuations and texts equal, log-likelihoods to 1e-3."""
    import lm_eval
    import yaml
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "tasks").mkdir()
    sides = {
        "training_split": None,
        "validation_split": "test",
        "test_split": "test",
        "fewshot_split": "train",
    }
    tasks = {name: task_of(name, tmp_path, count) for name in DEFINITIONS}
    for name, place in DEFINITIONS.items():
        files = {side: str(tmp_path / f"{name}.{side}.jsonl") for side in ("test", "train")}
        definition = {
            "include": str(Path(lm_eval.__file__).parent / "tasks" / f"{place}.yaml"),
            "task": f"my_{name}",
            "tag": None,
            "dataset_path": "json",
            "dataset_name": None,
            "dataset_kwargs": {"data_files": files},
        }
        (tmp_path / "tasks" / f"{name}.yaml").write_text(yaml.safe_dump({**definition, **sides}))
    theirs = lm_eval.simple_evaluate(
        HFLM(str(long_folder), device="cpu", batch_size=4),
        tasks=[f"my_{name}" for name in DEFINITIONS],
        task_manager=TaskManager(include_path=str(tmp_path / "tasks"), include_defaults=False),
        num_fewshot=count,
        apply_chat_template=chat,
        bootstrap_iters=0,
    )
    model, tokenizer = load_model(long_folder)
    calls: list[tuple] = []
    weigh, write = qa.loglikelihoods, qa.generate_answers

    def weighed(model, tokenizer, prompts, continuations, **settings) -> list[Likelihood]:
        found = weigh(model, tokenizer, prompts, continuations, **settings)
        calls.append((prompts, list(continuations), [each.log_likelihood for each in found]))
        return found

    def written(model, tokenizer, prompts, **settings) -> list[Answer]:
        found = write(model, tokenizer, prompts, **settings)
        calls.append((prompts, None, [each.text for each in found]))
        return found

    monkeypatch.setattr(qa, "loglikelihoods", weighed)
    monkeypatch.setattr(qa, "generate_answers", written)
    for name, task in tasks.items():
        metrics = ask(model, tokenizer, task, long_folder, apply_chat_template=chat)
        prompts, continuations, found = calls.pop()
        samples = sorted(theirs["samples"][f"my_{name}"], key=lambda sample: sample["doc_id"])
        samples = [sample for sample in samples if sample["filter"] in ("none", "strict-match")]
        arguments = [each for sample in samples for each in sample["arguments"]]
        answers = [response[0] for sample in samples for response in sample["resps"]]
        assert [shown(tokenizer, prompt, chat) for prompt in prompts] == [each[0] for each in arguments]
        if continuations is None:
            assert found == answers
        else:
            assert continuations == [each[1] for each in arguments]
            expected = [each if isinstance(each, float) else each[0] for each in answers]
            assert found == pytest.approx([float(each) for each in expected], abs=1e-3)
        results = theirs["results"][f"my_{name}"]
        for score, metric in metrics.items():
            label = score.removeprefix(f"my_{name}/")
            label = SCORES.get(label, f"{label},none")
            if label in results:
                assert metric.value == pytest.approx(
                    results[label], rel=1e-3 if "perplexity" in label else 1e-6
                )
        assert any(
            SCORES.get(score.split("/")[1], f"{score.split('/')[1]},none") in results for score in metrics
        )


def shown(tokenizer, prompt, chat: bool) -> str:
    """The text of a prompt as lm-eval writes it."""
    if not chat:
        return prompt
    messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
