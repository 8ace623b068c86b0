"""What the code does not do, read from the code; what the server offers and what it keeps to itself."""

import ast
import asyncio
import json
import os
import pickle
import re
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import hostile
import httpx
import pytest
from gradio.processing_utils import async_ssrf_protected_download
from gradio_client.utils import construct_args
from PIL import Image
from starlette.requests import Request

from featviz import limits
from featviz.errors import InputError
from featviz.media.video import Video
from featviz.recipes.table import RECIPES
from featviz.runtime.jobs import INTERNAL_ERROR
from featviz.ui import theme
from featviz.ui.serving import request_limits
from featviz.ui.serving.admission import validate_request
from featviz.ui.serving.errors import error_sentences
from scripts.visitor import Visitor

pytestmark = pytest.mark.trust

ROOT = Path(__file__).parent.parent
SOURCES = [*(ROOT / "featviz").rglob("*.py"), ROOT / "app.py"]


def calls(path: Path) -> Iterator[tuple[str, ast.Call]]:
    """Every call in a file, as it is written: `torch.load`."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def options(call: ast.Call) -> dict[str, str]:
    return {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}


def used(source: str) -> set[str]:
    """Every module, function and attribute that a file names, by the full name that its imports give it: `os.system`."""
    tree, names = ast.parse(source), {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {
                alias.asname or alias.name.partition(".")[0]: alias.name if alias.asname else alias.name.partition(".")[0]
                for alias in node.names
            }
        elif isinstance(node, ast.ImportFrom):
            names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    found = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names} | {*names.values()}
    for node in ast.walk(tree):
        if isinstance(node, (ast.Name, ast.Attribute)):
            first, _, rest = ast.unparse(node).partition(".")
            found.add(f"{names.get(first, first)}{'.' if rest else ''}{rest}")
    return {name.removeprefix("builtins.") for name in found}


STARTS_OR_UNPICKLES = re.compile(
    r"(pickle|_pickle|dill|marshal|shelve|cloudpickle|joblib|subprocess|_posixsubprocess|runpy|pty|code|codeop)(\..*)?"
    r"|asyncio\.(subprocess|create_subprocess_\w+)(\..*)?|os\.(system|popen|fork\w*|exec\w+|spawn\w+|posix_spawn\w*|startfile)"
    r"|posix(\..*)?|eval|exec|compile|__import__|importlib\.(import_module|__import__)|torch\.hub(\..*)?"
    r"|(pd|pandas)\.read_pickle|multiprocessing(\..*)?"
)


# The code


FORBIDDEN = """
import os; os.system('a')
from os import system as harmless
import os as o; start = o.popen
def inside(): from subprocess import Popen
import subprocess as s
from pickle import loads
import builtins; builtins.eval('1')
from builtins import exec as run
from torch import hub; hub.load('a', 'b')
import asyncio; asyncio.create_subprocess_exec('a')
import importlib; importlib.import_module('os')
"""


@pytest.mark.parametrize("source", FORBIDDEN.split("\n")[1:-1])
def test_this_finds_a_forbidden_name_however_it_is_imported(source):
    assert any(STARTS_OR_UNPICKLES.fullmatch(name) for name in used(source))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_is_unpickled_evaluated_or_started(path):
    names = used(path.read_text(encoding="utf-8"))
    allowed = {"importlib.import_module"} if path.name == "extras.py" else set()  # Of the names in its table.
    assert not {name for name in names if STARTS_OR_UNPICKLES.fullmatch(name)} - allowed
    if path.name not in ("server.py", "memory.py", "tiles.py"):  # The C library's heaps.
        assert not {name for name in names if name.partition(".")[0] in ("ctypes", "cffi")}
    for name, call in calls(path):
        if name.rpartition(".")[2] == "load_state_dict_from_url" or name == "torch.load":
            assert options(call).get("weights_only") == "True"
        if name in {"np.load", "numpy.load"}:
            assert options(call).get("allow_pickle", "False") == "False"
    assert not names & {"torch.serialization", "torch.serialization.load"}


AUDITED = """
import json, sys
from pathlib import Path
from types import SimpleNamespace
from PIL import Image
from featviz import cli
from featviz.errors import InputError
from featviz.media.images import open_picture
from featviz.recipes import metadata

