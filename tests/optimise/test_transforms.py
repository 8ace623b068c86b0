import math

import numpy as np
import pytest
import torch

from featviz.optimise.transforms import Roll, Surround, Wobble, Zoom


def test_a_roll_moves_every_pixel_cyclically_and_its_undoing_brings_it_back():
    image = torch.rand(1, 3, 7, 9)
    rolled = Roll(2, -3)(image)
    assert all(torch.equal(rolled[..., (y + 2) % 7, (x - 3) % 9], image[..., y, x]) for y in range(7) for x in range(9))
    assert torch.equal(Roll(2, -3).undo(rolled), image)


def test_random_rolls_stay_within_the_jitter_reach_both_ends_and_follow_the_seed():
    def rolls(seed):
        generator = torch.Generator().manual_seed(seed)
        return [Roll.random(2, generator) for _ in range(200)]

    assert {roll.down for roll in rolls(0)} == {roll.right for roll in rolls(0)} == {-2, -1, 0, 1, 2}
    assert rolls(0) == rolls(0) != rolls(1)
    assert Roll.random(0, torch.Generator()) == Roll(0, 0)


def test_what_surrounds_an_image_is_its_mirror_image_at_any_width_and_is_cut_off_again():
    image = torch.rand(1, 3, 7, 9)
    surround = Surround(above=10, left=2, below=1, right=16)
    expected = np.pad(image.numpy(), ((0, 0), (0, 0), (10, 1), (2, 16)), mode="symmetric")
    assert torch.equal(surround(image), torch.from_numpy(expected))
    assert torch.equal(surround.undo(surround(image)), image)


def test_random_margins_have_one_sum_reach_both_ends_and_follow_the_seed():
    def margins(seed):
        generator = torch.Generator().manual_seed(seed)
        return [Surround.random(5, 2, generator) for _ in range(100)]

    assert {(each.above, each.below) for each in margins(0)} == {(5, 7), (6, 6), (7, 5)}
    assert {(each.left, each.right) for each in margins(0)} == {(5, 7), (6, 6), (7, 5)}
    assert margins(0) == margins(0) != margins(1)


def smooth(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Three gentle waves (1, 3, H, W) in [0, 1], of pixels from the centre."""
    waves = [torch.sin(0.11 * x + 0.05 * y), torch.cos(0.07 * y - 0.04 * x), torch.sin(0.06 * x) * torch.cos(0.09 * y)]
    return 0.5 + 0.4 * torch.stack(waves).unsqueeze(0)


@pytest.mark.parametrize(("factor", "degrees"), [(1.3, 0), (1.0, 20), (1.5, -35), (0.8, 10), (1.05, 1.5)])
@pytest.mark.parametrize("size", [(64, 96), (97, 51)])
def test_a_zoom_equals_the_slow_version(factor, degrees, size):
    """The slow version inverts the rotation and the scaling for each pixel, and samples the image there."""
    height, width = size
    y, x = torch.meshgrid(torch.arange(height) - (height - 1) / 2, torch.arange(width) - (width - 1) / 2, indexing="ij")
    turn = math.radians(-degrees)  # Back. With y down, a positive angle is clockwise.
    from_x = (x * math.cos(turn) - y * math.sin(turn)) / factor
    from_y = (x * math.sin(turn) + y * math.cos(turn)) / factor
    inside = (from_x.abs() < width / 2 - 3) & (from_y.abs() < height / 2 - 3)
    assert inside.float().mean() > 0.4
    error = (Zoom(factor, degrees)(smooth(x, y)) - smooth(from_x, from_y)).abs().amax(1)[0]
    assert error[inside].max() < 1e-3


def test_a_quarter_turn_of_a_square_is_exact_and_no_zoom_changes_nothing():
    image = torch.rand(1, 3, 20, 20)
    assert torch.allclose(Zoom(1, 90)(image), image.rot90(-1, (-2, -1)), atol=1e-4)
    assert torch.allclose(Zoom(1)(image), image, atol=1e-5)


@pytest.mark.parametrize(("factor", "degrees"), [(0.5, 0), (0.3, 30), (1, 45), (1.1, 170)])
def test_borders_are_never_black(factor, degrees):
    light = 0.8 + 0.2 * torch.rand(1, 3, 40, 70)
    assert Zoom(factor, degrees)(light).min() > 0.75
    assert Zoom(factor, degrees)(torch.full((1, 3, 40, 70), 0.8)) == pytest.approx(torch.full((1, 3, 40, 70), 0.8), abs=1e-5)


def test_a_zoom_stays_in_range_and_keeps_what_8_bits_would_lose():
    edges = (torch.rand(1, 3, 40, 40) > 0.5).float()
    zoomed = Zoom(1.3, 5)(edges)
    assert 0 <= zoomed.min()
    assert zoomed.max() <= 1
    faint = torch.full((1, 3, 40, 40), 0.5) + 1e-4 * torch.rand(1, 3, 40, 40)
    assert Zoom(1.2)(faint).std() > 1e-5


@pytest.mark.parametrize("size", [(48, 64), (41, 53)])
@pytest.mark.parametrize("wobble", [Wobble(0, 0, 1.2, 0), Wobble(0, 0, 1.0, 12), Wobble(0, 0, 0.9, -8)])
def test_a_wobble_enlarges_and_turns_as_a_zoom_does(size, wobble):
    height, width = size
    y, x = torch.meshgrid(torch.arange(height) - (height - 1) / 2, torch.arange(width) - (width - 1) / 2, indexing="ij")
    image = smooth(x, y).float()
    found, expected = wobble(image), Zoom(wobble.factor, wobble.degrees)(image)
    assert (found - expected)[..., 12:-12, 12:-12].abs().max() < 0.01  # Linear and cubic interpolation of something smooth.


def test_a_wobble_by_whole_pixels_is_exact_and_mirrored_at_the_border():
    image = torch.rand(2, 3, 8, 10)
    moved = Wobble(2, -3)(image)
    assert torch.allclose(moved[..., 2:, :7], image[..., :6, 3:], atol=1e-5)
    assert torch.allclose(moved[..., 0, :7], image[..., 1, 3:], atol=1e-5)  # The row above the first is the first once more.


def test_random_wobbles_stay_within_their_strength_and_follow_the_seed():
    def wobbles(strength, seed=0):
        generator = torch.Generator().manual_seed(seed)
        return [Wobble.random(strength, generator) for _ in range(300)]

    assert wobbles(1) == wobbles(1) != wobbles(1, seed=1)
    assert wobbles(0)[0] == Wobble()
    for name, low, high in (("down", -10, 10), ("right", -10, 10), ("degrees", -10, 10), ("factor", 1 / 1.1, 1.1)):
        found = [getattr(wobble, name) for wobble in wobbles(1)]
        assert low <= min(found) < low + 0.05 * (high - low)
        assert high - 0.05 * (high - low) < max(found) <= high


def test_a_wobble_has_the_gradient_of_finite_differences():
    image = torch.rand(1, 3, 4, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(Wobble(0.3, -0.7, 1.1, 9), image)
