"""The table, the bundled networks, and the promises of `Network.activations`."""

import pytest
from torch import nn

from featviz.loading import load
from featviz.networks import BUNDLED, INPUT, NETWORKS, addresses, split


@pytest.mark.parametrize("name", BUNDLED)
def test_the_menu_is_complete_and_in_depth_order(name):
    network = load(name)
    children = [child for child, _ in network.trunk.named_children()]
    places = [children.index(child) for child in network.spec.layers.values()]
    assert places == sorted(set(places))
    if name == "vgg19":  # Every ReLU that follows a convolution.
        assert places == [i for i, module in enumerate(network.trunk) if isinstance(module, nn.ReLU)]
    else:  # Every stage but the logits, which are not convolutional.
        assert places == list(range(len(children) - 1))


def test_addresses_are_the_layers_of_all_networks_in_order():
    assert [split(address) for address in addresses()] == [
        (name, layer) for name, spec in NETWORKS.items() for layer in spec.layers
    ]


@pytest.mark.parametrize("name", NETWORKS)
def test_content_and_style_layers_are_layers_of_their_network(name):
    spec = NETWORKS[name]
    assert {spec.content_layer, *spec.style_layers} <= {INPUT, *spec.layers}
