# SPDX-License-Identifier: Apache-2.0
"""A small Hub for tests: the part of its HTTP API that publishing and loading a model use, over a real socket.

Large files (safetensors, pictures) go the LFS way, all others inside the commit, as on the Hub. A commit is one step.
Faults are injected by `Hub.faults`: called for each request, they answer with a status, or lose the connection.
"""

import base64
import hashlib
import json
import re
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

import yaml


TOKEN, OWNER = "hf_" + "t" * 34, "user"
LOST = -1  # what a fault returns to lose the connection in the middle of the request


@dataclass
class Repository:
    """Branches point to commits; a commit is the whole content: path -> (bytes, stored as LFS)."""

    private: bool
    branches: dict[str, str] = field(default_factory=dict)
    commits: dict[str, dict[str, tuple[bytes, bool]]] = field(default_factory=dict)

    def commit(self, branch: str, files: dict[str, tuple[bytes, bool]]) -> str:
        oid = secrets.token_hex(20)
        self.commits[oid] = files
        self.branches[branch] = oid
        return oid

    def at(self, revision: str) -> dict[str, tuple[bytes, bool]] | None:
        return self.commits.get(self.branches.get(revision, revision))


class Hub:
    """The server's state, and the server while it runs."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.lfs: dict[str, bytes] = {}
        self.requests: list[tuple[str, str]] = []
        self.faults: Callable[[str, str], int | None] = lambda method, path: None
        self.headers_of_faults: dict[str, str] = {}
        self.seconds_per_chunk = 0.0
        hub = self

        class Bound(Handler):
            pass

        Bound.hub = hub
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Bound)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def files(self, repository: str, revision: str = "main") -> dict[str, bytes]:
        """What a revision shows."""
        return {path: data for path, (data, _) in (self.repositories[repository].at(revision) or {}).items()}


class Handler(BaseHTTPRequestHandler):
    """One request."""

    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: object) -> None:
        """Nothing on the terminal."""

    def body(self) -> bytes:
        size, chunks = int(self.headers.get("Content-Length") or 0), []
        if self.headers.get("Transfer-Encoding") == "chunked":
            while length := int(self.rfile.readline(), 16):
                chunks.append(self.rfile.read(length))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(chunks)
        while size > 0:
            chunks.append(self.rfile.read(min(size, 1 << 15)))
            if not chunks[-1]:
                raise ConnectionError("the client is gone")
            size -= len(chunks[-1])
            time.sleep(self.hub.seconds_per_chunk)
        return b"".join(chunks)

    def answer(
        self, value: object = None, status: int = 200, raw: bytes | None = None, **headers: str
    ) -> None:
        data = json.dumps(value).encode() if raw is None else raw
        self.send_response(status)
        for name, text in headers.items():
            self.send_header(name.replace("_", "-"), text)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def handle_request(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append((self.command, path))
        fault = self.hub.faults(self.command, path)
        if fault == LOST:
            self.rfile.read(min(100, int(self.headers.get("Content-Length") or 0)))
            self.close_connection = True
            self.connection.close()
            return
        try:
            body = self.body()
        except (ConnectionError, ValueError):
            self.close_connection = True
            return
        if fault is not None:
            self.answer({"error": f"fault {fault}"}, fault, **self.hub.headers_of_faults)
            return
        for method, pattern, action in ROUTES:
            if method == self.command and (match := re.fullmatch(pattern, path)):
                action(self, body, **match.groupdict())
                return
        self.answer({"error": f"no such route: {self.command} {path}"}, 404)

    do_GET = do_HEAD = do_POST = do_PUT = handle_request

    # -- repositories

    @property
    def authorized(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def missing(self, code: str = "RepoNotFound") -> None:
        self.answer({"error": "not found"}, 404, X_Error_Code=code)

    def repository(self, name: str) -> Repository | None:
        found = self.hub.repositories.get(name)
        return None if found is None or (found.private and not self.authorized) else found

    def create(self, body: bytes) -> None:
        asked = json.loads(body)
        if not self.authorized:
            return self.answer({"error": "Invalid username or password."}, 401)
        if asked.get("organization") not in (None, OWNER):
            return self.answer({"error": "no rights"}, 403, X_Error_Message="You don't have the rights")
        name = f"{OWNER}/{asked['name']}"
        if name in self.hub.repositories:
            return self.answer(
                {"error": "You already created this model repo", "url": f"{self.hub.url}/{name}"}, 409
            )
        new = self.hub.repositories[name] = Repository(asked.get("visibility") == "private")
        new.commit("main", {".gitattributes": (b"*.safetensors filter=lfs\n", False)})
        return self.answer({"url": f"{self.hub.url}/{name}", "name": name})

    def info(self, body: bytes, name: str, revision: str | None = None) -> None:
        found = self.repository(name)
        if found is None:
            return self.missing()
        revision = revision or "main"
        files = found.at(revision)
        if files is None:
            return self.missing("RevisionNotFound")
        card = files.get("README.md", (b"", False))[0].decode()
        head = yaml.safe_load(card.split("---\n")[1]) if card.startswith("---\n") else {}
        return self.answer(
            {
                "id": name,
                "modelId": name,
                "sha": found.branches.get(revision, revision),
                "private": found.private,
                "tags": head.get("tags", []),
                "siblings": [{"rfilename": path} for path in files],
            }
        )

    def branch(self, body: bytes, name: str, branch: str) -> None:
        found = self.repository(name)
        if found is None or not self.authorized:
            return self.missing()
        if branch in found.branches:
            return self.answer({"error": "Reference already exists"}, 409)
        found.branches[branch] = found.branches["main"]
        return self.answer({}, 201)

    def tree(self, body: bytes, name: str, revision: str) -> None:
        found = self.repository(name)
        files = found.at(revision) if found else None
        if files is None:
            return self.missing("RevisionNotFound" if found else "RepoNotFound")
        return self.answer([self.entry(path, data, lfs) for path, (data, lfs) in files.items()])

    @staticmethod
    def entry(path: str, data: bytes, lfs: bool) -> dict:
        entry = {"type": "file", "path": path, "size": len(data), "oid": blob_id(data)}
        if lfs:
            entry["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
        return entry

    # -- uploading

    def validate(self, body: bytes) -> None:
        errors = card_errors(json.loads(body)["content"])
        self.answer(
            {"errors": [{"message": error} for error in errors], "warnings": []}, 400 if errors else 200
        )

    def preupload(self, body: bytes, name: str, revision: str) -> None:
        found = self.repository(name)
        if found is None:
            return self.missing()
        if not self.authorized:
            return self.answer({"error": "no rights"}, 403, X_Error_Message="no rights")
        there = found.at(revision) or {}
        answer = []
        for file in json.loads(body)["files"]:
            lfs = file["path"].endswith((".safetensors", ".png"))
            entry = {"path": file["path"], "uploadMode": "lfs" if lfs else "regular", "shouldIgnore": False}
            if file["path"] in there:
                data = there[file["path"]][0]
                entry["oid"] = hashlib.sha256(data).hexdigest() if lfs else blob_id(data)
            answer.append(entry)
        return self.answer({"files": answer})

    def batch(self, body: bytes, name: str) -> None:
        objects = []
        for item in json.loads(body)["objects"]:
            if item["oid"] not in self.hub.lfs:
                item = {**item, "actions": {"upload": {"href": f"{self.hub.url}/lfs/{item['oid']}"}}}
            objects.append(item)
        self.answer({"transfer": "basic", "objects": objects})

    def put(self, body: bytes, oid: str) -> None:
        if hashlib.sha256(body).hexdigest() != oid:
            return self.answer({"error": "hash"}, 400)
        self.hub.lfs[oid] = body
        return self.answer({})

    def commit(self, body: bytes, name: str, branch: str) -> None:
        found = self.repository(name)
        if found is None or branch not in found.branches:
            return self.missing()
        if not self.authorized:
            return self.answer({"error": "no rights"}, 403, X_Error_Message="no rights")
        files = dict(found.at(branch) or {})
        for line in body.splitlines():
            item = json.loads(line)
            value = item["value"]
            if item["key"] == "file":
                files[value["path"]] = (base64.b64decode(value["content"]), False)
            elif item["key"] == "lfsFile":
                if value["oid"] not in self.hub.lfs:
                    return self.answer({"error": "lfs object missing"}, 400)
                files[value["path"]] = (self.hub.lfs[value["oid"]], True)
            elif item["key"] == "deletedFile":
                del files[value["path"]]
        oid = found.commit(branch, files)
        return self.answer({"commitUrl": f"{self.hub.url}/{name}/commit/{oid}", "commitOid": oid})

    # -- downloading

    def resolve(self, body: bytes, name: str, revision: str, path: str) -> None:
        found = self.repository(name)
        files = found.at(revision) if found else None
        if found is None or files is None:
            return self.missing("RevisionNotFound" if found else "RepoNotFound")
        if path not in files:
            return self.answer(
                {"error": "not found"},
                404,
                X_Error_Code="EntryNotFound",
                X_Repo_Commit=found.branches.get(revision, revision),
            )
        data, lfs = files[path]
        etag = hashlib.sha256(data).hexdigest() if lfs else blob_id(data)
        return self.answer(raw=data, ETag=f'"{etag}"', X_Repo_Commit=found.branches.get(revision, revision))


def blob_id(data: bytes) -> str:
    """The id that git gives to a file's content."""
    return hashlib.sha1(f"blob {len(data)}\0".encode() + data).hexdigest()


