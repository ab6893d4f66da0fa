# SPDX-License-Identifier: Apache-2.0
"""Checkpoints: each one an ordinary model folder, with the state of the training beside the weights."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

from accelerate import Accelerator, PartialState
from accelerate.utils import broadcast_object_list
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from scratch_gpt.errors import UserError
from scratch_gpt.training.telemetry import RunLog


STATE_FOLDER = "training_state"
PROGRESS_FILE = f"{STATE_FOLDER}/progress.json"


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


def find_start(output_dir: Path, resume_from_checkpoint: str | None, last_file: str) -> Path | None:
    """The checkpoint that a run goes on from, None to start afresh.

    A finished folder (it holds run.yaml) has nothing to resume: "latest" starts afresh, since the data or the model
    before it may be new.

    Args:
        resume_from_checkpoint: None, a checkpoint folder, or "latest": the newest one, None where there is none.
        last_file: what is written last into a checkpoint: one without it was cut off in the middle, and is removed.

    Raises:
        UserError: the folder named is not there or no checkpoint; an unfinished run is there that nobody asked to
            go on with.
    """
    for checkpoint in list_checkpoints(output_dir):
        if not (checkpoint / last_file).is_file():
            shutil.rmtree(checkpoint)
    checkpoints = list_checkpoints(output_dir)
    finished = (output_dir / "run.yaml").exists()
    if resume_from_checkpoint == "latest":
        return checkpoints[-1] if checkpoints and not finished else None
    if resume_from_checkpoint:
        folder = Path(resume_from_checkpoint)
        if not folder.is_dir():
            raise UserError(
                f"resume_from_checkpoint: no folder {folder}; give a checkpoint-N folder, or latest"
            )
        if not (folder / last_file).is_file():
            raise UserError(f"{folder} holds no {last_file}: it is a model, not a checkpoint of this stage")
        return folder
    if checkpoints and not finished:
        raise UserError(
            f"{output_dir} holds an unfinished run: add --resume_from_checkpoint latest to go on, or remove the folder"
        )
    return None


def prepare_folder(output_dir: Path, resume_from_checkpoint: str | None, last_file: str) -> Path | None:
    """Make the output folder that of an unfinished run: without run.yaml, log and checkpoints up to its start.

    Returns:
        The checkpoint to start from, see `find_start`; with several processes, the main one's finding.
    """
    found = None
    if PartialState().is_main_process:
        found = find_start(output_dir, resume_from_checkpoint, last_file)
        output_dir.mkdir(parents=True, exist_ok=True)
        (output_dir / "run.yaml").unlink(missing_ok=True)
        start = checkpoint_step(found) if found else -1
        for name in ("log.jsonl", "samples.jsonl"):
            RunLog(output_dir / name).truncate_after(start)
        for checkpoint in list_checkpoints(output_dir):
            if checkpoint_step(checkpoint) > start:
                shutil.rmtree(checkpoint)
    (found,) = broadcast_object_list([found])
    return found


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

    `progress` holds at least "step"; it is what `read_progress` gives back.
    """
    final = output_dir / f"checkpoint-{progress['step']}"
    temporary = output_dir / f"{final.name}.tmp"
    if accelerator.is_main_process and temporary.exists():
        shutil.rmtree(temporary)
    accelerator.wait_for_everyone()
    accelerator.save_state(str(temporary / STATE_FOLDER))
    if accelerator.is_main_process:
        save_model_folder(accelerator.unwrap_model(model), tokenizer, temporary)
        (temporary / PROGRESS_FILE).write_text(json.dumps(progress), encoding="utf-8")
        if final.exists():
            shutil.rmtree(final)
        temporary.rename(final)
        for old in list_checkpoints(output_dir)[:-save_total_limit]:
            shutil.rmtree(old)
    accelerator.wait_for_everyone()


def read_progress(checkpoint: Path) -> dict[str, float | int | str]:
    """The `progress` that `save_checkpoint` was given."""
    progress: dict[str, float | int | str] = json.loads(
        (checkpoint / PROGRESS_FILE).read_text(encoding="utf-8")
    )
    return progress
