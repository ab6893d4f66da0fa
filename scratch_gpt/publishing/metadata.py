# SPDX-License-Identifier: Apache-2.0
"""What the Hub is to know of a model and the run's files may not say: language, data sets, and the model before it."""

import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # exported lazily

from scratch_gpt.errors import UserError


# https://huggingface.co/docs/hub/model-cards#specifying-a-base-model
RELATIONS = ("finetune", "adapter", "merge", "quantized")
# ISO 639-1, -2 or -3 with subtags (BCP 47), and the two other words that the Hub knows.
_LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})*|multilingual|code")
_HUB_DATASET = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True)
class Metadata:
    """What the user says of the model, for the head of the card.

    Args:
        language: codes such as en or pt-BR.
        datasets: of the Hub, owner/name, beside those that the records name.
        base_model: of the Hub, owner/name, in place of the one that the records name.
        base_model_relation: one of `RELATIONS`.

    Raises:
        UserError: a value that the Hub would refuse.
    """

    language: Sequence[str] = ()
    datasets: Sequence[str] = ()
    base_model: str | None = None
    base_model_relation: str | None = None

    def __post_init__(self) -> None:
        for code in self.language:
            # YAML reads the code of Norwegian as false
            if not isinstance(code, str) or not _LANGUAGE.fullmatch(code):
                message = f"language {code!r} is no code of a language: give one such as en, de or pt-BR (in YAML in quotes)"
                raise UserError("wrong_value", message, setting="language", value=code)
        for setting, names in (("datasets", self.datasets), ("base_model", [self.base_model])):
            for name in names:
                if name is not None and not is_hub_name(name):
                    message = f"{setting} {name!r} is no name on the Hub: give owner/name"
                    raise UserError("wrong_value", message, setting=setting, value=name)
        if self.base_model_relation not in (None, *RELATIONS):
            message = f"base_model_relation {self.base_model_relation!r} is not one of {', '.join(RELATIONS)}"
            raise UserError(
                "wrong_value", message, setting="base_model_relation", value=self.base_model_relation
            )


def is_hub_name(name: str) -> bool:
    """Whether the text has the form of a name on the Hub; older ones have no owner (gpt2)."""
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return True


def hub_datasets(records: Iterable[Mapping[str, Any]]) -> list[str]:
    """The sources of all stages that are data sets of the Hub: owner/name, and no file or folder here."""
    paths = dict.fromkeys(
        str(source["path"]) for record in records for source in record["data"].get("sources", [])
    )
    # a local file that is gone looks alike, but for its ending
    return [
        path
        for path in paths
        if _HUB_DATASET.fullmatch(path) and not Path(path).suffix and not Path(path).exists()
    ]


def base_model_fields(
    metadata: Metadata, origin: Mapping[str, Any] | None, records: Sequence[Any]
) -> dict[str, Any]:
    """`base_model` and `base_model_relation`, as far as known: a folder's own name is no name on the Hub.

    Raises:
        UserError: a relation to no model.
    """
    known = origin["name"] if origin and "/" in origin["name"] else None
    base_model = metadata.base_model or known
    if base_model is None:
        if metadata.base_model_relation:
            message = f"base_model_relation {metadata.base_model_relation} needs base_model: owner/name"
            raise UserError("setting_missing", message, setting="base_model")
        return {}
    # stages train all weights or merge LoRA's part; without one the model has only changed its form
    relation = metadata.base_model_relation or ("finetune" if records else None)
    return {"base_model": base_model} | ({"base_model_relation": relation} if relation else {})


def ask(question: str, example: str) -> str:
    """The answer of a user at a terminal, "" where there is none or nobody is asked."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return ""
    return input(f"{question} (such as {example}; Enter: leave it out): ").strip()
