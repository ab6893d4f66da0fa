# SPDX-License-Identifier: Apache-2.0
"""What reinforcement learning did to a chat model: the model before and after, on prompts it was not trained on.

The reward model's own score is the one number that must go up, so it proves nothing. Beside it stand a gold score by
program (for prompts of the embedded corpus), the distance from the model before, length, variety and repetition.

Shapes: B answers in a batch, T tokens of the longest conversation, V vocabulary.
"""

from collections.abc import Sequence

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from scratch_gpt.data import primer
from scratch_gpt.evaluation.generation import bits_per_byte, distinct_metric, shard_blocks
from scratch_gpt.evaluation.runner import Answer, Metric, generate_answers, mean_metric
from scratch_gpt.evaluation.scores import repetition
from scratch_gpt.training.rewards import score_conversations
from scratch_gpt.training.rows import Prompt


# Sampled, an answer shows the whole distribution; greedy, its top. Much of what reinforcement does is sharpening,
# which only the first sees.
DECODINGS = {"temperature_1": 1.0, "greedy": 0.0}
BEFORE, AFTER = "sft", "aligned"


def conversation(prompt: str, answer: str) -> list[dict[str, str]]:
    """One question and its answer, as messages."""
    return [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]


def gold_scores(prompts: Sequence[Prompt], answers: Sequence[Answer]) -> list[float]:
    """The gold score of the answers whose prompt has an example."""
    return [
        primer.gold_score(prompt.example, answer.text, answer.finished)
        for prompt, answer in zip(prompts, answers, strict=True)
        if prompt.example is not None
    ]


def watch_answers(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    prompts: Sequence[Prompt],
    *,
    max_new_tokens: int,
    seed: int,
) -> dict[str, float]:
    """For the log of a running alignment: `eval_finished` and, where it is known, `eval_gold`, at temperature 1.

    Nothing of it enters the training, not even by the random state.
    """
    was_training = model.training
    answers = generate_answers(
        model.eval(),
        tokenizer,
        [prompt.text for prompt in prompts],
        chat=True,
        max_new_tokens=max_new_tokens,
        temperature=1.0,
        seed=seed,
    )
    model.train(was_training)
    measures = {"eval_finished": [float(answer.finished) for answer in answers]}
    if gold := gold_scores(prompts, answers):
        measures["eval_gold"] = gold
    return {name: sum(values) / len(values) for name, values in measures.items()}


def answer_tokens(
    tokenizer: PreTrainedTokenizerFast, prompts: Sequence[str], answers: Sequence[Answer]
) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Model inputs of right-padded conversations, and which tokens the model wrote: both (B, T).

    The stop token counts as written where the answer is finished. The text is tokenized again: where a model had
    spelled a word by unusual tokens, the usual ones stand here.
    """
    batch = tokenizer.apply_chat_template(
        [conversation(prompt, answer.text) for prompt, answer in zip(prompts, answers, strict=True)],
        return_dict=True,
        return_tensors="pt",
        padding=True,
        return_assistant_tokens_mask=True,
    )
    written = torch.as_tensor(batch.pop("assistant_masks")).bool()
    last = written.shape[1] - 1 - written.flip(1).int().argmax(dim=1)  # (B,) the stop token's place
    finished = torch.tensor([answer.finished for answer in answers])
    written[torch.arange(len(written)), last] = finished
    return batch, written


@torch.inference_mode()
def sequence_kl(
    model: PreTrainedModel,
    reference: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    prompts: Sequence[str],
    answers: Sequence[Answer],
    batch_size: int = 32,
) -> list[float]:
    """KL(model || reference) in nats, summed over each answer's tokens.

    At each token the divergence of the whole next-token distributions is taken, which estimates the same mean as the
    log ratio of the sampled tokens, with less noise (Rao-Blackwell). `answers` must be sampled from `model` at
    temperature 1.
    """
    values: list[float] = []
    for start in range(0, len(prompts), batch_size):
        part = slice(start, start + batch_size)
        batch, written = answer_tokens(tokenizer, prompts[part], answers[part])
        batch = {name: tensor.to(model.device) for name, tensor in batch.items()}
        log_p, log_q = (
            scored(**batch, use_cache=False).logits[:, :-1].float().log_softmax(dim=-1)
            for scored in (model, reference)
        )
        divergence = (log_p.exp() * (log_p - log_q)).sum(dim=-1)  # (B, T - 1)
        values += (divergence * written[:, 1:].to(model.device)).sum(dim=1).tolist()
    return values


def compare_models(
    before: PreTrainedModel,
    after: PreTrainedModel,
    reward_model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    prompts: Sequence[Prompt],
    *,
    max_new_tokens: int,
    seed: int,
    shards: str | None = None,
) -> dict[str, dict[str, Metric]]:
    """Measure both models on the same prompts, sampled at temperature 1 and greedy.

    Args:
        before: the chat model that the alignment started from.
        after: the aligned model.
        prompts: held out; gold scores are taken over those that have an example.
        shards: held-out blocks, to measure bits per byte: the alignment tax.

    Returns:
        For each of the two models: `DECODING/` gold (and its win-rate against the model before, ties counting half),
        reward, finished, length in tokens, repetition, distinct_2; `temperature_1/kl` to the model before.

    Raises:
        UserError: a prompt and its answer do not fit into the context; shards that cannot be used.
    """
    texts = [prompt.text for prompt in prompts]
    metrics: dict[str, dict[str, Metric]] = {BEFORE: {}, AFTER: {}}
    for decoding, temperature in DECODINGS.items():
        gold_before: list[float] = []
        for name, model in ((BEFORE, before), (AFTER, after)):
            answers = generate_answers(
                model,
                tokenizer,
                texts,
                chat=True,
                max_new_tokens=max_new_tokens,
                temperature=temperature,
                seed=seed,
            )
            written = [conversation(text, answer.text) for text, answer in zip(texts, answers, strict=True)]
            lengths = answer_tokens(tokenizer, texts, answers)[1].sum(dim=1)
            measures: dict[str, Sequence[float]] = {
                "reward": score_conversations(reward_model, tokenizer, written),
                "finished": [float(answer.finished) for answer in answers],
                "length": lengths.tolist(),
                "repetition": [repetition(answer.text) for answer in answers],
            }
            if gold := gold_scores(prompts, answers):
                gold_before = gold_before or gold
                wins = [(new > old) + 0.5 * (new == old) for new, old in zip(gold, gold_before, strict=True)]
                measures = {"gold": gold, "gold_win_rate": wins, **measures}
            if temperature == 1.0:
                measures["kl"] = sequence_kl(model, before, tokenizer, texts, answers)
            for measure, values in measures.items():
                chance = 0.5 if measure == "gold_win_rate" else None
                metrics[name][f"{decoding}/{measure}"] = mean_metric(values, seed, chance)
            metrics[name][f"{decoding}/distinct_2"] = distinct_metric([answer.text for answer in answers], 2)
    if shards is not None:
        blocks = shard_blocks(tokenizer, shards, limit=None)
        for name, model in ((BEFORE, before), (AFTER, after)):
            metrics[name]["bits_per_byte"] = bits_per_byte(model, tokenizer, blocks, seed)
    return metrics
