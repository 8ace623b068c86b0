"""The atlas equals what the library makes today, is legible, and small."""

import numpy as np
import pytest
import torch
from PIL import Image

from featviz.media.images import to_picture, to_tensor
from featviz.networks.cache import load
from featviz.networks.table import BUNDLED, LOGITS, NETWORKS, class_names, split
from featviz.recipes.feature_visualization import FeatureVisualization
from featviz.runtime import atlas

SHEETS = atlas.sheets()


def grey(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture.convert("L"), float)


def test_there_is_a_sheet_of_every_bundled_network():
    assert {split(layer)[0] for layer in SHEETS} >= {"vgg19", "efficientnet_lite0"}


@pytest.mark.parametrize("layer", SHEETS)
def test_a_sheet_has_a_thumbnail_for_every_channel_of_its_layer(layer):
    sheet, (network, name) = SHEETS[layer], split(layer)
    side, channels = sheet.fields["size"], load(network).channels(name)
    assert len(sheet.peaks) == channels
    assert sheet.picture.size == (atlas.COLUMNS * side, -(-channels // atlas.COLUMNS) * side)
    assert sheet.file.stat().st_size < 3e6
    with pytest.raises(IndexError, match=f"{layer} has no channel {channels}"):
        sheet.thumbnail(channels)


@pytest.mark.parametrize(("layer", "channel"), [("efficientnet_lite0/block4", 9), ("vgg19/relu2_1", 21)])
def test_a_picture_made_now_resembles_the_thumbnail(layer, channel):
    """They correlate in grey and are not equal: rounding differs between a batch and a single picture and between machines, and
    WebP keeps colours at half the resolution."""
    sheet, (network, name) = SHEETS[layer], split(layer)
    *_, frame = FeatureVisualization(layer=layer, channel=channel, **sheet.fields).run(load(network))
    made, kept = grey(to_picture(frame.image)), grey(sheet.thumbnail(channel))
    others = [grey(sheet.thumbnail(other)) for other in range(len(sheet.peaks)) if other != channel]
    alike = np.corrcoef(made.ravel(), kept.ravel())[0, 1]
    assert alike > 0.6
    assert alike > 1.25 * max(np.corrcoef(made.ravel(), other.ravel())[0, 1] for other in others)
    with torch.no_grad():
        peak = load(network).activations(frame.image, [name])[name][0, channel].max().item()
    assert peak == pytest.approx(sheet.peaks[channel], rel=0.15)


# Natural patches


def test_every_layer_has_patches_inside_their_pictures_for_every_channel():
    found = {layer.layer: layer for layer in atlas.layers()}
    assert list(found) == [f"{network}/{layer}" for network in BUNDLED for layer in NETWORKS[network].layers]
    assert len(found) == 34
    for layer, patches in found.items():
        if layer in SHEETS:
            assert len(patches.channels) == len(SHEETS[layer].peaks)
        assert sum(map(len, patches.channels)) > 3 * len(patches.channels)  # A few channels answer to nothing.
        for channel in patches.channels:
            activations = [patch.activation for patch in channel]
            assert activations == sorted(activations, reverse=True)
            assert len({patch.file for patch in channel}) == len(channel)
            for patch in channel:
                width, height = atlas.opened(patch.file).size
                assert 0 <= patch.left <= width - patch.side
                assert 0 <= patch.top <= height - patch.side
    assert sum(file.stat().st_size for file in atlas.FOLDER.rglob("*.*")) < 12e6
    assert atlas.patches("vgg16/relu1_1") is None


def test_a_patch_is_where_its_channel_answers_most_and_no_stronger_one_is_left_out():
    network, file = load("efficientnet_lite0"), atlas.FOLDER / "pictures" / "cat.webp"
    image = to_tensor(Image.open(file))
    with torch.no_grad():
        activations = network.activations(image, NETWORKS["efficientnet_lite0"].layers)
    for layer, (maps,) in activations.items():
        patches, stride = atlas.patches(f"efficientnet_lite0/{layer}"), network.receptive_field(layer).stride
        tolerance = 0.01 * maps.abs().max().item()  # Rounding differs between machines.
        for channel, strongest in zip(maps, patches.channels, strict=True):
            own = [patch for patch in strongest if patch.file == file]
            if own:
                assert own[0].activation == pytest.approx(channel.max().item(), abs=tolerance)
                near = channel >= channel.max() - tolerance  # ReLU6 makes many places equal.
                rows, columns = np.nonzero(near.numpy())
                inside = [
                    own[0].top - stride <= row * stride <= own[0].top + own[0].side
                    and own[0].left - stride <= column * stride <= own[0].left + own[0].side
                    for row, column in zip(rows, columns, strict=True)
                ]
                assert any(inside)
                assert own[0].picture().size == (own[0].side, own[0].side)
            else:
                least = strongest[-1].activation if len(strongest) == 4 else 0
                assert channel.max().item() <= least + tolerance


def test_a_channel_and_a_class_belong_together_where_the_logit_changes_most_with_the_channel():
    network, patches = load("efficientnet_lite0"), atlas.patches("efficientnet_lite0/head")
    values = torch.zeros(3, 1280, 1, 1)
    values[1, 7] = values[2, 1001] = 1
    values.requires_grad_()
    none, *logits = network.activations(torch.zeros(3, 3, 32, 32), [LOGITS], edits={"head": lambda _: values})[LOGITS].flatten(1)
    for channel, raised in zip((7, 1001), logits, strict=True):
        assert tuple((raised - none).topk(5).indices.tolist()) == patches.classes[channel]
    for index in (0, 281, 999):
        (weights,) = torch.autograd.grad(none[index], values, retain_graph=True)
        assert tuple(weights[0].flatten().topk(8).indices.tolist()) == patches.class_channels[index]
    assert [layer.layer for layer in atlas.layers() if layer.classes or layer.class_channels] == ["efficientnet_lite0/head"]


@pytest.mark.parametrize(
    ("text", "count", "first"),
    [
        ("block4", 40, ("efficientnet_lite0/block4", 0)),
        (" VGG19/relu3_1  12 ", 1, ("vgg19/relu3_1", 12)),
        ("relu3_1/12", 1, ("vgg19/relu3_1", 12)),
        ("relu3_1 256", 0, None),
        ("1279", 1, ("efficientnet_lite0/head", 1279)),
        ("", 0, None),
        ("eye", 0, None),
        ("(", 0, None),
    ],
)
def test_a_search_finds_layers_and_numbers_and_nothing_else_by_chance(text, count, first):
    found = atlas.search(text)
    assert len(found) == count
    assert not found or (found[0].layer, found[0].channel) == first


def test_a_search_for_a_class_finds_the_channels_that_weigh_most_for_it():
    tabby = class_names("efficientnet_lite0").index("tabby")
    found = [(match.layer, match.channel, match.class_name) for match in atlas.search(" Tabby ")]
    speakers = atlas.patches("efficientnet_lite0/head").class_channels[tabby]
    assert found == [("efficientnet_lite0/head", channel, "tabby") for channel in speakers]
    names = {match.class_name for match in atlas.search("cat")}
    assert {"Egyptian cat", "tiger cat"} <= names
    assert "catamaran" not in names
