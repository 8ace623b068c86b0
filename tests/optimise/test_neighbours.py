"""Nearest neighbours beside slow, obvious versions."""

import pytest
import torch

from featviz.media.images import open_picture, to_tensor
from featviz.networks.cache import load
from featviz.networks.table import INPUT
from featviz.optimise import tiles
from featviz.optimise.neighbours import (
    MOST_CELLS,
    Neighbours,
    cell_side,
    cells_of,
    directions,
    grid,
    matching_cost,
    nearest,
    neighbours_of,
    pool,
)
from featviz.optimise.scaling import fit, size_of
from featviz.recipes import presets

CAT, WAVE = (fit(to_tensor(open_picture(presets.FOLDER / f"{name}.jpg")), 96, 32) for name in ("cat", "great_wave"))
LAYERS = ("stem", "block1", "block4")
generator = torch.Generator().manual_seed(0)


def relative(neighbours, image):
    """The relative distance of an image from its neighbours, by layer."""
    with torch.no_grad():
        maps = load("efficientnet_lite0").activations(image, LAYERS, continued=True)
    everywhere = (slice(0, 10_000), slice(0, 10_000))
    return {layer: (neighbours.squares(layer, everywhere, maps[layer]) / neighbours.energy(layer)).item() for layer in LAYERS}


def neighbours_in(network, image, style, side=tiles.WHOLE, layers=LAYERS, **options):
    return neighbours_of(network, image, cells_of(network, size_of(image), style, layers, side, **options), side)


@pytest.fixture(scope="module")
def network():
    return load("efficientnet_lite0")


def test_the_nearest_are_those_of_a_loop_over_all_pairs_whatever_the_chunks():
    queries, candidates = torch.randn(7, 5, generator=generator), torch.randn(11, 5, generator=generator)
    expected = [max(range(11), key=lambda j: float(queries[i] @ candidates[j])) for i in range(7)]
    assert [nearest(queries, candidates, chunk).tolist() for chunk in (3, 11, 100)] == [expected] * 3


def test_directions_give_every_layer_the_same_share_and_forget_the_mean():
    columns = {"a": 100 * torch.randn(3, 40, generator=generator) + 7, "b": torch.randn(50, 40, generator=generator)}
    vectors = directions(columns)
    assert torch.allclose(vectors.norm(dim=1), torch.ones(40))
    shares = vectors[:, :3].square().sum().item(), vectors[:, 3:].square().sum().item()
    assert shares[0] == pytest.approx(shares[1], rel=0.25)
    assert torch.equal(directions({"a": torch.full((3, 4), 2.0)}), torch.zeros(4, 3))


def test_cells_grow_so_that_a_picture_has_no_more_than_the_most():
    assert [cell_side(size) for size in ((384, 288), (385, 384), (1024, 768), (4096, 4096))] == [4, 8, 16, 32]
    assert MOST_CELLS == 96 * 96
    assert grid((97, 96), 8) == (13, 12)


@pytest.mark.parametrize("turns", [1, 4])
def test_the_neighbours_of_a_picture_in_itself_are_its_own_cells(network, turns):
    distances = relative(neighbours_in(network, CAT, CAT, turns=turns), CAT)
    assert max(distances.values()) < 1e-6


def test_turned_copies_find_a_style_that_is_turned(network):
    turned = torch.rot90(CAT, -1, (2, 3))
    straight, rotated = (relative(neighbours_in(network, CAT, turned, turns=turns), CAT) for turns in (1, 4))
    assert max(rotated.values()) < 1e-6 < 0.02 < min(straight.values())


def test_targets_are_the_activations_of_the_most_similar_cells_of_the_style(network):
    """At a layer whose positions are the cells, each target is one of the style's vectors, and the best of them on average."""
    neighbours = neighbours_in(network, CAT, WAVE)
    with torch.no_grad():
        maps, style = (network.activations(image, ["block1"], continued=True)["block1"] for image in (CAT, WAVE))
    target, candidates = (values[0].flatten(1).T.double() for values in (neighbours.targets["block1"], style))
    assert torch.cdist(target, candidates).amin(1).max() < 1e-5
    own = maps[0].flatten(1).T.double()
    shuffled = candidates[torch.randperm(len(candidates), generator=generator)[: len(own)]]
    assert (own - target).norm() < 0.9 * (own - shuffled).norm()


