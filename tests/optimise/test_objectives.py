"""Each objective against a slow, obvious version, its gradient against finite differences."""

import numpy
import pytest
import torch

from featviz.networks.network import LiveBytes
from featviz.optimise.objectives import (
    caricature,
    channel,
    content_distance,
    direction,
    direction_cosine,
    diversity,
    energy,
    gram,
    guided_by_channels,
    guided_by_match,
    neuron,
    objective,
    relative_distance,
    style_distance,
    total_variation,
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


def test_a_channel_is_its_mean_over_positions_summed_over_the_batch():
    batch = torch.randn(2, 4, 5, 6, dtype=torch.float64)
    assert channel("a", 2)({"a": batch}).item() == pytest.approx((batch[0, 2].sum() + batch[1, 2].sum()).item() / 30)
    assert neuron("a", 2)({"a": batch}).item() == pytest.approx((batch[0, 2, 2, 3] + batch[1, 2, 2, 3]).item())


def test_a_direction_is_the_mean_dot_product_and_its_cosine_the_mean_cosine():
    batch, vector = torch.randn(2, 4, 3, 5, dtype=torch.float64), torch.randn(4, dtype=torch.float64)
    products, cosines = 0.0, 0.0
    for image in batch:
        for y in range(3):
            for x in range(5):
                product = sum(image[c, y, x] * vector[c] for c in range(4)).item()
                norms = sum(image[c, y, x] ** 2 for c in range(4)) ** 0.5 * sum(vector[c] ** 2 for c in range(4)) ** 0.5
                products, cosines = products + product / 15, cosines + product / norms.item() / 15
    assert direction("a", vector)({"a": batch}).item() == pytest.approx(products)
    assert direction_cosine("a", vector)({"a": batch}).item() == pytest.approx(cosines)
    assert direction("a", [0, 0, 1, 0])({"a": batch}).item() == pytest.approx(channel("a", 2)({"a": batch}).item())


def test_a_caricature_is_the_dot_product_with_the_picture_times_a_power_of_their_cosine():
    batch, target = (torch.rand(count, 4, 3, 5, dtype=torch.float64) for count in (2, 1))
    batch[1] *= -1  # A cosine of less than 0.1.
    expected = 0.0
    for image in batch:
        product = sum((image[c, y, x] * target[0, c, y, x]).item() for c in range(4) for y in range(3) for x in range(5))
        lengths = [sum(value**2 for value in values.flatten().tolist()) ** 0.5 for values in (image, target)]
        expected += product / 15 * max(0.1, product / lengths[0] / lengths[1]) ** 3
    assert caricature("a", target, 3)({"a": batch}).item() == pytest.approx(expected)


def test_each_image_of_a_batch_may_have_its_own_channel():
    batch = torch.randn(2, 4, 5, 6, dtype=torch.float64)
    means = batch[0, 3].sum() / 30 + batch[1, 1].sum() / 30
    assert channel("a", [3, 1])({"a": batch}).item() == pytest.approx(means.item())
    assert neuron("a", [3, 1])({"a": batch}).item() == pytest.approx((batch[0, 3, 2, 3] + batch[1, 1, 2, 3]).item())


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
    for index in range(4):
        share = guide[0, index].sum() / guide.sum()
        assert torch.allclose(gradient[0, index], share * activations[0, index])


def test_gram_and_the_distances_equal_their_slow_sums():
    assert torch.allclose(gram(ACTIVATIONS["a"]), slow_gram(ACTIVATIONS["a"]))

    def expected(found, targets):
        return sum(((found[k] - targets[k]) ** 2).sum() / (targets[k] ** 2).sum() for k in "ab").item() / 2

    grams, found = ({k: slow_gram(maps) for k, maps in of.items()} for of in (TARGETS, ACTIVATIONS))
    assert content_distance(TARGETS)(ACTIVATIONS).item() == pytest.approx(expected(ACTIVATIONS, TARGETS))
    assert style_distance(grams)(ACTIVATIONS).item() == pytest.approx(expected(found, grams))


def test_relative_distance_is_one_from_zero_and_does_not_depend_on_scale():
    target = TARGETS["a"]
    assert relative_distance(torch.zeros_like(target), target).item() == pytest.approx(1)
    assert relative_distance(target, target).item() == 0
    near = target + 0.1
    assert relative_distance(near * 1000, target * 1000).item() == pytest.approx(relative_distance(near, target).item())


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
        energy("a", (1, 3)),
        channel("a", 2),
        neuron("a", [2]),
        direction("a", [0.5, -1.0, 2.0, 0.25]),
        caricature("a", TARGETS["a"]),
        direction_cosine("a", [0.5, -1.0, 2.0, 0.25]),
        channel("mine/a", 2) - 0.5 * direction("mine/b", [1.0, 2.0, 3.0]) / 3,
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


@objective("mine/layer3.1", "mine/layer4.0")
def contrast(shallow, deep):
    return shallow.var() + deep.var()


@pytest.mark.parametrize(
    ("goal", "text"),
    [
        (channel("vgg19/relu4_1", 12) - 0.5 * total_variation("input"), 'channel("vgg19/relu4_1", 12) - 0.5 * total_variation("input")'),
        (-(channel("a", 1) - 2 * neuron("a", [3, 4])), '-channel("a", 1) + 2 * neuron("a", [3, 4])'),
        (0.2 * energy("a") + 0.8 * energy("a", [7, 9]) / 2, '0.2 * energy("a") + 0.4 * energy("a", [7, 9])'),
        (sum(channel("a", index) for index in (1, 2)), 'channel("a", 1) + channel("a", 2)'),
        (direction("mine/layer3.1", torch.ones(64)), 'direction("mine/layer3.1", <64 values>)'),
        (contrast * 1e-3, '0.001 * contrast("mine/layer3.1", "mine/layer4.0")'),
        (-content_distance(TARGETS), '-content_distance("a", "b")'),
    ],
)  # fmt: skip
def test_objectives_print_as_the_algebra_they_are(goal, text):
    assert str(goal) == repr(goal) == text


def test_the_text_before_the_first_slash_is_the_network_and_activations_have_keys_without_it():
    goal = channel("mine/stage/1", 2) + total_variation("input")
    assert (goal.network, goal.layers) == ("mine", {"stage/1", "input"})
    assert channel("a", 2).network == ""
    assert channel("mine/a", 2)(ACTIVATIONS) == channel("a", 2)(ACTIVATIONS)
    assert str(channel("a", numpy.int64(2))) == str(channel("a", 2))
    assert (
        contrast({"layer3.1": ACTIVATIONS["a"], "layer4.0": ACTIVATIONS["b"]}) == ACTIVATIONS["a"].var() + ACTIVATIONS["b"].var()
    )
