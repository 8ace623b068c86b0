"""The numbers of the lesson, against slow versions."""

import numpy as np
import pytest

from featviz.errors import FieldError
from featviz.media.images import open_picture, to_tensor
from featviz.networks.cache import load
from featviz.optimise.scaling import fit
from featviz.recipes import presets
from featviz.recipes.activation_maps import ActivationMaps
from featviz.runtime.lesson import correlated_maps, kernel_response

CAT = presets.FOLDER / "cat.jpg"
FIRST = ActivationMaps(layer="vgg19/relu1_1", size=64)


def test_a_point_of_a_feature_map_is_the_sum_of_nine_pixels_times_nine_weights():
    found = kernel_response(FIRST, 5, image=CAT)
    map_ = load("vgg19").activations(to_tensor(found.image), ["relu1_1"])["relu1_1"][0, 5].numpy()
    pixels, weights = np.asarray(found.image) / 255, np.array(found.weights)
    height, width = map_.shape
    sums = np.array([
        [(weights * pixels[y - 1 : y + 2, x - 1 : x + 2]).sum() + found.bias for x in range(1, width - 1)]
        for y in range(1, height - 1)
    ])  # fmt: skip
    # The network may compute in bfloat16, with eight bits.
    assert np.maximum(sums, 0) == pytest.approx(map_[1:-1, 1:-1], abs=0.02 * float(map_.max()))
    assert sums.max() > 0.5 * map_.max()
    brightness = np.asarray(found.map, float).sum(2)
    assert map_[brightness == brightness.max()].min() > 0.9 * map_.max()
    assert found.kernel.size == (3, 3)
    with pytest.raises(FieldError, match="VGG-19 relu1_1 has no channel 64"):
        kernel_response(FIRST, 64, image=CAT)


def test_a_cell_of_the_matrix_is_the_mean_product_of_its_two_maps():
    recipe = ActivationMaps(layer="efficientnet_lite0/block4", count=3, size=96)
    found = correlated_maps(recipe, image=CAT)
    maps = load("efficientnet_lite0").activations(fit(to_tensor(open_picture(CAT)), 96, 32), ["block4"])["block4"][0].relu()
    assert found.channels == tuple(maps.mean((1, 2)).topk(3).indices.tolist())
    one, other = (maps[found.channels[i]].numpy() for i in (2, 0))
    assert found.cosines[2][0] == found.cosines[0][2]
    assert found.cosines[2][0] == pytest.approx((one * other).sum() / ((one**2).sum() * (other**2).sum()) ** 0.5, rel=1e-4)
    brightness = np.asarray(found.products[2, 0], float).sum(2)
    assert (one * other)[brightness == brightness.max()].min() > 0.9 * (one * other).max()
    assert list(found.products) == [(0, 0), (1, 0), (1, 1), (2, 0), (2, 1), (2, 2)]  # The browser counts on the order.
    assert (len(found.maps), found.matrix.size) == (3, (3, 3))
