"""A small Hub on loopback, so that what is written for the Hub is run: repositories of files, revisions, uploads.

It speaks what `huggingface_hub` and `datasets` ask: repository and tree information, files with their commit, refs, and
commits of regular files. Point HF_ENDPOINT at `Hub.url`.
"""

import base64
import functools
import hashlib
import json
import re
import shutil
import socket
import subprocess
import tempfile
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from programs import Programs

KINDS = {"models": "model", "datasets": "dataset"}
Files = dict[str, bytes]


@dataclass
class Hub:
    """Repositories by (kind, name) and branch; `asked` are the requests' paths, `tokens` what came with them.
    `refusals` are status and headers of what is answered to a POST whose path has this part.
    """

    repositories: dict[tuple[str, str], dict[str, Files]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    tokens: set[str] = field(default_factory=set)
    url: str = ""
    refusals: dict[str, tuple[int, dict[str, str]]] = field(default_factory=dict)

    def __enter__(self) -> "Hub":
        _Handler.hub = self  # also of connections that a client keeps from the Hub before: they have the same address
        self.server = ThreadingHTTPServer(("127.0.0.1", _port()), _Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        shutil.rmtree(_home(), ignore_errors=True)
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: Any) -> None:
        self.server.shutdown()
        self.server.server_close()

    def put(self, kind: str, name: str, files: Files, branch: str = "main") -> str:
        """Set a branch's files; returns its commit."""
        self.repositories.setdefault((kind, name), {})[branch] = files
        return commit(files)

    def find(self, kind: str, name: str, revision: str) -> tuple[Files, str] | None:
        """Files and commit of a branch or a commit."""
        branches = self.repositories.get((kind, name), {})
        for branch, files in branches.items():
            if revision in (branch, commit(files)):
                return files, commit(files)
        return None


def commit(files: Files) -> str:
    digest = hashlib.sha1()
    for path, content in sorted(files.items()):
        digest.update(path.encode() + b"\0" + content + b"\0")
    return digest.hexdigest()


def entry(path: str, content: bytes) -> dict[str, Any]:
    return {"type": "file", "path": path, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def reply(self, value: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        for name, text in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, text)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def missing(self, code: str) -> None:
        self.reply({"error": code}, 404, {"X-Error-Code": code})

    def take(self) -> tuple[str, dict[str, list[str]], bytes]:
        parts = urlsplit(self.path)
        self.hub.asked.append(f"{self.command} {unquote(parts.path)}")
        if self.headers.get("Authorization"):
            self.hub.tokens.add(self.headers["Authorization"].removeprefix("Bearer "))
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return unquote(parts.path), parse_qs(parts.query), body

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path, query, _ = self.take()
        if path == "/api/whoami-v2":
            return self.reply({"name": "somebody", "type": "user", "orgs": []})
        about = re.fullmatch(
            r"/api/(models|datasets)/([^/]+/[^/]+?)(?:/(revision|tree|refs)(?:/([^/]+)(?:/(.*))?)?)?", path
        )
        if about:
            kind, name, what, revision, below = about.groups()
            if what == "refs":
                branches = self.hub.repositories.get((KINDS[kind], name), {})
                refs = [{"name": b, "ref": f"refs/heads/{b}", "targetCommit": commit(f)} for b, f in branches.items()]
                return self.reply({"branches": refs, "converts": [], "tags": []})
            found = self.hub.find(KINDS[kind], name, revision or "main")
            if found is None:
                known = (KINDS[kind], name) in self.hub.repositories
                return self.missing("RevisionNotFound" if known else "RepoNotFound")
            files, sha = found
            if what == "tree":
                return self.tree(
                    files, (below or "").strip("/"), query.get("recursive", ["false"])[0].lower() == "true"
                )
            siblings = [{"rfilename": p} for p in sorted(files)]
            return self.reply({"id": name, "sha": sha, "siblings": siblings, "private": False, "tags": []})
        file = re.fullmatch(r"/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
        found = file and self.hub.find("dataset" if file[1] else "model", file[2], file[3])
        if not found:
            return self.missing("RepoNotFound")
        content = found[0].get(file[4])
        if content is None:
            return self.reply(
                {"error": "Entry not found"}, 404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": found[1]}
            )
        headers = {
            "ETag": f'"{hashlib.sha1(content).hexdigest()}"',
            "X-Repo-Commit": found[1],
            "Accept-Ranges": "bytes",
        }
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if wanted:
            first, last = int(wanted[1]), min(len(content), int(wanted[2] or len(content)) + 1)
            headers["Content-Range"] = f"bytes {first}-{last - 1}/{len(content)}"
            return self.reply(content[first:last], 206, headers)
        return self.reply(content, 200, headers)

    def tree(self, files: Files, below: str, recursive: bool) -> None:
        entries: dict[str, dict[str, Any]] = {}
        for path, content in sorted(files.items()):
            if below and not path.startswith(f"{below}/"):
                continue
            rest = path.removeprefix(f"{below}/") if below else path
            folder, slash, _ = rest.partition("/")
            if slash and not recursive:
                whole = f"{below}/{folder}" if below else folder
                entries[whole] = {"type": "directory", "path": whole, "oid": "0" * 40, "size": 0}
            else:
                entries[path] = entry(path, content)
        if below and not entries:
            return self.missing("EntryNotFound")
        return self.reply(list(entries.values()))

    def do_POST(self) -> None:
        path, _, body = self.take()
        for part, (status, headers) in self.hub.refusals.items():
            if part in path:
                return self.reply({"error": "so it is"}, status, headers)
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked.get('organization') or 'somebody'}/{asked['name']}"
            self.hub.repositories.setdefault((asked.get("type") or "model", name), {"main": {}})
            return self.reply({"url": f"{self.hub.url}/{name}", "id": name})
        if path == "/api/validate-yaml":
            return self.reply({"errors": [], "warnings": []})
        made = re.fullmatch(r"/api/(models|datasets)/([^/]+/[^/]+)/branch/([^/]+)", path)
        if made:
            branches = self.hub.repositories[KINDS[made[1]], made[2]]
            branches.setdefault(made[3], dict(branches["main"]))
            return self.reply({})
        about = re.fullmatch(r"/api/(models|datasets)/([^/]+/[^/]+)/(preupload|commit|paths-info)/([^/]+)", path)
        if not about:
            return self.missing("EntryNotFound")
        kind, name, what, revision = about.groups()
        if what == "preupload":
            kept = [
                {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in json.loads(body)["files"]
            ]
            return self.reply({"files": kept})
        if what == "paths-info":
            asked = parse_qs(body.decode()).get("paths") or json.loads(body or b"{}").get("paths", [])
            files, _ = self.hub.find(KINDS[kind], name, revision)
            return self.reply([entry(p, files[p]) for p in asked if p in files])
        files = self.hub.repositories[KINDS[kind], name].setdefault(revision, {})
        for line in body.splitlines():
            entry = json.loads(line)
            if entry["key"] == "file":
                files[entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
        return self.reply({"commitUrl": f"{self.hub.url}/{name}/commit/{commit(files)}", "commitOid": commit(files)})


@functools.cache
def _port() -> int:
    """One for all Hubs of this process: programs that are forked have read its address before."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@functools.cache
def _home() -> Path:
    return Path(tempfile.mkdtemp(prefix="hub"))


def python_with_hub(hub: Hub, *words: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `python WORDS` so that it may reach the loopback Hub alone; its cache is empty when a Hub starts."""
    of_hub = (("HF_ENDPOINT", hub.url), ("HF_HOME", str(_home())), ("NO_PROXY", "127.0.0.1"))
    return Programs(*map(str, words), environments=(environment,), of_hub=of_hub).wait()
