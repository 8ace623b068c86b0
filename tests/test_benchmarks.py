"""The benchmarks can be imported and their helpers are right. No test asserts a speed."""

import math
import os
import re
from contextlib import nullcontext
from importlib import import_module
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import demand, estimates, judges, measure, quality
from benchmarks.__main__ import QUESTIONS
from benchmarks.cases import at_one_size, every, flops, square
from benchmarks.fair_queue import FairQueue
from benchmarks.measure import Row, apart, exponent, memory_of, peak_memory, put, ratios, side_by_side
from benchmarks.simulation import Simulation, Visit
from benchmarks.textbook import gatys, textbook
from featviz.media.images import open_picture, to_picture, to_tensor
from featviz.networks.cache import load
from featviz.networks.table import NETWORKS
from featviz.optimise.objectives import gram
from featviz.optimise.scaling import fit, resize
from featviz.recipes.table import RECIPES
from featviz.runtime.scheduler import Scheduler

MODULES = sorted(path.stem for path in Path(measure.__file__).parent.glob("*.py"))


@pytest.mark.parametrize("name", MODULES)
def test_every_file_can_be_imported_and_says_what_it_is_for(name):
    assert import_module(f"benchmarks.{name}").__doc__


@pytest.mark.parametrize("name", QUESTIONS)
def test_a_question_is_a_heading_and_has_rows_and_a_place_in_the_results(name):
    module = import_module(f"benchmarks.{name}")
    assert re.match(r"### .*\?\n", module.__doc__)
    assert callable(module.rows)
    assert f"<!-- {name} -->\n" in measure.RESULTS.read_text(encoding="utf-8")


def test_operations_are_counted_as_by_hand():
    """A convolution: 2 · kernel² · channels in / groups · values out; as many again for the gradient of its input."""
    trunk = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 5, stride=2, padding=2, groups=8)).requires_grad_(False)
    image = torch.rand(1, 3, 16, 20, requires_grad=True)
    with FlopCounterMode(display=False) as counter:
        torch.autograd.grad(trunk(image * 1).sum(), image)
    dense = 2 * 9 * 3 * 8 * 16 * 20
    depthwise = 2 * 25 * 1 * 8 * 8 * 10
    assert counter.get_total_flops() == 2 * (dense + depthwise)


def test_a_step_of_vgg19_costs_what_its_table_says():
    """Up to relu2_1, at 64 × 64 and a margin of 8 on each side: three convolutions of 3 × 3, there and back."""
    recipe = at_one_size(next(iter(every()))[0], "vgg19", 64, 2).replace(layer="vgg19/relu2_1", jitter=0)
    frames = recipe.run(load("vgg19"), image=torch.rand(1, 3, 64, 64))
    next(frames)  # Where the network counts for itself.
    once = 2 * 9 * (80 * 80 * (3 * 64 + 64 * 64) + 40 * 40 * 64 * 128)
    assert flops(frames) == 2 * once


def test_an_exponent_is_that_of_the_power_law():
    sizes = [256, 512, 1024]
    assert exponent(sizes, [3e-5 * size**2 for size in sizes]) == pytest.approx(2)
    assert exponent(sizes, [7, 7, 7]) == pytest.approx(0)


def test_works_take_turns_and_ratios_are_of_one_round():
    order = []
    seconds = side_by_side({name: lambda name=name: order.append(name) for name in "ab"}, rounds=3, warm=1)
    assert order == list("ab" * 4)
    assert [len(one) for one in seconds.values()] == [3, 3]
    assert ratios([4, 9], [2, 3]) == [2, 3]


def test_a_row_shows_the_least_and_the_median():
    assert str(Row("a run", "s", [3.14159, 1, 2], "alone")) == "| a run | 1 | 2 | s | 3 | alone |"
    assert str(Row("a run", "MB", [123456.7])) == "| a run | 123457 | 123457 | MB | 1 |  |"


def test_memory_is_that_of_a_fresh_process():
    """Which has no torch, unlike this one."""
    assert 5e6 < apart(peak_memory) < peak_memory() / 2
    assert memory_of(os.getpid()) == pytest.approx(peak_memory(), rel=0.01)


