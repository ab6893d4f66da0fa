# SPDX-License-Identifier: Apache-2.0
"""Weights from a folder, whole and from safetensors only; a damaged folder is one line."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import PreTrainedModel

from scratch_gpt.errors import UserError


@contextmanager
def loading(folder: str | Path) -> Iterator[None]:
    """All that transformers says of a damaged folder becomes one UserError."""
    try:
        yield
    except (OSError, ValueError, KeyError, RuntimeError, StrictDataclassError, SafetensorError) as error:
        reason = " ".join(str(error).split())
        message = f"cannot load {folder}: {reason}: copy or download it again"
        raise UserError("damaged_model", message, folder=folder) from error


def load_weights(kind: Any, folder: str | Path, **options: Any) -> PreTrainedModel:
    """The model in `folder` as a `kind`, a model class or an Auto class, from safetensors only.

    Raises:
        UserError: damaged or incomplete weights, or ones that are no finite numbers.
    """
    with loading(folder):
        model, report = kind.from_pretrained(
            folder, use_safetensors=True, output_loading_info=True, **options
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
