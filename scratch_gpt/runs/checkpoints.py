# SPDX-License-Identifier: Apache-2.0
"""Checkpoints: each one an ordinary model folder, with the state of the training beside the weights."""

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import OPTIMIZER_NAME, DistributedType, broadcast_object_list
from safetensors import SafetensorError
from torch.distributed.fsdp import FSDPModule
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from scratch_gpt.errors import UserError
from scratch_gpt.runs.folders import lock
from scratch_gpt.runs.log import RunLog, console
from scratch_gpt.settings.hardware import is_out_of_memory
from scratch_gpt.tokenization import save_tokenizer


STATE_FOLDER = "training_state"
PROGRESS_FILE = f"{STATE_FOLDER}/progress.json"
# The hash of every other file: written last, so a checkpoint that has it is complete.
MANIFEST_FILE = f"{STATE_FOLDER}/manifest.json"
Result = TypeVar("Result")


def save_model_folder(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    folder: Path,
    state_dict: dict[str, torch.Tensor] | None = None,
) -> None:
    """Write everything that `AutoModel*.from_pretrained` and `AutoTokenizer` need.

    Args:
        state_dict: the weights, where those of `model` are sharded.
    """
    if isinstance(model, FSDPModule):
        # `fully_shard` has made a class of (FSDPModule, the model's own), whose code would be saved: torch's.
        with torch.device("meta"):
            plain = type(model).__bases__[1](model.config)
        plain.generation_config = model.generation_config
        model = plain
    model.save_pretrained(folder, state_dict=state_dict)
    save_tokenizer(tokenizer, folder)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_manifest(checkpoint: Path) -> None:
    """Record the hash of every file; the last step of writing a checkpoint."""
    hashes = {
        path.relative_to(checkpoint).as_posix(): _sha256(path)
        for path in sorted(checkpoint.rglob("*"))
        if path.is_file()
    }
    (checkpoint / MANIFEST_FILE).write_text(json.dumps(hashes, indent=0), encoding="utf-8")


def verify_checkpoint(checkpoint: Path) -> str | None:
    """What is wrong with the files of a checkpoint, None if each is as it was written.

    Checkpoints of transformers' Trainer have no manifest: nothing is known of their files.
    """
    manifest = checkpoint / MANIFEST_FILE
    if not manifest.is_file():
        return None
    try:
        hashes = json.loads(manifest.read_text(encoding="utf-8"))
    except ValueError:
        return f"{MANIFEST_FILE} is not readable"
    for name, written in hashes.items():
        if not (checkpoint / name).is_file():
            return f"{name} is missing"
        if _sha256(checkpoint / name) != written:
            return f"{name} is not as it was written"
    return None


def checkpoint_step(folder: Path) -> int:
    """The N of `checkpoint-N`."""
    match = re.fullmatch(r"checkpoint-(\d+)", folder.name)
    if match is None:
        message = f"{folder} is not a checkpoint: its name must be checkpoint-N"
        raise UserError("not_a_checkpoint", message, folder=folder)
    return int(match[1])


def list_checkpoints(output_dir: str | Path) -> list[Path]:
    """Complete checkpoints of a training folder, oldest first; one that was being written has another name."""
    found = [
        path for path in Path(output_dir).glob("checkpoint-*") if re.fullmatch(r"checkpoint-\d+", path.name)
    ]
    return sorted(found, key=checkpoint_step)


def remove_checkpoint(checkpoint: Path) -> None:
    """Remove it in such a way that what a kill leaves of it has another name."""
    leftover = checkpoint.with_name(f"{checkpoint.name}.tmp")
    if leftover.exists():
        shutil.rmtree(leftover)
    checkpoint.rename(leftover)
    shutil.rmtree(leftover)


def _newest_whole(checkpoints: list[Path]) -> Path:
    for checkpoint in reversed(checkpoints):
        found = verify_checkpoint(checkpoint)
        if found is None:
            return checkpoint
        console.print(f"warning: {checkpoint} is damaged ({found}): trying the one before it", soft_wrap=True)
    message = f"every checkpoint in {checkpoints[0].parent} is damaged: remove them to start afresh, or name a new output_dir"
    raise UserError("checkpoints_damaged", message, folder=checkpoints[0].parent)


