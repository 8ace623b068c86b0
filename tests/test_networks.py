"""The table, the bundled networks, and the promises of `Network.activations`."""

import pytest
from torch import nn

from featviz.errors import FieldError
from featviz.loading import load
from featviz.networks import BUNDLED, INPUT, NETWORKS, addresses, class_index, class_names, split


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


def test_every_class_has_a_name_of_its_own_and_is_reached_by_it():
    assert [class_index(name) for name in class_names()] == list(range(1000))


def test_capitals_matter_only_where_they_tell_two_classes_apart():
    assert class_index("EGYPTIAN cat") == 285
    assert (class_index("Cardigan"), class_index("cardigan")) == (264, 474)  # The dog, the garment.
    with pytest.raises(FieldError) as raised:
        class_index("CARDIGAN")
    assert str(raised.value) == (
        "There is more than one class 'CARDIGAN'; expected its exact spelling: 'Cardigan' (number 264) or 'cardigan' (number 474)."
    )