EVENTS = ("os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.forkpty", "pty.spawn", "subprocess.Popen",
          "pickle.find_class", "marshal.loads", "exec.source", "socket.connect", "socket.getaddrinfo", "socket.gethostbyname",
          "urllib.Request", "webbrowser.open")
seen = []

def hook(event, arguments):
    # Import statements unmarshal byte code; nothing else may.
    if event in EVENTS and not sys._getframe(1).f_code.co_filename.startswith("<frozen importlib"):
        seen.append(f"{event} {arguments!r}"[:200])

sys.addaudithook(hook)

folder = Path(sys.argv[1])
odd = sorted(folder.glob("odd*"))
for path in odd:
    for read in (open_picture, metadata.find):
        try:
            assert read(path) == ""
        except InputError:
            pass
fields = ["--layer=efficientnet_lite0/block1", "--size=64", "--steps=1", "--octaves=1", "--device=cpu"]
assert cli.main(["deepdream", str(folder / "clip.mp4"), str(folder / "out"), *fields]) == 0
assert cli.main(["style-transfer", str(folder / "out/000001.png"), str(folder / "out/000001.png"), str(folder / "b.jpg"),
                 "--network=vgg19", "--size=64", "--scales=1", "--steps=1", "--device=cpu"]) == 0
assert cli.main(["rerun", str(folder / "out/000001.png"), str(folder / "out/000001.png"), str(folder / "c.webp")]) == 0
done = list(seen)
import os
os.system("true")
print(json.dumps([len(odd), done, len(seen) - len(done)]))
"""


def test_no_program_is_started_nothing_unpickled_and_no_address_asked(tmp_path):
    """Python's audit events show it for any spelling; a listening socket shows what FFmpeg would fetch."""
    with socket.create_server(("127.0.0.1", 0)) as listening, Video(tmp_path / "clip.mp4", 10) as clip:
        address = f"http://127.0.0.1:{listening.getsockname()[1]}/a.ts"
        for number, content in enumerate(
            (
                f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{address}\n".encode(),
                f"ffconcat version 1.0\nfile {address}\n".encode(),
                b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
                pickle.dumps(Path("a")),
                b"RIFF" + bytes(90),
            )
        ):
            (tmp_path / f"odd{number}.png").write_bytes(content)
        clip.write(Image.new("RGB", (64, 64), "red"))
        clip.close()
        done = subprocess.run(
            [sys.executable, "-c", AUDITED, str(tmp_path)], cwd=ROOT, env={**os.environ, "HF_HUB_OFFLINE": "1"},
            capture_output=True, text=True, check=False, timeout=170,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout.splitlines()[-1]) == [5, [], 1]  # And the hook does see what is started.
        listening.setblocking(False)
        with pytest.raises(BlockingIOError):
            listening.accept()


def test_runs_are_timed_by_a_clock_that_does_not_jump():
    """The ages of files and the times that the history shows are the only wall-clock times."""
    clocks = {"time.time", "datetime.now", "datetime.datetime.now"}
    assert {path.name for path in SOURCES for name, _ in calls(path) if name in clocks} <= {"shutdown.py", "result.py"}


def test_no_folder_of_the_server_is_opened():
    """The examples are static files; whatever else is served comes from the cache."""
    (launch,) = [
        call for path in SOURCES for name, call in calls(path) if name.endswith(".launch") and "mcp_server" in options(call)
    ]
    said = options(launch)
    assert "allowed_paths" not in said
    assert (said["enable_monitoring"], said["show_error"], said["run_history"]) == ("False", "False", "False")
    (queue,) = [call for path in SOURCES for name, call in calls(path) if name.endswith(".queue")]
    assert options(queue)["api_open"] == "False"
    assert [ast.unparse(call) for path in SOURCES for name, call in calls(path) if name == "gr.set_static_paths"] == [
        "gr.set_static_paths([presets.FOLDER])"
    ]


