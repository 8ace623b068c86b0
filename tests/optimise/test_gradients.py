"""Each way to shape a gradient against a slow, obvious version."""

import math

import numpy as np
import pytest
import torch

from featviz.optimise.gradients import SHAPERS, gaussian, gradient_image, laplacian, luminance, mean_absolute, soft_colours

GRADIENT = torch.randn(1, 3, 21, 34, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def slow_blur(plane, sigma):
    """A two-dimensional Gaussian summed at every pixel, the border reflected."""
    radius = math.ceil(3 * sigma)
    offsets = np.arange(-radius, radius + 1)
    kernel = np.exp(-(offsets[:, None] ** 2 + offsets**2) / (2 * sigma**2))
    kernel /= kernel.sum()
    padded = np.pad(plane, radius, mode="reflect")
    return np.array(
        [
            [(padded[y : y + 2 * radius + 1, x : x + 2 * radius + 1] * kernel).sum() for x in range(plane.shape[1])]
            for y in range(plane.shape[0])
        ]
    )


def slow_down(plane):
    """Every second pixel of the plane smoothed with the binomial kernel, zero beyond the border."""
    kernel = np.outer([1, 4, 6, 4, 1], [1, 4, 6, 4, 1]) / 256
    padded = np.pad(plane, 2)
    return np.array(
        [
            [(padded[y : y + 5, x : x + 5] * kernel).sum() for x in range(0, plane.shape[1], 2)]
            for y in range(0, plane.shape[0], 2)
        ]
    )


def slow_up(low, shape):
    """Every value of `low` painted with four times the kernel around its place."""
    kernel = 4 * np.outer([1, 4, 6, 4, 1], [1, 4, 6, 4, 1]) / 256
    canvas = np.zeros((2 * low.shape[0] + 4, 2 * low.shape[1] + 4))
    for y in range(low.shape[0]):
        for x in range(low.shape[1]):
            canvas[2 * y : 2 * y + 5, 2 * x : 2 * x + 5] += low[y, x] * kernel
    return canvas[2 : 2 + shape[0], 2 : 2 + shape[1]]


def test_mean_absolute_divides_by_the_mean_absolute_value():
    assert torch.allclose(mean_absolute(GRADIENT), GRADIENT / GRADIENT.abs().sum() * GRADIENT.numel())


def test_laplacian_equals_a_slow_pyramid():
    planes, bands = GRADIENT[0].numpy(), []
    for _ in range(2):
        low = np.stack([slow_down(plane) for plane in planes])
        bands.append(planes - np.stack([slow_up(plane, planes.shape[1:]) for plane in low]))
        planes = low
    result = planes / np.sqrt((planes**2).mean())
    for band in reversed(bands):
        result = np.stack([slow_up(plane, band.shape[1:]) for plane in result]) + band / np.sqrt((band**2).mean())
    assert np.allclose(laplacian(GRADIENT, levels=2)[0].numpy(), result / np.abs(result).mean())


@pytest.mark.parametrize("progress", [0.0, 0.4])
def test_gaussian_equals_the_mean_of_three_slow_blurs(progress):
    sigmas = [(0.5 + 2 * progress) * factor for factor in (0.5, 1, 2)]
    result = np.mean([[slow_blur(plane, sigma) for plane in GRADIENT[0].numpy()] for sigma in sigmas], axis=0)
    result -= result.mean()
    assert np.allclose(gaussian(GRADIENT, progress)[0].numpy(), result / np.abs(result).mean())


def test_soft_colours_smooth_hue_more_than_brightness():
    planes = torch.randn(3, 24, 26, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).numpy()
    brightness = planes.mean(0)
    result = slow_blur(brightness, 0.7) + [0.5 * slow_blur(plane - brightness, 3.0) for plane in planes]
    assert np.allclose(soft_colours(torch.from_numpy(planes)[None])[0].numpy(), result / np.abs(result).mean())


def test_luminance_changes_all_channels_alike():
    result = luminance(GRADIENT)
    red, green, blue = GRADIENT[0]
    assert torch.allclose(result[0], (0.299 * red + 0.587 * green + 0.114 * blue).expand(3, -1, -1))


@pytest.mark.parametrize("shape", SHAPERS.values())
@pytest.mark.parametrize("size", [(1, 1), (3, 50), (16, 16), (33, 70)])
def test_every_shaper_leaves_a_mean_absolute_value_of_one_at_any_size(shape, size):
    gradient = torch.randn(1, 3, *size)
    assert shape(gradient, 0.5).abs().mean().item() == pytest.approx(1, rel=1e-4)


@pytest.mark.parametrize("shape", SHAPERS.values())
def test_a_gradient_of_zero_stays_zero(shape):
    assert torch.equal(shape(torch.zeros(1, 3, 9, 9), 0.5), torch.zeros(1, 3, 9, 9))


def test_a_gradient_is_drawn_around_grey_with_three_root_mean_squares_for_white():
    shown, scale = gradient_image(1e-6 * GRADIENT), GRADIENT.square().mean().sqrt()
    assert shown.numpy() == pytest.approx((0.5 + GRADIENT / scale / 6).clamp(0, 1).numpy())
    assert gradient_image(torch.zeros(1, 3, 2, 2)).unique().tolist() == [0.5]
