"""A run as on ZeroGPU: in a fork of the page's process, which exchanges nothing but pickles with it.

It is tested in a separate process, since a fork of pytest's process would lose its threads.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

SCENE = '''
import json, multiprocessing, pickle, sys, tempfile, threading, time
from pathlib import Path
import gradio as gr
import numpy as np
import torch
from featviz import DeepDream, run
from featviz.media.images import open_picture, read_header
from featviz.networks import cache, weights
from featviz.runtime import estimate, lease
from featviz.runtime.clip import open_clip
from featviz.runtime.result_files import FollowedVideo
from featviz.runtime.throughput import Corrections, Speed
from featviz.ui import Engine
from featviz.ui.serving.files import keep_file

sys.path.insert(0, "tests")
import clips

fork = multiprocessing.get_context("fork")
CAT = open_picture("examples/cat.jpg").resize((96, 72))
DREAM = DeepDream(size=96, octaves=2, steps=2)


def lend(run):
    """Run a generator as spaces.GPU(duration=lease.requested) does: in a fork that stops after the value at which it is told to.

    The fork is killed after the seconds of its lease, `early` of them sooner.
    """

    def work(packed, out, stop):
        args, kwargs = pickle.loads(packed)
        values, last = run(*args, **kwargs), ("end", None)
        try:
            for count, value in enumerate(values, start=1):
                out.send_bytes(pickle.dumps(("value", value)))
                if stop.is_set():
                    values.close()
                    last = ("stopped", count)
                    break
        except BaseException as error:
            last = ("error", error)
        out.send_bytes(pickle.dumps(last))

    def lent(*args, **kwargs):
        ours, theirs, stop = *fork.Pipe(duplex=False), fork.Event()
        process = fork.Process(target=work, args=(pickle.dumps((args, kwargs)), theirs, stop))
        leases.append(lease.requested(*args, **kwargs))
        process.start()
        theirs.close()
        end = threading.Timer(leases[-1] - early, process.kill)
        end.start()
        kind = None
        try:
            while True:
                try:
                    kind, value = pickle.loads(ours.recv_bytes())
                except EOFError:
                    kind = "killed"
                    raise gr.Error("GPU task aborted") from None
                if kind == "error":
                    raise value
                if kind != "value":
                    return
                yield value
        finally:
            stop.set()
            while kind == "value":
                kind, value = pickle.loads(ours.recv_bytes())
            process.join()
            end.cancel()
            ends.append((kind, value if kind == "stopped" else None, process.exitcode))

    return lent


ends, leases, early, results = [], [], 0, {}
estimate.warm_up("auto")
results["measured"] = len(estimate._speeds)
results["loaded"] = sorted(cache._loaded)
engine = Engine.on("auto").with_device(lend, zero_gpu=True)


def never(*_):
    raise AssertionError("weights were read in the fork")


weights.Bundled.load = never

previews = list(engine.run(DREAM, image=CAT))
expected = run(DREAM, image=CAT)
results["frames"] = [type(previews[-1].picture).__name__, previews[-1].done, len(previews) > 1]
results["same"] = bool(np.array_equal(np.asarray(previews[-1].picture), np.asarray(expected)))

long = engine.run(DREAM.replace(steps=100), image=CAT)
results["shown"] = [next(long).step, next(long).step]
long.close()

small = DREAM.replace(layer="efficientnet_lite0/block2", size=64)
clip = open_clip(small, {"image": clips.clip(Path(tempfile.mkdtemp()) / "clip.mp4")})
video = FollowedVideo(small, clip, engine.follow, keep_file)
results["video_frames"] = sum(preview.is_video_frame for preview in video.run(small))
results["video"] = list(map(float, clips.times(video.finish(CAT)))), bool(clips.packets(video.finish(CAT)))

try:
    list(engine.run(DREAM.replace(channels="9999"), image=CAT))
except Exception as error:
    results["error"] = [type(error).__name__, error.message]

def corrected(recipe):
    return estimate.estimate(recipe, {"image": read_header(CAT)}).seconds - estimate.START


# The speed that the lent runs have reported is that of this CPU.
estimate._speeds["cpu", "vgg19"] = Speed(1e15, 1e15)
estimate._corrections = Corrections()
before = corrected(DREAM)
list(engine.run(DREAM.replace(steps=9), image=CAT))
results["learned"] = corrected(DREAM) / before
estimate._corrections = Corrections()

estimate._speeds["cpu", "vgg19"] = Speed(1e12, 1e12)  # Hours at the whole size.
sheet = engine.try_out(DREAM.replace(size=4096, steps=100), image=CAT)
results["sheet"] = next(sheet)[0].size
sheet.close()
estimate._speeds["cpu", "vgg19"] = Speed(1e15, 1e15)
estimate._corrections = Corrections()

lease.LEAST, lease.STARTUP, lease.ENDING = 3, 2.5, 0.5
results["cut"] = []
for early in (0, 1):  # The run ends by itself; the process is killed before.
    steps = []
    try:
        for preview in engine.run(DREAM.replace(steps=100, octaves=4, size=160), image=CAT):
            steps.append(preview.step)
    except Exception as error:
        results["cut"].append([steps[-1], error.message, ends[-1][0]])
    estimate._corrections = Corrections()
lease.LEAST, lease.STARTUP, early = 20, 15, 0

torch.cuda.is_available = lambda: True  # As ZeroGPU has it in the page's process, where there is no GPU.
count, refusals = len(leases), []
large = DREAM.replace(size=4096, steps=100)
try:
    list(engine.run(large, image=CAT))
except Exception as error:
    results["refused"] = error.message
fitting = int(results["refused"].split()[-1].rstrip("."))
headers = {"image": read_header(CAT)}
results["leases"] = [lease.request(recipe, headers) for recipe in (DREAM, large.replace(size=fitting))]
try:
    lease.request(large.replace(size=fitting + 16), headers)
except Exception as error:
    results["over"] = type(error).__name__
results["borrowed"] = len(leases) - count
results["offered"] = lease.longest_run()
results["touched"] = torch.cuda.is_initialized()
results["measured"] += len([place for place, _ in estimate._speeds if place == "cuda"])
results["ends"] = ends
print(json.dumps(results))
'''


@pytest.fixture(scope="module")
def results() -> dict:
    environment = os.environ | {"SPACES_ZERO_GPU": "true", "GRADIO_ANALYTICS_ENABLED": "False"}
    command = [sys.executable, "-W", "ignore", "-c", SCENE]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_the_page_s_process_loads_weights_on_the_cpu_and_measures_nothing(results):
    assert results["loaded"] == [["efficientnet_lite0", "cpu"], ["vgg19", "cpu"]]
    assert results["measured"] == 0
    assert results["touched"] is False


def test_pictures_equal_those_of_a_run_in_this_process(results):
    assert results["frames"] == ["Image", True, True]
    assert results["same"]
    assert results["ends"][0] == ["end", None, 0]


def test_a_video_is_made_of_a_video(results):
    assert results["video_frames"] >= 1
    assert results["video"] == [[0, 0.1, 0.2, 0.5, 0.6, 0.7], True]


def test_a_run_is_stopped_midway(results):
    assert results["shown"][0] == 1
    kind, count, code = results["ends"][1]
    assert (kind, code) == ("stopped", 0)
    assert count < 100


def test_error_messages_cross_the_process_boundary(results):
    assert results["error"] == ["Error", "VGG-19 relu4_4 has no channel 9999; it has 0 to 511."]


def test_the_gpu_is_requested_for_the_estimated_seconds(results):
    short, long = results["leases"]
    assert short == 20
    assert 100 < long <= 120


def test_a_run_that_no_lease_is_long_enough_for_is_refused_before_with_the_largest_size_that_fits(results):
    expected = (
        r"This run takes up to \d+ (min|h) of the GPU, which is lent for at most 120 s; the largest size that fits is \d+\."
    )
    assert re.fullmatch(expected, results["refused"])
    assert results["over"] == "LimitError"
    assert results["borrowed"] == 0
    assert results["offered"] == 70  # The page offers no more: (120 - 15) / 1.5.


def test_a_sheet_is_leased_for_its_small_runs_whatever_the_size_of_the_whole_one(results):
    assert results["sheet"] == 144


def test_the_speed_that_a_lent_run_reports_corrects_the_estimates_of_the_page(results):
    assert results["learned"] > 10


def test_a_run_at_the_end_of_its_lease_keeps_its_latest_picture_and_says_why(results):
    by_itself, killed = results["cut"]
    for step, message, _ in (by_itself, killed):
        assert message == (
            f"The GPU was lent for 3 s, which were over at step {step} of 300; the latest picture is kept. Try a smaller size or "
            "fewer steps."
        )
    assert (by_itself[2], killed[2]) == ("error", "killed")
