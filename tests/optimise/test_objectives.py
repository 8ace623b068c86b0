"""Each objective against a slow, obvious version, its gradient against finite differences."""

import pytest
import torch

from featviz.networks.network import LiveBytes
from featviz.optimise.objectives import (
    channels,
    content_distance,
    diversity,
    energy,
    gram,
    guided_by_channels,
    guided_by_match,
    neurons,
    relative_distance,
    style_distance,
    total_variation,
    unit,
)

ACTIVATIONS = {"a": torch.randn(1, 4, 5, 6, dtype=torch.float64), "b": torch.randn(1, 3, 2, 2, dtype=torch.float64)}
TARGETS = {layer: torch.randn_like(value) for layer, value in ACTIVATIONS.items()}


def slow_gram(activations):
    _, channels, height, width = activations.shape
    result = torch.zeros(1, channels, channels, dtype=activations.dtype)
    for i in range(channels):
        for j in range(channels):
            for y in range(height):
                for x in range(width):
                    result[0, i, j] += activations[0, i, y, x] * activations[0, j, y, x]
    return result / (height * width)


def test_energy_is_half_the_squared_norm_and_its_gradient_the_activations_themselves():
    activations = ACTIVATIONS["a"].clone().requires_grad_()
    value = energy("a")({"a": activations})
    assert value.item() == pytest.approx(sum(v**2 for v in activations.flatten().tolist()) / 2)
    (gradient,) = torch.autograd.grad(value, activations)
    assert torch.equal(gradient, activations)


def test_energy_of_some_channels_leaves_the_others_alone():
    activations = ACTIVATIONS["a"].clone().requires_grad_()
    (gradient,) = torch.autograd.grad(energy("a", (1, 3))({"a": activations}), activations)
    assert torch.equal(gradient[:, [1, 3]], activations[:, [1, 3]])
    assert not gradient[:, [0, 2]].any()


def test_unit_is_the_sum_of_one_channel():
    assert unit("a", 2)(ACTIVATIONS).item() == pytest.approx(ACTIVATIONS["a"][0, 2].sum().item())


def test_each_image_of_a_batch_answers_for_its_own_channel():
    batch = torch.randn(2, 4, 5, 6, dtype=torch.float64)
    means = batch[0, 3].sum() / 30 + batch[1, 1].sum() / 30
    assert channels("a", [3, 1])({"a": batch}).item() == pytest.approx(means.item())
    assert neurons("a", [3, 1])({"a": batch}).item() == pytest.approx((batch[0, 3, 2, 3] + batch[1, 1, 2, 3]).item())


def test_diversity_is_minus_the_mean_cosine_between_grams():
    batch = torch.randn(3, 4, 5, 6, dtype=torch.float64)
    grams = [slow_gram(image.unsqueeze(0)).flatten() for image in batch]
    cosines = [(grams[i] @ grams[j]) / (grams[i].norm() * grams[j].norm()) for i, j in ((0, 1), (0, 2), (1, 2))]
    assert diversity("a")({"a": batch}).item() == pytest.approx(-sum(cosines).item() / 3)
    assert diversity("a")({"a": batch[:1].expand(3, -1, -1, -1)}).item() == pytest.approx(-1)


@pytest.mark.parametrize("chunk", [1, 4, 7, 4096])
def test_a_guide_by_match_pulls_every_position_towards_its_best_vector(chunk):
    guide = torch.randn(1, 4, 3, 2, dtype=torch.float64)
    activations = ACTIVATIONS["a"].clone().requires_grad_()
    (gradient,) = torch.autograd.grad(guided_by_match("a", guide, chunk=chunk)({"a": activations}), activations)
    vectors = [guide[0, :, y, x] for y in range(3) for x in range(2)]
    for y in range(5):
        for x in range(6):
            best = max(vectors, key=lambda vector, here=ACTIVATIONS["a"][0, :, y, x]: (vector * here).sum())
            assert torch.equal(gradient[0, :, y, x], best)


def test_matching_a_guide_holds_one_piece_of_all_products_at_a_time():
    """Of 4096 positions and 65,536 vectors, whose products are 1.07 GB, against 2048 and 2048 at a time."""
    guide, activations = torch.rand(1, 2, 256, 256), torch.rand(1, 2, 64, 64)
    with LiveBytes() as live:
        guided_by_match("a", guide)({"a": activations})
    assert live.peak < 3 * 4 * 2048**2


