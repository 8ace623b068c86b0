"""Folders at addresses: pictures are read and results written there, and errors of a file system are one sentence."""

import fsspec
import numpy as np
import pytest
from PIL import Image

from featviz import cli, recipe_of
from featviz.errors import InputError
from featviz.recipes.deepdream import DeepDream
from featviz.runtime import batch
from featviz.runtime.batch import run_batch
from featviz.runtime.remote import RemotePath, place

RECIPE = DeepDream(layer="efficientnet_lite0/block2", size=64, octaves=1, steps=1)
TYPED = ["--layer=efficientnet_lite0/block2", "--size=64", "--octaves=1", "--steps=1", "--device=cpu"]
STORE = fsspec.filesystem("memory")


@pytest.fixture
def pictures(tmp_path, monkeypatch):
    """Two pictures and a file of text, in a folder of this machine and in memory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    for seed, name in enumerate(("a.png", "b.jpg")):
        pixels = np.random.default_rng(seed).integers(0, 256, (40, 60, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "in" / name)
    (tmp_path / "in" / "notes.txt").write_text("none")
    STORE.put(str(tmp_path / "in"), "/pictures/in", recursive=True)
    yield tmp_path
    STORE.rm("/pictures", recursive=True)


def test_a_batch_between_addresses_equals_one_between_folders_and_continues(pictures, capsys):
    list(run_batch(RECIPE, "in", "out", device="cpu"))
    command = ["deepdream", "memory://pictures/in", "memory://pictures/out", *TYPED]
    assert cli.main(command) == cli.SUCCESS
    captured = capsys.readouterr()
    assert captured.out.split() == ["memory:///pictures/out/a.png", "memory:///pictures/out/b.png"]
    assert "notes.txt; PNG, JPEG" in captured.err
    for name in ("a.png", "b.png"):
        assert STORE.cat(f"/pictures/out/{name}") == (pictures / "out" / name).read_bytes()
    assert recipe_of(STORE.open("/pictures/out/a.png")) == RECIPE
    assert cli.main(command) == cli.SUCCESS
    assert capsys.readouterr().err.endswith("2 there already\n")
    assert cli.main([*command, "--seed=1"]) == cli.FAILURE
    assert "memory:///pictures/out/a.png: it was made by another recipe" in capsys.readouterr().err
    assert batch.count("memory://pictures/in") == 2


def test_a_file_address_is_a_path(pictures):
    source = (pictures / "in").as_uri()
    assert place(source) == pictures / "in"
    outcomes = list(run_batch(RECIPE, source, (pictures / "new" / "out").as_uri(), device="cpu"))
    assert [(outcome.out, outcome.made) for outcome in outcomes] == [
        (pictures / "new" / "out" / name, True) for name in ("a.png", "b.png")
    ]


def test_a_file_that_cannot_be_read_or_written_is_an_outcome(pictures, monkeypatch):
    def refuse(system, path, *_, **__):
        raise OSError(f"no permission for {path}")

    with monkeypatch.context() as patch:
        patch.setattr(type(STORE), "pipe_file", refuse)
        made, other = run_batch(RECIPE, "in", "memory://pictures/out", device="cpu")
    assert not made.made
    assert str(made.error) == "'memory:///pictures/out/a.png' cannot be used: no permission for /pictures/out/a.png."
    assert isinstance(other.out, RemotePath)
    monkeypatch.setattr(RemotePath, "read", lambda self: (_ for _ in ()).throw(InputError("gone")))
    assert [str(outcome.error) for outcome in run_batch(RECIPE, "memory://pictures/in", "out")] == ["gone", "gone"]
