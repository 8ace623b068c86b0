import numpy as np
import pytest
import torch

from featviz.optimise.parameterization import (
    COLOURS,
    NATURAL,
    Average,
    Beside,
    Phases,
    Pixels,
    Spectrum,
    frequencies,
    natural_magnitudes,
    pyramid,
)


def test_the_pyramid_ends_at_the_size_and_shrinks_by_the_ratio():
    assert pyramid((341, 512), 4, 1.4, 32) == [(124, 187), (174, 261), (244, 366), (341, 512)]
    assert pyramid((100, 400), 10, 2.0, 32) == [(50, 200), (100, 400)]  # Smaller levels are too small for the network.
    assert pyramid((20, 20), 3, 2.0, 32) == [(20, 20)]  # The last one is never left out.


def test_the_average_weighs_the_past_exponentially():
    values = torch.rand(6, dtype=torch.float64)
    average = Average(0.8)
    assert average.update(values[0]).item() == pytest.approx(values[0].item())
    for value in values[1:]:
        result = average.update(value)
    weights = torch.tensor([0.8**age for age in range(5, -1, -1)], dtype=torch.float64)
    assert result.item() == pytest.approx(((weights * values).sum() / weights.sum()).item())


def test_brightness_is_the_longest_of_the_directions_of_colour():
    assert COLOURS.norm(dim=0).tolist() == pytest.approx([1, 0.276, 0.133], abs=1e-3)


@pytest.mark.parametrize("size", [(8, 12), (9, 12), (8, 13), (7, 11)])
def test_a_spectrum_is_the_image_that_numpy_makes_of_its_waves(size):
    spectrum = Spectrum.noise(size, torch.Generator().manual_seed(0), batch=2)
    height, width = size
    down, right = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)
    waves = spectrum.waves.detach().double().numpy()
    waves = (waves[..., 0] + 1j * waves[..., 1]) / np.maximum(np.sqrt(down**2 + right**2), 1 / max(size))
    planes = np.fft.irfft2(waves, s=size, norm="ortho") / 4
    colours = np.einsum("rc,bchw->brhw", COLOURS.double().numpy(), planes)
    assert spectrum().shape == (2, 3, height, width)
    assert np.allclose(spectrum().detach().numpy(), 1 / (1 + np.exp(-colours)), atol=1e-6)


@pytest.mark.parametrize("size", [(8, 12), (7, 11)])
def test_the_spectrum_of_a_picture_is_that_picture(size):
    images = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
    images[0, 0, 0, 0] = 0.0  # Moved to 1/512.
    spectrum = Spectrum.of(images)
    assert torch.allclose(spectrum(), images.clamp(1 / 512, 511 / 512), atol=1e-5)
    assert spectrum.parameters()[0].requires_grad


@pytest.mark.parametrize("size", [(8, 12), (7, 11)])
def test_phases_make_the_image_of_their_waves_and_hold_the_magnitudes_whatever_they_are(size):
    """Compared with the sum of all waves of the whole plane, each written out."""
    height, width = size
    generator = torch.Generator().manual_seed(1)
    magnitudes = torch.rand(3, height, width // 2 + 1, generator=generator)
    given = 9 * torch.rand(2, 3, height, width // 2 + 1, generator=generator)
    phases = Phases(given.clone(), magnitudes, size)
    rows, columns = np.mgrid[:height, :width]
    planes = np.zeros((2, 3, height, width))
    for v in range(height):
        for u in range(width):
            half, mirror = u <= width // 2, (-v % height, -u % width)
            place = (v, u) if half else mirror
            phase = given[..., place[0], place[1]].double().numpy() * (1 if half else -1)
            if u in (0, width / 2):  # Its mirror image is given as well.
                phase = (given[..., v, u] - given[..., mirror[0], mirror[1]]).double().numpy() / 2
            wave = 2 * np.pi * (v * rows / height + u * columns / width)
            magnitude = magnitudes[..., place[0], place[1]].double().numpy()
            planes += magnitude[:, None, None] * np.cos(wave + phase[..., None, None]) / np.sqrt(height * width)
    colours = np.einsum("rc,bchw->brhw", COLOURS.double().numpy(), planes / 4)
    assert np.allclose(phases().detach().numpy(), 1 / (1 + np.exp(-colours)), atol=1e-5)
    (gradient,) = torch.autograd.grad(phases()[0].sum(), phases.parameters())
    assert gradient[0].any()
    assert not gradient[1].any()
    copies = phases.repeated(2)
    assert torch.equal(copies()[:2], copies()[2:])
    assert copies.phases.data_ptr() != phases.phases.data_ptr()


def magnitudes_of(images):
    """The magnitudes of images by Fourier transforms of their decorrelated colours before the sigmoid, (B, 3, H, W // 2 + 1)."""
    planes = 4 * np.einsum(
        "cr,brhw->bchw", np.linalg.inv(COLOURS.double().numpy()), torch.logit(images.detach().double()).numpy()
    )
    return np.abs(np.fft.rfft2(planes, norm="ortho"))


def test_optimised_phases_have_exactly_the_magnitudes_of_natural_pictures():
    phases = Phases.noise((24, 20), torch.Generator().manual_seed(3))
    before, optimiser = phases().detach(), torch.optim.Adam(phases.parameters(), lr=0.3)
    for _ in range(20):
        optimiser.zero_grad()
        (-phases()[0, 0, 8:16, 5:10].mean()).backward()
        optimiser.step()
    assert (phases() - before)[0, 0, 8:16, 5:10].mean() > 0.2
    assert np.allclose(magnitudes_of(phases())[0], natural_magnitudes((24, 20)).numpy(), rtol=1e-3, atol=1e-3)


def test_natural_magnitudes_fall_with_frequency_and_give_the_contrast_of_pictures_whatever_the_size():
    for size in ((64, 64), (512, 300)):
        magnitudes, of = natural_magnitudes(size), frequencies(size)
        assert not magnitudes[:, 0, 0].any()
        low, high = ((of > edge) & (of < 2 * edge) for edge in (0.04, 0.2))
        assert (magnitudes[:, low].mean(1) > 3 * magnitudes[:, high].mean(1)).all()
        assert 0.15 < Phases.noise(size)().std() < 0.35
    assert NATURAL.stat().st_size < 4000


def test_pixels_are_the_images_but_for_values_at_which_a_sigmoid_does_not_move():
    images = torch.tensor([0.0, 0.3, 1.0]).expand(1, 3, 2, 3)
    assert torch.allclose(Pixels(images)(), images.clamp(1 / 512, 511 / 512), atol=1e-6)


def test_fixed_images_stand_after_those_that_change():
    fixed = torch.rand(1, 3, 4, 5)
    pixels = Pixels(torch.rand(2, 3, 4, 5))
    both = Beside(pixels, fixed)
    assert torch.equal(both(), torch.cat([pixels(), fixed]))
    assert both.parameters() == pixels.parameters()
