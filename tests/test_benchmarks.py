"""The benchmarks can be imported and their helpers are right. No test asserts a speed."""

import os
import re
from importlib import import_module

import pytest
import torch
from fair_queue import FairQueue

from benchmarks import demand, judges, measure, quality
from benchmarks.__main__ import QUESTIONS
from benchmarks.measure import apart, memory_of, peak_memory
from benchmarks.simulation import Simulation, Visit
from featviz.media.images import open_picture, to_picture, to_tensor
from featviz.optimise.scaling import fit, resize
from featviz.recipes.table import RECIPES
from featviz.runtime.scheduler import Scheduler


@pytest.mark.parametrize("name", QUESTIONS)
def test_a_question_is_a_heading_and_has_rows_and_a_place_in_the_results(name):
    module = import_module(f"benchmarks.{name}")
    assert re.match(r"### .*\?\n", module.__doc__)
    assert callable(module.rows)
    assert f"<!-- {name} -->\n" in measure.RESULTS.read_text(encoding="utf-8")


def test_memory_is_that_of_a_fresh_process():
    """Which has no torch, unlike this one."""
    assert 5e6 < apart(peak_memory) < peak_memory() / 2
    assert memory_of(os.getpid()) == pytest.approx(peak_memory(), rel=0.01)


FEW = demand.SMALL[::4]
"""Every fourth of the small runs. `make trust` measures all of them."""

assert {name for name, *_ in demand.SMALL} == {*RECIPES}


@pytest.mark.parametrize("cases", [FEW, pytest.param(demand.SMALL, marks=pytest.mark.whole)], ids=["few", "every recipe"])
def test_a_run_takes_the_memory_that_its_demand_predicts(cases):
    """A small part of the benchmark's grid."""
    found = dict(zip(map(str, cases), apart(demand.several, cases), strict=True))
    outside = [case for case in cases if not within(*found[str(case)])]
    # The heap of a shared process depends on what ran before. The benchmark gives each run a process of its own.
    again = {str(case): apart(demand.measured, *case) for case in outside}
    assert {case: round(peak / estimate, 2) for case, (peak, estimate) in again.items() if not within(peak, estimate)} == {}


def within(peak: float, estimate: float) -> bool:
    return demand.LOW < peak / estimate < demand.HIGH


def test_a_simulated_run_has_the_device_as_two_policies_say():
    """Two runs of two steps: by equal shares they alternate, and else the first is done before the second goes on."""
    done = {}
    for policy in (FairQueue, Scheduler):
        pair = [Visit(0.0, [2.0] * 4, 8.0) for _ in range(2)]
        Simulation(policy).run(pair)
        done[policy] = [round(visit.done) for visit in pair]
    assert done == {FairQueue: [14, 16], Scheduler: [10, 16]}


CAT, WAVE = (open_picture(quality.path_of(name)) for name in ("cat", "great_wave"))


@pytest.fixture(scope="module")
def verdicts():
    """The judgements of the content itself, the style itself, both blended, and noise, at 128 pixels."""
    content, style = (fit(to_tensor(picture), 128, 32) for picture in (CAT, WAVE))
    blended = (content + resize(style, content.shape[-2:])).clamp(0, 2) / 2
    noise = torch.rand(content.shape, generator=torch.Generator().manual_seed(0))
    pictures = {"content": content, "style": style, "blended": blended, "noise": noise}
    return {name: judges.judge(to_picture(image), CAT, WAVE, 128, 96) for name, image in pictures.items()}


@pytest.mark.parametrize("factor", ["style", "local", "global_"])
def test_the_style_itself_is_judged_best_in_style_and_noise_worst(verdicts, factor):
    ranked = sorted(verdicts, key=lambda name: getattr(verdicts[name], factor))
    assert ranked == ["style", "blended", "content", "noise"]


@pytest.mark.parametrize("factor", ["effects", "patterns"])
def test_the_style_itself_has_all_effects_and_patterns_of_the_style(verdicts, factor):
    assert getattr(verdicts["style"], factor) == pytest.approx(1, abs=0.02)
    assert max(getattr(verdicts[name], factor) for name in ("content", "noise")) < getattr(verdicts["blended"], factor) < 0.95


def test_the_content_itself_is_judged_best_in_content_and_noise_knows_no_more_of_it_than_another_picture(verdicts):
    distances = {name: verdict.content for name, verdict in verdicts.items()}
    assert distances["content"] == pytest.approx(0, abs=1e-3)
    assert distances["content"] < distances["blended"] < min(distances["style"], distances["noise"])
    assert distances["noise"] > 0.8 * distances["style"]
    fidelities = {name: verdict.fidelity for name, verdict in verdicts.items()}
    assert fidelities["content"] == pytest.approx(1, abs=1e-3)
    assert fidelities["content"] > fidelities["blended"] > fidelities["style"] > fidelities["noise"]


def test_the_local_distance_is_that_of_the_nearest_positions_in_the_worse_direction():
    generator = torch.Generator().manual_seed(0)
    ours, theirs = (torch.randn(1, 5, height, 4, generator=generator) for height in (3, 6))
    middle = theirs.mean((2, 3)).flatten()
    vectors = [[maps[0, :, y, x] - middle for y in range(maps.shape[2]) for x in range(4)] for maps in (ours, theirs)]
    apart = [[1 - torch.cosine_similarity(one, other, dim=0).item() for other in vectors[1]] for one in vectors[0]]
    there = sum(map(min, apart)) / len(apart)
    back = sum(map(min, zip(*apart, strict=True))) / len(vectors[1])
    assert judges.local_distance(ours, theirs) == pytest.approx(max(there, back), abs=1e-5)


def test_patterns_count_how_many_of_the_styles_patches_are_used():
    generator = torch.Generator().manual_seed(0)
    style = torch.rand(1, 4, 6, 6, generator=generator)
    assert judges.pattern_similarity(style, style) == pytest.approx(1)
    one_patch = style[..., :3, :3].repeat(1, 1, 1, 1)
    assert judges.pattern_similarity(one_patch, style) == pytest.approx((1 + 1 / 16) / 2)
