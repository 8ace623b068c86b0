"""The time lapse on a bundled network: which layers, and what is beside and below their dreams."""

import math

import numpy as np
import pytest
import torch

from featviz.media.images import open_picture, to_picture, to_tensor
from featviz.media.sheets import captioned
from featviz.networks.cache import load
from featviz.networks.table import NETWORKS
from featviz.optimise.scaling import fit
from featviz.recipes import presets
from featviz.recipes.deepdream import DeepDream
from featviz.recipes.layer_time_lapse import LayerTimeLapse
from featviz.recipes.recipe import Frame

CAT = to_tensor(open_picture(presets.FOLDER / "cat.jpg", longest=256))
RECIPE = LayerTimeLapse(size=128, steps=2, octaves=1, seed=3)
LAYERS = list(NETWORKS["efficientnet_lite0"].layers)


@pytest.fixture(scope="module")
def seen() -> list[Frame]:
    return list(RECIPE.run(load("efficientnet_lite0"), image=CAT))


@pytest.fixture(scope="module")
def made(seen) -> dict[str, torch.Tensor]:
    """Layer → its video frame."""
    return {frame.stage: frame.image for frame in seen if frame.is_video_frame}


def test_the_video_goes_through_all_layers_shallow_to_deep(seen, made):
    assert list(made) == LAYERS
    assert {tuple(image.shape) for image in made.values()} == {tuple(made["stem"].shape)}
    assert [frame.step for frame in seen] == list(range(1, 2 * len(LAYERS) + 1))
    work = [frame.work for frame in seen]
    assert work == sorted(work)
    assert work[-1] == pytest.approx(1)
    assert work[1] < 0.5 / len(LAYERS)  # The first layer costs the least.


def test_on_the_left_is_the_dream_of_the_layer(made):
    for layer in ("stem", "block9", "head"):
        *_, dream = DeepDream(
            layer=f"efficientnet_lite0/{layer}", strength=RECIPE.strength, steps=2, octaves=1, size=128, seed=3
        ).run(load("efficientnet_lite0"), image=CAT)
        height, width = dream.image.shape[-2:]
        assert (made[layer][..., :height, :width] - dream.image).abs().max() <= 0.5 / 255 + 1e-6
        assert made[layer].shape[-1] == 2 * width


def test_the_map_is_brightest_where_the_norm_of_the_activations_is_greatest_and_dark_where_it_is_least(made):
    network = load("efficientnet_lite0")
    image = fit(CAT, 128, network.spec.smallest)
    height, width = image.shape[-2:]
    for layer in ("block1", "block9"):
        map_ = made[layer][0, :, :height, width:].mean(0)
        norms = network.activations(image, [layer])[layer][0].norm(dim=0)
        cells = torch.nn.functional.adaptive_avg_pool2d(map_[None], norms.shape)[0]
        order = norms.flatten().argsort()
        few = max(1, len(order) // 10)
        assert cells.flatten()[order[-few:]].mean() > cells.flatten()[order[:few]].mean() + 0.25
        assert torch.corrcoef(torch.stack([cells.flatten(), norms.flatten()]))[0, 1] > 0.7


def test_below_is_the_layer_s_name_its_place_and_what_a_unit_sees(made):
    network = load("efficientnet_lite0")
    height = fit(CAT, 128, network.spec.smallest).shape[-2]
    for number, layer in enumerate(LAYERS, 1):
        rows, columns = network.receptive_field(layer).field
        sees = "the whole picture" if math.isinf(rows) else f"{columns:.0f} by {rows:.0f} pixels"
        picture = to_picture(made[layer])
        above = picture.crop((0, 0, picture.width, height))
        same = captioned(above, layer, f"layer {number} of {len(LAYERS)}, a unit sees {sees}")
        assert np.array_equal(np.asarray(picture), np.asarray(same))


def test_while_the_next_layer_is_computed_the_video_frame_before_is_shown(seen):
    assert seen[0].image.shape[-1] == 128  # The first dream while it grows.
    for before, frame in zip(seen[1::2], seen[2::2], strict=False):
        assert torch.equal(frame.image, before.image)


def test_the_demand_is_that_of_all_dreams():
    network = load("efficientnet_lite0")
    dreams = [dream.demand(network, (100, 150)) for dream in RECIPE.dreams().values()]
    assert RECIPE.demand(network, (100, 150)).flops == sum(dream.flops for dream in dreams)
    assert RECIPE.demand(network, (100, 150)).bytes > max(dream.bytes for dream in dreams)