def test_the_log_is_given_no_names_and_no_pictures():
    """Only fixed sentences are logged, with the trace of where in the code it was, and how many answers of the game were right."""
    for path in SOURCES:
        for name, call in calls(path):
            if name.startswith("logger."):
                sentence, *counts = call.args
                assert type(sentence) is ast.Constant
                assert {ast.unparse(count) for count in counts} <= {"self.tally.by_round()"}, f"{path.name}: {ast.unparse(call)}"


def test_no_secret_is_read():
    """What is not read cannot be logged: tokens are huggingface_hub's own affair."""
    for path in SOURCES:
        text = path.read_text(encoding="utf-8")
        secret = re.search(r"_TOKEN\b|\bTOKEN\s*=", text.upper().replace("HF_TOKEN' IS SET", ""))  # Not a transformer's tokens.
        assert not secret or path.name in {"weights.py", "hub.py"}


# What people read


@pytest.mark.parametrize("name", ["<img src=x onerror=alert(1)>.png", "<script>alert(1)</script>.png", "&lt;b&gt;.png"])
def test_markup_in_names_and_values_is_shown_and_not_obeyed(name, tmp_path):
    with pytest.raises(gr.Error) as caught:
        validate_request(
            RECIPES["deepdream"], [{"path": str(tmp_path / name)}, *RECIPES["deepdream"]().model_dump().values(), None, None]
        )
    assert "<img" not in caught.value.message
    assert "<script" not in caught.value.message
    with pytest.raises(gr.Error) as caught, error_sentences():
        RECIPES["deepdream"](class_name="<img src=x onerror=alert(1)>")
    assert "&lt;img" in caught.value.message


# The server


NOT_OFFERED = ("monitoring", "monitoring/summary", "run/deepdream", "api/deepdream", "docs", "openapi", "vibe-edit",
               "vibe-starter-queries", "reload", "dev/reload", "runs")  # fmt: skip


@pytest.mark.parametrize("path", NOT_OFFERED)
def test_what_is_not_offered(server, path):
    assert Visitor(server).status(path, json.dumps({"data": [], "prompt": ""}).encode())[0] in (401, 403, 404, 405)


def test_who_asks_for_what_is_not_there_is_told_and_no_crash_is_logged(server):
    """That the log has none is seen when the server ends."""
    for path in ("queue/data?session_hash=nobody", "call/deepdream/nobody"):
        with Visitor(server).ask(path) as events:  # To its end: a stream that was cut off could not be read.
            assert b"error" in events.read()


@pytest.mark.parametrize("message", ["http.request", "http.disconnect"])
def test_who_leaves_midway_is_no_crash_and_what_breaks_is_one(message):
    async def app(_scope: dict, receive: Callable, _send: Callable) -> None:
        await receive()
        raise OSError("cut off")

    async def receive() -> dict:
        return {"type": message}

    async def send(_message: dict) -> None:
        pytest.fail("Nothing can be said.")

    with nullcontext() if message == "http.disconnect" else pytest.raises(OSError, match="cut off"):
        asyncio.run(request_limits.QuietDisconnects(app)({"type": "http"}, receive, send))


def test_only_errors_about_arguments_are_shown_to_a_caller(caplog):
    def answer(error: Exception, path: str = "/gradio_api/call/v2/dream?") -> tuple[int, str]:
        response = asyncio.run(request_limits.refuse_arguments(Request({"type": "http", "path": path}), error))
        return response.status_code, json.loads(response.body)["detail"]

    for given, sentence in [
        ({}, "No value provided for required argument: image"),
        ({"swirl": 1}, "Parameter `swirl` is not a valid key-word argument."),
    ]:
        with pytest.raises(TypeError) as caught:
            construct_args([{"parameter_name": "image"}], (), given)
        assert answer(caught.value) == (422, sentence)
    assert answer(KeyError("/dream?")) == (422, "There is no endpoint 'dream?'.")
    assert not caplog.records
    for error in (TypeError("unhashable: /srv/secret"), KeyError("secret")):
        assert answer(error) == (500, INTERNAL_ERROR)
        assert caplog.records[-1].exc_info[1] is error
        with pytest.raises(type(error)):
            answer(error, "/gradio_api/config")


