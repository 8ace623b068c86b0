"""The target of a style transfer: what enters its distances, and that tiles leave them as they are."""

import copy
from dataclasses import replace

import pytest
import torch

from featviz.media.images import open_picture, to_tensor
from featviz.networks.cache import load
from featviz.networks.network import Network
from featviz.networks.table import BUNDLED, NETWORKS
from featviz.optimise import tiles
from featviz.optimise.scaling import fit, resize
from featviz.recipes import presets
from featviz.recipes.style_transfer import StyleTransfer

CAT, WAVE, TERRACE = (to_tensor(open_picture(presets.FOLDER / f"{name}.jpg")) for name in ("cat", "great_wave", "cafe_terrace"))
SHORT = {"network": "efficientnet_lite0", "size": 96, "scales": 1, "steps": 4}


def half(value=1.0):
    """A mask that is white on the left."""
    mask = torch.zeros(1, 3, 40, 60)
    mask[..., :30] = value
    return mask


def test_a_style_gets_the_size_of_its_scale_and_is_never_enlarged():
    half_size, fourfold = (StyleTransfer(style_scale=scale).comparison(load("vgg19")) for scale in (0.5, 4.0))
    assert half_size.sized(WAVE, 400).shape[-1] == 200
    assert fourfold.sized(WAVE, 400).shape == WAVE.shape


def test_the_transparent_part_of_a_content_enters_nothing():
    """Neither the distances nor the colours that a style is matched to change with what is there."""
    network = load("vgg19")
    recipe = StyleTransfer(network="vgg19", style_layers="relu1_1, relu2_1", content_layers="relu2_1", colours="matched")
    content, image = (fit(one, 96, 32) for one in (CAT, TERRACE))
    image = resize(image, content.shape[-2:]).clamp(0, 1)
    visible = torch.zeros(1, 1, *content.shape[-2:])
    visible[..., :48] = 1
    other_image, other_content = image.clone(), content.clone()
    other_image[..., 64:], other_content[..., 64:] = 1.0, 0.0
    found = []
    for one, of in ((image, content), (other_image, other_content)):
        wanted = recipe.comparison(network).target(of, [(WAVE, None)], None, visible, 512)
        measures, *_ = wanted.compare(one, recipe, 512)
        found.append({name: value.item() for name, value in measures.items()})
    assert found[0] == pytest.approx(found[1], rel=1e-4)


def test_a_region_that_is_empty_at_a_scale_changes_neither_the_loss_nor_the_gradient():
    network, recipe, content = load("efficientnet_lite0"), StyleTransfer(**SHORT), fit(CAT, 96, 32)
    all_of_it = torch.ones(1, 1, *content.shape[-2:])
    nothing = torch.zeros_like(all_of_it)
    compared = [
        recipe.comparison(network).target(content, styles, where, None, tiles.WHOLE).compare(content, recipe, tiles.WHOLE)
        for styles, where in (
            ([(WAVE, None), (TERRACE, torch.zeros(1, 1, *TERRACE.shape[-2:]))], torch.cat([all_of_it, nothing], 1)),
            ([(WAVE, None)], all_of_it),
        )
    ]
    (_, loss, gradient), (_, alone, gradient_alone) = compared
    assert loss.item() == pytest.approx(alone.item(), rel=1e-5)
    assert torch.allclose(gradient, gradient_alone, atol=1e-4 * gradient_alone.abs().max())


SHALLOW = {"style_layers": "relu1_1, relu2_1, relu3_1", "content_layers": "relu3_1"}
"""In float64 the whole of VGG-19 would take a minute."""


UNPADDED = {"style_layers": "conv1a, conv2b, conv4a", "content_layers": "conv4a"}
"""Its convolutions see no border, so that there are fewer activations than pixels by their stride."""


CELLS = {"statistic": "neighbours", "content_comparison": "self-similarity"}


@pytest.mark.parametrize(
    ("name", "layers"),
    [pytest.param("vgg19", SHALLOW, marks=pytest.mark.whole), ("efficientnet_lite0", CELLS), ("inception_v3", UNPADDED)],
)
def test_tiled_equals_untiled(name, layers):
    """The loss, its gradient and every measure, with a mask and two styles, at a size that no stride divides."""
    trunk = load(name).module if name in BUNDLED else NETWORKS[name].build()
    network = Network(NETWORKS[name], copy.deepcopy(trunk).double())
    network._mean, network._std = network._mean.double(), network._std.double()
    recipe = StyleTransfer(network=name, **layers)
    content, image, mask = (resize(one, (205, 237)).clamp(0, 1).double() for one in (CAT, WAVE, half()[:, :1]))

    def compared(side):
        opacity = half().double().flip(-1)[:, :1]
        styles = [(WAVE.double(), None), (TERRACE.double(), resize(opacity, TERRACE.shape[-2:]).clamp(0, 1))]
        wanted = recipe.comparison(network).target(
            content, styles, torch.cat([mask, 1 - mask], 1), resize(opacity, content.shape[-2:]).clamp(0.1, 1), side
        )
        count = len(list(tiles.tiling(network, image, recipe.comparison(network).layers, side)))
        return count, *wanted.compare(image, recipe, side)

    one, measures, loss, gradient = compared(4096)
    many, tiled_measures, tiled_loss, tiled_gradient = compared(128)
    assert one == 1
    assert many >= 4
    assert tiled_loss.item() == pytest.approx(loss.item(), rel=1e-9)
    assert {name: value.item() for name, value in tiled_measures.items()} == pytest.approx(
        {name: value.item() for name, value in measures.items()}, rel=1e-8
    )
    assert (tiled_gradient - gradient).abs().max() < 1e-8 * gradient.abs().max()


def test_the_content_is_held_in_the_type_of_the_network_and_the_loss_is_that_of_float32():
    network = Network(NETWORKS["vgg19"], copy.deepcopy(load("vgg19").module).bfloat16())
    recipe, content = StyleTransfer(network="vgg19", **SHALLOW), fit(CAT, 64, 32)
    image = resize(WAVE, content.shape[-2:]).clamp(0, 1)
    target = recipe.comparison(network).target(content, [(WAVE, None)], None, None, 4096)
    assert {maps.dtype for maps in target.content.values()} == {torch.bfloat16}
    wide = replace(target, content={layer: maps.float() for layer, maps in target.content.items()})
    (_, loss, gradient), (_, wide_loss, wide_gradient) = (it.compare(image, recipe, 4096) for it in (target, wide))
    assert torch.equal(loss, wide_loss)
    assert torch.equal(gradient, wide_gradient)
    assert target.content_energies["relu3_1"] == wide.content["relu3_1"].square().sum()


def test_all_tiles_but_one_are_computed_twice(monkeypatch):
    network, recipe = load("efficientnet_lite0"), StyleTransfer(network="efficientnet_lite0")
    content = fit(CAT, 320, 32)
    wanted, passes = recipe.comparison(network).target(content, [(WAVE, None)], None, None, 4096), []
    count = len(list(tiles.tiling(network, content, recipe.comparison(network).layers, 150)))
    activations = Network.activations
    monkeypatch.setattr(Network, "activations", lambda *args, **kwargs: passes.append(1) or activations(*args, **kwargs))
    wanted.compare(content, recipe, 150)
    assert count > 2
    assert len(passes) == 2 * count - 1
