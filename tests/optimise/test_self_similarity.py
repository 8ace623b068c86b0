"""Self-similarity beside a slow, obvious version."""

import pytest
import torch

from featviz.optimise.self_similarity import MOST, SelfSimilarity, distances, spacing

generator = torch.Generator().manual_seed(0)
MAPS = torch.randn(1, 4, 5, 6, dtype=torch.float64, generator=generator)
EVERYWHERE = (slice(0, 5), slice(0, 6))


def slow_distances(vectors):
    """Pair by pair."""
    middle = vectors.mean(0)
    count = len(vectors)
    apart = torch.zeros(count, count, dtype=vectors.dtype)
    for i in range(count):
        for j in range(count):
            one, other = vectors[i] - middle, vectors[j] - middle
            apart[i, j] = 1 - one @ other / (one.norm() * other.norm())
    return torch.stack([apart[:, j] / apart[:, j].sum() for j in range(count)], 1)


def test_distances_are_those_of_all_pairs_with_columns_that_add_up_to_one():
    vectors = MAPS[0].flatten(1).T
    assert torch.allclose(distances(vectors), slow_distances(vectors))


def test_a_picture_has_no_distance_from_itself_nor_with_other_colours_and_one_that_is_alike_everywhere_has_one():
    similarity = SelfSimilarity.of(MAPS)
    turned = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64, generator=generator))[0]
    recoloured = 3 * torch.einsum("ij,bjhw->bihw", turned, MAPS) + 2
    for maps in (MAPS, recoloured):
        assert similarity.distance(similarity.vectors(EVERYWHERE, maps)).item() == pytest.approx(0, abs=1e-12)
    flat = similarity.distance(similarity.vectors(EVERYWHERE, torch.ones_like(MAPS)))
    assert flat.item() == pytest.approx(1)
    assert similarity.distance(similarity.vectors(EVERYWHERE, MAPS.flip(3))) > 0.5


def test_vectors_add_up_over_the_parts_of_a_map(monkeypatch):
    monkeypatch.setattr("featviz.optimise.self_similarity.MOST", 9)
    similarity = SelfSimilarity.of(MAPS)
    assert similarity.spacing == 2
    whole = similarity.vectors(EVERYWHERE, MAPS)
    assert torch.equal(whole, MAPS[0, :, ::2, ::2].flatten(1).T)
    areas = [(rows, columns) for rows in (slice(0, 3), slice(3, 5)) for columns in (slice(0, 1), slice(1, 6))]
    assert torch.equal(sum(similarity.vectors(area, MAPS[(..., *area)]) for area in areas), whole)


@pytest.mark.parametrize("size", [(1, 1), (32, 32), (33, 32), (7, 900), (256, 192)])
def test_no_more_positions_are_compared_than_the_most(size):
    k = spacing(size)
    positions = [-(-length // step) for length in size for step in (k,)]
    assert positions[0] * positions[1] <= MOST
    assert k == 1 or -(-size[0] // (k - 1)) * -(-size[1] // (k - 1)) > MOST


def test_gradients_equal_finite_differences_and_positions_without_weight_do_not_count():
    weights = torch.ones(1, 1, 5, 6, dtype=torch.float64)
    weights[..., 3:] = 0
    similarity = SelfSimilarity.of(MAPS, weights)
    other = torch.randn(MAPS.shape, dtype=torch.float64, generator=generator)
    assert torch.autograd.gradcheck(
        lambda maps: similarity.distance(similarity.vectors(EVERYWHERE, maps)), other.requires_grad_()
    )
    assert similarity.weights.sum() == (5 * 3) ** 2


@pytest.mark.parametrize("value", [0.0, 0.5])
def test_contents_and_results_that_are_alike_everywhere_give_no_nan(value):
    flat = torch.full((1, 4, 5, 6), value)
    for content, result in ((flat, MAPS.float()), (MAPS.float(), flat), (flat, flat)):
        similarity, maps = SelfSimilarity.of(content), result.clone().requires_grad_()
        distance = similarity.distance(similarity.vectors(EVERYWHERE, maps))
        assert distance.isfinite()
        assert torch.autograd.grad(distance, maps)[0].isfinite().all()