def test_a_run_takes_the_memory_that_its_demand_predicts():
    """A small part of the benchmark's grid, with the recipes that there are."""
    assert {name for name, *_ in demand.SMALL} == {*RECIPES}
    found = dict(zip(map(str, demand.SMALL), apart(demand.several, demand.SMALL), strict=True))
    outside = [case for case in demand.SMALL if not within(*found[str(case)])]
    # The heap of a shared process depends on what ran before. The benchmark gives each run a process of its own.
    again = {str(case): apart(demand.measured, *case) for case in outside}
    assert {case: round(peak / estimate, 2) for case, (peak, estimate) in again.items() if not within(peak, estimate)} == {}


def within(peak: float, estimate: float) -> bool:
    return demand.LOW < peak / estimate < demand.HIGH


def test_a_simulated_server_refuses_what_its_queue_and_its_memory_do_not_take():
    crowd = [Visit(0.0, [1.0], 1.0) for _ in range(5)]
    Simulation(at_once=2, queue=1).run(crowd)
    assert [visit.refused for visit in crowd] == [False, False, False, True, True]
    assert [visit.done for visit in crowd[:3]] == pytest.approx([1, 2, 3])
    large = [Visit(0.0, [1.0], 1.0, gigabytes=0.6) for _ in range(2)]
    Simulation(gigabytes=1.0).run(large)
    assert [visit.refused for visit in large] == [False, True]


def test_a_simulated_run_has_the_device_as_two_policies_say():
    """Two runs of two steps: by equal shares they alternate, and else the first is done before the second goes on."""
    done = {}
    for policy in (FairQueue, Scheduler):
        pair = [Visit(0.0, [2.0] * 4, 8.0) for _ in range(2)]
        Simulation(policy).run(pair)
        done[policy] = [round(visit.done) for visit in pair]
    assert done == {FairQueue: [14, 16], Scheduler: [10, 16]}


def test_estimates_are_compared_with_runs():
    (pair,) = estimates.measured("deepdream", {"layer": "efficientnet_lite0/stem", "size": 64, "octaves": 1, "steps": 2}, runs=1)
    assert min(pair) > 0
    assert estimates.share_within([0.6, 0.7, 1.4, 1.6]) == 0.5


def test_constants_of_estimates_are_those_that_the_runs_were_made_with():
    factors = {("deepdream", "vgg19"): 1.5, ("style_transfer", "vgg19"): 3.0}
    runs = {kind: [(0.2 + factor * predicted, predicted) for predicted in (0.1, 1, 9)] for kind, factor in factors.items()}
    assert estimates.fitted(runs, 0.2) == pytest.approx(factors)
    assert min((0.0, 0.1, 0.2, 0.3), key=lambda start: estimates.mean_error(runs, start)) == 0.2


def test_an_answer_takes_the_place_of_the_one_before_and_leaves_the_rest(tmp_path):
    results = tmp_path / "RESULTS.md"
    results.write_text("before\n<!-- a -->\nold\n<!-- end -->\n<!-- b -->\nkept\n<!-- end -->\nafter\n")
    put(results, "a", "new\n\n")
    assert results.read_text() == "before\n<!-- a -->\nnew\n<!-- end -->\n<!-- b -->\nkept\n<!-- end -->\nafter\n"
    with pytest.raises(SystemExit, match="no place for 'c'"):
        put(results, "c", "")


def test_the_textbook_loop_raises_the_energy_of_its_layer(monkeypatch):
    """The loop that DeepDream is compared with is correct: the energy of the layer rises."""
    monkeypatch.setattr("benchmarks.textbook.STEPS", 2)
    monkeypatch.setattr("benchmarks.textbook.OCTAVES", 2)
    network = load("efficientnet_lite0")
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    layer = dict(network.module.named_children())["block5"]
    energies = [
        network.activations(one, ["block5"])["block5"].square().mean().item()
        for one in (image, textbook(network.module, layer, image, NETWORKS["efficientnet_lite0"]))
    ]
    assert energies[1] > 1.5 * energies[0]
    assert math.isfinite(energies[1])


