# SPDX-License-Identifier: Apache-2.0
"""What of a model folder goes to the Hub, and why that is safe: named kinds of files only, no secrets, no absolute paths, no links."""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # exported lazily

import scratch_gpt
from scratch_gpt.errors import UserError


# What a repository of a model holds. All else in the folder stays at home: checkpoints with their optimizer state,
# data, pickles, whatever a user keeps there.
PUBLISHED = (
    *("*.safetensors", "*.safetensors.index.json", "config.json", "generation_config.json"),
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja"),
    *("configuration_*.py", "modeling_*.py"),
    *("README.md", "LICENSE*", "run.yaml", "provenance.json", "log.jsonl", "samples.json", "samples.jsonl"),
    *("results/*.json", ".eval_results/*.yaml", "report.html", "*.png"),
)
# Of these, what a run writes under the same names again; people may have put the others there.
MADE = tuple(pattern for pattern in PUBLISHED if pattern not in ("README.md", "LICENSE*", "*.png"))

# What the run wrote about itself, where a folder of this machine may be named. Tokens, code and samples are no such place.
RECORDS = (".yaml", ".json", ".jsonl", ".md", ".html")
NOT_RECORDS = ("tokenizer.json", "samples.json", "samples.jsonl")

SECRETS = {
    "a Hugging Face token": re.compile(r"\bhf_[A-Za-z0-9]{30,}"),
    "an API key": re.compile(r"\bsk-[A-Za-z0-9_-]{20,}"),
    "a GitHub token": re.compile(r"\b(?:gh[oprsu]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{40,})"),
    "an AWS key": re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
    "a Google key": re.compile(r"\bAIza[0-9A-Za-z_-]{35}"),
    "a Slack token": re.compile(r"\bxox[abprs]-[A-Za-z0-9-]{10,}"),
    "a private key": re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
    "a password in an address": re.compile(r"\b[a-z]{2,9}://[^\s/:@\"']+:[^\s/:@\"']+@"),
    "a secret": re.compile(
        r"(?i)(?:api[_-]?key|secret|passwor[dt]|passwd|access[_-]?token)[\"']?\s*[:=]\s*[\"']?[\w+/-]{16,}"
    ),
}
_PICTURE = re.compile(r"base64,[A-Za-z0-9+/=\s]+")

# A path of two parts or more from the root, where a value or a word begins; the address of a web page is none.
_ABSOLUTE = re.compile(
    r"""(?<![^\s"'`(\[:=,])(?:file://)?(?:/(?:[\w.+@~-]+/)+[\w.+@~-]+/?|[A-Za-z]:(?:\\{1,2}[\w.+@~ -]+){2,})"""
)


def check_repository(repository: str) -> None:
    """Raise UserError unless `repository` has the form of a name on the Hub, owner/name."""
    try:
        validate_repo_id(repository)
        is_valid = repository.count("/") == 1
    except HFValidationError:
        is_valid = False
    if not is_valid:
        message = (
            f"{repository!r} is no name of a repository: give user/name, of letters, digits, '-', '_' and '.'"
        )
        raise UserError("invalid_repository", message, repository=repository)


@dataclass(frozen=True)
class PublishedFile:
    """One file of the repository.

    Attributes:
        path: in the repository.
        source: on this machine.
        content: what goes up instead of the source's bytes, None if they do.
    """

    path: str
    source: Path
    content: bytes | None = None

    @property
    def size(self) -> int:
        """Bytes that go up."""
        return self.source.stat().st_size if self.content is None else len(self.content)

    def digest(self, algorithm: str) -> str:
        """Hexadecimal hash: `sha256`, or `git`, that of a git blob."""
        if algorithm == "git":
            data = self.source.read_bytes() if self.content is None else self.content
            return hashlib.sha1(f"blob {len(data)}\0".encode() + data).hexdigest()
        if self.content is not None:
            return hashlib.sha256(self.content).hexdigest()
        with self.source.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class Package:
    """What goes up of a folder, and what was found on the way.

    Attributes:
        files: in the order of `PUBLISHED`.
        left_out: names in the folder that stay at home.
        shortened: file -> absolute paths in it that go up as their last part.
        own_code: whether the model's code is this package's, byte for byte.
    """

    folder: Path
    files: tuple[PublishedFile, ...]
    left_out: tuple[str, ...]
    shortened: dict[str, int]
    own_code: bool

    @property
    def size(self) -> int:
        """Bytes that go up."""
        return sum(file.size for file in self.files)


def shorten_paths(text: str) -> tuple[str, int]:
    """The text with every absolute path cut to its last part, and how many there were."""
    return _ABSOLUTE.subn(lambda match: re.split(r"[/\\]+", match[0].rstrip("/\\"))[-1], text)


def find_secret(text: str) -> str | None:
    """What looks like a secret in the text, with its line; None where nothing does."""
    text = _PICTURE.sub("base64,", text)
    for kind, pattern in SECRETS.items():
        if match := pattern.search(text):
            line = text.count("\n", 0, match.start()) + 1
            return f"{kind} in line {line}"
    return None


def _has_own_code(files: list[PublishedFile]) -> bool:
    package = Path(str(scratch_gpt.__file__)).parent
    code = [file for file in files if file.path.endswith(".py")]
    return bool(code) and all(
        (package / file.path).is_file() and (package / file.path).read_bytes() == file.source.read_bytes()
        for file in code
    )


def pack(folder: str | Path) -> Package:
    """Choose and check what goes up.

    Raises:
        UserError: no model in the folder; a symbolic link, which may lead out of it; something in a file looks like a secret.
    """
    folder = Path(folder)
    found_paths = [path for pattern in PUBLISHED for path in sorted(folder.glob(pattern))]
    for path in found_paths:
        if link := next((part for part in (path, path.parent) if part != folder and part.is_symlink()), None):
            message = f"nothing was uploaded: {link} is a symbolic link to {link.readlink()}; put a copy in its place, or remove it"
            raise UserError("symbolic_link", message, file=link)
    sources = [path for path in found_paths if path.is_file()]
    names = {path.relative_to(folder).as_posix() for path in sources}
    if "config.json" not in names or not any(name.endswith(".safetensors") for name in names):
        missing = "config.json is" if "config.json" not in names else "its weights, *.safetensors, are"
        message = f"no model in {folder} ({missing} missing): give a folder that a training stage wrote"
        raise UserError("no_model", message, folder=folder)
    files, shortened = [], {}
    for source in sources:
        name = source.relative_to(folder).as_posix()
        content = None
        if not name.endswith((".safetensors", ".png")):
            text = source.read_text(encoding="utf-8")
            if found := find_secret(text):
                message = f"nothing was uploaded: {source} seems to hold {found}; remove it and try again"
                raise UserError("secret_found", message, file=source, kind=found)
            if name.endswith(RECORDS) and name not in NOT_RECORDS:
                text, count = shorten_paths(text)
                if count:
                    shortened[name], content = count, text.encode()
        files.append(PublishedFile(name, source, content))
    published = {Path(name).parts[0] for name in names}
    left_out = tuple(sorted(path.name for path in folder.iterdir() if path.name not in published))
    return Package(folder, tuple(files), left_out, shortened, _has_own_code(files))