def card_errors(content: str) -> list[str]:
    """What the Hub objects to in a card's head: the rules that a card of this project could break."""
    head = yaml.safe_load(content.split("---\n")[1]) if content.startswith("---\n") else {}
    errors = []
    if not re.fullmatch(r"[a-z0-9.-]+", head.get("license", "unknown")):
        errors.append('"license" must be one of the known identifiers')
    for model in head.get("model-index", []):
        for result in model["results"]:
            if not {"type", "name"} <= result["dataset"].keys() or "type" not in result["task"]:
                errors.append('"model-index[0].results[0]" lacks task.type, dataset.type or dataset.name')
            if not all({"type", "value"} <= metric.keys() for metric in result["metrics"]):
                errors.append('"model-index[0].results[0].metrics[0]" lacks type or value')
    return errors


NAME = r"(?P<name>[^/]+/[^/]+)"
MODEL = f"/api/models/{NAME}"
ROUTES = [
    ("POST", "/api/repos/create", Handler.create),
    ("POST", "/api/validate-yaml", Handler.validate),
    ("POST", MODEL + r"/preupload/(?P<revision>.+)", Handler.preupload),
    ("POST", MODEL + r"/commit/(?P<branch>.+)", Handler.commit),
    ("POST", MODEL + r"/branch/(?P<branch>.+)", Handler.branch),
    ("POST", f"/{NAME}.git/info/lfs/objects/batch", Handler.batch),
    ("PUT", r"/lfs/(?P<oid>\w+)", Handler.put),
    ("GET", MODEL + r"/tree/(?P<revision>[^/]+)/?", Handler.tree),
    ("GET", MODEL + r"/revision/(?P<revision>.+)", Handler.info),
    ("GET", MODEL, Handler.info),
    ("GET", f"/{NAME}/resolve/(?P<revision>[^/]+)/(?P<path>.+)", Handler.resolve),
    ("HEAD", f"/{NAME}/resolve/(?P<revision>[^/]+)/(?P<path>.+)", Handler.resolve),
]
