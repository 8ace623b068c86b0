"""The live mirror, on clips whose motion is known."""

import threading
from collections.abc import Sequence

import pytest
import torch
from PIL import Image
from torch import Tensor

from benchmarks.clips import CLIPS
from featviz.errors import InputError, LimitError
from featviz.media.images import to_picture, to_tensor
from featviz.media.saving import NOTE
from featviz.recipes import metadata
from featviz.recipes.table import RECIPES
from featviz.runtime.devices import resolve, scheduler, slot
from featviz.runtime.mirror import CARRIED, DREAM, Mirror

STRONG, WEAK = (DREAM.replace(layer="efficientnet_lite0/block4", size=96, strength=strength) for strength in (10.0, 0.1))


def changes(frames: Sequence[Tensor]) -> list[Tensor]:
    """What the mirror changes in two frames. On the second one it hardly dreams, so this is what it carries on."""
    mirror, pictures = Mirror(device="cpu"), map(to_picture, frames)
    return [
        to_tensor(mirror.show(frame, recipe)) - to_tensor(frame) for frame, recipe in zip(pictures, (STRONG, WEAK), strict=True)
    ]


@pytest.mark.parametrize("name", ["pan", "turn"])
def test_what_was_dreamt_moves_with_the_picture(name):
    clip = CLIPS[name](2, 0.75)
    before, after = changes(clip.frames)
    assert before.abs().mean() > 0.02
    expected = CARRIED * clip.motions[1](before)
    inside = (..., slice(8, -8), slice(8, -8))
    error, unmoved = ((after - guess)[inside].square().mean() for guess in (expected, CARRIED * before))
    assert error < 0.3 * unmoved
    assert error < 0.3 * expected[inside].square().mean()


def test_after_a_cut_nothing_is_carried_on():
    before, after = changes(CLIPS["cut"](2, 0.75).frames)
    assert after.abs().mean() < 0.1 * before.abs().mean()


def test_the_recipe_may_change_and_each_frame_has_its_own():
    mirror, frame = Mirror(device="cpu"), Image.new("RGB", (96, 64), "teal")
    for recipe in (STRONG, WEAK.replace(layer="efficientnet_lite0/block2")):
        shown = mirror.show(frame, recipe)
        assert shown.size == (96, 64)
        assert metadata.restore(shown.info[NOTE], RECIPES).recipe == recipe


def test_a_frame_of_any_size_is_scaled_to_the_size_of_the_dream():
    for size in ((400, 300), (40, 30)):
        mirror = Mirror(device="cpu")
        assert [mirror.show(Image.new("RGB", size), WEAK.replace(size=64)).size for _ in range(2)] == [(64, 48)] * 2


def test_between_frames_the_device_is_free_and_the_mirror_counts_until_it_ends(monkeypatch):
    released = []
    monkeypatch.setattr("featviz.runtime.mirror.release_free_memory", lambda: released.append(1))
    device = resolve("cpu")
    before = scheduler(device).runs
    mirror = Mirror(device="cpu")
    mirror.show(Image.new("RGB", (64, 64)), WEAK)
    assert scheduler(device)._serving is None
    assert scheduler(device).runs == before + 1
    assert released == []
    mirror.end()
    assert released == [1]
    assert scheduler(device).runs == before
    assert mirror.show(Image.new("RGB", (64, 64)), WEAK) is None


def test_one_frame_waits_for_another_more_are_dropped_and_at_the_end_both_end_at_once():
    mirror, frame, results = Mirror(device="cpu"), Image.new("RGB", (64, 64)), []
    with slot(resolve("cpu")):
        waiting = [threading.Thread(target=lambda: results.append(mirror.show(frame, WEAK))) for _ in range(2)]
        for thread in waiting:
            thread.start()
        while not scheduler(resolve("cpu"))._waiting or mirror._places._value:
            pass
        assert mirror.show(frame, WEAK) is None
        assert waiting[0].is_alive()
        assert waiting[1].is_alive()
        mirror.end()
        for thread in waiting:
            thread.join(timeout=10)
        assert results == [None, None]
    assert not scheduler(resolve("cpu"))._waiting


def test_the_seconds_of_a_frame_are_told(monkeypatch):
    now = 100.0

    def dream(*_: object) -> Image.Image:
        nonlocal now
        now += 3
        return frame

    mirror, frame = Mirror(device="cpu"), Image.new("RGB", (64, 64))
    monkeypatch.setattr("featviz.runtime.mirror.time.monotonic", lambda: now)
    monkeypatch.setattr(Mirror, "_dream", dream)
    mirror.show(frame)
    assert mirror.seconds == 3


def test_the_time_limit_counts_from_the_first_frame(monkeypatch):
    monkeypatch.setenv("FEATVIZ_MIRROR_SECONDS", "90")
    now = 1000.0
    monkeypatch.setattr("featviz.runtime.mirror.time.monotonic", lambda: now)
    mirror, frame = Mirror(device="cpu"), Image.new("RGB", (64, 64))
    for now in (5000.0, 5090.0):
        assert mirror.show(frame, WEAK) is not None
    now = 5090.1
    with pytest.raises(LimitError, match="The mirror ends after 90 s"):
        mirror.show(frame, WEAK)


def test_a_layer_of_another_network_is_refused():
    with pytest.raises(InputError, match="vgg19/relu3_1"):
        Mirror(device="cpu").show(Image.new("RGB", (64, 64)), DREAM.replace(layer="vgg19/relu3_1"))


def test_the_dream_on_a_still_picture_saturates():
    mirror, frame = Mirror(device="cpu"), to_picture(CLIPS["turn"](1, 0.75).frames[0])
    recipe = STRONG.replace(strength=4.0)
    sizes = [(to_tensor(mirror.show(frame, recipe)) - to_tensor(frame)).abs().mean().item() for _ in range(24)]
    assert sizes[3] > 1.5 * sizes[0]
    assert sizes[-1] == pytest.approx(torch.tensor(sizes[12:]).mean().item(), rel=0.15)
