import pytest
import torch

from featviz.errors import ImageError
from featviz.optimise.scaling import fit, fitted_size, mirrored, resize


def test_resize_keeps_a_constant_and_averages_when_it_shrinks():
    assert torch.allclose(resize(torch.full((1, 3, 30, 20), 0.3), (7, 11)), torch.tensor(0.3), atol=1e-6)
    stripes = torch.tensor([0.0, 1.0]).repeat(32).expand(1, 3, 64, 64)
    assert resize(stripes, (8, 8)).sub(0.5).abs().max() < 0.05  # Without antialiasing it would be all 0 or all 1.


def test_fit_scales_the_longest_side_and_keeps_the_aspect():
    assert fit(torch.rand(1, 3, 30, 90), 60, 16).shape[-2:] == (20, 60)
    assert fitted_size((427, 640), 512) == (342, 512)
    stripes = torch.tensor([0.0, 1.0]).repeat_interleave(4).repeat(4).expand(1, 3, 32, 32)
    assert (fit(stripes, 96, 16).min(), fit(stripes, 96, 16).max()) == (0, 1)  # Bicubic interpolation overshoots.
    with pytest.raises(ImageError, match="At size 64 this picture would be 64×8 pixels; the network needs at least 32"):
        fit(torch.rand(1, 3, 20, 160), 64, 32)


def test_an_image_that_is_too_narrow_is_extended_by_reflection():
    row = torch.arange(5.0).expand(1, 3, 1, 5)
    larger = mirrored(row, 12)
    assert larger.shape == (1, 3, 16, 20)
    assert larger[0, 0, 7].tolist() == [0, 1, 2, 3, 4, 4, 3, 2, 1, 0] * 2
    assert mirrored(larger, 12) is larger
