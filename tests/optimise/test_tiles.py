from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch
from limited import printed

from featviz.networks.table import NETWORKS
from featviz.optimise.tiles import Allowance, Budget, granted, grid, largest, seen_pixels, tile_activations

SIZES = [((300, 70), 128), ((128, 128), 128), ((129, 400), 128), ((7, 5), 128), ((4096, 3072), 500)]


@pytest.mark.parametrize("shift", [None, (0.0, 0.999), (0.6, 0.3)])
@pytest.mark.parametrize(("size", "side"), SIZES)
def test_tiles_cover_every_pixel_once_start_aligned_and_are_seen_with_their_margin(size, side, shift):
    count = torch.zeros(size)
    image = torch.rand(size)
    for tile in grid(size, side, shift=shift):
        count[tile.core] += 1
        assert torch.equal(image[tile.seen][tile.core_in_seen], image[tile.core])
        assert all(part.start % 32 == 0 for part in (*tile.core, *tile.seen))
        assert image[tile.seen].numel() <= max(side, 64 + 3 * 32) ** 2  # The least core with its margins, aligned.
        assert min(image[tile.seen].shape) >= min(max(spec.smallest for spec in NETWORKS.values()), *size)
        for kept, seen, length in zip(tile.core, tile.seen, size, strict=True):
            assert seen.start == max(0, kept.start - 32)
            assert min(length, kept.stop + 32) <= seen.stop < kept.stop + 64
            assert (length - seen.stop) % 32 == 0  # Sampled as the whole image is, also by networks that pad to even sizes.
        assert tile.share == pytest.approx(image[tile.core].numel() / image[tile.seen].numel())
    assert (count == 1).all()


@pytest.mark.parametrize("length", [640, 653, 750, 1001])
def test_a_shift_moves_the_borders_of_tiles_through_a_whole_tile_and_makes_none_larger(length):
    def cores(shift):
        return [tile.core[0] for tile in grid((length, 320), 320, shift=shift) if tile.core[1].start == 0]

    longest = max(core.stop - core.start for core in cores(None))
    shifted = [cores((shift / 16, 0.0)) for shift in range(16)]
    assert max(core.stop - core.start for tiles in shifted for core in tiles) <= longest
    borders = {core.start for tiles in shifted for core in tiles} - {0}
    assert max(after - before for before, after in pairwise(sorted(borders))) <= 96


def test_tiles_are_as_large_as_their_side_allows_so_that_there_are_few():
    assert [tile.share for size in ((100, 128), (256, 64), (64, 256)) for tile in grid(size, 128)] == [1] * 3
    assert len(list(grid((4096, 3072), 500))) == 10 * 7  # Of 416 × 448 pixels, and twice the margin of 32.


@pytest.mark.parametrize(
    ("size", "side", "seen"),
    [
        ((1022, 1536), 875, [(1022, 608), (1022, 704), (1022, 608)]),  # Not six tiles of 640 × 704 pixels at most.
        ((1364, 2048), 1237, [(1364, 1120), (1364, 1120)]),
        ((700, 96), 192, [(284, 96), (380, 96), (380, 96), (316, 96)]),
    ],
)
def test_tiles_are_strips_where_these_overlap_less(size, side, seen):
    areas = [tile.seen for tile in grid(size, side, margin=86)]
    assert [tuple(along.stop - along.start for along in area) for area in areas] == seen
    assert seen_pixels(size, side, margin=86) == sum(height * width for height, width in seen)


def test_the_largest_tile_fills_the_memory_it_may_take():
    side = largest(1500, 240e6)
    assert side**2 * 1500 == pytest.approx(240e6, rel=0.01)
    assert largest(1e9, 1) == 128


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError(), MemoryError(), RuntimeError("std::bad_alloc"), RuntimeError("could not create a primitive")],
)
def test_where_memory_runs_out_tiles_get_smaller_and_stay_so(error):
    tried = []

    def step(side):
        tried.append(side)
        if side > 300:
            raise error
        return side

    with granted(Budget(1000**2)):
        allowance = Allowance()
    assert allowance.remark == ""
    assert allowance.fit(step, 1) == 250
    assert tried == [1000, 707, 500, 353, 250]
    assert allowance.fit(step, 1) == 250
    assert len(tried) == 6
    assert allowance.remark == ", in smaller tiles, since memory is short"
    with pytest.raises(RuntimeError, match="must match"):  # Other errors are raised at once.
        allowance.fit(lambda side: torch.zeros(side) + torch.zeros(3, 2), 1)


