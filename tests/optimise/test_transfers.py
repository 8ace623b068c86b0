"""Copies that do not stop a device."""

import torch

from featviz.optimise.transfers import Read, constant


def test_a_constant_is_made_once_for_each_device_and_type():
    first = constant((1.0, 2.5), torch.device("cpu"), torch.float32)
    assert first.tolist() == [1, 2.5]
    assert constant((1.0, 2.5), torch.device("cpu"), torch.float32) is first
    assert constant((1.0, 2.5), torch.device("cpu"), torch.float64).dtype == torch.float64
    assert constant(((1, 2), (3, 4)), torch.device("cpu"), torch.long).tolist() == [[1, 2], [3, 4]]


def test_a_read_has_the_numbers_without_their_gradients():
    numbers, leaf = torch.arange(3), torch.ones(2, requires_grad=True)
    first, second = Read([numbers, 2 * leaf]).wait()
    assert (first.tolist(), second.tolist(), second.requires_grad) == ([0, 1, 2], [2, 2], False)
