"""A batch on Ray: two nodes on this machine, one of which is killed while it computes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from featviz import cli
from featviz.runtime import batch

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


def test_ray_is_asked_for_by_an_option_and_needs_many_pictures(tmp_path, monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(cli, "ray_pool", lambda address, *, gpu: asked.append((address, gpu)) or "pool")
    monkeypatch.setattr(batch, "run_batch", lambda *places, pool, **others: asked.append(pool) or (_ for _ in ()))
    command = ["deepdream", str(tmp_path), str(tmp_path / "out"), "--device=cpu"]
    assert cli.main([*command, "--ray"]) == cli.SUCCESS
    assert cli.main([*command, "--ray", "ray://head:10001", "--device=auto"]) == cli.SUCCESS
    assert asked == [("local", False), "pool", ("ray://head:10001", True), "pool"]
    assert cli.main([*command, "--ray", "--network=mine=resnet50:my.safetensors"]) == cli.BAD_INPUT
    assert "--ray knows no network of --network" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--ray", "--shard=1/2"])
def test_a_single_picture_is_not_shared_out(option, tmp_path, capsys):
    from PIL import Image

    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    assert cli.main(["deepdream", str(tmp_path / "a.png"), str(tmp_path / "out.png"), option]) == cli.BAD_INPUT
    assert "shares out a folder or a video; there is one picture" in capsys.readouterr().err
