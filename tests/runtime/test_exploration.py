"""What the explorer is sent: small, exact, and the same for the picture that it sends back."""

import numpy as np
import pytest
import torch

from featviz.media.images import to_tensor
from featviz.networks.cache import load
from featviz.recipes import presets
from featviz.recipes.ablation import Ablation
from featviz.recipes.evidence import Evidence
from featviz.runtime.exploration import PLACE_BYTES, Exploration, explain_name, explore, switch_off

CAT = presets.FOLDER / "cat.jpg"


@pytest.fixture(scope="module")
def explored():
    return explore(Exploration(layer="efficientnet_lite0/block4", size=96, count=5), image=CAT)


def test_a_place_has_its_strongest_channels_with_their_shares(explored):
    """Against a plain pass over the picture that was returned."""
    network, places = load("efficientnet_lite0"), explored.places
    image = to_tensor(explored.image)
    maps = network.activations(image, ["block4"])["block4"][0].relu()
    assert places.shape == tuple(maps.shape)
    size = (*places.shape[1:], places.count)
    channels = np.frombuffer(places.channels, "<i2").reshape(size)
    shares = np.frombuffer(places.shares, "u1").reshape(size)
    for row, column in ((0, 0), (2, 5), (size[0] - 1, size[1] - 1)):
        here = maps[:, row, column]
        assert here[torch.from_numpy(channels[row, column].astype(int))].tolist() == here.topk(5).values.tolist()
        assert shares[row, column] / 255 == pytest.approx((here.topk(5).values / here.sum()).numpy(), abs=1 / 255)
    probabilities = network.logits(image)[0].softmax(0)
    assert list(explored.names.values()) == pytest.approx(probabilities.topk(5).values.tolist(), rel=1e-4)


def test_the_overview_has_every_layer_in_its_shape_and_a_fine_layer_stays_small(explored):
    network = load("efficientnet_lite0")
    assert [it.layer.partition("/")[2] for it in explored.layers] == list(network.spec.layers)
    assert all(len(it.activity) == it.size[0] * it.size[1] and max(it.activity) == 255 for it in explored.layers)
    fine = explore(Exploration(layer="vgg19/relu1_1", size=320, count=8), image=CAT)
    assert fine.names == {}
    assert fine.places.shape[1:] == fine.image.size[::-1]
    assert len(fine.places.channels) + len(fine.places.shares) <= PLACE_BYTES


def test_the_explanation_adds_up_to_the_logit(explored):
    found = explain_name(Evidence(class_name="tabby", count=3, size=96), image=explored.image)
    assert found.logit == pytest.approx(load("efficientnet_lite0").logits(to_tensor(explored.image))[0, 281].item(), rel=1e-6)
    assert sum(found.places) + found.bias == pytest.approx(found.logit, rel=1e-5)
    assert sum(found.channels.values()) + found.rest + found.bias == pytest.approx(found.logit, rel=1e-5)
    assert (
        explain_name(Evidence(class_name="tabby", rather_than="tiger cat", count=3, size=96), image=explored.image).name
        == found.name
    )
    assert [sum(map_) for map_ in found.maps] == pytest.approx(list(found.channels.values()), rel=1e-5)


def test_channels_or_a_region_off_change_the_names_and_a_search_changes_the_first(explored):
    before = explored.names
    some, off = switch_off(Ablation(channels="254, 7", size=96), ["tabby"], image=explored.image)
    assert off == (254, 7)
    assert list(some)[:5] != list(before) or list(some.values())[:5] != list(before.values())
    assert "tabby" in some
    searched, fewest = switch_off(Ablation(size=96), image=explored.image)
    assert next(iter(searched)) != next(iter(before))
    given, _ = switch_off(Ablation(channels=", ".join(map(str, fewest)), size=96), image=explored.image)
    assert given == pytest.approx(searched, rel=1e-4)
    mask = explored.image.convert("L").point(lambda value: 255 if value < 100 else 0)
    painted, none = switch_off(Ablation(size=96), image=explored.image, mask=mask)
    assert none == ()
    assert painted != before