def test_a_guide_by_channels_weighs_each_channel_by_its_share_of_the_guide():
    guide = torch.rand(1, 4, 3, 2, dtype=torch.float64)
    activations = ACTIVATIONS["a"].clone().requires_grad_()
    (gradient,) = torch.autograd.grad(guided_by_channels("a", guide)({"a": activations}), activations)
    for channel in range(4):
        share = guide[0, channel].sum() / guide.sum()
        assert torch.allclose(gradient[0, channel], share * activations[0, channel])


def test_gram_equals_the_slow_sum():
    assert torch.allclose(gram(ACTIVATIONS["a"]), slow_gram(ACTIVATIONS["a"]))


def test_gram_forgets_arrangement_and_size():
    activations = ACTIVATIONS["a"]
    shuffled = activations.flatten(2)[..., torch.randperm(30)].view_as(activations)
    assert torch.allclose(gram(shuffled), gram(activations))
    assert torch.allclose(gram(activations.repeat(1, 1, 2, 3)), gram(activations))


def test_relative_distance_is_one_from_zero_and_does_not_depend_on_scale():
    target = TARGETS["a"]
    assert relative_distance(torch.zeros_like(target), target).item() == pytest.approx(1)
    assert relative_distance(target, target).item() == 0
    near = target + 0.1
    assert relative_distance(near * 1000, target * 1000).item() == pytest.approx(relative_distance(near, target).item())


def test_content_distance_is_the_mean_over_its_layers():
    expected = sum(((ACTIVATIONS[k] - TARGETS[k]) ** 2).sum() / (TARGETS[k] ** 2).sum() for k in "ab") / 2
    assert content_distance(TARGETS)(ACTIVATIONS).item() == pytest.approx(expected.item())


def test_style_distance_is_the_mean_over_its_layers():
    grams = {layer: slow_gram(target) for layer, target in TARGETS.items()}
    found = {layer: slow_gram(value) for layer, value in ACTIVATIONS.items()}
    expected = sum(((found[k] - grams[k]) ** 2).sum() / (grams[k] ** 2).sum() for k in "ab") / 2
    assert style_distance(grams)(ACTIVATIONS).item() == pytest.approx(expected.item())


def test_total_variation_equals_the_slow_sum_and_is_alike_in_all_directions():
    image = torch.rand(1, 3, 5, 4, dtype=torch.float64)

    def mean(down, right):
        found = [
            (image[0, c, y + down, x + right] - image[0, c, y, x]) ** 2
            for c in range(3)
            for y in range(5 - down)
            for x in range(max(0, -right), 4 - max(0, right))
        ]
        return torch.stack(found).mean()

    expected = (4 * mean(0, 1) + 4 * mean(1, 0) + mean(1, 1) + mean(1, -1)) / 6
    assert total_variation("input")({"input": image}).item() == pytest.approx(expected.item())
    across, aslant = torch.arange(8.0).expand(8, 8), (torch.arange(8.0)[:, None] + torch.arange(8.0)) / 2**0.5
    slopes = [total_variation("input")({"input": slope.expand(1, 3, 8, 8)}).item() for slope in (across, across.T, aslant)]
    assert slopes == pytest.approx([1, 1, 1])
    assert total_variation("input")({"input": torch.full((1, 3, 8, 8), 0.7)}).item() == 0


@pytest.mark.parametrize(
    "objective",
    [
        energy("a"),
        content_distance(TARGETS),
        style_distance({k: slow_gram(v) for k, v in TARGETS.items()}),
        total_variation("input"),
    ],
)
def test_gradients_equal_finite_differences(objective):
    inputs = {"a": ACTIVATIONS["a"], "b": ACTIVATIONS["b"], "input": torch.rand(1, 3, 4, 5, dtype=torch.float64)}
    for layer in sorted(objective.layers):
        rest = {name: value for name, value in inputs.items() if name != layer}
        assert torch.autograd.gradcheck(
            lambda value, layer=layer, rest=rest: objective({**rest, layer: value}), inputs[layer].clone().requires_grad_()
        )


def test_objectives_compose_as_arithmetic_and_know_the_layers_they_need():
    combined = 2 * energy("a") - energy("b") * 0.5 + -total_variation("input")
    assert combined.layers == {"a", "b", "input"}
    image = torch.rand(1, 3, 4, 4, dtype=torch.float64)
    a, b, tv = energy("a")(ACTIVATIONS), energy("b")(ACTIVATIONS), total_variation("input")({"input": image})
    assert combined({**ACTIVATIONS, "input": image}).item() == pytest.approx((2 * a - 0.5 * b - tv).item())