def test_a_run_that_begins_with_smaller_tiles_says_so_unless_it_has_none():
    with granted(Budget(1000**2, short=True)):
        assert Allowance().remark == ", in smaller tiles, since memory is short"
        assert Allowance(tiled=False).remark == ", in one piece, since its layers see the whole picture"


def test_the_derivative_of_a_tiles_core_keeps_the_memory_format_of_its_maps():
    """Operations on maps of two formats take ten times as long."""
    maps = torch.randn(1, 4, 12, 12).contiguous(memory_format=torch.channels_last).requires_grad_()
    network = SimpleNamespace(activations=lambda *_, **__: {"a": maps}, receptive_field=lambda _: SimpleNamespace(stride=16))
    tile = next(tile for tile in grid((320, 320), 192, margin=32) if all(within.start == 32 for within in tile.core_in_seen))
    ((_, core),) = tile_activations(network, tile, torch.empty(0), ["a"], continued=False).values()
    _, (rows, columns) = tile.within(16)
    assert rows.start > 0
    assert torch.equal(core, maps[..., rows, columns])
    (gradient,) = torch.autograd.grad(core, maps, torch.ones_like(core))
    expected = torch.zeros_like(maps)
    expected[..., rows, columns] = 1
    assert torch.equal(gradient, expected)
    assert gradient.is_contiguous(memory_format=torch.channels_last)


# A real limit of the system: on a CPU no class of its own says that memory has run out.

SHORT_OF_MEMORY = """
import os
os.environ["FEATVIZ_TILE_MEMORY_MB"] = "2400"  # More than there is.
from PIL import Image
from featviz import ActivationMaps, DeepDream, StyleTransfer, inspect_layer, run, stream
from featviz.errors import InputError
from featviz.runtime import capacity

capacity._free_address_space = lambda: float("inf")  # As where memory is gone only after a run has reserved it.
PHOTO = Image.effect_noise((640, 640), 60).convert("RGB")
DREAM = {"layer": "vgg19/relu1_1", "octaves": 1, "steps": 1}
STYLE = {"network": "efficientnet_lite0", "scales": 1, "steps": 1}
MAPS = {"layer": "vgg19/relu1_1", "count": 2}

def stages(recipe, **pictures):
    return [preview.stage for preview in stream(recipe, device="cpu", every=0, **pictures)]

def sentence(work, *arguments, **pictures):
    try:
        work(*arguments, device="cpu", **pictures)
    except InputError as error:
        return str(error)

for recipe, roles in ((DeepDream(**DREAM, size=64), ["image"]), (StyleTransfer(**STYLE, size=64), ["content", "style"])):
    run(recipe, device="cpu", **dict.fromkeys(roles, PHOTO))
inspect_layer(ActivationMaps(**MAPS, size=64), device="cpu", image=PHOTO)
allow(340)  # The smallest tiles take between 200 and 250 MB, whole ones more than 350.
dream = stages(DeepDream(**DREAM, size=900), image=PHOTO)
allow(450)
style = stages(StyleTransfer(**STYLE, size=768), content=PHOTO, style=PHOTO)
allow(320)
print(json.dumps({
    "dream": dream,
    "style": style,
    "too large a dream": sentence(run, DeepDream(**DREAM, size=4096), image=PHOTO),
    "too large a look": sentence(inspect_layer, ActivationMaps(**MAPS, size=1024), image=PHOTO),
    "afterwards": stages(DeepDream(**DREAM, size=64), image=PHOTO),
}))
"""


def test_if_a_cpu_runs_out_of_memory_tiles_shrink_and_a_run_that_still_does_not_fit_is_refused():
    found = printed(SHORT_OF_MEMORY)
    assert found["dream"][-1] == "octave 1 of 1, in smaller tiles, since memory is short"
    assert found["style"][-1] == "scale 1 of 1, in smaller tiles, since memory is short"
    too_large = "The device has too little memory for that; choose a smaller size."
    assert found["too large a dream"] == found["too large a look"] == too_large
    assert found["afterwards"] == ["octave 1 of 1"]
