# SPDX-License-Identifier: Apache-2.0
"""Checkpoints: each one an ordinary model folder, with the state of the training beside the weights."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from scratch_gpt.errors import UserError


STATE_FOLDER = "training_state"


def save_model_folder(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write everything that `AutoModel*.from_pretrained` and `AutoTokenizer` need."""
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def checkpoint_step(folder: Path) -> int:
    """The N of `checkpoint-N`."""
    match = re.fullmatch(r"checkpoint-(\d+)", folder.name)
    if match is None:
        raise UserError(f"{folder} is not a checkpoint: its name must be checkpoint-N")
    return int(match[1])


def list_checkpoints(output_dir: str | Path) -> list[Path]:
    """Complete checkpoints of a training folder, oldest first; one that was being written has another name."""
    found = [
        path for path in Path(output_dir).glob("checkpoint-*") if re.fullmatch(r"checkpoint-\d+", path.name)
    ]
    return sorted(found, key=checkpoint_step)


def find_checkpoint(output_dir: str | Path, resume_from_checkpoint: str | None) -> Path | None:
    """The checkpoint to go on from: a folder, or the newest one for "latest" (None where there is none).

    Raises:
        UserError: the named folder does not exist.
    """
    if resume_from_checkpoint in (None, "", "false", "False"):
        return None
    if resume_from_checkpoint in ("latest", "true", "True"):
        checkpoints = list_checkpoints(output_dir)
        return checkpoints[-1] if checkpoints else None
    folder = Path(resume_from_checkpoint)
    if not folder.is_dir():
        raise UserError(f"resume_from_checkpoint: no folder {folder}; give a checkpoint-N folder, or latest")
    return folder


def clear_stale_checkpoints(output_dir: Path) -> None:
    """Make room for a run that starts afresh where a finished one was.

    Raises:
        UserError: the run there is unfinished, and nobody asked to go on with it.
    """
    checkpoints = list_checkpoints(output_dir)
    if checkpoints and not (output_dir / "run.yaml").exists():
        raise UserError(
            f"{output_dir} holds an unfinished run: add --resume_from_checkpoint latest to go on, or remove the folder"
        )
    for old in checkpoints:
        shutil.rmtree(old)


def keep_weights_in_model_folder(accelerator: Accelerator) -> None:
    """Let the state hold everything but the weights: these stand in the checkpoint as an ordinary model, once."""

    def before_save(models: list[PreTrainedModel], weights: list[dict[str, Any]], folder: str) -> None:
        weights.clear()

    def before_load(models: list[PreTrainedModel], folder: str) -> None:
        for model in models:
            unwrapped = accelerator.unwrap_model(model)
            saved = type(unwrapped).from_pretrained(Path(folder).parent)
            unwrapped.load_state_dict(saved.state_dict())
        models.clear()

    accelerator.register_save_state_pre_hook(before_save)
    accelerator.register_load_state_pre_hook(before_load)


def save_checkpoint(
    accelerator: Accelerator,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    output_dir: Path,
    progress: dict[str, float | int | str],
    save_total_limit: int,
) -> None:
    """Write `checkpoint-N` beside its final name and rename it, then remove the oldest ones over the limit.

    `progress` holds at least "step"; it is what `load_checkpoint` gives back.
    """
    final = output_dir / f"checkpoint-{progress['step']}"
    temporary = output_dir / f"{final.name}.tmp"
    if accelerator.is_main_process and temporary.exists():
        shutil.rmtree(temporary)
    accelerator.wait_for_everyone()
    accelerator.save_state(str(temporary / STATE_FOLDER))
    if accelerator.is_main_process:
        save_model_folder(accelerator.unwrap_model(model), tokenizer, temporary)
        (temporary / STATE_FOLDER / "progress.json").write_text(json.dumps(progress), encoding="utf-8")
        if final.exists():
            shutil.rmtree(final)
        temporary.rename(final)
        for old in list_checkpoints(output_dir)[:-save_total_limit]:
            shutil.rmtree(old)
    accelerator.wait_for_everyone()


def read_progress(checkpoint: Path) -> dict[str, float | int | str]:
    """The `progress` that `save_checkpoint` was given.

    Raises:
        UserError: the folder is a model without training state.
    """
    path = checkpoint / STATE_FOLDER / "progress.json"
    if not path.exists():
        raise UserError(
            f"{checkpoint} holds no {STATE_FOLDER}: it is a model, not a checkpoint to resume from"
        )
    progress: dict[str, float | int | str] = json.loads(path.read_text(encoding="utf-8"))
    return progress
