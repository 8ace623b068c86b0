"""The device of a run, and its predicted time and memory."""

import sys
import time

import pytest
import torch
from huggingface_hub import constants
from standins import PICTURE, Count
from torch.utils.flop_counter import FlopCounterMode

from featviz.media import video
from featviz.media.images import DECODED_BYTES, Header
from featviz.networks import hub
from featviz.networks.cache import load
from featviz.networks.table import BUNDLED
from featviz.optimise.tiles import Budget, granted
from featviz.recipes.deepdream import DeepDream
from featviz.recipes.style_transfer import StyleTransfer
from featviz.runtime import devices
from featviz.runtime.devices import limitations, resolve, slot
from featviz.runtime.estimate import (
    DEFAULT_CORRECTIONS,
    START,
    demand,
    estimate,
    expected_seconds,
    record_throughput,
    video_demand,
)
from featviz.runtime.stream import run
from featviz.runtime.throughput import Corrections, Speed


def test_of_several_cards_a_run_takes_the_one_with_the_fewest(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(devices, "_try_gpu", lambda gpu: "")
    runs, taken = [], []
    for _ in range(6):
        taken.append(resolve("auto").index)
        runs.append(slot(torch.device("cuda", taken[-1])))
    assert taken == [0, 1, 2, 0, 1, 2]
    del runs[1]  # Over, and card 1 is the one with the fewest now.
    assert resolve("cuda").index == 1


@pytest.fixture
def fresh(monkeypatch):
    """A server before its first run, on which every network reaches 1 GFLOP a second."""
    monkeypatch.setattr("featviz.runtime.estimate._corrections", Corrections())
    monkeypatch.setattr("featviz.runtime.estimate._speeds", {("cpu", name): Speed(1e9, 1e9) for name in BUNDLED})
    monkeypatch.setattr("featviz.runtime.estimate._eigen_speeds", {"cpu": 1e9})


def test_an_estimate_is_corrected_by_runs_of_the_same_recipe_and_network_alone(fresh):
    cpu, style, dream = torch.device("cpu"), StyleTransfer(size=128), DeepDream(layer="vgg19/relu3_3", size=128)
    seconds = {
        recipe: estimate(recipe, {next(iter(recipe.images)): Header((96, 96))}, device="cpu").seconds for recipe in (style, dream)
    }
    needs = demand(style, cpu, {"content": (96, 96)})
    assert needs.eigen > 0
    correction = DEFAULT_CORRECTIONS["style_transfer", "vgg19"]
    assert needs.fixed_work > 0
    assert seconds[style] == pytest.approx(START + correction * (needs.flops + needs.fixed_work + needs.eigen) / 1e9)
    record_throughput(cpu, style, needs, 0.5, 2 * (seconds[style] - START))
    assert estimate(style, {"content": Header((96, 96))}, device="cpu").seconds == pytest.approx(
        START + 4 * (seconds[style] - START)
    )
    assert estimate(dream, {"image": Header((96, 96))}, device="cpu").seconds == seconds[dream]


def test_a_run_without_an_estimate_ends_without_a_measurement(fresh, monkeypatch):
    monkeypatch.setattr("featviz.runtime.estimate._speeds", {})
    monkeypatch.setattr("featviz.runtime.estimate._measure", lambda name, device: pytest.fail(f"{name} was measured"))
    assert run(DeepDream(layer="efficientnet_lite0/block2", size=64, octaves=1, steps=2), image=PICTURE, device="cpu")


def test_the_measurement_of_the_machine_is_no_run_that_others_wait_for(monkeypatch):
    cpu, seen = torch.device("cpu"), []

    def measured(*_):
        seen.append(devices.scheduler(cpu).waiting_for(slot(cpu, 4.0)))
        return 1.0

    monkeypatch.setattr("featviz.runtime.estimate._speeds", {})
    monkeypatch.setattr("featviz.runtime.estimate._eigen_speeds", {})
    monkeypatch.setattr("featviz.runtime.estimate._least_step", measured)
    monkeypatch.setattr("featviz.runtime.estimate.wasserstein_distance", lambda sums: measured() and torch.Tensor.sum)
    estimate(StyleTransfer(size=64), {"content": Header((64, 64))}, device="cpu")
    assert seen == [None, None, None]  # Two passes of the network, and eigenvalues.


def test_runs_are_ordered_by_their_estimate_and_by_their_operations_where_no_speed_was_measured(fresh, monkeypatch):
    cpu, style, dream = torch.device("cpu"), StyleTransfer(size=128), DeepDream(layer="vgg19/relu3_3", size=128)
    needs = {style: demand(style, cpu, {"content": (96, 96)}), dream: demand(dream, cpu, {"image": (96, 96)})}
    for recipe in needs:
        estimated = estimate(recipe, {next(iter(recipe.images)): Header((96, 96))}, device="cpu").seconds
        assert START + expected_seconds(needs[recipe], cpu, recipe) == pytest.approx(estimated)
    monkeypatch.setattr("featviz.runtime.estimate._speeds", {})
    monkeypatch.setattr("featviz.runtime.estimate._measure", None)
    assert expected_seconds(needs[style], cpu, style) > expected_seconds(needs[dream], cpu, dream) > 0


@pytest.mark.parametrize("megabytes", [400, 1], ids=["whole", "tiles"])
@pytest.mark.parametrize(
    ("recipe", "tolerance"),
    [
        (DeepDream(layer="efficientnet_lite0/block2", size=320, octaves=2, steps=2), 0.1),
        (StyleTransfer(network="efficientnet_lite0", size=160, scales=2, steps=2), 0.5),
    ],
    ids=["dream", "style"],
)
def test_the_operations_of_a_run_are_those_of_its_demand(recipe, tolerance, megabytes):
    """Margins of tiles, second passes and the statistics of the style count. Style transfer multiplies moments beside the network."""
    network, pictures = load(recipe.network_name), {role: torch.rand(1, 3, recipe.size, recipe.size) for role in recipe.images}
    with granted(Budget(megabytes * 1e6)):
        with FlopCounterMode(display=False) as counter:
            for _ in recipe.run(network, **pictures):
                pass
        counted = recipe.demand(network, (recipe.size, recipe.size)).flops
    assert 1 <= counter.get_total_flops() / counted < 1 + tolerance


def test_a_video_is_its_first_frame_and_the_shorter_runs_of_the_others():
    recipe, cpu, sizes = StyleTransfer(size=96), torch.device("cpu"), {"content": (96, 96), "style": (96, 64)}
    video, first, later = video_demand(recipe, cpu, sizes, 5), demand(recipe, cpu, sizes), demand(recipe.following, cpu, sizes)
    assert later.flops < first.flops
    for field in ("flops", "fixed_work", "eigen"):
        assert getattr(video, field) == getattr(first, field) + 4 * getattr(later, field)
    assert video.bytes == max(first.bytes, later.bytes)


def test_the_estimate_is_counted_work_at_the_speed_of_the_last_run(monkeypatch, fresh):
    monkeypatch.setattr(sys.modules["featviz.runtime.stream"], "load", lambda name, device: None)
    run(Count(steps=10, seconds=0.01), device="cpu", image=PICTURE)  # A step that sleeps looks like one that waits for the CPU,
    assert estimate(Count(steps=10), {"image": Header((20, 16))}, device="cpu").seconds < START + 0.1  # which does not count.
    monkeypatch.setattr(sys.modules["featviz.runtime.stream"], "clock", lambda device: time.monotonic())
    monkeypatch.setattr("featviz.runtime.estimate._corrections", Corrections())
    run(Count(steps=10, seconds=0.01), image=PICTURE)
    expected = estimate(Count(steps=10), {"image": Header((20, 16))})
    assert expected.bytes == 20 * 16 * DECODED_BYTES  # More than the run takes.
    assert 0.1 <= expected.seconds - START < 1
    assert estimate(Count(steps=30), {"image": Header((20, 16))}).seconds - START == pytest.approx(3 * (expected.seconds - START))


def test_limitations_are_one_sentence_each(monkeypatch, tmp_path):
    slow, offline = limitations("cpu")
    assert slow == "There is no GPU, so a run takes from seconds to minutes."
    assert offline.startswith("Downloads are off (HF_HUB_OFFLINE)")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "not" / "yet"))
    assert limitations("cpu") == [slow]
    monkeypatch.setattr(hub.os, "access", lambda path, mode: path != tmp_path)
    monkeypatch.setattr(video.av, "codecs_available", {"gif"})
    _, unwritable, codecs = limitations("cpu")
    assert unwritable.startswith(f"Downloads cannot be stored in {tmp_path}/not/yet")
    assert codecs == "Videos cannot be written as .mp4, .webp: FFmpeg lacks their codec."
