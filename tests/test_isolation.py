"""Simultaneous clients: each gets bit for bit the result that it gets alone, and cannot reach the files of another."""

import io
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.client import IncompleteRead
from pathlib import Path

import hostile
import pytest
import torch
from PIL import Image
from standins import small

from featviz.networks.cache import load
from featviz.recipes.table import RECIPES
from featviz.runtime.devices import resolve
from featviz.runtime.stream import run, stream
from scripts.visitor import QUICK, Visitor, file

pytestmark = pytest.mark.trust

CLIENTS = 32


def photo(number: int) -> Image.Image:
    """Another one for each."""
    return hostile.gradient((80, 64)).rotate(11 * number).point(lambda value: (value + 7 * number) % 256)


def fields(number: int) -> dict:
    return {**QUICK, "steps": 2, "seed": number, "jitter": 8, "layer": f"efficientnet_lite0/block{1 + number % 3}"}


def alone(number: int) -> bytes:
    return run(RECIPES["deepdream"](**fields(number)), device="cpu", image=photo(number)).tobytes()


def test_simultaneous_clients_get_bit_for_bit_what_each_gets_alone(server, record_property):
    expected, together = [alone(number) for number in range(CLIENTS)], threading.Barrier(CLIENTS)
    assert len(set(expected)) == CLIENTS

    def visit(number: int) -> bytes:
        visitor = Visitor(server, f"192.0.2.{number}")
        image = visitor.upload("photo.png", hostile.written(photo(number), "png"))
        together.wait(60)
        answer = visitor.run(image=image, **fields(number))
        assert answer.event == "complete", answer
        with Image.open(io.BytesIO(visitor.fetch(answer))) as picture:
            return picture.tobytes()

    with ThreadPoolExecutor(CLIENTS) as pool:
        got = list(pool.map(visit, range(CLIENTS)))
    assert got == expected
    record_property("clients isolated", CLIENTS)


@pytest.mark.parametrize("name", [name for name, recipe in RECIPES.items() if "seed" in recipe.model_fields])
def test_interleaved_runs_share_no_gradients_and_no_randomness(name):
    """Step by step in turns, in one thread and another, with others' random numbers drawn in between."""
    recipes = [small(RECIPES[name], seed=seed, jitter=4) for seed in range(2)]
    given = [{role: photo(5 * number + i) for i, role in enumerate(recipes[0].images)} for number in range(2)]
    expected = [run(recipe, device="cpu", **pictures).tobytes() for recipe, pictures in zip(recipes, given, strict=True)]
    last, rng = [b""] * 2, random.Random(0)
    runs = {number: stream(recipes[number], device="cpu", every=0, **given[number]) for number in range(2)}
    with ThreadPoolExecutor(3) as pool:
        while runs:
            number = rng.choice(list(runs))
            torch.manual_seed(rng.randrange(99))
            preview = pool.submit(next, runs[number], None).result()
            if preview is None:
                del runs[number]
            else:
                last[number] = preview.picture.tobytes()
            assert torch.is_grad_enabled()
    assert last == expected
    network = load("efficientnet_lite0", resolve("cpu"))
    assert not any(parameter.requires_grad or parameter.grad is not None for parameter in network.module.parameters())


def test_a_run_does_not_change_the_global_random_state():
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    alone(0)
    assert torch.equal(torch.rand(4), expected)


# What belongs to another


PLACES = (
    "",
    "/",
    "..",
    "/etc/passwd",
    "/proc/self/environ",
    "featviz/runtime/stream.py",
    "app.py",
    ".git/config",
    "%2e%2e/app.py",
)


@pytest.mark.parametrize("path", PLACES)
def test_no_folder_is_listed_and_no_file_of_the_server_is_served(server, path):
    assert Visitor(server).status(f"file={path}")[0] in (403, 404)


def test_the_address_of_a_file_contains_the_hash_of_its_content(server):
    """Its address is made of the hash of its content, and no folder above it answers."""
    visitor = Visitor(server)
    mine = visitor.upload("photo.png", hostile.written(photo(1), "png"))["path"]
    assert visitor.status(f"file={mine}")[0] == 200
    folder = mine.rpartition("/")[0]
    for other in (folder, folder.rpartition("/")[0], mine.replace("photo", "other"), mine[:-20] + "0" * 20):
        assert visitor.status(f"file={other}")[0] in (403, 404)


def test_a_picture_outside_the_served_folders_is_neither_served_nor_read(server, tmp_path):
    """The same picture is both once it was uploaded, so that it is refused for its place and for nothing else."""
    visitor, content = Visitor(server), hostile.written(photo(2), "png")
    (outside := tmp_path / "photo.png").write_bytes(content)
    uploaded = visitor.upload("photo.png", content)
    with visitor.ask(f"file={uploaded['path']}") as answer:
        assert answer.read() == content
    assert visitor.run(image=uploaded, **QUICK).event == "complete"
    within = Path(__file__).parent.parent / "docs" / "gradients.jpg"
    beside = f"{uploaded['path'].rpartition('/')[0]}/../../..{outside}"
    for place in (str(outside), str(within), beside):
        assert visitor.status(f"file={place}")[0] in (403, 404)
        answer = visitor.run(image=file(path=place), **QUICK)
        assert (answer.event, answer.sentence) == ("error", "Only files that were uploaded here can be used; upload it first.")


def test_a_run_cannot_be_watched_or_stopped_without_its_name(server):
    visitor = Visitor(server)
    with suppress(IncompleteRead):  # Gradio ends such a connection without a word.
        assert not [answer for answer in visitor.watch("call/v2/deepdream/" + "0" * 32) if answer.event == "complete"]
