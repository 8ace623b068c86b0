"""The evidence for a class adds up to its logit."""

import pytest
import torch
from torch import nn

from featviz.errors import FieldError
from featviz.media.images import open_picture, to_tensor
from featviz.networks.cache import load
from featviz.networks.network import Network
from featviz.networks.table import NETWORKS, class_names
from featviz.networks.user_network import describe_network
from featviz.optimise.scaling import fit
from featviz.recipes import presets
from featviz.recipes.evidence import Evidence, logit_terms

CAT = to_tensor(open_picture(presets.FOLDER / "cat.jpg"))


def test_terms_are_those_of_the_weights_and_add_up_to_the_logit():
    """Against the classifier's own weights: activation times weight, divided by the number of places."""
    network, recipe = load("efficientnet_lite0"), Evidence(class_name="tabby", size=96)
    terms = recipe.terms(network, CAT)
    image = fit(CAT, 96, 32)
    maps, linear = network.activations(image, ["head"])["head"][0], network.module.logits[1]
    slow = maps * linear.weight[281] / maps[0].numel()
    assert torch.allclose(terms.contributions, slow, atol=1e-6)
    assert torch.allclose(terms.bias, linear.bias[281], atol=1e-6)
    assert terms.value == network.logits(image)[0, 281]
    assert torch.allclose(terms.places.sum() + terms.bias, terms.value, rtol=1e-5)
    assert torch.allclose(terms.channels.sum() + terms.bias, terms.value, rtol=1e-5)


def test_what_tells_two_classes_apart_is_the_difference_of_their_terms():
    network = load("efficientnet_lite0")
    both = Evidence(class_name="tabby", rather_than="tiger cat", size=96).terms(network, CAT)
    tabby, tiger = (Evidence(class_name=name, size=96).terms(network, CAT) for name in ("tabby", "tiger cat"))
    assert torch.allclose(both.contributions, tabby.contributions - tiger.contributions, atol=1e-6)
    assert torch.allclose(both.value, tabby.value - tiger.value, atol=1e-6)
    assert both.name == "tabby rather than tiger cat"


@pytest.mark.parametrize("name", ["googlenet", "resnet50", "inception_v3"])
def test_the_evidence_of_every_network_that_ends_in_pooling_adds_up(name):
    """The weights are random, because the trained ones would have to be downloaded."""
    torch.manual_seed(0)
    network = Network(NETWORKS[name], NETWORKS[name].build())
    image = fit(CAT, 128, 75)
    terms = logit_terms(network, image, "tabby", names=class_names(name))
    assert terms.contributions.any()
    assert torch.allclose(terms.contributions.sum() + terms.bias, network.logits(image)[0, 281], rtol=1e-5, atol=1e-6)


def test_a_frame_has_the_strongest_channels_and_measures_that_add_up():
    network, recipe = load("efficientnet_lite0"), Evidence(count=3, size=96)
    (frame,) = recipe.run(network, image=CAT)
    values = recipe.terms(network, CAT).channels
    total, *measures = frame.measures.items()
    likeliest = network.logits(fit(CAT, 96, 32))[0].argmax()
    assert total[0] == frame.stage == class_names()[likeliest]
    assert [name for name, _ in measures] == [
        *(f"channel {channel}" for channel in values.topk(3).indices.tolist()),
        *(f"channel {channel}" for channel in (-values).topk(3).indices.tolist()),
        "other channels",
        "bias",
    ]
    assert sum(value.item() for _, value in measures) == pytest.approx(total[1].item(), rel=1e-5)
    assert -frame.loss == total[1]


def test_the_sheet_is_hot_where_the_class_is_seen():
    """A cat in one half and nothing in the other half."""
    cat = fit(CAT, 128, 32)
    image = torch.cat([cat, torch.full_like(cat, 0.5)], 3)
    (frame,) = Evidence(class_name="Egyptian cat", count=1, size=256).run(load("efficientnet_lite0"), image=image)
    height, width = frame.image.shape[-2] // 2, 200
    total = frame.image[0, :, 26:height, :width].mean(0)
    assert total[:, : width // 3].mean() > 1.5 * total[:, -width // 3 :].mean()


def test_a_class_is_not_compared_with_itself():
    with pytest.raises(FieldError, match="'tabby' is the class itself"):
        Evidence(class_name="tabby", rather_than="Tabby", size=64).terms(load("efficientnet_lite0"), CAT)


def test_a_classifier_that_is_not_linear_is_refused():
    torch.manual_seed(0)
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)]
    module = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), *head)
    row = describe_network(module, classes=["a", "b", "c"])
    with pytest.raises(FieldError, match="classifier of Sequential is not linear"):
        logit_terms(Network(row, row.build()), torch.rand(1, 3, 64, 64), "b", names=row.classes)
