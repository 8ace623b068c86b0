import pytest
import torch

from featviz.networks import NETWORKS
from featviz.tiles import SMALLEST, WORKING, Allowance, grid, largest


@pytest.mark.parametrize(
    ("size", "side"), [((300, 70), 128), ((128, 128), 128), ((129, 400), 128), ((7, 5), 128), ((4096, 3072), 500)]
)
def test_tiles_cover_every_pixel_once_start_aligned_and_are_seen_with_their_margin(size, side):
    count = torch.zeros(size)
    image = torch.rand(size)
    for tile in grid(size, side):
        count[tile.kept] += 1
        assert torch.equal(image[tile.seen][tile.inside], image[tile.kept])
        assert all(part.start % 32 == 0 for part in (*tile.kept, *tile.seen))
        assert max(image[tile.seen].shape) <= side + 63
        assert min(image[tile.seen].shape) >= min(max(spec.smallest for spec in NETWORKS.values()), *size)
        for kept, seen, length in zip(tile.kept, tile.seen, size, strict=True):
            assert seen.start == max(0, kept.start - 32)
            assert min(length, kept.stop + 32) <= seen.stop < kept.stop + 64
            assert (length - seen.stop) % 32 == 0  # Sampled as the whole image is, also by networks that pad to even sizes.
        assert tile.share == pytest.approx(image[tile.kept].numel() / image[tile.seen].numel())
    assert (count == 1).all()


def test_an_image_that_fits_is_one_tile():
    for size in ((100, 128), (256, 64), (64, 256)):
        (tile,) = grid(size, 128)
        assert tile.share == 1


def test_the_largest_tile_fills_the_memory_it_may_take():
    side = largest(1500, 240e6)
    assert side**2 * 1500 * WORKING == pytest.approx(240e6, rel=0.01)
    assert largest(1e9, 1) == 128


def test_where_memory_runs_out_tiles_get_smaller_and_stay_so():
    tried = []

    def step(side):
        tried.append(side)
        if side > 300:
            raise torch.OutOfMemoryError
        return side

    allowance = Allowance(1000**2 * WORKING)
    assert allowance.word == ""
    assert allowance.fit(step, 1) == 250
    assert tried == [1000, 707, 500, 353, 250]
    assert allowance.fit(step, 1) == 250
    assert len(tried) == 6
    assert allowance.word == ", in smaller tiles, since memory is short"


def test_where_not_even_the_smallest_tile_fits_the_error_comes_through():
    def step(side):
        raise torch.OutOfMemoryError(side)

    with pytest.raises(torch.OutOfMemoryError, match=str(SMALLEST)):
        Allowance().fit(step, 1000)
