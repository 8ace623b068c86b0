"""Receptive fields compared with brute force: the pixels that have a gradient."""

import math
from copy import deepcopy

import pytest
import torch
from standins import tiny
from torch import nn
from torch.nn import functional

from featviz.networks.cache import load
from featviz.networks.network import Network
from featviz.networks.table import BUNDLED, LOGITS, NETWORKS


def transparent(network: Network) -> Network:
    """Return a network of the same geometry in which every pixel has a gradient: positive weights, averages for maxima."""
    trunk = deepcopy(network.module)
    for module in list(trunk.modules()):
        if isinstance(module, nn.Conv2d):
            module.weight = nn.Parameter(torch.full_like(module.weight, 1 / module.weight[0].numel()))
            module.bias = None
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.reset_parameters()
        for name, child in module.named_children():
            if isinstance(child, nn.MaxPool2d):
                setattr(module, name, nn.AvgPool2d(child.kernel_size, child.stride, child.padding))
            if isinstance(child, (nn.ReLU, nn.ReLU6)):
                setattr(module, name, nn.Identity())
    return Network(network.spec, trunk.double())


def support(network: Network, layer: str, side: int) -> tuple[int, int]:
    """Return (height, width) of the pixels with a gradient of the central unit."""
    image = torch.rand(1, 3, side, side, dtype=torch.float64, requires_grad=True)
    answer = transparent(network).activations(image, [layer])[layer][0, 0]
    (gradient,) = torch.autograd.grad(answer[answer.shape[0] // 2, answer.shape[1] // 2], image)
    rows, columns = gradient[0].abs().sum(0).nonzero(as_tuple=True)
    return (rows.max() - rows.min() + 1).item(), (columns.max() - columns.min() + 1).item()


@pytest.mark.parametrize(
    ("name", "depth", "side"), [(name, depth, side) for name in BUNDLED for depth, side in ((1, 64), (4, 96))]
)
def test_the_receptive_field_is_where_the_gradient_is(name, depth, side):
    network = load(name)
    layer = list(network.spec.layers)[depth]
    assert network.receptive_field(layer).field == support(network, layer, side)


def test_strides_and_padding_add_up_as_in_the_recurrence():
    fields = [tiny().receptive_field(layer).field for layer in ("relu1", "relu2", "conv3")]
    assert fields == [(3, 3), (5, 5), (9, 9)]  # 3, then + 2, then + 2 · 2 after the stride of 2.


class Paths(nn.Module):
    """A tall dilated and a wide convolution side by side, then functions instead of modules."""

    def __init__(self):
        super().__init__()
        self.wide = nn.Conv2d(3, 3, (3, 1), dilation=2, padding=(2, 0))
        self.narrow = nn.Conv2d(3, 3, (1, 3), padding=(0, 1))

    def forward(self, image):
        joined = torch.cat([self.wide(image), self.narrow(image) + image], dim=1)
        return functional.avg_pool2d(functional.max_pool2d(joined, 2), 3, stride=1)


def test_where_paths_join_the_widest_field_is_taken():
    base = tiny()
    network = Network(base.spec, nn.Sequential(nn.Identity(), Paths()))
    assert network.receptive_field("relu1").field == (5 + 1 + 2 * 2, 3 + 1 + 2 * 2)


def test_a_classifier_sees_the_whole_picture():
    for name in BUNDLED:
        if NETWORKS[name].classifier:
            assert load(name).receptive_field(LOGITS).field == (math.inf, math.inf)


def test_vgg19_sees_what_the_literature_says():
    fields = [load("vgg19").receptive_field(f"relu{block}_1").field[0] for block in range(1, 6)]
    assert fields == [3, 10, 24, 68, 156]
