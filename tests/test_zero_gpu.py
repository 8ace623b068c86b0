"""A run as on ZeroGPU: in a fork of the page's process, which exchanges nothing but pickles with it.

It is tested in a separate process, since a fork of pytest's process would lose its threads.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

SCENE = '''
import json, multiprocessing, pickle, sys, time
import numpy as np
import torch
from featviz import DeepDream, run
from featviz.media.images import open_picture
from featviz.networks import cache, weights
from featviz.runtime import estimate
from featviz.ui import Engine

fork = multiprocessing.get_context("fork")
CAT = open_picture("examples/cat.jpg").resize((96, 72))
DREAM = DeepDream(size=96, octaves=2, steps=2)


def lend(run):
    """Run a generator as spaces.GPU does: in a fork, which stops after the value at which it is told to."""

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
        process.start()
        theirs.close()
        kind = None
        try:
            while True:
                kind, value = pickle.loads(ours.recv_bytes())
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
            ends.append((kind, value if kind == "stopped" else None, process.exitcode))

    return lent


ends, results = [], {}
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

try:
    list(engine.run(DREAM.replace(channels="9999"), image=CAT))
except Exception as error:
    results["error"] = [type(error).__name__, error.message]

torch.cuda.is_available = lambda: True  # As ZeroGPU has it in the page's process, where there is no GPU.
small, large = DREAM, DREAM.replace(size=4096, steps=100)
results["leases"] = [estimate.zero_gpu_seconds(recipe, image=CAT) for recipe in (small, large)]
results["estimate"] = estimate.estimate(small, CAT.size).seconds > 0
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


def test_a_run_is_stopped_midway(results):
    assert results["shown"][0] == 1
    kind, count, code = results["ends"][1]
    assert (kind, code) == ("stopped", 0)
    assert count < 100


def test_error_messages_cross_the_process_boundary(results):
    assert results["error"] == ["Error", "VGG-19 relu4_4 has no channel 9999; it has 0 to 511."]


def test_the_gpu_is_requested_for_the_estimated_seconds(results):
    assert results["leases"] == [20, 120]
    assert results["estimate"]
