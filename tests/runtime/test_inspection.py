"""Inspections of a bundled network: pictures in, pictures and numbers out."""

import numpy as np
import pytest
from PIL import Image

from featviz.errors import FieldError
from featviz.media.images import open_picture, to_picture, to_tensor
from featviz.networks.cache import load
from featviz.optimise.scaling import fit
from featviz.recipes import presets
from featviz.recipes.activation_maps import ActivationMaps
from featviz.recipes.reconstruction import ReconstructContent
from featviz.runtime.inspection import gram_picture, inspect_layer, strongest_channels
from featviz.runtime.sheet import try_out
from featviz.runtime.stream import run

CAT = presets.FOLDER / "cat.jpg"


def test_an_inspection_has_the_maps_of_the_sheet():
    recipe = ActivationMaps(layer="efficientnet_lite0/block2", count=3, size=96)
    inspection, network = inspect_layer(recipe, image=CAT), load("efficientnet_lite0")
    expected = recipe.inspect_layer(network, to_tensor(open_picture(CAT)))
    assert [cell.channel for cell in inspection.cells] == expected.channels.tolist()
    assert [cell.strength for cell in inspection.cells] == expected.strengths.tolist()
    drawn = map(to_picture, expected.pictures(320))
    assert all(np.array_equal(cell.picture, picture) for cell, picture in zip(inspection.cells, drawn, strict=True))
    assert (inspection.shape, inspection.field) == (expected.shape, (19, 19))
    chosen = inspect_layer(recipe, [expected.channels[2].item(), 7], image=CAT).cells
    assert (chosen[0].channel, chosen[0].strength, chosen[1].channel) == (
        *(value[2].item() for value in (expected.channels, expected.strengths)),
        7,
    )
    with pytest.raises(FieldError, match="EfficientNet-Lite0 block2 has no channel 24"):
        inspect_layer(recipe, [24], image=CAT)


def test_maps_and_patches_have_at_most_the_size_at_which_they_are_shown():
    inspection = inspect_layer(ActivationMaps(layer="efficientnet_lite0/block9", count=2, size=640), image=CAT)
    assert {max(cell.picture.size) for cell in inspection.cells} == {320}
    assert {patch.size for cell in inspection.cells for patch in cell.patches} == {(192, 192)}


def test_the_strength_of_a_channel_is_a_share_of_its_peak():
    recipe = ActivationMaps(layer="efficientnet_lite0/block2", count=4, size=96)
    image = fit(to_tensor(open_picture(CAT)), 96, 32)
    activations = load("efficientnet_lite0").activations(image, ["block2", "block4"])
    most = {layer: value[0].amax((1, 2)) for layer, value in activations.items()}
    peaks = {f"efficientnet_lite0/{layer}": [2 * peak for peak in values.tolist()] for layer, values in most.items()}
    peaks["efficientnet_lite0/block4"][7] /= 4  # Now the picture activates it twice as much as its peak.
    peaks["vgg19/relu1_1"] = [1.0] * 64
    cells = strongest_channels(recipe, peaks, image=CAT)
    assert (cells[0].layer, cells[0].channel) == ("efficientnet_lite0/block4", 7)
    assert [cell.strength for cell in cells] == pytest.approx([2, 0.5, 0.5, 0.5])


def test_a_gram_matrix_is_a_picture_with_a_bright_diagonal():
    picture = np.asarray(gram_picture(ActivationMaps(layer="vgg19/relu1_1", size=64), image=CAT), int)
    assert picture.shape == (64, 64, 3)
    assert np.array_equal(picture, picture.transpose(1, 0, 2))
    assert picture[range(64), range(64)].sum(1).min() > 600  # Every channel goes with itself.


def test_trying_out_yields_earlier_previews_on_request():
    recipe = ReconstructContent(layer="efficientnet_lite0/stem", size=64, steps=2)
    shown = [(variant.layer, preview.step) for variant, preview in try_out(recipe, every=0, image=CAT)]
    assert shown == [(variant.layer, step) for variant in recipe.variants() for step in (1, 2)]
    finished = [(variant.layer, preview.step) for variant, preview in try_out(recipe, image=CAT)]
    assert finished == shown[1::2]


def test_a_sheet_of_a_transparent_picture_is_opaque():
    with Image.open(CAT) as cat:
        half = cat.convert("RGBA").resize((96, 64))
    half.paste((0, 0, 0, 0), (48, 0, 96, 64))
    assert run(ActivationMaps(layer="efficientnet_lite0/block2", count=1, size=96), image=half).mode == "RGB"
