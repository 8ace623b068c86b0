"""Measurements of a user's module, compared with brute force."""

import math

import pytest
import torch
from torch import nn
from torchvision import models
from user_modules import FAMILY, add_tiny, seeded

import featviz
from featviz.networks.cache import load, load_untrained
from featviz.networks.table import INPUT, ChannelsLast
from featviz.networks.user_network import add_network
from featviz.optimise import tiles
from featviz.optimise.scaling import size_of
from featviz.recipes.style_transfer import StyleTransfer

pytestmark = pytest.mark.usefixtures("remove_added_networks")


@pytest.mark.parametrize("family", ["unet", "resnet", "convnext"])
def test_measured_receptive_fields_contain_the_true_ones_and_are_not_much_larger(family):
    """Compared with brute force: each pixel column in turn is NaN, and so are the units that see it."""
    row = add_network("mine", seeded(FAMILY[family]))
    network, width = load("mine"), 96
    layers = [row.content_layer] if family != "unet" else ["bottom.2", "mix2.2", "mix1.2"]
    image = torch.rand(1, 3, 32, width).expand(width, -1, -1, -1).clone()
    for column in range(width):
        image[column, ..., column] = torch.nan
    with torch.no_grad():
        maps = network.activations(image, layers)
    for layer in layers:
        receptive_field, seeing = network.receptive_field(layer), maps[layer].isnan().any(1).any(1)  # (pixel column, unit column)
        assert math.isfinite(receptive_field.field[1])
        for unit in range(seeing.shape[1]):
            columns = seeing[:, unit].nonzero().flatten()
            assert receptive_field.first[1] + unit * receptive_field.stride <= columns.min()
            assert columns.max() <= receptive_field.last[1] + unit * receptive_field.stride
        widest = (seeing.sum(0)).max().item()
        assert (
            receptive_field.field[1] <= widest + 8 + 2 * receptive_field.stride or widest > width // 2
        )  # 8: what two poolings shift.


def test_activations_of_a_u_net_by_tiles_equal_those_of_the_whole_picture():
    layers = ["down2", "bottom", "mix2", "mix1"]
    add_tiny(layers=layers)
    network, image = load("tiny"), torch.rand(1, 3, 200, 260)
    with torch.no_grad():
        whole, pieces = (tiles.activations_of(network, image, layers, side, continued=True) for side in (1000, 128))
    for layer in layers:
        assert torch.allclose(pieces[layer], whole[layer], atol=1e-4 * whole[layer].abs().max().item()), layer


def test_a_layer_that_sees_everything_is_never_tiled_and_the_stage_says_so(monkeypatch):
    add_network("mine", seeded(FAMILY["mobilenet_v3"]), layers=["features.0", "features.3"])
    network = load("mine")
    assert network.tiled(["features.0"])
    assert not network.tiled(["features.0", "features.3"])
    monkeypatch.setattr(tiles, "MIN_TILE", 32)
    monkeypatch.setattr(tiles, "largest", lambda *_, tiled=True: 32 if tiled else tiles.WHOLE)
    grid, counts = tiles.grid, []

    def counted(*given, **options):
        found = list(grid(*given, **options))
        counts.append(len(found))
        return iter(found)

    monkeypatch.setattr(tiles, "grid", counted)
    image = torch.rand(1, 3, 64, 80)
    for recipe in (
        featviz.DeepDream(layer="mine/features.3", size=80, octaves=1, steps=1),
        StyleTransfer(network="mine", style_layers="features.3", size=80, scales=1, steps=1),
    ):
        given = {"content": image, "style": image} if isinstance(recipe, StyleTransfer) else {"image": image}
        (frame,) = recipe.run(network, **given)
        assert frame.stage.endswith(", in one piece, since its layers see the whole picture")
    assert set(counts) == {1}
    next(featviz.DeepDream(layer="mine/features.0", size=300, octaves=1, steps=1).run(network, image=image))
    assert counts[-1] > 1


def test_sides_that_a_u_net_does_not_accept_are_padded_and_the_padding_is_cut_off():
    assert add_tiny(layers=["down1", "bottom", "mix1"]).multiple == 4
    found = load("tiny").activations(torch.rand(1, 3, 45, 50), ["down1", "bottom", "mix1", INPUT])
    assert [size_of(found[layer]) for layer in ("down1", "bottom", "mix1", INPUT)] == [(45, 50), (12, 13), (45, 50), (45, 50)]


def test_windows_of_attention_that_do_not_fit_the_tiles_are_not_tiled():
    swin = models.SwinTransformer([4, 4], 16, [1, 1], [2, 2], [7, 7])
    row = add_network("mine", seeded(lambda: swin), layers=["features.0", "features.1", "features.3"])
    assert set(row.layouts.values()) == {ChannelsLast()}
    assert [load("mine").tiled([layer]) for layer in row.layers] == [True, False, False]


def test_a_module_that_refuses_nan_is_not_tiled():
    class Strict(nn.Module):
        def __init__(self):
            super().__init__()
            self.one = nn.Conv2d(3, 4, 3)

        def forward(self, image):
            if image.isnan().any():
                raise ValueError("NaN")
            return self.one(image)

    add_network("mine", Strict())
    assert not load("mine").tiled(["one"])


def test_cost_and_channels_are_those_of_the_layer():
    add_tiny(layers={"stem": "down1.0"})
    assert load("tiny").channels("stem") == 6
    assert load_untrained("tiny").cost(["stem"]).flops == 2 * 2 * 3 * 3 * 3 * 6
