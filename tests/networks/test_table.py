"""The table of networks."""

import pytest
from torch import nn

from featviz.networks.cache import load
from featviz.networks.table import BUNDLED, INPUT, NETWORKS, class_index, class_names


@pytest.mark.parametrize("name", BUNDLED)
def test_layers_are_complete_and_in_order_of_depth(name):
    network = load(name)
    children = [child for child, _ in network.module.named_children()]
    places = [children.index(child) for child in network.spec.layers.values()]
    assert places == sorted(set(places))
    if name == "vgg19":  # Every ReLU that follows a convolution.
        assert places == [i for i, module in enumerate(network.module) if isinstance(module, nn.ReLU)]
    else:  # Every stage but the logits, which are not convolutional.
        assert places == list(range(len(children) - 1))


@pytest.mark.parametrize("name", NETWORKS)
def test_content_and_style_layers_are_layers_of_their_network(name):
    spec = NETWORKS[name]
    assert {spec.content_layer, *spec.style_layers} <= {INPUT, *spec.layers}


def test_every_class_has_a_name_of_its_own_and_is_reached_by_it():
    assert [class_index(name) for name in class_names()] == list(range(1000))


def test_capitals_matter_only_where_two_class_names_differ_in_nothing_else():
    assert class_index("EGYPTIAN cat") == 285
    assert (class_index("Cardigan"), class_index("cardigan")) == (264, 474)  # The dog, the garment.
