# SPDX-License-Identifier: Apache-2.0
"""Models from a folder: weights whole and from safetensors only, with their tokenizer; a damaged folder is one line."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from accelerate import PartialState
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

import scratch_gpt.registration  # noqa: F401  # whoever loads a model has its classes, also in a command
from scratch_gpt.errors import UserError, did_you_mean_path
from scratch_gpt.inference.chat_format import LONGEST, check_chat_format
from scratch_gpt.inference.turns import (
    is_chat,
    prepare_turns,
    tokens_without_embedding,
    training_tokenizer,
)
from scratch_gpt.tokenization import protect_control_tokens


# What transformers and safetensors raise where a folder is damaged.
DAMAGE = (OSError, ValueError, KeyError, RuntimeError, StrictDataclassError, SafetensorError)
HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@contextmanager
def loading(folder: str | Path) -> Iterator[None]:
    """All that transformers says of a folder that it cannot load becomes one UserError."""
    try:
        yield
    except (ImportError, *DAMAGE) as error:
        reason = " ".join(str(error).split())
        if method := _quantization(Path(folder)):
            message = (
                f"{folder} is quantized ({method}), and cannot be loaded here: {reason}: give the model that it was made "
                "from"
            )
            raise UserError("quantized_model", message, folder=folder) from error
        if "trust_remote_code" in reason:
            message = (
                f"{folder} needs code of its own, which is not run here: give a model of a class that transformers has "
                "(its config.json says no auto_map)"
            )
            raise UserError("custom_code", message, folder=folder) from error
        if isinstance(error, ImportError):
            raise
        message = f"cannot load {folder}: {reason}: copy or download it again"
        raise UserError("damaged_model", message, folder=folder) from error


def _quantization(folder: Path) -> str | None:
    """How the weights in a folder are quantized, as far as its config.json can be read."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        return (config.get("quantization_config") or {}).get("quant_method")
    except (OSError, ValueError, AttributeError):
        return None


def load_config(folder: str | Path) -> PreTrainedConfig:
    """The configuration of the model in `folder`; no code of the folder runs.

    Raises:
        UserError: no model in the folder, a damaged configuration, or one that needs code of its own.
    """
    check_folder(folder)
    with loading(folder):
        return AutoConfig.from_pretrained(folder, trust_remote_code=False)


def load_weights(kind: Any, folder: str | Path, **options: Any) -> PreTrainedModel:
    """The model in `folder` as a `kind`, a model class or an Auto class, from safetensors only.

    Raises:
        UserError: damaged or incomplete weights, or ones that are no finite numbers.
    """
    with loading(folder):
        model, report = kind.from_pretrained(
            folder, use_safetensors=True, output_loading_info=True, trust_remote_code=False, **options
        )
    if report["missing_keys"]:
        missing = sorted(report["missing_keys"])[0]
        message = f"{folder} lacks the weight {missing}: copy or download it again"
        raise UserError("weight_missing", message, weight=missing)
    for name, weight in model.named_parameters():
        if not weight.isfinite().all():
            message = f"{folder}: the weight {name} holds NaN or infinity: the training diverged, use an earlier checkpoint"
            raise UserError("weight_not_finite", message, weight=name)
    loaded: PreTrainedModel = model
    return loaded


def check_folder(folder: str | Path) -> None:
    """Raise UserError if no model is in the folder: nothing, an adapter, a GGUF file, or pickles, each with its cure."""
    path = Path(folder)
    if (path / "config.json").is_file():
        if any(path.glob("pytorch_model*.bin")) and not any(path.glob("*.safetensors")):
            message = (
                f"{folder} has its weights in pytorch_model.bin alone, which is not read here, since a pickle can run code: "
                f"convert it first, by AutoModelForCausalLM.from_pretrained({str(folder)!r}).save_pretrained(NEW), copy the "
                "tokenizer beside the result, and give NEW"
            )
            raise UserError("pickled_weights", message, folder=folder)
        return
    if (path / "adapter_config.json").is_file():
        adapter = json.loads((path / "adapter_config.json").read_text(encoding="utf-8"))
        message = (
            f"{folder} holds an adapter of {adapter.get('base_model_name_or_path')}, not a full model: merge the two "
            "first, by PEFT's merge_and_unload() and save_pretrained(), and copy the tokenizer beside the result"
        )
        raise UserError("adapter_folder", message, folder=folder)
    if path.suffix == ".gguf" or any(path.glob("*.gguf")):
        message = (
            f"{folder} is in llama.cpp's format, GGUF: give the folder of safetensors that it was made from"
        )
        raise UserError("gguf_file", message, folder=folder)
    if HUB_NAME.fullmatch(str(folder)) and not path.parent.exists():
        message = (
            f"there is no folder {folder}: if that is a model's name on the Hub, download it first with `hf download "
            f"{folder} --local-dir DIR` (a gated one after `hf auth login`), and give DIR"
        )
        raise UserError("no_model", message, folder=folder)
    hint = ": give a folder that a training stage wrote"
    if not path.exists():
        hint = did_you_mean_path(path, hint)
    message = f"no model in {folder} (config.json is missing){hint}"
    raise UserError("no_model", message, folder=folder)