def test_sums_add_up_over_tiles_to_those_of_the_whole(network):
    image = fit(CAT, 288, 32)
    neighbours = neighbours_in(network, image, WAVE)
    assert tiles.count(size_of(image), 160, tiles.reach(network, LAYERS)) > 1
    by_tiles = neighbours_in(network, image, WAVE, 160)
    for layer in LAYERS:
        assert (by_tiles.targets[layer] - neighbours.targets[layer]).abs().mean() < 1e-3 * neighbours.targets[layer].abs().mean()
        values = tiles.activations_of(network, image, [layer], tiles.WHOLE, continued=True)[layer]
        stride = network.receptive_field(layer).stride
        whole = neighbours.squares(layer, (slice(0, values.shape[2]), slice(0, values.shape[3])), values)
        cut = 128 // stride
        areas = [(slice(0, cut), slice(0, values.shape[3])), (slice(cut, values.shape[2]), slice(0, values.shape[3]))]
        parts = sum(neighbours.squares(layer, area, values[(..., *area)]) for area in areas)
        assert parts.item() == pytest.approx(whole.item(), rel=1e-4)


def test_gradients_equal_finite_differences_also_where_positions_are_weighed():
    values, weights = torch.rand(1, 2, 5, 6, dtype=torch.float64), torch.rand(1, 1, 5, 6, dtype=torch.float64)
    neighbours = Neighbours({"a": torch.rand(1, 2, 3, 3, dtype=torch.float64)}, {"a": 2})
    everywhere = (slice(0, 5), slice(0, 6))
    assert torch.autograd.gradcheck(lambda maps: neighbours.squares("a", everywhere, maps, weights), values.requires_grad_())
    expected = ((pool(values, 2) - neighbours.targets["a"]) ** 2 * pool(weights, 2)).sum()
    assert neighbours.squares("a", everywhere, values, weights).item() == pytest.approx(expected.item())


def test_a_mixture_lies_between_its_styles_and_leaves_them_as_they_are():
    styles = [Neighbours({"a": torch.full((1, 1, 2, 2), value)}, {"a": 1}) for value in (1.0, 3.0, 8.0)]
    assert Neighbours.mixed(styles, [0.5, 0.25, 0.25]).targets["a"].unique().tolist() == [3.25]
    assert [style.targets["a"].unique().item() for style in styles] == [1, 3, 8]


@pytest.mark.parametrize(
    "style", [torch.full((1, 3, 40, 40), 0.5), torch.zeros(1, 3, 33, 50), WAVE[..., :32, :32]], ids=["grey", "black", "tiny"]
)
@pytest.mark.parametrize("opacity", [None, 0.0, 1.0])
def test_styles_without_variety_or_of_no_opacity_give_finite_targets(network, style, opacity):
    opaque = None if opacity is None else torch.full((1, 1, *size_of(style)), opacity)
    neighbours = neighbours_in(network, CAT, style, opacity=opaque)
    assert all(target.isfinite().all() for target in neighbours.targets.values())


@pytest.mark.parametrize("turns", [1, 4])
def test_transparent_cells_of_a_style_are_no_neighbours(network, turns):
    """Of the cat itself, only the right half may be matched."""
    opacity = torch.ones(1, 1, *size_of(CAT))
    opacity[..., : CAT.shape[-1] // 2] = 0
    distances = relative(neighbours_in(network, CAT, CAT, turns=turns, opacity=opacity), CAT)
    assert min(distances.values()) > 0.01


def test_of_an_area_narrower_than_a_cell_the_cells_with_most_of_it_are_neighbours(network):
    style = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 0.2
    style[..., 32:36] = 0.9
    opacity = torch.zeros(1, 1, 64, 64)
    opacity[..., 33] = 1  # A quarter of a cell of 4 pixels.
    found = neighbours_in(network, CAT, style, layers=[INPUT], opacity=opacity).targets[INPUT]
    assert found.min().item() == pytest.approx(0.9)


def test_the_cost_of_matching_counts_products_of_all_pairs_of_cells():
    flops, held = matching_cost([(40, 40)], (80, 40), 10, turns=4)
    assert flops == 2 * 10 * (20 * 10) * 4 * (10 * 10)
    assert held > 4 * 10 * (200 + 400)