def find_checkpoint(output_dir: Path, resume_from_checkpoint: str | None, last_file: str) -> Path | None:
    """The checkpoint that a run resumes from, None to start afresh.

    A finished folder (it holds run.yaml) is never written again: a start would remove its model and its log.

    Args:
        resume_from_checkpoint: None, a checkpoint folder, or "latest": the newest one whose files are as they were
            written, None where there is no checkpoint.
        last_file: what is written last into a checkpoint: one without it was cut off in the middle, or another run is
            just writing it, and is passed over.

    Raises:
        UserError: a finished run or another model is there; the folder named is not there, no checkpoint or damaged;
            all checkpoints are damaged; an unfinished run is there that nobody asked to resume.
    """
    if (output_dir / "run.yaml").exists():
        message = f"{output_dir} holds a finished run: name a new output_dir, or remove the folder"
        raise UserError("finished_run", message, folder=output_dir)
    # A stage logs before it writes its model.
    if (output_dir / "config.json").exists() and not (output_dir / "log.jsonl").exists():
        message = f"{output_dir} holds the config.json of a model that no training wrote there: name a new output_dir"
        raise UserError("output_occupied", message, folder=output_dir, file="config.json")
    checkpoints = [
        checkpoint for checkpoint in list_checkpoints(output_dir) if (checkpoint / last_file).is_file()
    ]
    if resume_from_checkpoint == "latest":
        return _newest_whole(checkpoints) if checkpoints else None
    if resume_from_checkpoint:
        folder = Path(resume_from_checkpoint)
        if not folder.is_dir():
            message = f"resume_from_checkpoint: no folder {folder}; give a checkpoint-N folder, or latest"
            raise UserError("checkpoint_not_found", message, folder=folder)
        if not (folder / last_file).is_file():
            message = f"{folder} holds no {last_file}: it is a model, not a checkpoint of this stage"
            raise UserError("not_a_checkpoint", message, folder=folder)
        if found := verify_checkpoint(folder):
            message = f"{folder} is damaged ({found}): give another checkpoint-N folder, or latest"
            raise UserError("checkpoints_damaged", message, folder=folder)
        return folder
    if checkpoints:
        message = f"{output_dir} holds an unfinished run: add --resume_from_checkpoint latest to resume, or remove the folder"
        raise UserError("unfinished_run", message, folder=output_dir)
    return None


def _by_main_process(action: Callable[[], Result]) -> Result:
    """What the main process finds, in all processes; all of them raise its mistake, and none waits for it forever."""
    found, mistake = None, None
    if PartialState().is_main_process:
        try:
            found = action()
        except UserError as error:
            mistake = error
    found, mistake = broadcast_object_list([found, mistake])
    if mistake:
        raise mistake
    return found


def resolve_checkpoint(output_dir: Path, resume_from_checkpoint: str | None, last_file: str) -> Path | None:
    """The finding of the main process's `find_checkpoint`, in all processes."""
    return _by_main_process(lambda: find_checkpoint(output_dir, resume_from_checkpoint, last_file))


def rollback(output_dir: Path, checkpoint: Path | None) -> None:
    """Make the output folder that of a run at `checkpoint`, None: at its beginning.

    What is behind it is lost, so nothing that may be refused comes after this call, and no new row before it. All
    processes call it.

    Raises:
        UserError: another run is writing into the folder.
    """
    _by_main_process(lambda: _rollback(output_dir, checkpoint_step(checkpoint) if checkpoint else -1))


def _rollback(output_dir: Path, start: int) -> None:
    output_dir.mkdir(parents=True, exist_ok=True)
    lock(output_dir)
    for checkpoint in list_checkpoints(output_dir):
        if checkpoint_step(checkpoint) > start:
            remove_checkpoint(checkpoint)
    for leftover in output_dir.glob("checkpoint-*.tmp"):
        shutil.rmtree(leftover)
    _remove_model(output_dir)
    for name in ("log.jsonl", "samples.jsonl"):
        RunLog(output_dir / name).truncate_after(start)


def _remove_model(output_dir: Path) -> None:
    """What a full disk left of a model must not pass for one: without config.json none is found."""
    (output_dir / "config.json").unlink(missing_ok=True)
    for weights in output_dir.glob("model*.safetensors*"):
        weights.unlink()


