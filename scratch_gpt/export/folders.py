# SPDX-License-Identifier: Apache-2.0
"""Model folders from classes of transformers to ours and back: export and import."""

import json
from collections.abc import Mapping
from pathlib import Path

from transformers import EuroBertForMaskedLM, GPT2LMHeadModel, PreTrainedModel

from scratch_gpt.errors import UserError
from scratch_gpt.export.interop import OUR_CLASSES, STOCK_CLASSES, from_stock, to_stock
from scratch_gpt.inference.loading import check_folder, load_tokenizer_beside, load_weights, loading
from scratch_gpt.runs.folders import atomic_directory
from scratch_gpt.runs.provenance import copy_provenance
from scratch_gpt.tokenization import save_tokenizer


def load_folder(folder: str | Path, classes: Mapping[str, type[PreTrainedModel]]) -> PreTrainedModel:
    """Load the model in `folder`, in the dtype it was saved in, if it is of one of `classes` (name -> class).

    Raises:
        UserError: no model, one of another class, damaged or incomplete weights.
    """
    folder = Path(folder)
    check_folder(folder)
    with loading(folder):
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    architecture = (config.get("architectures") or ["model of unknown architecture"])[0]
    kind = classes.get(architecture)
    if kind is None or config.get("model_type") != kind.config_class.model_type:
        message = (
            f"{folder} holds a {architecture} (model_type {config.get('model_type')}): "
            f"it must be a {', '.join(classes)}"
        )
        raise UserError("wrong_model", message, found=[architecture])
    return load_weights(kind, folder, dtype="auto")


def load_ours(folder: str | Path) -> PreTrainedModel:
    """The model in `folder` as one of ours: also a class of transformers that ours can be, such as a tuned Qwen3.

    Raises:
        UserError: see `load_folder` and `from_stock`.
    """
    model = load_folder(folder, OUR_CLASSES | STOCK_CLASSES)
    return model if type(model).__name__ in OUR_CLASSES else from_stock(model)


def import_folder(stock: str | Path, output_dir: str | Path) -> list[str]:
    """Write the model of transformers in `stock` as a ScratchGPT checkpoint, with its tokenizer.

    Returns:
        What is missing, one sentence each.

    Raises:
        UserError: `output_dir` holds something, `stock` holds no model that our decoder can be.
    """
    with atomic_directory(output_dir, ()) as folder:
        return _write(from_stock(load_folder(stock, STOCK_CLASSES)), stock, folder)


def export_folder(model: str | Path, output_dir: str | Path, to: str | None = None) -> list[str]:
    """Write the model in `model` as an ordinary folder of transformers, with its tokenizer; see `load_ours`.

    Args:
        to: "qwen3", "llama", "gpt2" or "eurobert"; default as in `to_stock`.

    Returns:
        What is missing, one sentence each.

    Raises:
        UserError: `output_dir` holds something, `model` holds no model that ours can be, a dialect that cannot hold it.
    """
    with atomic_directory(output_dir, ()) as folder:
        notes = _write(to_stock(load_ours(model), to), model, folder)
        _add_older_names(folder / "config.json")
    return notes


def _add_older_names(path: Path) -> None:
    """Name things as transformers before 5 does too: without its `rope_theta` it takes the default, silently."""
    config = json.loads(path.read_text(encoding="utf-8"))
    config["torch_dtype"] = config["dtype"]
    if rope := config.get("rope_parameters"):
        config["rope_theta"] = rope["rope_theta"]
        if rope["rope_type"] != "default":
            config["rope_scaling"] = {name: value for name, value in rope.items() if name != "rope_theta"}
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _write(model: PreTrainedModel, source: str | Path, folder: Path) -> list[str]:
    tokenizer = load_tokenizer_beside(source)
    if isinstance(model, EuroBertForMaskedLM):  # its default is an id of the published model's vocabulary
        model.config.mask_token_id = tokenizer.mask_token_id if tokenizer else None
    try:
        model.save_pretrained(folder)
    except ValueError as error:  # a generation config that contradicts itself
        message = f"cannot save what is in {source}: {' '.join(str(error).split())}"
        raise UserError("damaged_model", message, folder=source) from error
    copy_provenance(source, folder)
    if tokenizer is None:
        return [f"no tokenizer in {source}: copy one beside the model before it is trained or asked"]
    if isinstance(model, GPT2LMHeadModel) and tokenizer.unk_token is None:
        # As GPT-2's own tokenizer has it: CTranslate2 asks every GPT-2 for one. Bytes never need it.
        tokenizer.unk_token = tokenizer.bos_token or tokenizer.eos_token
    save_tokenizer(tokenizer, folder)
    return [] if tokenizer.chat_template else ["its tokenizer has no chat template: sft adds one"]