def test_no_other_server_s_files_are_served_and_the_page_tells_nothing_of_the_server(server):
    """`.invalid` is nobody's, so that the refusal is ours only if it is the sentence of ours."""
    for scheme in ("http", "https"):
        status, body = Visitor(server).status(f"file={scheme}://nobody.invalid/a.png")
        assert (status, json.loads(body)) == (403, {"detail": "Only files of this server are served."})
    with urllib.request.urlopen(f"{server}config", timeout=60) as answer:
        config = answer.read().decode()
    for secret in ("HF_TOKEN", "/etc/", "site-packages", "Traceback"):
        assert secret not in config


# Limits


@pytest.mark.parametrize("limit", limits.LIMITS, ids=lambda limit: limit.variable)
def test_a_limit_is_read_from_the_environment_and_a_mistyped_one_is_said(limit, monkeypatch):
    monkeypatch.delenv(limit.variable, raising=False)
    assert limit.value == limit.default
    monkeypatch.setenv(limit.variable, "17")
    assert limit.value == 17
    for wrong in ("", "0", "-1", "1e3", "many", "٣", "1.5"):
        monkeypatch.setenv(limit.variable, wrong)
        with pytest.raises(InputError, match=f"{limit.variable} is '.*'; expected a whole number of at least 1"):
            limits.check()


def test_the_limits_reach_the_server(monkeypatch):
    seen = {}
    monkeypatch.setenv(limits.QUEUE.variable, "3")
    monkeypatch.setenv(limits.MEGABYTES.variable, "5")
    monkeypatch.setattr(theme.shutdown.Shutdown, "handle_signals", lambda self: None)
    monkeypatch.setattr(gr.Blocks, "queue", lambda self, **said: seen.update(said) or self)
    monkeypatch.setattr(gr.Blocks, "launch", lambda self, **said: seen.update(said))
    with gr.Blocks(analytics_enabled=False) as demo:
        demo.instrument = SimpleNamespace(jobs=None, script="", first_screen="")
    theme.launch(demo)
    assert (seen["max_size"], seen["max_file_size"], seen["state_session_capacity"]) == (3, 5_000_000, limits.SESSIONS.default)
    assert (request_limits.BodyLimit, (), {}) in seen["app_kwargs"]["middleware"]


# Pictures fetched from an address


class Elsewhere(BaseHTTPRequestHandler):
    """Another server, which is not always kind."""

    def do_GET(self) -> None:
        if self.path == "/away":
            self.send_response(302)
            self.send_header("Location", "http://192.168.0.1/inside.png")
            self.end_headers()
            return
        self.send_response(404 if self.path == "/gone" else 200)
        self.send_header("Content-Encoding", "gzip")  # Which is not true, and would unpack to anything.
        self.end_headers()
        with suppress(OSError):
            if self.path == "/endless":
                for _ in range(100):
                    self.wfile.write(bytes(100_000))
            elif self.path == "/slow":
                threading.Event().wait(3)
            else:
                self.wfile.write(b"a picture")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def elsewhere(monkeypatch) -> Iterator[str]:
    """Its address. For this test the machine itself is public, and the rest of its network is not."""

    async def validated(host: str) -> str:
        if host != hostile.PUBLIC:
            raise ValueError(host)
        return "127.0.0.1"

    monkeypatch.setattr(request_limits, "public_address", validated)
    monkeypatch.setattr("gradio.processing_utils.async_transport", request_limits.PublicTransport())
    monkeypatch.setenv(limits.MEGABYTES.variable, "1")
    monkeypatch.setattr(request_limits, "SECONDS_TO_FETCH", 1)
    with ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://{hostile.PUBLIC}:{server.server_port}"
        server.shutdown()


