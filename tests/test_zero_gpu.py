"""A run on a GPU that is lent, as on ZeroGPU: in a fork of the page's process, with nothing but pickles in between.

Everything happens in a process of its own, since pytest's has threads that a fork would leave behind.
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
from featviz import DeepDream, FeatvizError, StyleTransfer, loading, machine, run, stream, weights
from featviz.media.images import open_picture
from featviz.ui import Engine

fork = multiprocessing.get_context("fork")
CAT = open_picture("examples/cat.jpg").resize((96, 72))
DREAM = DeepDream(size=96, octaves=2, steps=2)


def lend(run):
    """What spaces.GPU does to a generator: forks, and stops the fork after the value at which it is told to."""

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


ends, said = [], {}
machine.warm_up("auto")
said["measured"] = len(machine._speeds)
said["loaded"] = sorted(loading._loaded)
engine = Engine.on("auto").with_device(lend, zero_gpu=True)


def never(*_):
    raise AssertionError("weights were read in the fork")


weights.Bundled.load = never

previews = list(engine.run(DREAM, image=CAT))
here = run(DREAM, image=CAT)
said["frames"] = [type(previews[-1].picture).__name__, previews[-1].done, len(previews) > 1]
said["same"] = bool(np.array_equal(np.asarray(previews[-1].picture), np.asarray(here)))

long = engine.run(DREAM.replace(steps=100), image=CAT)
said["shown"] = [next(long).step, next(long).step]
long.close()

try:
    list(engine.run(DREAM.replace(channels="9999"), image=CAT))
except Exception as error:
    said["error"] = [type(error).__name__, error.message]

torch.cuda.is_available = lambda: True  # As ZeroGPU has it in the page's process, where there is no GPU.
small, large = DREAM, DREAM.replace(size=4096, steps=100)
said["leases"] = [machine.lease(one, image=CAT) for one in (small, large)]
said["estimate"] = machine.estimate(small, CAT.size).seconds > 0
said["touched"] = torch.cuda.is_initialized()
said["measured"] += len([place for place, _ in machine._speeds if place == "cuda"])
said["ends"] = ends
print(json.dumps(said))
'''


@pytest.fixture(scope="module")
def said() -> dict:
    environment = os.environ | {"SPACES_ZERO_GPU": "true", "GRADIO_ANALYTICS_ENABLED": "False"}
    command = [sys.executable, "-W", "ignore", "-c", SCENE]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_weights_are_loaded_on_the_cpu_of_the_page_s_process_which_measures_nothing(said):
    assert said["loaded"] == [["efficientnet_lite0", "cpu"], ["vgg19", "cpu"]]
    assert said["measured"] == 0
    assert said["touched"] is False


def test_pictures_come_back_as_they_would_have_been_made_here(said):
    assert said["frames"] == ["Image", True, True]
    assert said["same"]
    assert said["ends"][0] == ["end", None, 0]


def test_a_run_is_stopped_midway(said):
    assert said["shown"][0] == 1
    kind, count, code = said["ends"][1]
    assert (kind, code) == ("stopped", 0)
    assert count < 100


def test_our_sentences_survive_the_way(said):
    assert said["error"] == ["Error", "VGG-19 relu4_4 has no channel 9999; it has 0 to 511."]


def test_a_gpu_is_asked_for_as_long_as_the_recipe_needs(said):
    assert said["leases"] == [20, 120]
    assert said["estimate"]
