"""A bilateral grid beside a slow version."""

import math

import pytest
import torch

from featviz.optimise.bilateral_grid import CELLS, DEPTH, GAIN, neutral, roughness, sliced

generator = torch.Generator().manual_seed(0)


def image(height, width, dtype=torch.float64):
    return 0.1 + 0.8 * torch.rand(1, 3, height, width, generator=generator, dtype=dtype)


def grid(size, spread=0.05):
    like = neutral(size).double()
    return like + spread * torch.randn(like.shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("size", [(30, 40), (4, 400), (1, 1)])
def test_the_neutral_grid_changes_nothing_and_is_even(size):
    picture = image(*size)
    assert torch.allclose(sliced(picture, neutral(size).double()), picture)
    assert roughness(neutral(size)) == 0
    assert max(neutral(size).shape[-2:]) == CELLS
    assert min(neutral(size).shape[-2:]) >= 2


def test_each_pixel_has_the_map_between_the_cells_around_its_place_and_its_brightness():
    picture, cells = image(5, 7), grid((5, 7))
    maps = GAIN * (cells.view(12, DEPTH, *cells.shape[-2:]) - 0.5)
    found = sliced(picture, cells)
    for row in range(5):
        for column in range(7):
            colour = picture[0, :, row, column]
            brightness = colour @ torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64)
            at = (brightness * (DEPTH - 1), row / 4 * (maps.shape[2] - 1), column / 6 * (maps.shape[3] - 1))
            entries = torch.zeros(12, dtype=torch.float64)
            for depth in range(DEPTH):
                for down in range(maps.shape[2]):
                    for right in range(maps.shape[3]):
                        share = math.prod(max(0.0, 1 - abs(x - i)) for x, i in zip(at, (depth, down, right), strict=True))
                        if share:
                            entries += share * maps[:, depth, down, right]
            expected = colour + entries[:9].view(3, 3) @ (colour - 0.5) + entries[9:]
            assert torch.allclose(found[0, :, row, column], expected, atol=1e-6)


def test_the_gradients_are_those_of_finite_differences():
    picture, cells = image(4, 6), grid((4, 6))[..., :3, :4].requires_grad_()
    assert torch.autograd.gradcheck(lambda cells: sliced(picture, cells).square().mean() + roughness(cells), cells)
