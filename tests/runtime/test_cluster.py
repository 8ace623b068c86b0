"""A batch on Ray: on a stand-in for it, and in `make trust` on two nodes of this machine, one of which is killed meanwhile."""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from PIL import Image

from featviz import cli, run
from featviz.errors import InputError
from featviz.recipes.deepdream import DeepDream
from featviz.runtime import batch
from featviz.runtime.batch import run_batch
from featviz.runtime.cluster import ray_pool

ROOT = Path(__file__).parents[2]

CLUSTER = """
import json, sys
from pathlib import Path
import numpy as np
from PIL import Image
from featviz.recipes.deepdream import DeepDream
from featviz.runtime.batch import run_batch
from featviz.runtime.cluster import ray_pool

assert "ray" not in sys.modules
RECIPE = DeepDream(layer="efficientnet_lite0/block2", size=64, octaves=1, steps=2)
Path("in").mkdir()
for seed in range(8):
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (40, 60, 3), dtype=np.uint8)).save(f"in/{seed}.png")
Path("in/bad.png").write_bytes(b"no picture")

from ray.cluster_utils import Cluster

small = {"num_cpus": 1, "object_store_memory": 80_000_000, "include_dashboard": False}
cluster = Cluster(initialize_head=True, head_node_args=small)
doomed = cluster.add_node(num_cpus=1, object_store_memory=80_000_000)

def outcomes():
    return run_batch(RECIPE, "in", "out", device="cpu", pool=ray_pool(cluster.address))

stopped = outcomes()
first = next(stopped)
stopped.close()
left = sorted(path.name for path in Path("out").iterdir())

found = []
for outcome in outcomes():
    if outcome.made and doomed:
        cluster.remove_node(doomed, allow_graceful=False)
        doomed = None
    found.append([outcome.out.name, outcome.made, str(outcome.error or "")])
cluster.shutdown()

list(run_batch(RECIPE, "in", "plain", device="cpu"))
equal = {path.name: path.read_bytes() == Path("out", path.name).read_bytes() for path in Path("plain").iterdir()}
print(json.dumps({"first": first.out.name, "left": left, "found": found, "equal": equal, "killed": doomed is None,
                  "out": sorted(path.name for path in Path("out").iterdir())}))
"""


@pytest.mark.whole
@pytest.mark.trust
def test_a_batch_survives_a_killed_node_continues_after_a_stop_and_equals_the_plain_one(tmp_path):
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", CLUSTER]
    child = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert child.returncode == 0, child.stderr[-3000:]
    results = json.loads(child.stdout.splitlines()[-1])
    assert results["left"] == [results["first"]]
    assert results["killed"]
    found = {name: (made, error) for name, made, error in results["found"]}
    assert found.pop("bad.png")[1].endswith(
        "is not a picture; PNG, JPEG, WebP, AVIF, HEIC, GIF, BMP and TIFF files are accepted."
    )
    names = [f"{seed}.png" for seed in range(8)]
    assert sorted(found) == names == results["out"]
    assert {name for name, (made, _) in found.items() if not made} == {results["first"]}
    assert {error for _, error in found.values()} == {""}
    assert results["equal"] == dict.fromkeys(names, True)


class Ray:
    """A stand-in for the module, whose tasks run in this process when they are waited for; some of them are lost."""

    exceptions = SimpleNamespace(
        **{
            name: type(name, (Exception,), {})
            for name in ("WorkerCrashedError", "NodeDiedError", "OutOfMemoryError", "ObjectLostError")
        }
    )

    def __init__(self, resources: dict[str, float], lost: int | None = None):
        self.resources, self.lost = resources, lost
        self.log, self.most, self.submitted, self.waiting = [], 0, 0, []

    def __getattr__(self, name: str):
        return lambda *given, **options: self.log.append((name, given, options))

    def cluster_resources(self) -> dict[str, float]:
        return self.resources

    def nodes(self) -> list[dict]:
        return [{"Alive": True, "Resources": self.resources}, {"Alive": False, "Resources": {"CPU": 0.5}}]

    def put(self, value: object) -> object:
        return pickle.loads(pickle.dumps(value))

    def remote(self, function):
        def options(**given):
            self.log.append(("options", (), given))
            return SimpleNamespace(
                remote=lambda *arguments: self.submit(lambda: function(*pickle.loads(pickle.dumps(arguments))))
            )

        return SimpleNamespace(options=options)

    def submit(self, task) -> int:
        self.waiting.append(task)
        self.submitted += 1
        self.most = max(self.most, len(self.waiting))
        return self.submitted - 1

    def wait(self, tasks: list[int]) -> tuple[list[int], list[int]]:
        return tasks[:1], tasks[1:]

    def get(self, task: int) -> object:
        work = self.waiting.pop(0)
        if task == self.lost:
            raise self.exceptions.NodeDiedError
        return work()


