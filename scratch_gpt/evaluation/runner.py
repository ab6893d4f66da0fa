# SPDX-License-Identifier: Apache-2.0
"""Run models: load a folder, generate answers; write and show the numbers that come out.

Shapes: B texts in a batch, T tokens of the longest of them, V vocabulary.
"""

import json
import logging
import platform
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import transformers
from accelerate import PartialState
from accelerate.utils import gather_object
from rich.console import Console
from rich.table import Table
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

import scratch_gpt
from scratch_gpt.data.folders import written_file
from scratch_gpt.data.messages import Message
from scratch_gpt.errors import UserError
from scratch_gpt.evaluation.loading import load_weights, loading
from scratch_gpt.tokenization import IM_END, encode_plain, protect_control_tokens


logger = logging.getLogger(__name__)

RESAMPLES = 1000


class Answer(NamedTuple):
    """What a model wrote, and whether it ended by itself (with a stop token) or was cut off."""

    text: str
    finished: bool


class Items(NamedTuple):
    """What a number is computed from, item by item, so that two models can be compared on the same items.

    Args:
        statistic: how the rows' sum becomes the number, a name in `significance.STATISTICS`.
        rows: additive statistics of each item, all of one length.
    """

    statistic: str
    rows: tuple[tuple[float, ...], ...]


class Metric(NamedTuple):
    """One number of a result.

    Args:
        value: the number.
        ci95: its 95% interval.
        chance: what ignorance gets, where that is defined.
        n: number of items.
        baselines: what trivial strategies get, by their names.
        seeds: the value under each seed, where there are several; `value` is their mean.
        items: beside the result file, not in it.
    """

    value: float
    ci95: tuple[float, float]
    chance: float | None = None
    n: int | None = None
    baselines: dict[str, float] | None = None
    seeds: dict[str, float] | None = None
    items: Items | None = None

    def as_json(self) -> dict[str, Any]:
        """The entry of a result file; what is optional stands in it only where it is known."""
        entry: dict[str, Any] = {"value": self.value, "ci95": self.ci95, "chance": self.chance}
        entry |= {
            key: getattr(self, key) for key in ("n", "baselines", "seeds") if getattr(self, key) is not None
        }
        if self.seeds is not None:
            entry["spread"] = float(np.std(list(self.seeds.values()), ddof=1))
        return entry


def check_folder(folder: str | Path) -> None:
    """Raise UserError if no model is in the folder."""
    if not (Path(folder) / "config.json").is_file():
        raise UserError(
            f"no model in {folder} (config.json is missing): give a folder that a training stage wrote"
        )


