import pytest
import torch

from featviz.tiles import WORKING, grid, largest


@pytest.mark.parametrize(("size", "side"), [((100, 70), 32), ((64, 64), 64), ((65, 200), 64), ((4096, 3072), 500), ((7, 5), 128)])
def test_tiles_cover_every_pixel_once_start_aligned_and_are_never_too_small(size, side):
    count = torch.zeros(size)
    shapes = []
    for rows, columns in grid(size, side):
        count[rows, columns] += 1
        shapes.append(count[rows, columns].shape)
    assert (count == 1).all()
    assert max(max(shape) for shape in shapes) <= side + 31
    assert all(rows.start % 32 == columns.start % 32 == 0 for rows, columns in grid(size, side))
    assert min(min(shape) for shape in shapes) >= min(32, *size)


def test_the_largest_tile_fills_the_memory_it_may_take():
    side = largest(1500, 240e6)
    assert side**2 * 1500 * WORKING == pytest.approx(240e6, rel=0.01)
    assert largest(1e9, 1) == 128
