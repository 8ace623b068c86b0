"""The atlas equals what the library makes today, is legible, and small."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image

from featviz.media.images import to_picture
from featviz.networks.cache import load
from featviz.networks.table import split
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


@pytest.mark.parametrize("layer", SHEETS)
def test_thumbnails_are_legible_and_unlike_each_other(layer):
    """They have contrast, and neighbouring pixels correlate, unlike in noise."""
    sheet = SHEETS[layer]
    pictures = [grey(sheet.thumbnail(channel)) for channel in range(len(sheet.peaks))]
    alive = [picture for picture, peak in zip(pictures, sheet.peaks, strict=True) if peak > 0]
    assert len(alive) >= 0.9 * len(pictures)
    assert np.median([picture.std() for picture in alive]) > 20
    neighbours = [np.corrcoef(picture[:, 1:].ravel(), picture[:, :-1].ravel())[0, 1] for picture in alive]
    assert np.median(neighbours) > 0.5
    correlations = [np.corrcoef(left.ravel(), right.ravel())[0, 1] for left, right in pairwise(alive)]
    assert np.median(np.abs(correlations)) < 0.5


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
