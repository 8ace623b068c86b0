"""Redirected ReLUs: the same forward pass, and a gradient for saturated units."""

import torch
from torch import nn

from featviz.networks.relu_gradients import RedirectedReLU

VALUES = [-2.0, -1.0, 3.0, 5.0, 7.0, 9.0]


def gradients(module: nn.Module, wanted: list[float], redirected: bool) -> tuple[list[float], list[float]]:
    """Return the output of the module, and the gradient of its input."""
    values = torch.tensor(VALUES, requires_grad=True)
    if redirected:
        with RedirectedReLU():
            answer = module(values)
            (gradient,) = torch.autograd.grad(answer, values, torch.tensor(wanted))
    else:
        answer = module(values)
        (gradient,) = torch.autograd.grad(answer, values, torch.tensor(wanted))
    return answer.tolist(), gradient.tolist()


def test_an_inactive_relu_passes_only_gradients_that_activate_it():
    wanted = [-1.0, 1.0, -1.0, 1.0, -1.0, 1.0]  # Of a loss: a negative gradient increases the value.
    plain, redirected = gradients(nn.ReLU(), wanted, False), gradients(nn.ReLU(), wanted, True)
    assert redirected[0] == plain[0] == [0, 0, 3, 5, 7, 9]
    assert plain[1] == [0, 0, -1, 1, -1, 1]
    assert redirected[1] == [-1, 0, -1, 1, -1, 1]


def test_a_relu6_at_its_upper_bound_passes_only_gradients_that_lower_it():
    wanted = [-1.0, 1.0, -1.0, 1.0, -1.0, 1.0]
    plain, redirected = gradients(nn.ReLU6(), wanted, False), gradients(nn.ReLU6(), wanted, True)
    assert redirected[0] == plain[0] == [0, 0, 3, 5, 6, 6]
    assert plain[1] == [0, 0, -1, 1, 0, 0]
    assert redirected[1] == [-1, 0, -1, 1, 0, 1]


def test_relus_are_unchanged_after_the_context():
    with RedirectedReLU():
        pass
    assert gradients(nn.ReLU(), [-1.0] * 6, False)[1] == [0, 0, -1, -1, -1, -1]
