"""Loading; networks of the Hub are in test_hub_networks.py."""

import pytest
from torch import nn

from featviz.networks.cache import load, load_untrained, scales
from featviz.networks.table import NETWORKS
from featviz.networks.user_network import add_network


def test_a_network_is_loaded_once_for_each_device():
    assert load("vgg19") is load("vgg19", "cpu")


@pytest.mark.usefixtures("remove_added_networks")
def test_a_row_that_replaces_another_of_the_same_name_is_loaded_anew():
    for channels in (4, 6):
        add_network("mine", nn.Sequential(nn.Conv2d(3, channels, 3, padding=1)))
        assert load("mine").channels("0") == load_untrained("mine").channels("0") == channels
        del NETWORKS["mine"]


@pytest.mark.usefixtures("remove_added_networks")
def test_the_scales_of_a_row_are_its_own():
    for expected in (("0",), ("0", "1", "2")):
        add_network("mine", nn.Sequential(*(nn.Conv2d(3, 3, 3, stride=2, padding=1) for _ in expected)))
        assert scales("mine") == expected
        del NETWORKS["mine"]
