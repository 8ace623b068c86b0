"""Redirected ReLUs: the same forward pass, and a gradient for saturated units."""

from contextlib import nullcontext

import torch
from torch import nn

from featviz.networks.relu_gradients import RedirectedReLU

OPEN, SHUT, HIGH = [-2.0, -1.0, 3.0, 5.0], [-2.0, -1.0, -3.0, -5.0], [7.0, 9.0, -1.0, -2.0]
WANTED = [-1.0, 1.0, -1.0, 1.0]
"""The gradient of a loss with respect to the output: a negative one increases the value."""


def gradients(module: nn.Module, images: list[list[float]], redirected: bool = True) -> list[list[float]]:
    """Return the gradient of the input of the module, (images, values). The output has to be that of the plain module."""
    values = torch.tensor(images, requires_grad=True)
    with RedirectedReLU() if redirected else nullcontext():
        answer = module(values)
        (gradient,) = torch.autograd.grad(answer, values, torch.tensor([WANTED] * len(images)))
    assert torch.equal(answer, module(torch.tensor(images)))
    return gradient.tolist()


def test_a_relu_that_stops_all_of_an_image_s_gradient_passes_what_activates_it():
    assert gradients(nn.ReLU(), [SHUT], redirected=False) == [[0, 0, 0, 0]]
    assert gradients(nn.ReLU(), [SHUT]) == [[-1, 0, -1, 0]]


def test_a_relu6_that_stops_all_of_an_image_s_gradient_passes_also_what_lowers_it():
    assert gradients(nn.ReLU6(), [HIGH], redirected=False) == [[0, 0, 0, 0]]
    assert gradients(nn.ReLU6(), [HIGH]) == [[0, 1, -1, 0]]


def test_an_image_whose_gradient_passes_keeps_it_whatever_the_others_of_its_batch():
    assert gradients(nn.ReLU(), [OPEN, SHUT]) == [[0, 0, -1, 1], [-1, 0, -1, 0]]


def test_relus_are_unchanged_after_the_context():
    with RedirectedReLU():
        pass
    assert gradients(nn.ReLU(), [SHUT], redirected=False) == [[0, 0, 0, 0]]
