"""Faults. After each, the device is free, the next run works, and no thread or file remains."""

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import gradio as gr
import hostile
import pytest
from standins import small

from featviz import limits
from featviz.errors import DivergedError, FeatvizError, LimitError
from featviz.media.video import VIDEO_FORMATS
from featviz.networks.network import Network
from featviz.recipes.table import RECIPES
from featviz.runtime.devices import _schedulers
from featviz.runtime.film import film
from featviz.runtime.jobs import INTERNAL_ERROR
from featviz.runtime.result_files import Film, recorded
from featviz.runtime.stream import run, stream
from featviz.ui.serving.admission import validate_request
from featviz.ui.serving.engine import Engine
from featviz.ui.serving.errors import DISK_FULL, with_error_sentences
from featviz.ui.serving.files import keep_file
from featviz.ui.serving.shutdown import RESTARTING, SECONDS_TO_EXIT, sweep
from scripts.visitor import LONG, QUICK, Server, Visitor, inline, serving

pytestmark = pytest.mark.trust

PHOTO = hostile.gradient((80, 64))


DREAM = small(RECIPES["deepdream"])


@cache
def expected() -> bytes:
    """What a run gives before any fault."""
    return run(DREAM, device="cpu", image=PHOTO).tobytes()


@pytest.fixture(autouse=True)
def survives(record_property) -> Iterator[None]:
    """After each test: the device is free, the next run gives the same picture, and no thread remains."""
    expected()
    before = set(threading.enumerate())
    yield
    assert not any(scheduler._serving or scheduler._waiting for scheduler in _schedulers.values())
    assert run(DREAM, device="cpu", image=PHOTO).tobytes() == expected()
    assert {thread for thread in threading.enumerate() if not thread.daemon} <= before
    record_property("faults survived", 1)


# A run


@pytest.mark.parametrize("recipe", list(map(small, RECIPES.values())), ids=RECIPES)
def test_stopping_at_every_stage(recipe):
    for seen in (0, 2):
        previews = stream(recipe, device="cpu", every=0, **dict.fromkeys(recipe.images, PHOTO))
        for _ in range(seen):
            next(previews, None)
        previews.close()


def failing(monkeypatch, at: int, fault: BaseException | float) -> None:
    """Make the `at`-th forward pass raise an exception, or multiply its activations by a number."""
    count, activations = 0, Network.activations

    def broken(self, *arguments, **options):
        nonlocal count
        count += 1
        if count == at and isinstance(fault, BaseException):
            raise fault
        values = activations(self, *arguments, **options)
        return {name: maps * fault for name, maps in values.items()} if count == at else values

    monkeypatch.setattr(Network, "activations", broken)


def test_an_exception_in_the_middle_of_a_step(monkeypatch, caplog):
    with monkeypatch.context() as patch:
        failing(patch, 2, RuntimeError("/secret/path/photo.jpg"))
        with pytest.raises(gr.Error) as caught:
            list(with_error_sentences(stream)(DREAM, device="cpu", every=0, image=PHOTO))
    assert caught.value.message == INTERNAL_ERROR


def test_a_run_that_diverges(monkeypatch):
    shown = []
    with monkeypatch.context() as patch:
        failing(patch, 3, float("nan"))
        with pytest.raises(DivergedError, match="the last good picture is kept"):
            shown.extend(stream(DREAM, device="cpu", every=0, image=PHOTO))


def test_a_run_that_exceeds_its_time_limit_and_the_page_s_runs_have_one(monkeypatch):
    monkeypatch.setenv(limits.RUN_SECONDS.variable, "7")
    assert Engine.on("cpu").run.keywords["seconds"] == 7
    previews = stream(DREAM, device="cpu", every=0, seconds=0, image=PHOTO)
    assert next(previews).step == 1
    with pytest.raises(LimitError, match="A run may take 0 s here, and has reached step 1 of 4; the latest picture is kept"):
        next(previews)


def test_the_clock_jumps(monkeypatch):
    """Backwards and far ahead, as when a machine wakes up or asks a time server."""
    hours = iter([0, 9e9, -9e9] * 10_000)
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: 1e9 + next(hours))
        shown = list(stream(DREAM, device="cpu", every=0, image=PHOTO))
    assert [preview.step for preview in shown] == [1, 2, 3, 4]
    assert all(0 <= preview.seconds_left < 600 for preview in shown)


# The disk


def full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_no_run_starts_on_a_disk_that_is_nearly_full(monkeypatch, tmp_path):
    monkeypatch.setenv(limits.DISK_MEGABYTES.variable, str(10**9))
    with pytest.raises(gr.Error) as caught:
        validate_request(RECIPES["deepdream"], [None] * (1 + len(DREAM.model_dump()) + len(DREAM.optional_images)))
    assert caught.value.message == DISK_FULL


@pytest.mark.parametrize(
    ("broken", "sentence"),
    [
        (lambda patch: patch.setattr("featviz.media.video.av.open", full), "could not be written: No space left on device"),
        (lambda patch: patch.setitem(VIDEO_FORMATS, ".mp4", replace(VIDEO_FORMATS[".mp4"], codec="libx266")),
         "This machine cannot write such videos: its FFmpeg lacks libx266"),
    ],
    ids=["full disk", "no codec"],
)  # fmt: skip
def test_a_video_that_cannot_be_written_leaves_no_file(broken, sentence, monkeypatch, tmp_path):
    with monkeypatch.context() as patch:
        broken(patch)
        with pytest.raises(FeatvizError, match=sentence):
            list(film(small(RECIPES["deepdream_zoom"]), tmp_path / "a.mp4", device="cpu", image=PHOTO))
    assert list(tmp_path.iterdir()) == []


