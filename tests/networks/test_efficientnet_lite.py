"""EfficientNet-Lite0's padding."""

import pytest
import torch
from torch.nn import functional

from featviz.networks.efficientnet_lite import SameConv2d


@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (3, 1), (5, 1), (3, 2), (5, 2)])
@pytest.mark.parametrize("size", [(9, 12), (10, 7)])
def test_same_padding_is_that_of_tensorflow(kernel, stride, size):
    """Output i sees stride·i − before … + kernel, before = ⌊total / 2⌋: computed on an image padded by zeros."""
    convolution = SameConv2d(2, 3, kernel, stride)
    image = torch.rand(1, 2, *size)
    outs = [-(-side // stride) for side in size]
    before = [max((out - 1) * stride + kernel - side, 0) // 2 for out, side in zip(outs, size, strict=True)]
    framed = torch.zeros(1, 2, size[0] + 20, size[1] + 20)
    framed[..., 10 : 10 + size[0], 10 : 10 + size[1]] = image
    top, left = (10 - b for b in before)
    window = framed[..., top : top + (outs[0] - 1) * stride + kernel, left : left + (outs[1] - 1) * stride + kernel]
    expected = functional.conv2d(window, convolution.weight, convolution.bias, stride)
    assert torch.allclose(convolution(image), expected, atol=1e-6)
