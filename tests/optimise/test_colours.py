"""Colours of an image held to those of another."""

import pytest
import torch

from featviz.optimise.colours import colour_statistics, hold_colours, match_colours, toned


def images() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    image, like = (torch.rand(1, 3, 20, 30, generator=generator) for _ in range(2))
    return 0.5 * image + torch.tensor([0.3, 0.1, 0.2]).view(1, 3, 1, 1), 0.4 + 0.3 * like


def saturation(image: torch.Tensor) -> torch.Tensor:
    """The slow way: the mean distance of pixels from grey."""
    return (image - image.mean(1, keepdim=True)).norm(dim=1).mean()


def test_held_colours_have_the_brightness_contrast_tint_and_saturation_of_the_other_image():
    image, like = images()
    held = hold_colours(image, colour_statistics(like))
    for measure in (torch.mean, torch.std):
        assert torch.allclose(measure(held.mean(1)), measure(like.mean(1)), atol=1e-3)
    for one, other in ((0, 2), (1, 2)):
        assert torch.allclose((held[:, one] - held[:, other]).mean(), (like[:, one] - like[:, other]).mean(), atol=5e-3)
    assert torch.allclose(saturation(held), saturation(like), rtol=0.01)


def test_saturation_is_held_where_the_colours_are_gathered_in_a_few_places():
    """If only the standard deviations were made equal, the saturation would be 0.78 of the target."""
    image, like = images()
    image[..., 10:] = image[..., 10:].mean(1, keepdim=True)
    held = hold_colours(image, colour_statistics(like))
    assert torch.allclose(saturation(held), saturation(like), rtol=0.03)


def test_held_colours_change_nothing_where_the_opacity_is_zero_and_count_nothing_there():
    image, like = images()
    opacity = torch.zeros(1, 1, 20, 30)
    opacity[..., :15] = 1
    held = hold_colours(image, colour_statistics(like, opacity), opacity)
    assert torch.equal(held[..., 15:], image[..., 15:])
    assert torch.allclose(held[..., :15], hold_colours(image[..., :15], colour_statistics(like[..., :15])), atol=1e-5)


def test_noise_of_an_even_image_is_not_made_visible():
    _, like = images()
    even = 0.5 + 1e-4 * torch.randn(1, 3, 20, 30, generator=torch.Generator().manual_seed(1))
    assert hold_colours(even, colour_statistics(like)).std((-2, -1)).max() < 1e-3


@pytest.mark.parametrize("like", ["colours", "grey", "flat"])
def test_matched_colours_have_the_mean_and_covariance_of_the_other_picture(like):
    generator = torch.Generator().manual_seed(0)
    image = 0.5 + 0.1 * torch.randn(1, 3, 20, 30, generator=generator)
    other = {
        "colours": 0.4 + 0.05 * torch.randn(1, 3, 10, 15, generator=generator) @ torch.eye(15),
        "grey": (0.5 + 0.1 * torch.randn(1, 1, 10, 15, generator=generator)).expand(1, 3, 10, 15),
        "flat": torch.full((1, 3, 10, 15), 0.3),
    }[like]
    pixels, wanted = (match_colours(image, other)[0].flatten(1), other[0].flatten(1))
    assert torch.allclose(pixels.mean(1), wanted.mean(1), atol=1e-3)
    assert torch.allclose(pixels.cov(correction=0), wanted.cov(correction=0), atol=1e-4)


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_a_grey_or_flat_picture_takes_colours_without_nan(value):
    other = torch.rand(1, 3, 8, 8)
    assert match_colours(torch.full((1, 3, 4, 4), value), other).isfinite().all()
    grey = torch.rand(1, 1, 8, 8).expand(1, 3, 8, 8)
    assert match_colours(grey, other).isfinite().all()
    assert torch.allclose(match_colours(other, other), other, atol=1e-3)


def test_a_toned_picture_has_the_colours_of_the_result_and_the_tones_of_what_is_around():
    picture = torch.rand((1, 3, 48, 64), generator=torch.Generator().manual_seed(0))
    visible = torch.ones(1, 1, 48, 64)
    visible[..., 16:24, 20:28] = 0
    brown = 0.2 + 0.4 * picture.mean(1, keepdim=True) * torch.tensor([1.0, 0.6, 0.2]).view(1, 3, 1, 1)
    brown = brown + 0.2 * torch.linspace(0, 1, 64)  # Brighter to the right.
    start = toned(picture, brown * visible, visible)
    error, before = ((image - brown)[..., 16:24, 20:28].abs().mean() for image in (start, picture))
    assert error < 0.05 < 0.2 < before