def load_model(
    folder: str | Path, *, allow_encoder_decoder: bool = False
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a model that writes text and its tokenizer, on this process's device, ready for inference.

    Args:
        allow_encoder_decoder: accept these beside causal language models.

    Raises:
        UserError: no model or no tokenizer in the folder, damaged weights, a model of another kind (such as a reward
            model), a tokenizer with more tokens than the model has embeddings.
    """
    folder = Path(folder)
    check_folder(folder)
    if not (folder / "tokenizer.json").is_file():
        raise UserError(
            f"no tokenizer in {folder} (tokenizer.json is missing): copy the model's tokenizer into it"
        )
    with loading(folder):
        kinds = AutoConfig.from_pretrained(folder).architectures or []
    if allow_encoder_decoder and any(kind.endswith("ForConditionalGeneration") for kind in kinds):
        auto_class = AutoModelForSeq2SeqLM
    # AutoModelForCausalLM would open a reward model too, with a language-model head that was never trained.
    elif any(kind.endswith(("ForCausalLM", "LMHeadModel")) for kind in kinds):
        auto_class = AutoModelForCausalLM
    else:
        raise UserError(f"{folder} is no causal language model but {', '.join(kinds) or 'of unknown kind'}")
    model = load_weights(auto_class, folder)
    with loading(folder):
        tokenizer = AutoTokenizer.from_pretrained(folder)
    embeddings = model.get_input_embeddings().num_embeddings
    if len(tokenizer) > embeddings:
        raise UserError(f"{folder}: the tokenizer has {len(tokenizer)} tokens, the model only {embeddings}")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return model.to(PartialState().device).eval(), protect_control_tokens(tokenizer)


def is_chat(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the model speaks in turns: from instruction tuning on, an answer ends with the end of a turn."""
    return bool(tokenizer.eos_token == IM_END)


def encode_prompts(
    tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str | list[Message]], chat: bool
) -> list[list[int]]:
    """Token ids of each prompt: a user's message or a conversation through the chat template, or plain text."""
    if not chat:
        return encode_plain(tokenizer, list(prompts))  # type: ignore[arg-type]  # texts alone
    conversations = [
        [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt for prompt in prompts
    ]
    return list(
        tokenizer.apply_chat_template(
            conversations,
            add_generation_prompt=True,
            return_dict=True,
            tokenizer_kwargs={"verbose": False},  # callers leave out or cut what is too long
        )["input_ids"]
    )


def generate_answers(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str | list[Message]],
    *,
    chat: bool,
    max_new_tokens: int,
    temperature: float = 0.0,
    seed: int = 0,
    batch_size: int = 64,
    one_line: bool = False,
    num_beams: int = 1,
) -> list[Answer]:
    """Let the model answer each prompt; batches are left-padded, and shared out if there are several processes.

    An encoder-decoder reads the prompt with the end of text behind it, as in its training.

    Args:
        model: in evaluation mode.
        prompts: users' messages or conversations up to the answer if `chat`, else texts to continue.
        temperature: 0 is greedy; above, all tokens are sampled from (no top-k, no top-p). The same seed, prompts and
            batch size give the same answers. The caller's random state is left as it was.
        one_line: end an answer at its first line break, for base models, which go on and on.
        num_beams: above 1, beam search: of so many beginnings the one with the highest mean log-probability a token.

    Raises:
        UserError: the model has no positions left for a prompt.
    """
    pairs = model.config.is_encoder_decoder
    token_ids = encode_prompts(tokenizer, prompts, chat)
    if pairs:
        token_ids = [[*ids, tokenizer.eos_token_id] for ids in token_ids]
    token_ids = fit(model, token_ids, 0 if pairs else max_new_tokens)
    stop_ids = _stop_ids(model, tokenizer, one_line)
    generation_config = GenerationConfig(
        max_new_tokens=max_new_tokens,
        do_sample=temperature > 0,
        eos_token_id=sorted(stop_ids),
        pad_token_id=tokenizer.pad_token_id,
        # Said also when greedy: what is left out comes from the model's own settings, with a warning.
        **(
            {"temperature": temperature, "top_k": 0} if temperature > 0 else {"temperature": 1.0, "top_k": 50}
        ),
        top_p=1.0,
        num_beams=num_beams,
    )
    answers: dict[int, Answer] = {}
    for number, batch in own_batches([-len(ids) for ids in token_ids], batch_size):
        side = "right" if pairs else "left"
        inputs = padded([token_ids[index] for index in batch], tokenizer.pad_token_id, side, model.device)
        with _seeded(seed + number, model.device), torch.inference_mode():
            output = model.generate(**inputs, generation_config=generation_config)
        first = 1 if pairs else inputs["input_ids"].shape[1]  # behind decoder_start_token_id, or the prompt
        for index, row in zip(batch, output[:, first:].tolist(), strict=True):
            end = next((position for position, token in enumerate(row, start=1) if token in stop_ids), 0)
            text = tokenizer.decode(row[: end or None], skip_special_tokens=True)
            answers[index] = Answer(text, end > 0)
    return gathered(answers)


def _stop_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, one_line: bool) -> set[int]:
    """The tokens after which generation stops; with `one_line` also those that hold a line break."""
    stop = model.generation_config.eos_token_id
    if stop is None:
        stop = tokenizer.eos_token_id
    stop_ids = {stop} if isinstance(stop, int) else set(stop)
    if one_line:
        texts = tokenizer.batch_decode([[index] for index in range(len(tokenizer))])
        stop_ids |= {index for index, text in enumerate(texts) if "\n" in text}
    return stop_ids


def fit(model: PreTrainedModel, token_ids: list[list[int]], max_new_tokens: int) -> list[list[int]]:
    """Cut texts that exceed the model's positions at their beginning, as usual in evaluation, and say so."""
    room = model.config.max_position_embeddings - max_new_tokens
    if room < 1:
        raise UserError(
            f"max_new_tokens {max_new_tokens} leaves no room for a prompt in {room + max_new_tokens} tokens"
        )
    if cut := sum(len(ids) > room for ids in token_ids):
        logger.warning(
            "%d of %d prompts are longer than %d tokens: their beginning is cut off",
            cut,
            len(token_ids),
            room,
        )
    return [ids[-room:] for ids in token_ids]


def own_batches(keys: Sequence[Any], batch_size: int) -> list[tuple[int, list[int]]]:
    """Numbered batches of indices for this process, in the order of the keys.

    With the longest texts first there is little padding, and memory fails early.
    """
    order = sorted(range(len(keys)), key=keys.__getitem__)
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    state = PartialState()
    return list(enumerate(batches))[state.process_index :: state.num_processes]


