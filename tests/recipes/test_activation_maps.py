"""The maps, patches and correlations shown are those of the layer's activations."""

import pytest
import torch
from standins import tiny

from featviz.media.images import open_picture, to_tensor
from featviz.networks.cache import load
from featviz.optimise.scaling import fit
from featviz.recipes import presets
from featviz.recipes.activation_maps import HEAT, ActivationMaps, coloured, correlations, heat, layer_activations, patches
from featviz.recipes.classification import Classification

CAT = to_tensor(open_picture(presets.FOLDER / "cat.jpg"))


def test_the_most_active_channels_come_first_with_their_own_indices():
    network = tiny()
    image = torch.rand(1, 3, 20, 24)
    found = layer_activations(network, image, "relu2", 3)
    activations = network.activations(image, ["relu2"])["relu2"][0]
    means = {channel: activations[channel].clamp(min=0).sum().item() / activations[channel].numel() for channel in range(5)}
    expected = sorted(means, key=means.get, reverse=True)[:3]
    assert found.channels.tolist() == expected
    assert found.strengths.tolist() == pytest.approx([means[channel] for channel in expected])
    assert found.peaks.tolist() == pytest.approx([activations[channel].max().item() for channel in expected])
    assert found.mean.item() == pytest.approx(sum(means.values()) / 5)
    assert found.shape == (5, *activations.shape[1:])
    assert found.field == network.receptive_field("relu2").field
    assert sorted(layer_activations(network, image, "relu1", 64).channels.tolist()) == [0, 1, 2, 3]  # More than there are.


def test_a_map_is_hot_where_the_channel_is_active_and_shows_the_picture_elsewhere():
    maps = torch.zeros(1, 8, 8)
    maps[0, 6, 1] = 3.0
    image = torch.zeros(1, 3, 64, 64)
    image[..., :32] = 1.0
    picture = heat(maps, image)
    brightness = picture.mean(1)[0]
    assert picture.shape == (1, 3, 64, 64)
    assert (brightness == brightness.max()).nonzero().float().mean(0).tolist() == pytest.approx([51.5, 11.5], abs=2)
    assert brightness[10, 10] > brightness[10, 50] + 0.1  # The picture itself, faint.
    assert heat(torch.zeros(2, 4, 4), image).isfinite().all()


def test_the_sheet_shows_every_map_with_its_label():
    recipe = ActivationMaps(layer="efficientnet_lite0/block2", count=6, size=96)
    (frame,) = recipe.run(load("efficientnet_lite0"), image=CAT)
    assert frame.work == 1
    columns, width = 4, 240
    height = frame.image.shape[-2] // 2
    assert frame.image.shape[-1] == columns * (width + 6) - 6
    for cell in range(8):
        top, left = cell // 4 * height, cell % 4 * (width + 6)
        label = frame.image[..., top : top + 26, left : left + width]
        below = frame.image[..., top + 26 : top + height, left : left + width]
        assert bool((label < 0.5).any()) == (cell < 6)
        assert (below.mean() < 0.7).item() == (cell < 6)


def test_a_classifier_names_the_cat_with_probabilities_that_fall():
    (frame,) = Classification().run(load("efficientnet_lite0"), image=CAT)
    names, probabilities = zip(*((name, value.item()) for name, value in frame.measures.items()), strict=True)
    assert names[0] in ("Egyptian cat", "tabby", "tiger cat")
    assert list(probabilities) == sorted(probabilities, reverse=True)
    exact = load("efficientnet_lite0").logits(fit(CAT, 224, 32)).softmax(1)[0].max().item()
    assert probabilities[0] == pytest.approx(exact)
    assert len(names) == 5


def test_patches_are_those_with_the_greatest_activations_and_do_not_overlap_much():
    image = torch.rand(1, 3, 40, 60)
    map_ = torch.zeros(10, 15)  # A position is 4 pixels.
    map_[2, 3], map_[2, 4], map_[8, 14] = 9.0, 8.0, 5.0
    first, second = patches(image, map_, side=16, count=4)  # The second best is too near to the best.
    assert torch.equal(first, image[..., 2:18, 6:22])  # About (10, 14).
    assert torch.equal(second, image[..., 24:40, 44:60])  # About (34, 58), as far as the picture reaches.
    map_ = torch.zeros(10, 15)
    map_[1, 1], map_[4, 4] = 9.0, 8.0
    assert len(patches(image, map_, side=24, count=4)) == 1  # Half a side is three positions.


def test_correlations_are_cosines_between_maps():
    activations = torch.randn(1, 5, 6, 7).relu()
    vectors = activations[0].flatten(1)
    cosines = torch.stack([torch.stack([torch.cosine_similarity(a, b, dim=0) for b in vectors]) for a in vectors])
    assert torch.allclose(correlations(activations), coloured(cosines.clamp(0, 1)[None, None]), atol=1e-5)
    assert torch.allclose(correlations(activations)[0, :, range(5), range(5)].T, HEAT[-1].expand(5, 3), atol=1e-4)
