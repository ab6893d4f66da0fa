# SPDX-License-Identifier: Apache-2.0
"""To the Hub in one commit, so that main shows the whole model or what was there before, and back again as a check."""

import errno
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationDelete,
    HfApi,
    constants,
    get_token,
)
from huggingface_hub.errors import (
    HfHubHTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import parse_ratelimit_headers  # type: ignore[attr-defined]  # exported lazily

from scratch_gpt.errors import UserError
from scratch_gpt.publishing.card import write_card
from scratch_gpt.publishing.checks import MADE, Package, check_repository, pack


# What the Hub or a user's browser puts into a repository that holds no model yet.
HARMLESS = (".gitattributes", "README.md", "LICENSE")
AGAIN = "publish it again: what is there already is not sent twice"
VERIFICATION = Path(__file__).parent / "verification.py"
HTTP_LIBRARIES = ("httpx", "httpx2", "httpcore", "httpcore2", "requests")
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class Upload:
    """Where a folder went: repository, its address, and the hash of the commit."""

    repository: str
    url: str
    commit: str
    package: Package


def explain(error: BaseException, repository: str) -> str:
    """Why the Hub did not do what it was asked for, and the cure, in one line."""
    chain = [error]
    while cause := chain[-1].__cause__ or chain[-1].__context__:
        chain.append(cause)
    if isinstance(error, OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set, which forbids any connection (offline mode): unset it"
    for each in chain:
        if isinstance(each, HfHubHTTPError):
            return _explain_status(each, repository)
        if isinstance(each, OSError) and each.errno in NO_ROOM:
            return (
                f"no space left on this machine ({each.filename or 'while writing'}): make room, then {AGAIN}"
            )
        # which HTTP library the client uses is its own affair
        if type(each).__module__.partition(".")[0] in HTTP_LIBRARIES:
            return f"the connection to {constants.ENDPOINT} was lost ({_line(each)}): {AGAIN}"
    return _line(chain[-1])


def _explain_status(error: HfHubHTTPError, repository: str) -> str:
    status = error.response.status_code
    if status == 401:
        if get_token() is None:
            return "not logged in: run `hf auth login` first, or set HF_TOKEN"
        return "the Hub does not know the token (401): run `hf auth login` again, or set HF_TOKEN anew"
    if status == 403:
        return (
            f"the token has no right to write to {repository} (403): name a repository of your own, or make a token that "
            "may write at https://huggingface.co/settings/tokens"
        )
    if status == 404:
        return f"the Hub has no repository {repository} that this token may see (404)"
    if status == 409:
        return f"the Hub reports a conflict over {repository} (409): {error.server_message or _line(error)}"
    if status == 413:
        return "a file is larger than the Hub takes (413): save with a smaller max_shard_size, or ask the Hub for more"
    if status == 429:
        limit = parse_ratelimit_headers(error.response.headers)
        seconds = error.response.headers.get("Retry-After") or (limit and limit.reset_in_seconds)
        wait = f"wait {seconds} seconds" if seconds else "wait some minutes"
        return f"too many requests in a short time (429): {wait}, then {AGAIN}"
    if status == 507:
        return "the Hub has no room left for it (507): remove something there, or ask for more"
    if status >= 500:
        return f"the Hub has a fault of its own ({status}): wait, then {AGAIN}"
    return _line(error)


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


@contextmanager
def _in_one_line(repository: str) -> Iterator[None]:
    try:
        yield
    except UserError:
        raise
    # The client lets the errors of its HTTP library through, and that library changes.
    except Exception as error:
        message = f"not uploaded to {repository}: {explain(error, repository)}"
        raise UserError("upload_failed", message, repository=repository) from error


def _open_repository(api: HfApi, repository: str, private: bool) -> None:
    """Make the repository, or see that the one of this name may take the model.

    Raises:
        UserError: a public one where a private one is asked for; it holds a model that is not ours.
    """
    try:
        there = api.model_info(repository)
    except RepositoryNotFoundError:
        api.create_repo(repository, private=private, exist_ok=True)
        return
    if private and not there.private:
        message = (
            f"not uploaded to {repository}: it is there already, and public; make it private or name another"
        )
        raise UserError("repository_public", message, repository=repository)
    files = {file.rfilename for file in there.siblings or []}
    tags = there.tags or (there.card_data.tags if there.card_data else None) or []
    if files - set(HARMLESS) and "scratch-gpt" not in tags:
        message = f"not uploaded to {repository}: the name is taken, by {len(files)} files that are no scratch-gpt model; name another"
        raise UserError("repository_taken", message, repository=repository)


def upload(
    folder: str | Path, repository: str, *, private: bool = False, revision: str | None = None
) -> Upload:
    """Upload a model folder in one commit, with a card if it has none, and compare what the Hub then lists with what was sent.

    Large files go up first and are in no branch until the commit, which is one step of the server: killed at any
    moment, main shows the old model or the new one. The next try sends only what is missing. (`HfApi.upload_folder` makes
    several commits of a large folder, so it is not used.)

    Args:
        folder: see `checks.pack` for what is taken of it.
        repository: user/name, made if it is not there.
        private: make it a private one.
        revision: the branch to commit to, made if it is not there; default: main.

    Raises:
        UserError: no name of a repository; no model in the folder, or a link or a secret in it; no network, no right to write, no room; the name is taken by
            another model; the Hub's files are not those sent.
    """
    check_repository(repository)
    if not (Path(folder) / "README.md").is_file():
        write_card(folder, repository=repository)
    package = pack(folder)
    api = HfApi(library_name="scratch-gpt")
    with _in_one_line(repository):
        _open_repository(api, repository, private)
        if revision is not None:
            api.create_branch(repository, branch=revision, exist_ok=True)
        paths = {file.path for file in package.files}
        # Of an earlier upload: weights in another number of files would be loaded in place of the new ones, and scores of
        # the old model pass for the new one's.
        stale = [
            path
            for path in api.list_repo_files(repository, revision=revision)
            if path not in paths
            and any(fnmatch(path, pattern) and path.count("/") == pattern.count("/") for pattern in MADE)
        ]
        commit = api.create_commit(
            repository,
            [
                *(
                    CommitOperationAdd(f.path, f.source if f.content is None else f.content)
                    for f in package.files
                ),
                *(CommitOperationDelete(path) for path in stale),
            ],
            commit_message=f"Upload {Path(folder).resolve().name} with scratch-gpt",
            revision=revision,
        )
        _compare(api, package, repository, commit.oid)
    return Upload(repository, f"{api.endpoint}/{repository}", commit.oid, package)


def _compare(api: HfApi, package: Package, repository: str, commit: str) -> None:
    """Raise UserError unless the commit lists every file with the hash of what was sent."""
    listed = {
        entry.path: entry
        for entry in api.list_repo_tree(repository, recursive=True, revision=commit)
        if isinstance(entry, RepoFile)
    }
    for file in package.files:
        entry = listed.get(file.path)
        if entry is None:
            message = f"{repository} lacks {file.path} at commit {commit}: {AGAIN}"
            raise UserError("upload_differs", message, file=file.path)
        same = entry.lfs.sha256 == file.digest("sha256") if entry.lfs else entry.blob_id == file.digest("git")
        if not same:
            message = f"{file.path} in {repository} at commit {commit} is not what was sent: {AGAIN}"
            raise UserError("upload_differs", message, file=file.path)


def verify(upload: Upload) -> str:
    """Load the model from the Hub in a fresh process, as a stranger would, and compare it with the folder.

    The process downloads the commit into an empty cache, compares every hash, loads model and tokenizer by the Auto classes
    and compares logits. Code from the Hub is run only if it is this package's own, byte for byte; else the installed
    package takes its place.

    Returns:
        What was found, in one line.

    Raises:
        UserError: something differs, or the model could not be loaded.
    """
    request = {
        "repository": upload.repository,
        "commit": upload.commit,
        "folder": str(upload.package.folder.resolve()),
        "sha256": {file.path: file.digest("sha256") for file in upload.package.files},
        "own_code": upload.package.own_code,
    }
    with tempfile.TemporaryDirectory(prefix="scratch-gpt-") as cache:
        child = subprocess.run(
            # -P: the files beside the script are no modules to import by their short names
            [sys.executable, "-P", str(VERIFICATION), cache],
            input=json.dumps(request),
            capture_output=True,
            text=True,
        )
    if child.returncode != 0:
        reason = (child.stdout.strip() or child.stderr.strip() or "no reason given").splitlines()[-1]
        message = (
            f"uploaded to {upload.url} at commit {upload.commit}, but loading it from there failed: {reason}"
        )
        raise UserError("verification_failed", message, commit=upload.commit)
    return child.stdout.strip().splitlines()[-1]
