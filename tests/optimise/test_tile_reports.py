"""Reports of tiles: what is shown in the middle of a step, and that results do not depend on it."""

import sys
from itertools import product

import pytest
import torch
from PIL import Image, ImageChops

from featviz.media.images import to_tensor
from featviz.networks.cache import load
from featviz.optimise.tile_reports import View, heard, report, viewed
from featviz.optimise.tiles import Budget, granted
from featviz.recipes.deepdream import DeepDream
from featviz.recipes.style_transfer import StyleTransfer
from featviz.runtime.stream import stream

SIDE = 192

PICTURE = Image.effect_mandelbrot((SIDE, SIDE), (-2, -1.5, 1, 1.5), 30).convert("RGB").point(lambda value: 64 + value // 2)
"""Away from black and white, where steps would be clipped."""

DREAM = DeepDream(layer="vgg19/relu1_2", size=SIDE, octaves=1, steps=2, gradient="plain")

STYLE = StyleTransfer(size=SIDE, scales=1, steps=3, style_layers="relu1_1", content_layers="relu2_1", statistic="covariance")

SMALLEST = 1.0
"""Bytes for a step that are always too few: tiles are as small as they can be."""


def heard_in_steps(recipe, **pictures):
    """Return the frames of a run in the smallest tiles, and for each the reports of its step with the picture after each tile."""
    frames, steps = recipe.run(load(recipe.network_name), **pictures), []
    for _ in range(recipe.steps):
        reports = []

        def listen(heard, reports=reports):
            after = None if heard.gradient is None else heard.view.after(heard.area, heard.gradient)
            reports.append((heard, after))

        with granted(Budget(SMALLEST)), heard(listen):
            steps.append((next(frames), reports))
    return steps


def assembled(reports):
    """Return the picture that the reports of a pass with gradients draw."""
    view = reports[0][0].view
    picture = view.before((slice(None), slice(None))).clone()
    for tile, after in reports:
        picture[(..., *tile.area)] = after
    return picture


def likeness(change, other):
    """The cosine of the angle between two changes of a picture."""
    return torch.nn.functional.cosine_similarity(change.flatten(), other.flatten(), dim=0).item()


def test_a_tile_is_reported_at_its_place_in_the_picture():
    seen, gradient = [], torch.arange(100.0).view(1, 1, 10, 10)
    view = View((6, 7), before=lambda area: None, after=lambda area, part: None, offset=(2, 1))
    with heard(seen.append):
        report(1, 2)
        with viewed(view):
            report(1, 2, (slice(0, 5), slice(4, 10)), gradient)
            report(2, 2, (slice(5, 10), slice(4, 10)))
            report(1, 2, (slice(0, 2), slice(0, 10)), gradient)  # Wholly above the picture.
            report(1, 1, (slice(0, 10), slice(0, 10)), gradient)  # A single tile.
            with viewed(None):
                report(2, 2, (slice(0, 5), slice(0, 5)))
    report(1, 2)  # Nobody hears it.
    assert [(one.number, one.view is view, one.area) for one in seen[1:4]] == [
        (1, True, (slice(0, 3), slice(3, 7))),
        (2, True, (slice(3, 6), slice(3, 7))),
        (1, True, (slice(0, 0), slice(0, 7))),
    ]
    assert torch.equal(seen[1].gradient, gradient[..., 2:5, 4:8])
    assert (seen[2].gradient, seen[3].gradient.numel()) == (None, 0)
    assert [seen[0].view, seen[4].view] == [None, None]
    assert len(seen) == 5


def test_each_tile_of_a_dream_moves_as_in_the_step_that_follows():
    image = to_tensor(PICTURE)
    (first, reports), (second, later) = heard_in_steps(DREAM, image=image)
    for before, frame, tiles in ((image, first, reports), (first.image, second, later)):
        numbers = range(1, tiles[0][0].count + 1)
        assert len(numbers) >= 9
        assert [(tile.number, after is not None) for tile, after in tiles] == list(product(numbers, [False, True]))
        covered = torch.zeros(SIDE, SIDE)
        for tile, after in tiles[1::2]:
            covered[tile.area] += 1
            place = (..., *tile.area)
            if after.numel():
                assert torch.equal(tile.view.before(tile.area), before[place])
                assert likeness(after - before[place], frame.image[place] - before[place]) > 0.999
        assert torch.equal(covered, torch.ones(SIDE, SIDE))


def test_the_tiles_of_a_style_transfer_move_down_their_gradient_once_all_statistics_are_known():
    content, style = to_tensor(PICTURE), to_tensor(PICTURE.rotate(90).point(lambda value: 255 - value))
    (_, first), (before, _), (after, last) = heard_in_steps(STYLE, content=content, style=style)
    count = first[0][0].count
    of_style = [tile for tile, _ in first if tile.view is None]
    assert [tile.number for tile in of_style] == list(range(1, of_style[0].count + 1))
    without = [tile.number for tile, _ in last if tile.gradient is None]
    assert without == [*range(1, count), *range(1, count + 1)]  # For the statistics, then before each gradient.
    moved = [pair for pair in last if pair[0].gradient is not None]
    assert [tile.number for tile, _ in moved] == list(range(1, count + 1))
    assert torch.equal(moved[0][0].view.before((slice(None), slice(None))), before.image)
    assert likeness(assembled(moved) - before.image, after.image - before.image) > 0.2


@pytest.mark.parametrize("recipe", [DREAM, STYLE.replace(colours="content"), STYLE.replace(optimiser="adam")])
def test_parts_are_shown_inside_a_step_and_the_result_does_not_change(recipe, monkeypatch):
    monkeypatch.setenv("FEATVIZ_TILE_MEMORY_MB", "1")
    module = sys.modules["featviz.runtime.stream"]
    monkeypatch.setattr(module, "PART_SECONDS", 0.0)
    monkeypatch.setattr(module, "PART_SHARE", torch.inf)
    pictures = dict.fromkeys(recipe.images, PICTURE)
    events = []
    for shown in stream(recipe, every=0, on_part=events.append, **pictures):
        events.append(shown)
    previews = [event for event in events if isinstance(event, module.Preview)]
    plain = [shown.picture.tobytes() for shown in stream(recipe, every=0, **pictures)]
    assert [shown.picture.tobytes() for shown in previews] == plain
    first = events.index(previews[0])
    inside = events[first + 1 : events.index(previews[1])]
    assert len(inside) >= inside[-1].count == inside[-1].number
    assert {part.picture.size for part in inside} == {(SIDE, SIDE)}
    left, top, right, bottom = ImageChops.difference(previews[0].picture, inside[0].picture).getbbox()
    assert (right - left) * (bottom - top) < SIDE**2 / 2  # The first tile and its outline.
    assert [part.picture for part in events[:first]].count(None) == (
        0 if recipe is DREAM else inside[-1].count
    )  # Tiles of the style.
