"""The Hugging Face Hub's protocol on loopback, as far as a download goes, and with all that can go wrong in it."""

import hashlib
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlparse

import torch
from safetensors.torch import save
from torch import nn

COMMIT = "c0ffee" + "0" * 34

sha256 = cache(lambda content: hashlib.sha256(content).hexdigest())

RESOLVE = re.compile(r"/(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<file>.+)")

XET_TOKEN = {"X-Xet-Access-Token": "token", "X-Xet-Token-Expiration": "4000000000"}

KNOWN_ERRORS = {"RepoNotFound": 404, "RevisionNotFound": 404, "EntryNotFound": 404, "GatedRepo": 403}


@dataclass
class LoopbackHub:
    """Serves files by HEAD and GET, whole and by ranges, with the headers that huggingface_hub relies on."""

    files: dict[tuple[str, str], bytes] = field(default_factory=dict)
    """(repository, file name) → content."""
    trouble: str | int | None = None
    """How it misbehaves: an HTTP status, or "captive", "gated", "truncated", "resumable", "corrupted", "stalled", "slow",
    "held", "xet" (the file is in Xet storage, whose server never answers)."""
    revisions: tuple[str, ...] = ("main", COMMIT)
    log: list[str] = field(default_factory=list)
    """Every request: method, path, and what it says of itself."""
    tokens: set[str | None] = field(default_factory=set)
    go_on: threading.Event = field(default_factory=threading.Event)
    """Ends what is stalled."""
    url: str = ""

    @property
    def downloads(self) -> int:
        """How many bodies have been asked for from their beginning."""
        return sum(entry.startswith("GET") and "/resolve/" in entry and "bytes=" not in entry for entry in self.log)

    @contextmanager
    def serving(self) -> Iterator["LoopbackHub"]:
        handler = type("Handler", (_Handler,), {"hub": self})
        with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            server.daemon_threads = True
            server.block_on_close = False
            self.url = f"http://127.0.0.1:{server.server_address[1]}"
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
            thread.start()
            try:
                yield self
            finally:
                self.go_on.set()
                server.shutdown()
                thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: LoopbackHub

    def log_message(self, *_: object) -> None: ...

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def answer(self) -> None:
        hub, path = self.hub, unquote(urlparse(self.path).path)
        hub.log.append(f"{self.command} {path} {self.headers.get('Range', '')}".strip())
        if "/resolve/" in path:
            hub.tokens.add(self.headers.get("Authorization"))
        if path == "/xet-token":
            return self.reply(200, XET_TOKEN | {"X-Xet-Cas-Url": f"{hub.url}/xet"})
        if path.startswith("/xet/"):
            return hub.go_on.wait(30)
        if isinstance(hub.trouble, int):
            return self.reply(hub.trouble)
        if hub.trouble == "captive":
            return self.reply(200, {"Content-Type": "text/html"}, b"<html>Please log in to the network.</html>")
        found = RESOLVE.fullmatch(path)
        if hub.trouble == "gated":
            return self.fail("GatedRepo")
        if found is None or found["repo"] not in {repo for repo, _ in hub.files}:
            return self.fail("RepoNotFound")
        if found["revision"] not in hub.revisions:
            return self.fail("RevisionNotFound")
        content = hub.files.get((found["repo"], found["file"]))
        return self.fail("EntryNotFound") if content is None else self.send(content)

    def send(self, content: bytes) -> None:
        trouble, whole = self.hub.trouble, len(content)
        headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{sha256(content)}"', "Accept-Ranges": "bytes"}
        if trouble == "xet":
            headers |= {"X-Xet-Hash": sha256(content), "X-Xet-Refresh-Route": f"{self.hub.url}/xet-token"}
        start, status = 0, 200
        if (asked := re.match(r"bytes=(\d+)-", self.headers.get("Range", ""))) and trouble != "truncated":
            start, status = int(asked[1]), 206
            headers["Content-Range"] = f"bytes {start}-{whole - 1}/{whole}"
        if self.command == "HEAD":
            self.reply(status, headers, length=whole)
            return
        if trouble == "held":
            self.hub.go_on.wait(30)
        if trouble == "corrupted":
            content = bytes(whole)
        body = content[start:]
        if trouble == "slow":
            self.reply(status, headers, length=len(body))
            for at in range(0, len(body), len(body) // 8 + 1):
                self.wfile.write(body[at : at + len(body) // 8 + 1])
                time.sleep(0.15)
        elif trouble in ("truncated", "stalled") or (trouble == "resumable" and start == 0):
            self.reply(status, headers, body[: len(body) // 2], length=len(body))
            if trouble == "stalled":
                self.hub.go_on.wait(30)
            self.close_connection = True
        else:
            self.reply(status, headers, body)

    def fail(self, code: str) -> None:
        self.reply(KNOWN_ERRORS[code], {"X-Error-Code": code, "X-Error-Message": code, "X-Repo-Commit": COMMIT}, b"{}")

    def reply(self, status: int, headers: dict[str, str] | None = None, body: bytes = b"", length: int | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


HEADS = {"googlenet": "classifier"}
"""What a repository calls torchvision's `fc`, where it is another name."""

AUXILIARY = {
    "googlenet": {"aux_logits": True, "init_weights": False},
    "inception_v3": {"aux_logits": False, "init_weights": False},
}


def torchvision_model(name: str, seed: int = 0) -> nn.Module:
    """torchvision's own model for a row of the table, with random weights of a size that lets answers keep theirs.

    Of VGG its convolutions alone, since the rest is large and not used.
    """
    from torchvision import models

    architecture = name.removesuffix("_torchvision")
    generator = torch.Generator().manual_seed(seed)
    with torch.device("meta"):
        model = models.get_model(architecture, weights=None, **AUXILIARY.get(name, {}))
        if architecture.startswith("vgg"):
            del model.classifier
            model.forward = lambda image: model.features(image)
    model.to_empty(device="cpu")
    for entry, value in model.state_dict().items():
        if value.ndim > 1:
            value.copy_(torch.randn(value.shape, generator=generator) * (2 / value[0].numel()) ** 0.5)  # He et al., 2015.
        elif entry.endswith(("weight", "running_var")):
            value.copy_(0.5 + torch.rand(value.shape, generator=generator))
        elif value.is_floating_point():
            value.copy_(torch.randn(value.shape, generator=generator) * 0.1)
    return model.eval()


def as_file(name: str, model: nn.Module, without: str | None = None, **changed: torch.Tensor) -> bytes:
    """The model as its repository keeps it. Tensors whose name begins with `without` are left out; `changed`, whose names
    have `__` for `.`, are put in."""
    state = {re.sub(r"^fc\.", f"{HEADS.get(name, 'fc')}.", entry): value for entry, value in model.state_dict().items()}
    state |= {entry.replace("__", "."): value for entry, value in changed.items()}
    return save({entry: value for entry, value in state.items() if without is None or not entry.startswith(without)})