def gathered(own: dict[int, Any]) -> list[Any]:
    """The results of all processes, in the order of the examples."""
    merged = {index: result for part in gather_object([own]) for index, result in part.items()}
    return [merged[index] for index in range(len(merged))]


def padded(rows: list[list[int]], pad: int, side: str, device: torch.device) -> dict[str, torch.Tensor]:
    """`input_ids` and `attention_mask`, each (B, T)."""
    width = max(map(len, rows))
    input_ids = torch.full((len(rows), width), pad)
    attention_mask = torch.zeros_like(input_ids)
    for number, row in enumerate(rows):
        place = slice(width - len(row), width) if side == "left" else slice(len(row))
        input_ids[number, place] = torch.tensor(row)
        attention_mask[number, place] = 1
    return {"input_ids": input_ids.to(device), "attention_mask": attention_mask.to(device)}


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """A random state of its own."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def bootstrap(
    rows: Sequence[float] | np.ndarray,
    seed: int,
    score: Callable[[np.ndarray], float] | None = None,
    resamples: int = RESAMPLES,
) -> np.ndarray:
    """The score of items drawn again with replacement, so many times (Efron 1979): shape (resamples,).

    Args:
        rows: one number per item, shape (n,), or additive statistics of each, shape (n, k).
        score: what to compute from the summed statistics, shape (k,); default: the mean of the numbers.
    """
    items = np.asarray(rows, dtype=np.float64).reshape(len(rows), -1)
    compute = score or (lambda sums: sums[0] / len(items))
    random = np.random.default_rng(seed)
    return np.array(
        [compute(items[random.integers(len(items), size=len(items))].sum(axis=0)) for _ in range(resamples)]
    )


def bootstrap_ci(
    rows: Sequence[float] | np.ndarray,
    seed: int,
    score: Callable[[np.ndarray], float] | None = None,
    resamples: int = RESAMPLES,
) -> tuple[float, float]:
    """95% percentile interval of `bootstrap`."""
    low, high = np.quantile(bootstrap(rows, seed, score, resamples), [0.025, 0.975])
    return float(low), float(high)


def mean_metric(
    values: Sequence[float], seed: int, chance: float | None = None, *, share: bool = True
) -> Metric:
    """The mean over items with its interval: the bootstrap's, and Wilson's (1927) of shares that are all 0 or all 1.

    Args:
        share: whether the values are shares, from 0 to 1. No others have an interval where all are the same.
    """
    mean, (low, high) = float(np.mean(values)), bootstrap_ci(values, seed)
    if share and low == high in (0.0, 1.0):
        margin = 1.96**2 / (len(values) + 1.96**2)
        low, high = mean * (1 - margin), mean + (1 - mean) * margin
    items = Items("mean", tuple((float(value),) for value in values))
    return Metric(mean, (low, high), chance, len(values), items=items)


def write_result(
    path: str | Path,
    task: str,
    model: str,
    n: int,
    metrics: dict[str, Metric],
    settings: dict[str, Any],
    seed: int,
) -> None:
    """Write a benchmark's result file: whole or not at all."""
    result = {
        "task": task,
        "model": model,
        "n": n,
        "metrics": {name: metric.as_json() for name, metric in metrics.items()},
        "settings": settings,
        "seed": seed,
        "versions": {
            "python": platform.python_version(),
            "scratch_gpt": scratch_gpt.__version__,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
    }
    with written_file(path) as temporary:
        temporary.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def print_table(title: str, results: dict[str, dict[str, Metric]]) -> None:
    """Print a column per model, a row per metric that any of them has: numbers, intervals, spread over seeds."""

    def cell(metric: Metric | None) -> str:
        spread = f" ± {metric.as_json()['spread']:.3f}" if metric and metric.seeds else ""
        return f"{metric.value:.3f}{spread} [{metric.ci95[0]:.3f}, {metric.ci95[1]:.3f}]" if metric else "-"

    table = Table("metric", "n", *results, "chance", "baselines", title=title)
    for name in dict.fromkeys(name for metrics in results.values() for name in metrics):
        known = [metrics[name] for metrics in results.values() if name in metrics]
        chances = dict.fromkeys("-" if metric.chance is None else f"{metric.chance:.3f}" for metric in known)
        cells = [cell(metrics.get(name)) for metrics in results.values()]
        baselines = ", ".join(f"{label} {value:.3f}" for label, value in (known[0].baselines or {}).items())
        count = "-" if known[0].n is None else f"{known[0].n:,}"
        table.add_row(name, count, *cells, " / ".join(chances), baselines or "-")
    # a pipe has no width: as many columns as the table needs
    Console(width=None if sys.stdout.isatty() else 130 + 40 * len(results), markup=False).print(table)