def test_an_abandoned_video_leaves_no_file_but_in_the_folder_that_is_swept(tmp_path, monkeypatch, tidy_gradio):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    recipe = small(RECIPES["deepdream_zoom"])
    previews = recorded(Engine().run, Film(recipe, {"image": PHOTO}, keep_file))(recipe, image=PHOTO)
    next(previews)
    previews.close()
    left = [path for path in tmp_path.rglob("*") if path.is_file() and not path.is_relative_to(tmp_path / "cache")]
    assert left == []


def test_only_old_files_are_deleted(tmp_path):
    for name in ("old/upload/a.png", "old/kept.png", "new/a.png", "old.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"a")
    for path in tmp_path.rglob("*"):
        if "old" in str(path.relative_to(tmp_path)):
            os.utime(path, (0, 0))
    (tmp_path / "old" / "link").symlink_to("/etc")
    assert sweep(tmp_path, 3600, {str(tmp_path / "old/kept.png")}) == 2
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()} == {"old/kept.png", "new/a.png"}
    assert Path("/etc").is_dir()


# The end of the server


@pytest.fixture(scope="module")
def own() -> Iterator[Server]:
    """A server without a writable home, whose visitors may start five runs a minute each."""
    with serving(HOME="/proc", XDG_CACHE_HOME="/proc", FEATVIZ_RUNS_PER_MINUTE="5", FEATVIZ_MAX_MEGABYTES="1") as server:
        yield server


def photo(visitor: Visitor) -> dict:
    return visitor.upload("holiday in Rome.png", hostile.written(PHOTO, "png"))


def test_a_visitor_who_leaves_midway(own):
    visitor = Visitor(own.address, "192.0.2.2")
    threads = own.threads()
    for _ in range(3):
        events = visitor.watch(visitor.start(image=photo(visitor), **LONG))
        assert next(events).event == "generating"
        events.close()
    start = time.monotonic()
    assert Visitor(own.address, "192.0.2.3").run(image=photo(visitor), **QUICK).event == "complete"
    assert time.monotonic() - start < 60  # And not after three runs of minutes.
    assert own.threads() <= threads + 8  # Gradio's pool may grow, but not by a thread a run.


def test_too_many_runs_of_one_visitor(own):
    eager, other = Visitor(own.address, "192.0.2.4"), Visitor(own.address, "192.0.2.5")
    answers = [eager.run(image=photo(eager), **QUICK) for _ in range(7)]
    assert [answer.event for answer in answers] == ["complete"] * 5 + ["error"] * 2
    assert answers[-1].sentence.startswith("Each visitor can start 5 runs a minute; the next one can start in ")
    assert other.run(image=photo(other), **QUICK).event == "complete"


def test_too_large_a_request_and_too_large_a_picture(own):
    for path, kind in (("call/v2/deepdream", "application/json"), ("upload", "multipart/form-data; boundary=x")):
        code, body = Visitor(own.address).status(path, b" " * 5_000_000, kind)
        assert (code, json.loads(body)["detail"]) == (413, "A request may have 4 megabytes, and a picture 1.")
    visitor = Visitor(own.address, "192.0.2.6")
    assert visitor.run(image=inline(bytes(1_500_000)), **QUICK).sentence == "The picture has 2 megabytes; at most 1 are accepted."
    form = (
        b'--x\r\nContent-Disposition: form-data; name="files"; filename="large.png"\r\n\r\n' + bytes(1_500_000) + b"\r\n--x--\r\n"
    )
    answer = visitor.status("upload", form, "multipart/form-data; boundary=x")
    assert answer == (413, "File size exceeded maximum allowed size of 1000000 bytes.")


def test_sigterm_tells_visitors_with_a_run_and_ends(own):
    """After at most nine seconds: a Space is killed after ten."""
    assert SECONDS_TO_EXIT <= 9
    visitor = Visitor(own.address, "192.0.2.7")
    events = visitor.watch(visitor.start(image=photo(visitor), **LONG))
    assert next(events).event == "generating"
    own.process.send_signal(signal.SIGTERM)
    *_, last = events
    assert (last.event, last.sentence) == ("error", RESTARTING)
    own.process.wait(timeout=60)
    log = own.log.read_text(encoding="utf-8")
    assert "Traceback" not in log
    assert "Rome" not in log
    assert str(own.folder) not in log
    assert list(own.folder.rglob("*")) == []  # No file, and no empty folder either.


LEFT = """
from types import SimpleNamespace
from featviz.ui.serving import shutdown

shutdown.SECONDS_TO_EXIT, shutdown.SECONDS_FOR_STEPS = 0.2, 60
jobs = SimpleNamespace(shut_down=print, working=1)  # A run in the middle of a long step.
shutdown.Shutdown(jobs).begin()
"""


def test_nothing_is_left_where_runs_do_not_end_in_time(tmp_path):
    (tmp_path / "gradio" / "hash").mkdir(parents=True)
    (tmp_path / "gradio" / "hash" / "a.png").write_bytes(b"a")
    ended = subprocess.run(
        [sys.executable, "-c", LEFT], env={**os.environ, "GRADIO_TEMP_DIR": str(tmp_path / "gradio")}, timeout=60, check=False
    )
    assert ended.returncode == 0
    assert list(tmp_path.iterdir()) == []
