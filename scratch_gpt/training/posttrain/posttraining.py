# SPDX-License-Identifier: Apache-2.0
"""Steps that the stages after pretraining share: loading with checks, the log, resuming, saving.

TRL's trainers do the learning.
"""

import logging
import math
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import torch
import transformers
from accelerate import PartialState
from accelerate.utils import set_seed
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerFast,
    PrinterCallback,
    Trainer,
)

from scratch_gpt.errors import UserError
from scratch_gpt.evaluation.metrics.intervals import print_table
from scratch_gpt.inference.documents import documents_stay_apart
from scratch_gpt.inference.sampling import CHAT_LIMIT
from scratch_gpt.inference.turns import (
    add_chat_template,
    end_of_turn,
    set_end_of_sequence,
    stop_ids,
    tokens_without_embedding,
)
from scratch_gpt.publishing import push_to_hub
from scratch_gpt.runs.checkpoints import (
    disk_errors,
    list_checkpoints,
    resolve_checkpoint,
    rollback,
    save_model_folder,
    writing_model,
)
from scratch_gpt.runs.folders import read_json, write_run_yaml
from scratch_gpt.runs.graceful_shutdown import GracefulShutdown
from scratch_gpt.runs.log import RunLog, console, progress_bar
from scratch_gpt.runs.provenance import write_provenance
from scratch_gpt.runs.results import Metric, write_result
from scratch_gpt.settings.hardware import choose_threads
from scratch_gpt.settings.processes import check_launch
from scratch_gpt.tokenization import PAD
from scratch_gpt.training.posttrain.arguments import PosttrainingArguments
from scratch_gpt.training.posttrain.callbacks import (
    FiniteGradients,
    Interruption,
    NoSignal,
    Samples,
    StageLog,
    TokenizerOfCheckpoint,
)
from scratch_gpt.training.posttrain.distribution import end, share_batches
from scratch_gpt.training.posttrain.resume import (
    SettingsOfCheckpoint,
    check_prompts,
    check_settings,
    input_models,
    resume_order,
)


# What Trainer writes last into a checkpoint.
LAST_FILE = "trainer_state.json"
# On a CPU in bfloat16, plain matrix products take a sixth of a step less than torch's fused attention up to this context;
# at 1,024 tokens as long, and much more memory.
LONGEST_EAGER = 512


def begin(arguments: PosttrainingArguments) -> None:
    """Seed every random choice, and leave the terminal to our own lines, printed only by the main process."""
    check_launch()
    set_seed(arguments.seed)
    if not PartialState().is_main_process:
        console.quiet = True
        transformers.utils.logging.set_verbosity_error()
        logging.getLogger("scratch_gpt").setLevel(logging.ERROR)
    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()
    # TRL 1.16 asks transformers 5.23 by the old name.
    warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)


# How a model answers by itself whose generation config does not say it. The tail of a small model's distribution is
# noise: sampling stays near the top.
ANSWERING = {"do_sample": True, "temperature": 0.3, "top_p": 0.9}


