"""The table of networks."""

import copy

import pytest
import torch
from torch import nn

from featviz.errors import FieldError
from featviz.media.images import open_picture, to_tensor
from featviz.networks import architectures
from featviz.networks.cache import load, load_module
from featviz.networks.network import Network
from featviz.networks.table import BUNDLED, INPUT, NETWORKS, addresses, class_index, class_names, split
from featviz.optimise.objectives import energy
from featviz.optimise.scaling import fit
from featviz.recipes import presets
from featviz.recipes.deepdream import ascent

_VGG19 = {int(place) - 1: int(NETWORKS["vgg19"].layers[layer]) - 1 for layer, place in NETWORKS["vgg16"].layers.items()}
"""The place of each convolution of VGG-16 → that of the same convolution in VGG-19."""


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


def test_capitals_matter_only_where_two_class_names_differ_in_nothing_else():
    assert class_index("EGYPTIAN cat") == 285
    assert (class_index("Cardigan"), class_index("cardigan")) == (264, 474)  # The dog, the garment.
    with pytest.raises(FieldError) as raised:
        class_index("CARDIGAN")
    assert str(raised.value) == (
        "There is more than one class 'CARDIGAN'; expected its exact spelling: 'Cardigan' (number 264) or 'cardigan' (number 474)."
    )


def test_networks_of_one_architecture_compute_in_one_precision():
    kinds = {(spec.build.__name__.startswith("vgg"), spec.supports_bfloat16) for spec in NETWORKS.values()}
    assert kinds == {(True, True), (False, False)}


def test_vgg_16_with_trained_weights_supports_bfloat16():
    """Of its architecture with the bundled weights of VGG-19, as far as both are the same: cosine with float64 over 0.99."""
    spec, module, state = NETWORKS["vgg16"], architectures.vgg16(), load_module("vgg19").state_dict()
    module.load_state_dict(
        {name: state[f"{_VGG19[int(name.split('.')[0])]}.{name.split('.')[1]}"] for name in module.state_dict()}
    )
    image = fit(to_tensor(open_picture(presets.FOLDER / "cat.jpg")), 96, 32)
    for layer in ("relu1_2", "relu3_3", "relu5_3"):
        gradients = []
        for kind in (torch.float64, torch.bfloat16):
            network = Network(spec, copy.deepcopy(module).to(kind, memory_format=torch.channels_last))
            _, gradient = ascent(network, energy(layer), image.double() if kind is torch.float64 else image, 999)
            gradients.append(gradient.double().flatten())
        assert torch.cosine_similarity(*gradients, dim=0) > 0.99