@pytest.fixture
def pictures(tmp_path, monkeypatch) -> list[str]:
    """The names of some pictures in the folder `in`, of which the second is none."""
    monkeypatch.chdir(tmp_path)
    Path("in").mkdir()
    for seed in range(9):
        Image.fromarray(np.random.default_rng(seed).integers(0, 256, (40, 60, 3), dtype=np.uint8)).save(f"in/{seed}.png")
    Path("in/1.png").write_bytes(b"no picture")
    return sorted(path.name for path in Path("in").iterdir())


RECIPE = DeepDream(layer="efficientnet_lite0/block2", size=64, octaves=1, steps=1)


def test_tasks_give_the_same_files_as_one_process_and_a_lost_one_a_sentence(pictures, monkeypatch):
    ray = Ray({"CPU": 3.0}, lost=4)
    monkeypatch.setitem(sys.modules, "ray", ray)
    outcomes = {outcome.out.name: outcome for outcome in run_batch(RECIPE, "in", "out", device="cpu", pool=ray_pool("any"))}
    assert sorted(outcomes) == pictures
    assert {name: str(outcome.error).partition(";")[0] for name, outcome in outcomes.items() if outcome.error} == {
        "1.png": "The image is not a picture",
        "4.png": "The worker that computed it was lost 4 times",
    }
    for name in ("0.png", "8.png"):
        plain = run(RECIPE, device="cpu", image=f"in/{name}")
        with Image.open(f"out/{name}") as made:
            assert made.tobytes() == plain.tobytes()
    threads = torch.get_num_threads()
    assert ray.log[0][:2] == ("init", ("any",))
    assert ("options", (), {"max_retries": 3, "num_cpus": min(3, threads)}) in ray.log
    assert ray.most == 2 * max(1, 3 // threads)  # So many are submitted, and no more.
    assert ray.log[-1] == ("shutdown", (), {})


def test_a_batch_on_gpus_takes_half_of_one_for_each_picture_and_cancels_what_it_leaves(pictures, monkeypatch):
    ray = Ray({"CPU": 8.0, "GPU": 2.0})
    monkeypatch.setitem(sys.modules, "ray", ray)
    outcomes = run_batch(RECIPE, "in", "out", device="cpu", pool=ray_pool())
    assert next(outcomes).made
    outcomes.close()
    assert ray.most == 8
    assert ("options", (), {"max_retries": 3, "num_gpus": 0.5, "num_cpus": 0}) in ray.log
    assert [given for name, given, _ in ray.log if name == "cancel"] == [(task,) for task in range(1, 8)]
    assert ray.log[-1] == ("shutdown", (), {})
    assert [path.name for path in Path("out").iterdir()] == ["0.png"]


def test_a_cluster_that_is_not_there_is_a_sentence(pictures, monkeypatch):
    ray = Ray({})
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setattr(ray, "init", Mock(side_effect=ConnectionError("no answer\nat all")), raising=False)
    with pytest.raises(InputError, match=r"There is no Ray cluster at 'far': no answer$"):
        list(run_batch(RECIPE, "in", "out", device="cpu", pool=ray_pool("far")))


def test_ray_is_asked_for_by_an_option(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(cli, "ray_pool", lambda address, *, gpu: asked.append((address, gpu)) or "pool")
    monkeypatch.setattr(batch, "run_batch", lambda *places, pool, **others: asked.append(pool) or (_ for _ in ()))
    command = ["deepdream", str(tmp_path), str(tmp_path / "out"), "--device=cpu"]
    assert cli.main([*command, "--ray"]) == cli.SUCCESS
    assert cli.main([*command, "--ray", "ray://head:10001", "--device=auto"]) == cli.SUCCESS
    assert asked == [("local", False), "pool", ("ray://head:10001", True), "pool"]