def load_model(
    folder: str | Path, *, allow_encoder_decoder: bool = False, quantization_config: Any = None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a model that writes text and its tokenizer, on this process's device, ready for inference.

    Args:
        allow_encoder_decoder: accept these beside causal language models.
        quantization_config: of transformers, to keep the weights in fewer bits.

    Raises:
        UserError: no model or no tokenizer in the folder, damaged weights, a model of another kind (such as a reward
            model, or one that reads images too), a tokenizer that can write tokens for which the model has no embedding.
    """
    folder = Path(folder)
    config = load_config(folder)
    if not (folder / "tokenizer.json").is_file():
        message = f"no tokenizer in {folder} (tokenizer.json is missing): copy the model's tokenizer into it"
        raise UserError("no_tokenizer", message, folder=folder)
    kinds, conditional = config.architectures or [], "ForConditionalGeneration"
    if any(kind.endswith(conditional) for kind in kinds) and not config.is_encoder_decoder:
        message = (
            f"{folder} is {', '.join(kinds)}, which reads images or sound too: give a model of the family that has text "
            "alone, such as gemma-3-1b-it"
        )
        raise UserError("wrong_model", message, found=kinds)
    if allow_encoder_decoder and any(kind.endswith(conditional) for kind in kinds):
        auto_class = AutoModelForSeq2SeqLM
    # AutoModelForCausalLM would open a reward model too, with a language-model head that was never trained.
    elif any(kind.endswith(("ForCausalLM", "LMHeadModel")) for kind in kinds):
        auto_class = AutoModelForCausalLM
    else:
        message = f"{folder} is no causal language model but {', '.join(kinds) or 'of unknown kind'}"
        raise UserError("wrong_model", message, found=kinds)
    options = {"quantization_config": quantization_config} if quantization_config else {}
    model = load_weights(auto_class, folder, **options)
    with loading(folder):
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    check_embeddings(folder, tokenizer, model.get_input_embeddings().num_embeddings)
    if (
        getattr(model.config, "max_position_embeddings", None) is None
    ):  # of BLOOM and Mamba, which have no limit
        model.config.max_position_embeddings = LONGEST
    protect_control_tokens(tokenizer)
    prepare_turns(tokenizer, model.generation_config)
    return model.to(PartialState().device).eval(), tokenizer


def check_embeddings(folder: str | Path, tokenizer: PreTrainedTokenizerBase, embeddings: int) -> None:
    """Raise UserError if the tokenizer can write tokens beyond the model's `embeddings`."""
    if tokens_without_embedding(tokenizer, embeddings):
        message = f"{folder}: the tokenizer has {len(tokenizer)} tokens, the model only {embeddings}"
        raise UserError("vocab_size_too_small", message, vocab_size=embeddings, needed=len(tokenizer))


def load_chat_model(
    folder: str, *, quantization_config: Any = None
) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """Load what the sft stage wrote, or a published chat model; arguments as for `load_model`.

    Raises:
        UserError: no such folder, a model of another kind, a base model, a tokenizer that cannot write conversations.
    """
    model, tokenizer = load_model(folder, quantization_config=quantization_config)
    check_chat_format(training_tokenizer(tokenizer), folder)
    if not is_chat(tokenizer):
        message = (
            f"{folder} is a base model, it does not stop at the end of a turn: tune it first (scratch-gpt sft "
            f"--model_name_or_path {folder})"
        )
        raise UserError("base_model", message, model=folder)
    return model, tokenizer


def load_teacher(
    folder: str, student: PreTrainedModel, tokenizer: PreTrainedTokenizerFast
) -> PreTrainedModel:
    """Load the chat model whose probabilities of each token a student with this tokenizer learns.

    Raises:
        UserError: as for `load_chat_model`; another vocabulary than the student's.
    """
    teacher, own = load_chat_model(folder)
    sizes = teacher.config.vocab_size, student.config.vocab_size
    if own.get_vocab() != tokenizer.get_vocab() or sizes[0] != sizes[1]:
        message = (
            f"the vocabularies of the teacher {folder} ({sizes[0]:,} tokens) and of the student {student.name_or_path} "
            f"({sizes[1]:,}) differ: take a teacher of the same model family, or let it write "
            "answers and learn those with scratch-gpt sft"
        )
        raise UserError("another_vocabulary", message, folder=folder, sizes=sizes)
    return teacher


def load_tokenizer_beside(folder: str | Path) -> PreTrainedTokenizerFast | None:
    """The tokenizer in a model's folder, None where there is none."""
    if not any((Path(folder) / f).is_file() for f in ("tokenizer.json", "tokenizer.model", "vocab.json")):
        return None
    try:
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())
        message = f"cannot load the tokenizer in {folder}: {reason}"
        raise UserError("damaged_tokenizer", message, folder=folder) from error
