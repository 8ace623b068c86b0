"""Feature accentuation: its objective and gradient, what it holds, and the map of where it acted."""

import pytest
import torch
from standins import tiny

from featviz.media.images import open_picture, to_tensor
from featviz.networks.cache import load
from featviz.optimise.gradients import blur
from featviz.optimise.objectives import relative_distance
from featviz.optimise.scaling import fit
from featviz.recipes import presets
from featviz.recipes.activation_maps import heat
from featviz.recipes.feature_accentuation import FeatureAccentuation, accentuation, held_layer

CAT = to_tensor(open_picture(presets.FOLDER / "cat.jpg"))
LITE = "efficientnet_lite0"


def test_the_layer_held_is_halfway():
    network = load(LITE)
    assert [held_layer(network, layer) for layer in ("stem", "block0", "block9", "logits")] == [
        "input",
        "stem",
        "block4",
        "block8",
    ]


def test_the_gradient_is_that_of_finite_differences():
    """The activation minus the relative distance at the layer held, with the weight of the distance fixed."""
    network = tiny()
    network.module.double()
    network._mean, network._std = network._mean.double(), network._std.double()
    goal = accentuation("conv3", 1, "relu2", 2.0)
    generator = torch.Generator().manual_seed(0)
    image, target = torch.rand(2, 1, 3, 12, 12, dtype=torch.float64, generator=generator)

    def value(image: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        maps = network.activations(torch.cat([image, target]), ["conv3", "relu2"])
        distance = (maps["relu2"][0] - maps["relu2"][1]).square().sum() / maps["relu2"][1].square().sum()
        return maps["conv3"][0, 1].mean() - 2.0 * weight * distance

    seen = image.clone().requires_grad_()
    found = goal(network.activations(torch.cat([seen, target]), goal.layers))
    (gradient,) = torch.autograd.grad(found, seen)
    weight = network.activations(image, ["conv3"])["conv3"][0, 1].mean().abs()
    assert found.item() == pytest.approx(value(image, weight).item())
    step = 1e-6
    for place in ((0, 0, 3, 3), (0, 1, 6, 5), (0, 2, 8, 2)):
        change = torch.zeros_like(image)
        change[place] = step
        slope = (value(image + change, weight) - value(image - change, weight)) / (2 * step)
        assert gradient[place].item() == pytest.approx(slope.item(), rel=1e-5, abs=1e-9)


def test_the_channel_responds_more_and_the_picture_is_held_near_itself():
    network = load(LITE)
    image = fit(CAT, 96, 32)
    activations = {}
    for hold in (0.0, 10.0):
        recipe = FeatureAccentuation(layer=f"{LITE}/block6", channel=3, hold=hold, size=96, steps=6)
        *_, frame = recipe.run(network, image=CAT)
        before, after = (network.activations(one, ["block6", "block2"]) for one in (image, frame.image))
        distance = relative_distance(after["block2"], before["block2"]).item()
        activations[hold] = (after["block6"][0, 3] - before["block6"][0, 3]).mean().item(), distance
    assert min(more for more, _ in activations.values()) > 0
    assert activations[10.0][1] < 0.9 * activations[0.0][1]


def test_the_map_is_the_sum_of_absolute_gradients():
    network, fields = load(LITE), {"layer": f"{LITE}/block2", "channel": 3, "size": 64, "steps": 2}
    frames = list(FeatureAccentuation(**fields).run(network, image=CAT))
    acted = sum(frame.gradient.abs().mean(1, keepdim=True) for frame in frames)
    assert acted.shape[:2] == (1, 1)
    *_, frame = FeatureAccentuation(map=True, **fields).run(network, image=CAT)
    assert torch.allclose(frame.image, heat(blur(acted, 1.0)[:, 0], fit(CAT, 64, 32)), atol=1e-5)
