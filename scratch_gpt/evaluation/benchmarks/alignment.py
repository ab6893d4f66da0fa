# SPDX-License-Identifier: Apache-2.0
"""What alignment did to a chat model: models side by side on prompts that none of them was trained on.

The score that was optimized is the one number that must go up, so it proves nothing. Beside it are a judge that no
training saw, the distance from the model before, length, variety, repetition and bits per byte. The judge is a gold
score by program for prompts of the embedded corpus; for a user's own prompts, a second reward model that was trained on
other pairs (Gao et al. 2022).

Shapes: B answers in a batch, T tokens of the longest conversation, V vocabulary.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, NamedTuple

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from scratch_gpt import primer
from scratch_gpt.data.rows.messages import Message
from scratch_gpt.data.rows.splits import check_held_out
from scratch_gpt.data.shards.blocks import PackedBlocks
from scratch_gpt.errors import UserError
from scratch_gpt.evaluation.benchmarks.generation import bits_per_byte, distinct_metric
from scratch_gpt.evaluation.harness import SEED, AnsweringArguments
from scratch_gpt.evaluation.metrics.intervals import mean_metric, number_clusters
from scratch_gpt.inference.generation import Answer, generate_answers, padded
from scratch_gpt.inference.prompts import Prompt
from scratch_gpt.inference.rewards import score_conversations
from scratch_gpt.inference.sampling import Sampling
from scratch_gpt.inference.turns import encode_turns
from scratch_gpt.runs.results import Metric
from scratch_gpt.settings.checking import Count, Range
from scratch_gpt.tasks.scores import distinct, repetition


# One number for each answer, or an empty list where the judge knows none of the prompts.
Scorer = Callable[[Sequence[Prompt], Sequence[Answer]], Sequence[float]]

# As the folder's generation config says, which is what people get; at temperature 1, the whole distribution; its top.
# Much of what reinforcement does is sharpening, which a low temperature does too: the first one decides.
DEFAULT, SAMPLED, GREEDY = DECODINGS = ("default", "temperature_1", "greedy")
# An answer with more than this share of repeated 4-grams is a degenerate loop.
LOOP = 0.5
# The settings, beside the models, that name folders which may be those of a seed.
FOLDERS = ("reward_model", "judge_model", "shards")


@dataclass
class AlignmentArguments(AnsweringArguments):
    """Settings of `eval/alignment.py`; `sources` are read as in the rlhf stage."""

    reward_model: str | None = field(
        default=None, metadata={"help": "Folder of the reward stage: the score that was optimized."}
    )
    judge_model: str | None = field(
        default=None,
        metadata={
            "help": "Another reward model, that no training used: judge of prompts without a gold score."
        },
    )
    best_of_n: Annotated[int, Range("at least 2, or 0 to leave it out", lambda n: n >= 2 or n == 0)] = field(
        default=0,
        metadata={
            "help": "Also measure best-of-n with the first model: the reward model chooses among this many answers."
        },
    )
    shards: str | None = field(
        default=None, metadata={"help": "Held-out blocks, such as shards/validation: bits per byte."}
    )
    held_out_fraction: float = field(
        default=0.05, metadata={"help": "As in the stages: a file's share of rows in the test split."}
    )
    limit: Count | None = field(default=300, metadata={"help": "Prompts, at most."})
    max_new_tokens: Count = field(default=80, metadata={"help": "Longest answer, in tokens."})
    max_train_samples = None  # nothing is trained; the stages' reader asks for it

    def __post_init__(self) -> None:
        super().__post_init__()
        self.sources = self.sources or [{"name": "primer", "path": "primer"}]
        for name in FOLDERS:
            if SEED in (getattr(self, name) or "") and not self.seeds:
                message = f"{name} {getattr(self, name)} asks for seeds: give --seeds 0 1 2"
                raise UserError("setting_missing", message, setting="seeds")
        for model in self.model:
            if self.seeds and SEED not in model:
                message = f"model {model} is of one seed, so that each of the seeds would replace its result: put {SEED} into its path"
                raise UserError("placeholder_missing", message, setting="model")
            for seed in self.seeds or [self.seed]:
                check_held_out(model.replace(SEED, str(seed)), self.sources, seed, self.held_out_fraction)
        if self.best_of_n and not self.reward_model:
            message = "best_of_n needs reward_model: the folder whose score takes the best answer"
            raise UserError("setting_missing", message, setting="reward_model")

    def of_seed(self, seed: int) -> "AlignmentArguments":
        """The arguments of one seed, with the seed in place of {seed} in all folders."""
        folders = {name: path.replace(SEED, str(seed)) for name in FOLDERS if (path := getattr(self, name))}
        models = [model.replace(SEED, str(seed)) for model in self.model]
        return replace(self, model=models, seed=seed, seeds=[], **folders)


class Measured(NamedTuple):
    """What one model was found to be.

    Args:
        metrics: by name, with intervals.
        judged: `DECODING/JUDGE` -> the judge's number of each answer, by which others are compared with this model.
    """

    metrics: dict[str, Metric]
    judged: dict[str, list[float]]


def decode_settings(model: PreTrainedModel) -> dict[str, dict[str, Any]]:
    """How each of `DECODINGS` is generated by this model: arguments of `generate_answers`."""
    own = Sampling.of(model.generation_config)
    return {
        DEFAULT: {
            "temperature": own.temperature,
            "top_p": own.top_p,
            "top_k": own.top_k,
            "own_penalties": True,
        },
        SAMPLED: {"temperature": 1.0},
        GREEDY: {"temperature": 0.0},
    }


def prompt_clusters(prompts: Sequence[Prompt]) -> tuple[int, ...] | None:
    """Which prompts ask the same content: see `number_clusters`."""
    return number_clusters(prompt.example.key if prompt.example else prompt.text for prompt in prompts)


def conversation(prompt: Prompt, answer: str) -> list[Message]:
    """One question and its answer, as messages."""
    return [*prompt.messages, {"role": "assistant", "content": answer}]


def gold_scores(prompts: Sequence[Prompt], answers: Sequence[Answer]) -> list[float]:
    """The gold score of the answers to the embedded corpus's prompts."""
    return [
        primer.gold_score(prompt.example, answer.text, answer.finished)
        for prompt, answer in zip(prompts, answers, strict=True)
        if prompt.example is not None and prompt.source is None
    ]