def keep_weights_in_model_folder(accelerator: Accelerator) -> None:
    """Let the state hold everything but the weights: these are in the checkpoint as an ordinary model, once.

    Sharded weights are the exception: each process saves and loads its own.
    """
    if accelerator.distributed_type == DistributedType.FSDP:
        return

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


def check_sharding(accelerator: Accelerator, checkpoint: Path) -> None:
    """Refuse the state of sharded weights where weights are not sharded, and the other way round.

    Raises:
        UserError: it is of the other kind.
    """
    sharded = accelerator.distributed_type == DistributedType.FSDP
    if sharded == (checkpoint / STATE_FOLDER / f"{OPTIMIZER_NAME}.bin").is_file():
        message = (
            f"{checkpoint} was written {'without' if sharded else 'with'} sharded weights and is resumed "
            f"{'with' if sharded else 'without'}: start the run as before, or begin with its weights and a fresh optimizer "
            f"(--model_name_or_path {checkpoint})"
        )
        raise UserError("cannot_resume", message, settings=["sharded"])


@contextmanager
def disk_errors(folder: Path, temporary: Path | None = None) -> Iterator[None]:
    """Whatever fails while `folder` is written, as one line; `temporary` is removed.

    Raises:
        UserError: no room, no permission. Memory that runs out keeps its own error: room on the disk does not help.
    """
    try:
        yield
    # torch and safetensors have errors of their own for a full disk
    except (OSError, RuntimeError, SafetensorError) as error:
        if temporary:
            shutil.rmtree(temporary, ignore_errors=True)
        if is_out_of_memory(error):
            raise
        reason = " ".join(str(error).split())
        message = (
            f"{folder} could not be written: {reason}; make room, then resume from the checkpoint before it with "
            "--resume_from_checkpoint latest"
        )
        raise UserError("cannot_write", message, path=folder) from error


@contextmanager
def writing_model(output_dir: Path) -> Iterator[None]:
    """While the finished model is written beside its checkpoints: whatever fails is one line, and leaves no half of it.

    Raises:
        UserError: no room, no permission.
    """
    try:
        with disk_errors(output_dir):
            yield
    except Exception:
        _remove_model(output_dir)
        raise


@contextmanager
def writing_checkpoint(
    accelerator: Accelerator, output_dir: Path, step: int, save_total_limit: int
) -> Iterator[Path]:
    """A folder beside `checkpoint-N` to write into, all processes together.

    At the end it is hashed and renamed, and the oldest checkpoints over the limit are removed.

    Raises:
        UserError: no room, no permission; what was written of the checkpoint is removed.
    """
    final = output_dir / f"checkpoint-{step}"
    temporary = final.with_name(f"{final.name}.tmp")
    with disk_errors(final, temporary):
        if accelerator.is_main_process and temporary.exists():
            shutil.rmtree(temporary)
        accelerator.wait_for_everyone()
        (temporary / STATE_FOLDER).mkdir(parents=True, exist_ok=True)
        yield temporary
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            write_manifest(temporary)
            temporary.rename(final)
            for old in list_checkpoints(output_dir)[:-save_total_limit]:
                remove_checkpoint(old)
        accelerator.wait_for_everyone()


def save_checkpoint(
    accelerator: Accelerator,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    folder: Path,
    progress: dict[str, Any],
) -> None:
    """Write weights, tokenizer, state and `progress` (what `read_progress` gives back) into `folder`."""
    accelerator.save_state(str(folder / STATE_FOLDER))
    state_dict = accelerator.get_state_dict(model)
    if accelerator.is_main_process:
        save_model_folder(accelerator.unwrap_model(model), tokenizer, folder, state_dict)
        write_progress(progress, folder)


def write_progress(progress: dict[str, Any], folder: Path) -> None:
    """Leave in a folder what `read_progress` gives back."""
    path = folder / PROGRESS_FILE
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(progress), encoding="utf-8")


def read_progress(checkpoint: Path) -> dict[str, Any]:
    """The `progress` of a checkpoint or of a finished run."""
    progress: dict[str, Any] = json.loads((checkpoint / PROGRESS_FILE).read_text(encoding="utf-8"))
    return progress
