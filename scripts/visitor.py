"""An HTTP client of the API, and the app in a process of its own: for the tests and for `make soak`."""

import base64
import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent

QUICK = {"layer": "efficientnet_lite0/block1", "size": 64, "steps": 1, "octaves": 1}
"""Fields of a very short dream."""

LONG = {"layer": "efficientnet_lite0/block9", "size": 512, "steps": 100, "octaves": 3}
"""Fields of a dream that lasts longer than any test."""

SECONDS = 120
"""Timeout of a request."""


@dataclass(frozen=True)
class Answer:
    """How a run ended."""

    event: str
    """`complete` or `error`."""
    data: Any

    @property
    def sentence(self) -> str:
        """The message of an error, "" if there is none."""
        return (self.data or {}).get("error") or ""


@dataclass(frozen=True)
class Visitor:
    """A client of the server."""

    server: str
    name: str = ""
    """The address of the visitor, sent as a proxy sends it."""

    def ask(self, path: str, body: bytes | None = None, kind: str = "application/json", seconds: float = SECONDS):
        """Send a request; the answer can be read like a file."""
        headers = {"Content-Type": kind} | ({"X-Forwarded-For": self.name} if self.name else {})
        request = urllib.request.Request(f"{self.server}gradio_api/{path}", body, headers)
        return urllib.request.urlopen(request, timeout=seconds)

    def status(self, path: str, body: bytes | None = None, kind: str = "application/json") -> tuple[int, str]:
        """Send a request and return the status and the body, of errors too."""
        try:
            with self.ask(path, body, kind) as answer:
                return answer.status, answer.read().decode(errors="replace")
        except urllib.error.HTTPError as refused:
            with refused:
                return refused.code, refused.read().decode(errors="replace")

    def upload(self, name: str, content: bytes) -> dict:
        """Upload a file and return it in the form that a run takes."""
        form = b'--x\r\nContent-Disposition: form-data; name="files"; filename="%b"\r\n\r\n%b\r\n--x--\r\n'
        with self.ask("upload", form % (name.replace('"', "").encode(), content), "multipart/form-data; boundary=x") as answer:
            return file(path=json.load(answer)[0])

    def start(self, recipe: str = "deepdream", **inputs: Any) -> str:
        """Start a run and return its path."""
        with self.ask(f"call/v2/{recipe}", json.dumps(inputs).encode()) as answer:
            return f"call/v2/{recipe}/{json.load(answer)['event_id']}"

    def watch(self, run: str) -> Iterator[Answer]:
        """Yield the events of a run. Closing the generator disconnects."""
        with self.ask(run) as events:
            for line in events:
                if line.startswith(b"event: "):
                    event, data = line[7:].decode().strip(), next(events)[6:]
                    if event != "heartbeat":
                        yield Answer(event, json.loads(data))

    def run(self, recipe: str = "deepdream", **inputs: Any) -> Answer:
        """Run to the end and return the last event."""
        answer = Answer("error", None)
        for answer in self.watch(self.start(recipe, **inputs)):
            pass
        return answer

    def fetch(self, answer: Answer) -> bytes:
        """Download the result of a run."""
        with urllib.request.urlopen(answer.data[0]["url"], timeout=SECONDS) as result:
            return result.read()


def file(**sent: str) -> dict:
    """A file in Gradio's form, by `path` or `url`."""
    return {**sent, "meta": {"_type": "gradio.FileData"}}


def inline(content: bytes, kind: str = "png") -> dict:
    """A file inside the request, as base64."""
    return file(url=f"data:image/{kind};base64,{base64.b64encode(content).decode()}")


@dataclass(frozen=True)
class Server:
    """The app in a process of its own, and its use of the system."""

    address: str
    process: subprocess.Popen
    folder: Path
    """Its temporary folder, which holds the visitors' files."""
    log: Path

    def threads(self) -> int:
        return int(self._status("Threads"))

    def memory(self) -> float:
        """Bytes in use."""
        return int(self._status("VmRSS").split()[0]) * 1024.0

    def open_files(self) -> int:
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))

    def files(self) -> list[Path]:
        return [path for path in self.folder.rglob("*") if path.is_file()]

    def _status(self, name: str) -> str:
        lines = Path(f"/proc/{self.process.pid}/status").read_text(encoding="utf-8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith(f"{name}:"))


def free_port() -> int:
    """A port of loopback that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def serving(
    program: Sequence[str] = ("app.py", "--device", "cpu", "--port"), *, port: int = 0, kill: bool = False, **environment: str
) -> Iterator[Server]:
    """Serve the app on loopback, by default as `make run` does, on the CPU. After a crash its log is printed.

    `program` is what Python runs; the port is its last argument. `kill` ends it by force, since ending politely takes seconds.
    """
    port = port or free_port()
    with tempfile.TemporaryDirectory() as place, Path(place, "log.txt").open("w", encoding="utf-8") as log:
        (folder := Path(place, "temporary")).mkdir()
        quiet = {
            "GRADIO_ANALYTICS_ENABLED": "False",
            "HF_HUB_OFFLINE": "1",
            "NO_PROXY": "127.0.0.1",
            "TMPDIR": str(folder),
            "PYTHONFAULTHANDLER": "1",  # After a crash the log shows where.
        }
        inherited = {name: value for name, value in os.environ.items() if name != "GRADIO_TEMP_DIR"}
        process = subprocess.Popen(
            [sys.executable, *program, str(port)], cwd=ROOT, env={**inherited, **quiet, **environment}, stdout=log,
            stderr=subprocess.STDOUT,
        )  # fmt: skip
        server = Server(f"http://127.0.0.1:{port}/", process, folder, Path(place, "log.txt"))
        try:
            while not _answers(server.address):
                if process.poll() is not None:
                    raise RuntimeError(f"The server has ended: {server.log.read_text(encoding='utf-8')}")
                time.sleep(0.2)
            yield server
        finally:
            (process.kill if kill else process.terminate)()
            try:
                ended = process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()
                ended = process.wait()
            if ended and not kill:
                print(f"The server ended with {process.returncode}:\n{server.log.read_text(encoding='utf-8')}", file=sys.stderr)


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=10):
            return True
    except (OSError, urllib.error.URLError):
        return False