def fetched(address: str, folder: Path) -> bytes:
    return Path(asyncio.run(async_ssrf_protected_download(address, str(folder)))).read_bytes()


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("endless", "The picture has more than 1 megabytes, which are the most accepted"),
        ("gone", "The picture's server answers 404"),
        ("slow", "The picture cannot be fetched from there"),
        ("away", r"The picture cannot be fetched from there \(192\.168\.0\.1\)"),
    ],
)
def test_a_picture_is_fetched_as_it_is_or_refused_with_one_sentence(elsewhere, tmp_path, path, said):
    (tmp_path / "sound").mkdir()
    assert fetched(f"{elsewhere}/a.png", tmp_path / "sound") == b"a picture"
    (tmp_path / "refused").mkdir()
    with pytest.raises(gr.Error, match=said):
        fetched(f"{elsewhere}/{path}", tmp_path / "refused")
    assert not [file for file in (tmp_path / "refused").rglob("*") if file.is_file()]


def resolving(monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> list[str]:
    """The hosts that are looked up from now on. The name service gives one answer after another, then knows nothing."""
    asked, left = [], list(answers)

    def getaddrinfo(host: str, port: object, *_: object, **__: object) -> list[tuple]:
        asked.append(host)
        if not left:
            raise socket.gaierror(host)
        return [(socket.AF_INET6 if ":" in address else socket.AF_INET, 1, 6, "", (address, 0)) for address in left.pop(0)]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr("gradio.processing_utils.async_transport", request_limits.PublicTransport())
    return asked


def test_a_name_that_the_system_does_not_know_is_asked_of_nobody_else(monkeypatch, tmp_path):
    get, requested = httpx.AsyncClient.get, []

    async def recorded(client: httpx.AsyncClient, url: str, **options: object) -> httpx.Response:
        requested.append(httpx.URL(url).host)
        return await get(client, url, **options)

    monkeypatch.setattr(httpx.AsyncClient, "get", recorded)
    asked = resolving(monkeypatch)
    with pytest.raises(gr.Error, match="The picture cannot be fetched from there"):
        fetched("http://nobody.example/a.png", tmp_path)
    assert asked == requested == ["nobody.example"]


INSIDE = ("127.0.0.1", "10.0.0.1", "192.168.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1", "255.255.255.255", "::1",
          "::ffff:127.0.0.1", "fe80::1%eth0", "fd00::1", "ff02::1", "64:ff9b::a00:1", "2002:a00:1::1")  # fmt: skip


@pytest.mark.parametrize("inside", INSIDE)
def test_a_name_is_refused_if_any_of_its_addresses_is_inside_a_network(inside, monkeypatch, tmp_path):
    asked = resolving(monkeypatch, ["93.184.215.14", inside])
    with pytest.raises(gr.Error, match="The picture cannot be fetched from there"):
        fetched("http://pictures.example/a.png", tmp_path)
    assert asked == ["pictures.example"]


@pytest.mark.parametrize("address", ["93.184.215.14", "2606:2800:220:1::1"])
def test_the_connection_goes_to_the_address_that_was_checked(address, monkeypatch, tmp_path):
    """Not to what the name leads to a moment later."""
    sent = []

    async def send(_transport: httpx.AsyncHTTPTransport, request: httpx.Request) -> httpx.Response:
        sent.append((request.url.host, request.url.port, request.headers["host"], request.extensions["sni_hostname"]))
        return httpx.Response(200, stream=httpx.ByteStream(b"a picture"))

    monkeypatch.setattr(httpx.AsyncHTTPTransport, "handle_async_request", send)
    asked = resolving(monkeypatch, [address], ["127.0.0.1"])
    assert fetched("https://pictures.example:8443/a.png", tmp_path) == b"a picture"
    assert asked == ["pictures.example"]
    assert sent == [(address, 8443, "pictures.example:8443", "pictures.example")]
