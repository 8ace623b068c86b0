"""Reconstructions: what each depth keeps, in decibels and in distances of another network."""

import pytest
import torch
from PIL import Image, ImageStat
from torch import nn

from featviz import run
from featviz.media.images import open_picture, to_tensor
from featviz.networks.cache import load
from featviz.networks.user_network import add_network
from featviz.optimise.objectives import gram, relative_distance
from featviz.optimise.scaling import fit
from featviz.recipes import presets
from featviz.recipes.reconstruction import ReconstructContent, ReconstructStyle, psnr

CAT, WAVE = (to_tensor(open_picture(presets.FOLDER / f"{name}.jpg")) for name in ("cat", "great_wave"))


def rebuilt(**fields):
    recipe = ReconstructContent(**{"size": 96, "steps": 8} | fields)
    *_, frame = recipe.run(load(recipe.network_name), image=CAT)
    return frame


def textured(**fields):
    recipe = ReconstructStyle(**{"size": 96, "steps": 8} | fields)
    return list(recipe.run(load(recipe.network), style=WAVE))


def test_only_opaque_positions_of_a_style_are_rebuilt():
    """Black, with a transparent half that is white in the file: what comes is as dark as black alone, and not grey."""
    style = Image.effect_noise((96, 64), 20).point(lambda value: value // 4).convert("RGBA")
    dark = run(ReconstructStyle(network="efficientnet_lite0", size=64, steps=3, layers=1), style=style.convert("RGB"))
    style.paste((255, 255, 255, 0), (48, 0, 96, 64))
    half = run(ReconstructStyle(network="efficientnet_lite0", size=64, steps=3, layers=1), style=style)
    assert half.mode == "RGB"
    assert abs(ImageStat.Stat(half.convert("L")).mean[0] - ImageStat.Stat(dark.convert("L")).mean[0]) < 8


def test_shallow_layers_keep_the_picture_and_deeper_ones_less_and_less():
    found = [rebuilt(layer=f"vgg19/relu{block}_1").measures["psnr"].item() for block in (1, 2, 4)]
    assert found[0] > 30
    assert found[1] > 30
    assert found == sorted(found, reverse=True)
    assert found[2] < 25


def test_the_measure_is_that_of_the_frame_s_own_picture():
    frame = rebuilt(layer="efficientnet_lite0/block2", steps=3)
    error = ((frame.image.double() - fit(CAT, 96, 32).double()) ** 2).mean().item()
    assert 10 ** (-frame.measures["psnr"].item() / 10) == pytest.approx(error, rel=1e-4)
    assert psnr(torch.full((1, 3, 4, 4), 0.6), torch.full((1, 3, 4, 4), 0.5)).item() == pytest.approx(20)


def test_a_style_s_correlations_come_back_and_its_arrangement_does_not():
    frames = textured(layers=2, steps=12)
    style, layers, network = fit(WAVE, 96, 32), ["relu1_1", "relu2_1"], load("vgg19")

    def distance(image):
        pairs = zip(network.activations(image, layers).values(), network.activations(style, layers).values(), strict=True)
        return sum(relative_distance(gram(ours), gram(theirs)) for ours, theirs in pairs) / 2

    last = frames[-1]
    assert distance(torch.full_like(style, 0.5)) > 100 * distance(last.image)
    assert last.measures["nearer"] > 100
    assert psnr(last.image, style) < 15  # The wave is not where it was.
    assert last.loss.item() == pytest.approx(distance(last.image).item(), rel=1e-3)


@pytest.mark.usefixtures("remove_added_networks")
def test_variants_go_from_shallow_to_deep():
    assert [variant.layer for variant in ReconstructContent().variants()] == [f"vgg19/relu{block}_1" for block in range(1, 6)]
    places = [variant.places for variant in ReconstructStyle(network="efficientnet_lite0").variants()]
    assert places[-1] == ("stem", "block1", "block3", "block5", "block11")  # Where each resolution begins.
    assert places == [places[-1][:count] for count in range(1, 6)]
    add_network(
        "mine", nn.Sequential(*(nn.Conv2d(3, 3, 3, stride=2, padding=1) for _ in range(6)))
    )  # More than there are layers.
    assert [variant.layers for variant in ReconstructStyle(network="mine").variants()] == [1, 2, 3, 4, 5]


def test_the_start_depends_only_on_the_size_of_the_picture():
    """Two pictures with the same activations at a layer, here none at all, are rebuilt alike."""
    recipe = ReconstructContent(layer="vgg19/relu1_1", size=64, steps=1)
    grey = torch.full((1, 3, 64, 64), 0.5)
    *_, frame = recipe.run(load("vgg19"), image=grey)
    assert psnr(frame.image, grey) > 25