def test_every_case_has_pictures_of_the_size_that_is_asked_for():
    for kind, network in every():
        assert {tuple(picture.shape) for picture in square(kind, 32).values()} == {(1, 3, 32, 32)}
        assert at_one_size(kind, network, 64, 1).network_name == network


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


def test_self_similarity_keeps_the_arrangement_and_forgets_the_colours():
    maps = torch.randn(1, 6, 5, 5, generator=torch.Generator().manual_seed(0))
    mixed = torch.linalg.qr(torch.randn(6, 6, generator=torch.Generator().manual_seed(1)))[0]
    assert judges.content_distance(3 * torch.einsum("ij,bjhw->bihw", mixed, maps) + 1, maps) == pytest.approx(0, abs=1e-5)
    assert judges.content_distance(maps.flip(3), maps) > 0.5


def test_patterns_count_how_many_of_the_styles_patches_are_used():
    generator = torch.Generator().manual_seed(0)
    style = torch.rand(1, 4, 6, 6, generator=generator)
    assert judges.pattern_similarity(style, style) == pytest.approx(1)
    one_patch = style[..., :3, :3].repeat(1, 1, 1, 1)
    assert judges.pattern_similarity(one_patch, style) == pytest.approx((1 + 1 / 16) / 2)


def test_the_textbooks_style_transfer_lowers_both_of_its_distances():
    """The loop that paintings are compared with is correct."""
    network = load("vgg19")
    content, style = (fit(to_tensor(picture), 64, 32) for picture in (CAT, WAVE))
    before, after = (
        (
            gram(network.activations(image, ["relu2_1"])["relu2_1"]) - gram(network.activations(style, ["relu2_1"])["relu2_1"])
        ).norm()
        for image in (content, gatys(network, content, style, 6))
    )
    assert after < 0.8 * before


def test_every_pair_has_pictures_with_a_source_and_a_licence():
    names = {name for pair in quality.PAIRS for name in pair}
    sources = "".join(
        (folder / "SOURCES.md").read_text(encoding="utf-8") for folder in {quality.path_of(n).parent for n in names}
    )
    assert len(set(quality.PAIRS)) == 20
    assert [name for name in sorted(names) if f"| `{name}.jpg` |" not in sources] == []
    own = quality.path_of("moose").parent
    assert {path.stem for path in own.glob("*.jpg")} <= names
    assert sum(path.stat().st_size for path in own.glob("*.jpg")) < 1.5e6


def test_a_leaderboard_goes_on_where_it_was_stopped_and_is_drawn(tmp_path, monkeypatch):
    painted = []

    def paint(content, style, size):
        painted.append(size)
        return style.resize((size, size))

    monkeypatch.setitem(quality.PROGRAMS, "copy", quality.Program(lambda: nullcontext(paint)))
    monkeypatch.setattr(quality, "judge", lambda *pictures: judges.Verdict(0.1, 0.3, 0.5, 0.7, 0.8, 0.9))
    line = quality.line_of("copy", quality.PAIRS[:1], 32, tmp_path)
    seconds = line.seconds
    line = quality.line_of("copy", quality.PAIRS[:2], 32, tmp_path, timed=False)
    assert painted == [32, 32]
    assert line.seconds == seconds  # Not of the second pair.
    assert re.match(r"\| copy \| 32 \| 2 \| \S+ \| 0.200 \| 0.100 \| 0.300 \| 0.500 \| 0.700 \| 0.800 \| 0.900 \|", str(line))
    assert quality.HEAD.startswith("| program | px | pairs | seconds | style | local | global | content |")
    assert quality.sheet(tmp_path, [line], 50).getpixel((2 * (50 + 6) + 25, 60)) != (255, 255, 255)  # A third picture.
    less = quality.line_of("copy", quality.PAIRS[:1], 32, tmp_path)
    assert quality.tables([line, line]).count("| copy |") == 2
    assert quality.tables([line, less]).split("On 1 of these pairs:")[1].count("| copy | 32 | 1 |") == 2
    assert quality.draw([line]).getpixel((quality.LEFT + 7, quality.TOP + quality.HEIGHT + 66 + 9)) == (0, 114, 178)