def model_judge(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> Scorer:
    """A reward model as a judge."""
    return lambda prompts, answers: score_conversations(
        model,
        tokenizer,
        [conversation(prompt, answer.text) for prompt, answer in zip(prompts, answers, strict=True)],
    )


def answer_tokens(
    tokenizer: PreTrainedTokenizerFast, prompts: Sequence[Prompt], answers: Sequence[Answer]
) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Model inputs of right-padded conversations, and which tokens the model wrote: both (B, T).

    The stop token counts as written where the answer is finished. The text is tokenized again: where a model had
    spelled a word by unusual tokens, here are the usual ones.
    """
    rows = [
        encode_turns(tokenizer, conversation(prompt, answer.text))
        for prompt, answer in zip(prompts, answers, strict=True)
    ]
    end, cpu = tokenizer.eos_token_id, torch.device("cpu")
    masks = []
    for row, answer in zip(rows, answers, strict=True):
        place = len(row["input_ids"]) - 1 - row["input_ids"][::-1].index(end)  # the stop token's
        masks.append([*row["assistant_masks"][:place], int(answer.finished)])
    batch = padded([row["input_ids"] for row in rows], tokenizer.pad_token_id, "right", cpu)
    written = torch.zeros_like(batch["input_ids"], dtype=torch.bool)
    for own, mask in zip(written, masks, strict=True):
        own[: len(mask)] = torch.tensor(mask)
    return batch, written


@torch.inference_mode()
def token_statistics(
    model: PreTrainedModel,
    reference: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    prompts: Sequence[Prompt],
    answers: Sequence[Answer],
    batch_size: int = 32,
) -> tuple[list[float], list[float]]:
    """KL(model || reference) of each answer, summed over its tokens, and the model's mean entropy a token: both in nats.

    At each token the divergence of the whole next-token distributions is taken, which estimates the same mean as the
    log ratio of the sampled tokens, with less noise (Rao-Blackwell). `answers` must be sampled from `model` at
    temperature 1.
    """
    divergences: list[float] = []
    entropies: list[float] = []
    for start in range(0, len(prompts), batch_size):
        part = slice(start, start + batch_size)
        batch, written = answer_tokens(tokenizer, prompts[part], answers[part])
        batch = {name: tensor.to(model.device) for name, tensor in batch.items()}
        written = written[:, 1:].to(model.device)
        log_p, log_q = (
            scored(**batch, use_cache=False).logits[:, :-1].float().log_softmax(dim=-1)
            for scored in (model, reference)
        )
        divergence = (log_p.exp() * (log_p - log_q)).sum(dim=-1)  # (B, T - 1)
        entropy = -(log_p.exp() * log_p).sum(dim=-1)
        divergences += (divergence * written).sum(dim=1).tolist()
        entropies += ((entropy * written).sum(dim=1) / written.sum(dim=1).clamp(min=1)).tolist()
    return divergences, entropies


def best_of_n(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    prompts: Sequence[Prompt],
    judge: Scorer,
    n: int,
    decoding: str,
    *,
    max_new_tokens: int,
    seed: int,
) -> list[Answer]:
    """Of `n` answers to each prompt, the one with the highest score: what a reward model is worth untrained for.

    Its KL from what the model writes with this decoding is at most log n - (n - 1) / n nats (Beirami et al. 2024).
    """
    repeated = [prompt for prompt in prompts for _ in range(n)]
    answers = generate_answers(
        model,
        tokenizer,
        [prompt.messages for prompt in repeated],
        chat=True,
        max_new_tokens=max_new_tokens,
        seed=seed,
        **decode_settings(model)[decoding],
    )
    scores = judge(repeated, answers)
    groups = (range(start, start + n) for start in range(0, len(answers), n))
    return [answers[max(group, key=scores.__getitem__)] for group in groups]


def measure_answers(
    decoding: str,
    tokenizer: PreTrainedTokenizerFast,
    prompts: Sequence[Prompt],
    answers: Sequence[Answer],
    judges: Mapping[str, Scorer],
    baseline: Measured | None,
    seed: int,
) -> Measured:
    """Answers of one decoding: each judge's score and win-rate, finished, length, repetition, loops, distinct_2.

    Args:
        baseline: what the answers are compared with, ties counting half; None: with themselves.
    """
    judged = {name: list(judge(prompts, answers)) for name, judge in judges.items()}
    judged = {f"{decoding}/{name}": values for name, values in judged.items() if values}
    metrics, clusters = {}, prompt_clusters(prompts)
    for name, values in judged.items():
        before = baseline.judged[name] if baseline else values
        wins = [(new > old) + 0.5 * (new == old) for new, old in zip(values, before, strict=True)]
        same = clusters if len(values) == len(prompts) else None
        metrics[name] = mean_metric(values, seed, clusters=same)
        metrics[f"{name}_win_rate"] = mean_metric(wins, seed, chance=0.5, clusters=same)
    repeated = [repetition(answer.text) for answer in answers]
    measures: dict[str, Sequence[float]] = {
        "finished": [float(answer.finished) for answer in answers],
        "length": answer_tokens(tokenizer, prompts, answers)[1].sum(dim=1).tolist(),
        "repetition": repeated,
        "loops": [float(share > LOOP) for share in repeated],
    }
    for name, measured in measures.items():
        metrics[f"{decoding}/{name}"] = mean_metric(measured, seed, share=name != "length", clusters=clusters)
    metrics[f"{decoding}/distinct_2"] = distinct_metric([answer.text for answer in answers], 2)
    return Measured(metrics, judged)


def measure_model(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    prompts: Sequence[Prompt],
    judges: Mapping[str, Scorer],
    *,
    reference: PreTrainedModel,
    baseline: Measured | None,
    max_new_tokens: int,
    seed: int,
    shards: str | None = None,
) -> Measured:
    """One model on held-out prompts, with each of `DECODINGS`.

    Args:
        judges: by the names of their scores.
        reference: the chat model that the alignment started from: `temperature_1/kl` is the distance from it.
        baseline: what that model was found to be; None where it is measured itself.
        shards: held-out blocks, to measure bits per byte: the alignment tax.

    Raises:
        UserError: a prompt and its answer do not fit into the context; shards that cannot be used.
    """
    asked = [prompt.messages for prompt in prompts]
    measured = Measured({}, {})
    for decoding, settings in decode_settings(model).items():
        answers = generate_answers(
            model, tokenizer, asked, chat=True, max_new_tokens=max_new_tokens, seed=seed, **settings
        )
        found = measure_answers(decoding, tokenizer, prompts, answers, judges, baseline, seed)
        measured.metrics.update(found.metrics)
        measured.judged.update(found.judged)
        if decoding == SAMPLED:
            divergences, entropies = token_statistics(model, reference, tokenizer, prompts, answers)
            for name, nats in (("kl", divergences), ("entropy", entropies)):
                found_nats = mean_metric(nats, seed, share=False, clusters=prompt_clusters(prompts))
                measured.metrics[f"{SAMPLED}/{name}"] = found_nats
    if shards is not None:
        blocks = PackedBlocks(shards, tokenizer)
        measured.metrics["bits_per_byte"] = bits_per_byte(model, tokenizer, blocks, seed)
    return measured


def evaluate_policy(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    prompts: Sequence[Prompt],
    reward: Scorer,
    *,
    reference: PreTrainedModel,
    beta: float,
    max_new_tokens: int,
    seed: int,
) -> dict[str, float]:
    """For the log of a running alignment, on prompts of the development split: means, at temperature 1 where not said.

    `eval_score` is what the best checkpoint is chosen by: the mean of the gold score as people get the answers (the
    default decoding) and greedy; where no prompt has one, the mean of the two rewards less `beta` times the KL, which is the
    objective itself on held-out prompts. Nothing of it enters the training, not even by the random state.
    """
    was_training = model.training
    asked = [prompt.messages for prompt in prompts]
    answers = {
        decoding: generate_answers(
            model.eval(), tokenizer, asked, chat=True, max_new_tokens=max_new_tokens, seed=seed, **settings
        )
        for decoding, settings in decode_settings(model).items()
    }
    sampled = answers[SAMPLED]
    divergences, entropies = token_statistics(model, reference, tokenizer, prompts, sampled)
    model.train(was_training)
    measures: dict[str, Sequence[float]] = {
        "kl": divergences,
        "entropy": entropies,
        "finished": [float(answer.finished) for answer in sampled],
        "length": answer_tokens(tokenizer, prompts, sampled)[1].sum(dim=1).tolist(),
        "repetition": [repetition(answer.text) for answer in sampled],
    }
    for decoding, written in answers.items():
        prefix = "" if decoding == SAMPLED else f"{decoding}_"
        measures |= {
            f"{prefix}reward": reward(prompts, written),
            f"{prefix}gold": gold_scores(prompts, written),
        }
    means = {f"eval_{name}": sum(values) / len(values) for name, values in measures.items() if values}
    means["eval_distinct_2"] = distinct([answer.text for answer in sampled], 2)
    judge = "gold" if "eval_gold" in means else "reward"
    means["eval_score"] = sum(means[f"eval_{decoding}_{judge}"] for decoding in (DEFAULT, GREEDY)) / 2
    if judge == "reward":
        means["eval_score"] -= beta * means["eval_kl"]
    return means
