"""Redirected ReLUs: the forward pass of always, and a gradient where there was none."""

import torch
from torch import nn

from featviz.networks.relu_gradients import RedirectedReLU

VALUES = [-2.0, -1.0, 3.0, 5.0, 7.0, 9.0]


def gradients(module: nn.Module, wanted: list[float], redirected: bool) -> tuple[list[float], list[float]]:
    """What the module answers, and the gradient that reaches its input."""
    values = torch.tensor(VALUES, requires_grad=True)
    if redirected:
        with RedirectedReLU():
            answer = module(values)
            (gradient,) = torch.autograd.grad(answer, values, torch.tensor(wanted))
    else:
        answer = module(values)
        (gradient,) = torch.autograd.grad(answer, values, torch.tensor(wanted))
    return answer.tolist(), gradient.tolist()


def test_a_relu_that_is_off_passes_on_what_would_turn_it_on_and_nothing_else():
    wanted = [-1.0, 1.0, -1.0, 1.0, -1.0, 1.0]  # Of a loss: minus asks for more.
    plain, redirected = gradients(nn.ReLU(), wanted, False), gradients(nn.ReLU(), wanted, True)
    assert redirected[0] == plain[0] == [0, 0, 3, 5, 7, 9]
    assert plain[1] == [0, 0, -1, 1, -1, 1]
    assert redirected[1] == [-1, 0, -1, 1, -1, 1]


def test_a_relu6_at_its_top_passes_on_what_would_bring_it_back():
    wanted = [-1.0, 1.0, -1.0, 1.0, -1.0, 1.0]
    plain, redirected = gradients(nn.ReLU6(), wanted, False), gradients(nn.ReLU6(), wanted, True)
    assert redirected[0] == plain[0] == [0, 0, 3, 5, 6, 6]
    assert plain[1] == [0, 0, -1, 1, 0, 0]
    assert redirected[1] == [-1, 0, -1, 1, 0, 1]


def test_it_ends_with_its_block():
    with RedirectedReLU():
        pass
    assert gradients(nn.ReLU(), [-1.0] * 6, False)[1] == [0, 0, -1, -1, -1, -1]
