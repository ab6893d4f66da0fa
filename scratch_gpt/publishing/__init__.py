# SPDX-License-Identifier: Apache-2.0
"""From a trained folder to the Hub: a model card filled from the run's files, checks, one commit, and a look at the result.

The command, `eval/publish.py` and the stages' `push_to_hub` all go through `publish`. Imports `evaluation` and what is below it.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from scratch_gpt.errors import UserError
from scratch_gpt.publishing.card import NOTHING_SAID, make_card, write_card
from scratch_gpt.publishing.checks import Package, check_repository, pack
from scratch_gpt.publishing.licenses import check_license
from scratch_gpt.publishing.metadata import RELATIONS, Metadata, ask
from scratch_gpt.publishing.upload import Upload, upload, verify
from scratch_gpt.runs.checkpoints import checkpoint_step
from scratch_gpt.runs.log import console
from scratch_gpt.runs.provenance import read_origin


__all__ = [
    "Package",
    "PublishArguments",
    "Upload",
    "make_card",
    "pack",
    "publish",
    "push_to_hub",
    "run_publish",
    "upload",
    "upload_checkpoint",
    "verify",
    "write_card",
]


@dataclass
class PublishArguments:
    """Settings of `eval/publish.py` and of `scratch-gpt publish`."""

    model: str | None = field(default=None, metadata={"help": "Folder of a trained model."})
    license: str = field(
        default="unknown", metadata={"help": "License of the weights, as the Hub spells it."}
    )
    license_name: str | None = field(
        default=None,
        metadata={"help": "Name of a license that the Hub has no identifier for: license is other."},
    )
    hub_model_id: str | None = field(default=None, metadata={"help": "Upload to this repository: user/name."})
    hub_private_repo: bool = field(
        default=False, metadata={"help": "Create the repository as a private one."}
    )
    hub_revision: str | None = field(
        default=None, metadata={"help": "Upload to this branch, such as step-2000. Default: main."}
    )
    dry_run: bool = field(
        default=False, metadata={"help": "Say what would go up and why it is safe; send nothing."}
    )
    language: list[str] | None = field(
        default=None, metadata={"help": "Languages of the model, by their codes: en de."}
    )
    datasets: list[str] | None = field(
        default=None, metadata={"help": "Data sets of the Hub beside those that the run names: owner/name."}
    )
    base_model: str | None = field(
        default=None, metadata={"help": "Model of the Hub that this one was made from: owner/name."}
    )
    base_model_relation: str | None = field(
        default=None,
        metadata={"help": f"What it is to that model: {', '.join(RELATIONS)}. Default: finetune if trained."},
    )

    def __post_init__(self) -> None:
        if not self.model:
            message = "model is missing: give --model DIR, a folder that a training stage wrote"
            raise UserError("setting_missing", message, setting="model")
        if self.hub_revision and not self.hub_model_id:
            message = "hub_revision needs hub_model_id: user/name"
            raise UserError("setting_missing", message, setting="hub_model_id")
        if self.hub_model_id is not None:
            check_repository(self.hub_model_id)
        check_license(self.license, self.license_name)
        self.card_metadata()

    def card_metadata(self) -> Metadata:
        """What the user says of the model; UserError if the Hub would refuse it."""
        return Metadata(self.language or (), self.datasets or (), self.base_model, self.base_model_relation)


def publish(
    folder: str | Path,
    repository: str,
    *,
    private: bool = False,
    revision: str | None = None,
    license: str = "unknown",
    license_name: str | None = None,
    metadata: Metadata = NOTHING_SAID,
) -> Upload:
    """Write the card, upload the folder, load it from the Hub in a fresh process; each step reports a line.

    Raises:
        UserError: see `checks`, `upload.upload` and `upload.verify`.
    """
    check_repository(repository)
    _tell(f"wrote {write_card(folder, license, repository, license_name, metadata)}")
    sent = upload(folder, repository, private=private, revision=revision)
    _tell(f"uploaded to {sent.url} ({revision or 'main'}) at commit {sent.commit}")
    _tell(f"loaded it from there in a fresh process: {verify(sent)}")
    return sent


def push_to_hub(folder: str, hub_model_id: str, hub_private_repo: bool) -> None:
    """The end of a training stage that has `push_to_hub`: publish its complete folder.

    Raises:
        UserError: see `publish`; the line names the command for the upload alone, since running the stage again would train
            again.
    """
    try:
        publish(folder, hub_model_id, private=hub_private_repo)
    except UserError as error:
        command = f"scratch-gpt publish {folder} --hub_model_id {hub_model_id}"
        command += " --hub_private_repo" * hub_private_repo
        message = f"{error} (the model in {folder} is complete: {command})"
        raise UserError(error.code, message, **error.values) from error


def upload_checkpoint(checkpoint: Path, hub_model_id: str, hub_private_repo: bool) -> None:
    """Upload `checkpoint-N` as the revision step-N.

    A failure is only reported: a network that is gone for an hour must not end a run of a week.
    """
    revision = f"step-{checkpoint_step(checkpoint)}"
    try:
        upload(checkpoint, hub_model_id, private=hub_private_repo, revision=revision)
    except UserError as error:
        console.print(f"warning: {error}", soft_wrap=True)


def ask_for_unknown(arguments: PublishArguments) -> PublishArguments:
    """Ask at a terminal for license, language and base model where nothing says them; elsewhere they stay unknown.

    Raises:
        UserError: an answer that the Hub would refuse.
    """
    answers: dict[str, Any] = {}
    if arguments.license == "unknown" and (said := ask("license of the weights", "apache-2.0")):
        answers["license"] = said
    if not arguments.language and (said := ask("languages", "en de")):
        answers["language"] = said.split()
    origin = read_origin(arguments.model)
    is_named = origin is None or "/" in origin["name"] or arguments.base_model
    if not is_named and (said := ask("base model, as the Hub names it", "Qwen/Qwen3-0.6B")):
        answers["base_model"] = said
    return replace(arguments, **answers)


def run_publish(arguments: PublishArguments) -> None:
    """What the command and the script do: the card alone, a dry run, or all of `publish`."""
    folder = str(arguments.model)
    arguments = ask_for_unknown(arguments)
    metadata = arguments.card_metadata()
    if arguments.hub_model_id and not arguments.dry_run:
        publish(
            folder,
            arguments.hub_model_id,
            private=arguments.hub_private_repo,
            revision=arguments.hub_revision,
            license=arguments.license,
            license_name=arguments.license_name,
            metadata=metadata,
        )
        return
    written = write_card(folder, arguments.license, arguments.hub_model_id, arguments.license_name, metadata)
    _tell(f"wrote {written}")
    if arguments.dry_run:
        for line in describe(pack(folder)):
            _tell(line)


def describe(package: Package) -> list[str]:
    """What would go up, and why that is safe, for a terminal."""
    lines = ["would go up:"]
    lines += [f"  {file.size:>13,}  {file.path}" for file in package.files]
    lines += [f"  {package.size:>13,}  bytes in {len(package.files)} files, in one commit"]
    lines += ["stays here: " + (", ".join(package.left_out) or "nothing")]
    code = "this package's own, byte for byte" if package.own_code else "not this package's as installed"
    lines += [
        "safe, since",
        "  only named kinds of files go: no checkpoint, no optimizer state, no data, no pickle",
        "  no file holds what looks like a token, a key or a password",
        "  absolute paths: "
        + (
            ", ".join(
                f"{count} in {name} go up as their last part" for name, count in package.shortened.items()
            )
            or "none in the run's records"
        ),
        f"  the model's code is {code}",
        "nothing was sent (dry run)",
    ]
    return lines


def _tell(line: str) -> None:
    console.print(line, markup=False, highlight=False, soft_wrap=True)
