"""Loading; networks of the Hub are in test_hub_networks.py."""

from featviz.networks.cache import load


def test_a_network_is_loaded_once_for_each_device():
    assert load("vgg19") is load("vgg19", "cpu")
