# SPDX-License-Identifier: Apache-2.0
"""The YAML files of a plan, commented: what a user would edit to train otherwise."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scratch_gpt.new.planning import DECAY_RATIO, Plan
from scratch_gpt.new.shapes import attention
from scratch_gpt.new.text import CORPUS, CORPUS_FOLDER
from scratch_gpt.pipeline import Step
from scratch_gpt.runs.folders import atomic_write


# Folder of the model that each training stage writes.
MODELS = {"pretrain": "base", "sft": "chat", "dpo": "aligned"}
# Whose rows each tuning stage reads: the option of the command and the name of the source.
ROWS = {"sft": "instructions", "dpo": "preferences"}
# Memory bounds of the tokenizer's sample: more text changes hardly a merge.
TOKENIZER_CHARACTERS = 20_000_000
CONTROL = re.compile("[\x7f-\x9f\ufffe\uffff]")
# What a stage writes, or reads from `new` itself.
FOLDERS = (CORPUS_FOLDER, "tokenizer", "shards", *MODELS.values())


def write_configs(plan: Plan, run_dir: Path, elsewhere: Mapping[str, Path] | None = None) -> list[Step]:
    """Write `configs/*.yaml` into the run's folder; return the steps that run them.

    Args:
        elsewhere: those of the `FOLDERS` that are not in the run's, such as a corpus of several runs.
    """
    folders = {name: run_dir / name for name in FOLDERS} | dict(elsewhere or {})
    texts = {
        "tokenizer": _tokenizer(plan, folders),
        "shards": _shards(plan, folders),
        "pretrain": _pretrain(plan, folders),
    }
    model = "base"
    for stage in plan.tuning:
        texts[stage] = _tuning(plan, folders, stage, model)
        model = MODELS[stage]
    steps = []
    for stage, text in texts.items():
        path = run_dir / "configs" / f"{stage}.yaml"
        if not path.is_file():  # a user's changes stay
            with atomic_write(path) as temporary:
                temporary.write_text(text, encoding="utf-8")
        output = folders[MODELS.get(stage, stage)] / "run.yaml"
        product = output.relative_to(run_dir) if output.is_relative_to(run_dir) else output.absolute()
        steps.append(Step(f"train/{stage}.py", str(path.absolute()), (product.as_posix(),)))
    return steps


def _value(value: Any) -> str:
    """A value in YAML's flow style. YAML takes fewer control characters than JSON."""
    return CONTROL.sub(lambda match: f"\\u{ord(match[0]):04x}", json.dumps(value, ensure_ascii=False))


def _path(folder: Path) -> str:
    """A folder as a value."""
    return _value(folder.as_posix())


def _corpus(corpus: Path, held_out: bool) -> str:
    """The `sources` of a stage: filtered and deduplicated already."""
    names = ("train", "held_out") if held_out else ("train",)
    lines = ["sources:"]
    for name, file in zip(names, CORPUS):
        lines += [
            f"  - name: {name}",
            f"    path: {_path(corpus / file)}",
            "    filters: false",
            "    deduplicate: false",
        ]
        lines += ["    held_out: true"] * (name == "held_out")
    return "\n".join(lines)


def _tokenizer(plan: Plan, folders: Mapping[str, Path]) -> str:
    return f"""# Byte-level BPE, learned on your text.
{_corpus(folders[CORPUS_FOLDER], held_out=False)}
vocab_size: {plan.vocab_size} # about the root of the text's bytes, and room for its characters
max_characters: {TOKENIZER_CHARACTERS}
output_dir: {_path(folders["tokenizer"])}
"""


def _shards(plan: Plan, folders: Mapping[str, Path]) -> str:
    return f"""# Your text as packed blocks of tokens: one side to train on, one to measure on.
{_corpus(folders[CORPUS_FOLDER], held_out=True)}
tokenizer: {_path(folders["tokenizer"])}
sequence_length: {plan.context}
output_dir: {_path(folders["shards"])}
"""


def _length(plan: Plan) -> str:
    steps = f"max_steps: {plan.max_steps}"
    if plan.max_minutes is None:
        return steps
    return f"""# Planned from the measured speed. A tenth into the run the length is set once so that the steps take max_minutes; remove
# max_minutes for a run of exactly max_steps.
{steps}
max_minutes: {plan.max_minutes}"""


def _pretrain(plan: Plan, folders: Mapping[str, Path]) -> str:
    model = "\n".join(f"  {name}: {value}" for name, value in plan.model_config.items())
    prompts = "\n".join(f"  - {_value(prompt)}" for prompt in plan.sample_prompts)
    tokens = plan.per_device_train_batch_size * plan.gradient_accumulation_steps * plan.context
    return f"""# {plan.parameters:,} parameters, {plan.passes:.2g} passes over the text; expected: {plan.bits_per_byte:.2f} bits per byte of held-out text.
shards: {_path(folders["shards"])}
tokenizer: {_path(folders["tokenizer"])}
output_dir: {_path(folders["base"])}
resume_from_checkpoint: latest
model_config:
{model}
attn_implementation: {attention()}
# {tokens:,} tokens a step
per_device_train_batch_size: {plan.per_device_train_batch_size}
gradient_accumulation_steps: {plan.gradient_accumulation_steps}
per_device_eval_batch_size: 32
{_length(plan)}
learning_rate: {plan.learning_rate}
warmup_steps: {plan.warmup_steps}
decay_ratio: {DECAY_RATIO}
weight_decay: {plan.weight_decay} # the more passes over the text, the more
logging_steps: {max(1, plan.max_steps // 100)}
eval_steps: {plan.eval_steps}
max_eval_blocks: 100000 # all of the held-out text
save_steps: {plan.save_steps}
sample_prompts:
{prompts}
"""


def rows_source(kind: str, path: str) -> dict[str, Any]:
    """The source of a tuning stage: what cannot be used of a user's rows is reported and left out, however much it is."""
    return {"name": kind, "path": path, "max_bad_rows": 1.0}


def _tuning(plan: Plan, folders: Mapping[str, Path], stage: str, model: str) -> str:
    kind = ROWS[stage]
    source = "\n    ".join(
        f"{name}: {_value(value)}" for name, value in rows_source(kind, plan.inputs[kind]).items()
    )
    what = {"sft": "Your instructions teach the base model to answer.", "dpo": "Your pairs align the model."}
    return f"""# {what[stage]}
model_name_or_path: {_path(folders[model])}
output_dir: {_path(folders[MODELS[stage]])}
resume_from_checkpoint: latest
sources:
  - {source}
max_steps: {plan.tuning[stage]} # what fits into the time
held_out_fraction: 0.1 # to choose by, and again to measure on
max_eval_prompts: 16 # answered before and after, to measure on
per_device_train_batch_size: 8
lr_scheduler_type: cosine
warmup_steps: {max(1, plan.tuning[stage] // 20)}
logging_steps: {max(1, plan.tuning[stage] // 20)}
save_steps: {max(1, plan.tuning[stage] // 2)}
"""