def make_chat_model(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> list[int]:
    """Let answers end with the end of a turn, in the tokenizer and in what `generate` does by itself.

    A base model without a chat template gets this project's. What the model's generation config says is kept.

    Returns:
        The tokens that the template needs and the model has never seen.
    """
    new: list[str] = []
    if not tokenizer.chat_template:
        new = add_chat_template(tokenizer)
        added = f", with {' and '.join(new)} as new tokens" if new else ""
        console.print(
            f"{tokenizer.name_or_path} has no chat template: it gets this project's, ChatML{added}",
            markup=False,
            soft_wrap=True,
        )
    known, config = stop_ids(tokenizer, model.generation_config), model.generation_config
    end = end_of_turn(tokenizer)
    if end is None:  # `check_chat_format` says so
        return []
    if tokenizer.pad_token_id == end:  # as DialoGPT's, whose vocabulary has no other special token
        tokenizer.add_special_tokens({"pad_token": PAD})
        console.print(
            f"{tokenizer.name_or_path} has no token for padding: it gets {PAD}", markup=False, soft_wrap=True
        )
    if tokens_without_embedding(tokenizer, model.get_input_embeddings().num_embeddings):
        model.resize_token_embeddings(len(tokenizer))
    if end not in known and not config.to_diff_dict().keys() & {"do_sample", "temperature", "top_p", "top_k"}:
        config.update(**ANSWERING)
        setattr(config, CHAT_LIMIT, 128)
    set_end_of_sequence(tokenizer, end)
    config.eos_token_id = [end, *sorted(known - {end})] if known - {end} else end
    for settings in (model.config, config):
        settings.pad_token_id = tokenizer.pad_token_id
    config.bos_token_id = tokenizer.bos_token_id
    model.config.eos_token_id = end
    return tokenizer.convert_tokens_to_ids(new)


def check_packing(model: PreTrainedModel) -> None:
    """Raise UserError if packed rows would see each other."""
    if not documents_stay_apart(model):
        message = (
            f"packing: the attention of {type(model).__name__} lets packed rows see each other: leave packing out, or give "
            "train_sampling_strategy: batch_rebalance against padding"
        )
        raise UserError("packed_rows_mix", message, model=type(model).__name__)


def use_faster_attention(model: PreTrainedModel, arguments: PosttrainingArguments) -> None:
    """Compute attention by plain matrix products where that is faster and nothing is compared with a model before."""
    positions = getattr(model.config, "max_position_embeddings", None) or math.inf  # none in BLOOM
    on_cpu = arguments.use_cpu and arguments.bf16
    if on_cpu and positions <= LONGEST_EAGER and not arguments.measures_distance:
        model.set_attn_implementation("eager")


def use_trained_precision(model: PreTrainedModel, arguments: PosttrainingArguments) -> None:
    """Make the weights float32 where all are trained: also before, for what is measured then.

    Most published models are saved in bfloat16, where an update by a learning rate of 2e-5 is rounded away: it is less
    than half of a weight's last digit.
    """
    if not getattr(arguments, "use_peft", False):
        model.float()


def use_reference_precision(model: PreTrainedModel, arguments: PosttrainingArguments) -> None:
    """Make the weights float32, in which TRL loads the model to train from a path; those in 4 bits stay."""
    if not getattr(arguments, "load_in_4bit", False):
        model.float()


def train(trainer: Trainer, arguments: PosttrainingArguments, stage: str) -> bool:
    """Train to the last step, from a checkpoint where one is asked for, and keep `log.jsonl` and `samples.jsonl`; then merge LoRA's part.

    Returns:
        Whether there was anything to learn from, as far as the log knows: see `NoSignal`.

    Raises:
        UserError: see `checkpoints.find_checkpoint`, `check_settings` and `check_prompts`; gradients or rewards that are no numbers, with what is left of the run.
        SystemExit: a signal came; the step that it came in is saved.
    """
    output_dir = Path(arguments.output_dir)  # type: ignore[arg-type]
    checkpoint = resolve_checkpoint(output_dir, arguments.resume_from_checkpoint, LAST_FILE)
    if checkpoint is not None:
        check_settings(arguments, checkpoint)
    check_prompts(trainer)
    torch.set_num_threads(choose_threads(arguments.num_threads))
    rollback(output_dir, checkpoint)
    # TRL would write a generic README.md at every checkpoint; the card of this project is filled from results.
    trainer.create_model_card = lambda *_, **__: None
    trainer.remove_callback(PrinterCallback)
    # Checkpoints hold tied weights once; loading one, transformers would report the others as missing.
    trainer.model._keys_to_ignore_on_save = set(trainer.model.all_tied_weights_keys)
    use_trained_precision(trainer.model, arguments)
    if getattr(arguments, "load_in_4bit", False) and not arguments.bf16:
        # TRL 1.16 makes what is learned beside 4 bits bfloat16: without autocast the score of a reward model would fail
        for parameter in trainer.model.parameters():
            parameter.data = parameter.data.float() if parameter.requires_grad else parameter.data
    use_faster_attention(trainer.model, arguments)
    run_epoch = trainer._run_epoch

    def run_what_is_left(*args: Any, **kwargs: Any) -> None:
        """A run that was stopped behind its last step, while it measured: transformers would take one step more."""
        if trainer.state.global_step < trainer.state.max_steps:
            run_epoch(*args, **kwargs)

    save_checkpoint = trainer._save_checkpoint

    def save_whole_checkpoint(*args: Any, **kwargs: Any) -> None:
        """A full disk is one line, and leaves nothing half-written."""
        folder = output_dir / f"checkpoint-{trainer.state.global_step}"
        with disk_errors(folder, folder):
            save_checkpoint(*args, **kwargs)

    trainer._run_epoch, trainer._save_checkpoint = run_what_is_left, save_whole_checkpoint
    share_batches(trainer)
    if checkpoint is not None:
        resume_order(trainer, int(read_json(checkpoint / LAST_FILE)["epoch"]))
    with GracefulShutdown() as shutdown, progress_bar(trainer.is_world_process_zero()) as bar:
        log = RunLog(output_dir / "log.jsonl")
        signal = NoSignal(log, getattr(arguments, "mask_truncated_completions", False))
        trainer.add_callback(signal)
        trainer.add_callback(StageLog(log, bar, stage))
        prompts = getattr(arguments, "sample_prompts", None)  # not of the reward stage
        if prompts:
            samples = RunLog(output_dir / "samples.jsonl")
            trainer.add_callback(Samples(samples, prompts, trainer.processing_class))
        trainer.add_callback(FiniteGradients())
        trainer.add_callback(TokenizerOfCheckpoint())
        trainer.add_callback(SettingsOfCheckpoint(arguments))
        trainer.add_callback(Interruption(shutdown, partial(end, trainer)))
        try:
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        except UserError as error:
            kept = list_checkpoints(output_dir)
            left = f"the last good checkpoint is {kept[-1]}" if kept else "no checkpoint was written yet"
            message = f"step {trainer.state.global_step + 1}: {error}; {left}"
            raise UserError(error.code, message, **error.values) from None
    if hasattr(trainer.model, "merge_and_unload"):
        # What LoRA learned becomes part of the weights: the folder holds an ordinary model, not an adapter.
        whole = _whole_weights(trainer.model) if getattr(arguments, "load_in_4bit", False) else trainer.model
        trainer.model = whole.merge_and_unload()
    return not signal.nothing_learned


def _whole_weights(model: Any) -> Any:
    """The adapters of a quantized model on the weights as they were before: merged in 4 bits, they would be rounded away."""
    from peft import get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict

    quantized = model.get_base_model()
    labels = {"num_labels": 1} if model.active_peft_config.task_type == "SEQ_CLS" else {}
    whole = type(quantized).from_pretrained(quantized.name_or_path, use_safetensors=True, **labels)
    whole.resize_token_embeddings(quantized.get_input_embeddings().num_embeddings)
    for name in ("pad_token_id", "eos_token_id"):
        setattr(whole.config, name, getattr(quantized.config, name))
    if whole.can_generate():
        whole.generation_config = quantized.generation_config
    adapted = get_peft_model(whole.to(quantized.device), model.active_peft_config)
    set_peft_model_state_dict(adapted, get_peft_model_state_dict(model))
    return adapted


def closing_line(arguments: PosttrainingArguments, learned: bool, use: str) -> str:
    """The last line of a stage: where the model is, and what to do with it, or that it learned nothing."""
    if not learned:
        log = Path(str(arguments.output_dir)) / "log.jsonl"
        use = f"it learned nothing, no step had a signal (no_signal in {log})"
    return f"wrote {arguments.output_dir}: {use}"


def write_stage_result(
    trainer: Trainer,
    arguments: PosttrainingArguments,
    stage: str,
    n: int,
    tables: dict[str, dict[str, dict[str, Metric]]],
    **settings: Any,
) -> None:
    """Write `results/STAGE.json` beside the model, and print it: what the stage measured on `n` held-out rows.

    Args:
        tables: title -> column -> metrics. A metric is called COLUMN/NAME in the file, and NAME in the column STAGE.
    """
    metrics = {
        name if column == stage else f"{column}/{name}": metric
        for columns in tables.values()
        for column, of_column in columns.items()
        for name, metric in of_column.items()
    }
    if not metrics or not trainer.is_world_process_zero():
        return
    folder = Path(str(arguments.output_dir))
    write_result(
        folder / "results" / f"{stage}.json", stage, str(folder), n, metrics, settings, arguments.seed
    )
    for title, columns in tables.items():
        if columns:
            print_table(title, columns)


def save_stage(
    trainer: Trainer, tokenizer: PreTrainedTokenizerFast, arguments: PosttrainingArguments
) -> None:
    """Write the finished folder, `run.yaml` last, and upload it where asked; nothing is done with the trainer after it.

    Raises:
        UserError: no room, no permission; the upload fails.
    """
    if trainer.is_world_process_zero():
        output_dir = Path(arguments.output_dir)  # type: ignore[arg-type]
        tokenizer.backend_tokenizer.no_padding()  # padding a batch leaves its traces in what is saved
        with writing_model(output_dir):
            save_model_folder(trainer.accelerator.unwrap_model(trainer.model), tokenizer, output_dir)
            log = RunLog(output_dir / "log.jsonl")
            models = input_models(arguments).values()
            write_provenance(arguments, trainer.model.config, output_dir, log, models)
            write_run_yaml(arguments, output_dir)
        if arguments.push_to_hub:
            private = bool(arguments.hub_private_repo)  # type: ignore[attr-defined]  # of TRL's configuration
            push_to_hub(str(output_dir), str(arguments.hub_model_id), private)
    end(trainer)
