"""Architectures against torchvision's."""

import pytest
import torch
from torchvision import models

from featviz.networks import architectures
from featviz.networks.cache import load_untrained
from featviz.networks.table import NETWORKS


@pytest.mark.parametrize("name", ["vgg16", "vgg19"])
def test_vgg_is_torchvision_s(name):
    with torch.device("meta"):
        ours, theirs = getattr(architectures, name)(), getattr(models, name)(weights=None, init_weights=False).features
    assert [str(module) for module in ours] == [str(module).replace("inplace=True", "") for module in theirs]
    assert ours.state_dict().keys() == theirs.state_dict().keys()


def test_no_relu_works_in_place():
    assert not any(getattr(module, "inplace", False) for name in NETWORKS for module in load_untrained(name).module.modules())
