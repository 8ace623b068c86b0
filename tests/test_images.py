import io

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms, ImageFile

from featviz.errors import ImageError
from featviz.images import (
    GAP,
    LABEL,
    contact_sheet,
    fit,
    fitted_size,
    match_colours,
    mirrored,
    open_picture,
    resize,
    to_picture,
    to_tensor,
    with_alpha,
)

RGB = np.random.default_rng(0).integers(0, 256, (24, 40, 3), dtype=np.uint8)


def test_a_picture_survives_the_round_trip_to_a_tensor_bit_for_bit():
    image = to_tensor(Image.fromarray(RGB))
    assert image.dtype == torch.float32
    assert image.shape == (1, 3, 24, 40)
    assert image[0, 2, 5, 7].item() == pytest.approx(RGB[5, 7, 2] / 255)
    assert np.array_equal(np.asarray(to_picture(image)), RGB)


def test_values_outside_the_range_are_clamped_and_rounded_to_the_nearest():
    image = torch.tensor([-0.5, 1.5, 99.6 / 255]).view(1, 3, 1, 1)
    assert to_picture(image).getpixel((0, 0)) == (0, 255, 100)


def test_exif_orientation_is_applied_and_exif_dropped(tmp_path):
    picture = Image.fromarray(RGB)
    exif = Image.Exif()
    exif[0x0112] = 6  # Rotate by 90° clockwise to see it upright.
    exif[0x010E] = "a secret place"
    picture.save(tmp_path / "turned.png", exif=exif)
    upright = open_picture(tmp_path / "turned.png")
    assert np.array_equal(np.asarray(upright), np.rot90(RGB, -1))
    assert upright.info == {}
    assert dict(upright.getexif()) == {}


def test_transparency_is_laid_on_white_and_kept():
    picture = open_picture(Image.new("RGBA", (20, 20), (255, 0, 0, 0)))
    assert picture.getpixel((3, 3)) == (255, 255, 255, 0)
    assert to_tensor(picture).min() == 1
    assert with_alpha(Image.new("RGB", (10, 10)), picture).getpixel((3, 3)) == (0, 0, 0, 0)


def test_no_transparency_is_left_where_all_is_opaque():
    picture = open_picture(Image.new("RGBA", (20, 20), (255, 0, 0, 255)))
    assert picture.getpixel((3, 3)) == (255, 0, 0)
    assert with_alpha(Image.new("RGB", (10, 10)), picture).mode == "RGB"


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr", "HSV", "LAB", "I", "F", "I;16"])
def test_every_mode_becomes_rgb_with_bright_kept_bright(mode):
    grey = Image.fromarray(np.repeat(np.linspace(0, 255, 40).astype(np.uint8)[None], 24, 0))
    if mode in ("LA", "RGBA", "P", "CMYK", "YCbCr", "HSV", "LAB"):
        picture = (
            ImageCms.profileToProfile(
                grey.convert("RGB"), ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
            )
            if mode == "LAB"
            else grey.convert("RGB").convert(mode)
        )
    elif mode == "I;16":
        picture = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    else:
        picture = grey.convert(mode)
    pixels = np.asarray(open_picture(picture)).astype(int)
    assert pixels.shape == (24, 40, 3)
    assert pixels[:, -3:].mean() > 240
    assert pixels[:, :3].mean() < 15


def test_an_embedded_profile_is_converted_to_srgb():
    lab = Image.new("LAB", (20, 20), (128, 160, 128))
    plain = np.asarray(open_picture(lab))
    picture = Image.fromarray(RGB)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    same = np.asarray(open_picture(Image.open(buffer))).astype(int)
    assert np.abs(same - RGB).max() <= 1  # sRGB to sRGB changes nothing.
    assert plain[0, 0, 0] > plain[0, 0, 1]  # A positive a* is reddish.


def test_a_broken_profile_is_ignored():
    picture = Image.fromarray(RGB)
    picture.info["icc_profile"] = b"not a profile"
    assert np.array_equal(np.asarray(open_picture(picture)), RGB)


@pytest.mark.parametrize(
    ("size", "words"),
    [
        ((1, 1), "style is 1×1 pixels; each side needs at least 16"),
        ((20000, 2), "style is 20000×2 pixels; each side needs at least 16"),
    ],
)
def test_pictures_too_small_are_refused_with_their_size(size, words):
    with pytest.raises(ImageError, match=words):
        open_picture(Image.new("RGB", size), "style")


def test_too_many_pixels_are_refused_before_decoding(monkeypatch, tmp_path):
    Image.new("1", (9000, 9000)).save(tmp_path / "large.png")
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("decoded"))
    with pytest.raises(ImageError, match="9000×9000, 81 megapixels; at most 50"):
        open_picture(tmp_path / "large.png")


def test_what_is_no_picture_is_refused_with_one_sentence(tmp_path):
    (tmp_path / "words.png").write_text("hello")
    with pytest.raises(ImageError, match="is not a picture; PNG, JPEG"):
        open_picture(tmp_path / "words.png")
    with pytest.raises(ImageError, match=r"'gone\.png' does not exist"):
        open_picture(tmp_path / "gone.png")
    with pytest.raises(ImageError, match="no content yet"):
        open_picture(None, "content")
    with pytest.raises(ImageError, match="is int"):
        open_picture(3)


def test_a_truncated_file_is_refused_as_damaged(tmp_path):
    buffer = io.BytesIO()
    Image.fromarray(RGB).save(buffer, "PNG")
    (tmp_path / "half.png").write_bytes(buffer.getvalue()[: len(buffer.getvalue()) // 2])
    with pytest.raises(ImageError, match="damaged"):
        open_picture(tmp_path / "half.png")


def test_resize_keeps_a_constant_and_averages_when_it_shrinks():
    assert torch.allclose(resize(torch.full((1, 3, 30, 20), 0.3), (7, 11)), torch.tensor(0.3), atol=1e-6)
    stripes = torch.tensor([0.0, 1.0]).repeat(32).expand(1, 3, 64, 64)
    assert resize(stripes, (8, 8)).sub(0.5).abs().max() < 0.05  # Without antialiasing it would be all 0 or all 1.


def test_fit_scales_the_longest_side_and_keeps_the_aspect():
    assert fit(torch.rand(1, 3, 30, 90), 60, 16).shape[-2:] == (20, 60)
    assert fitted_size((427, 640), 512) == (342, 512)
    with pytest.raises(ImageError, match="At size 64 this picture would be 64×8 pixels; the network needs at least 32"):
        fit(torch.rand(1, 3, 20, 160), 64, 32)


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


def test_an_image_that_is_too_narrow_is_continued_by_its_mirror_images():
    row = torch.arange(5.0).expand(1, 3, 1, 5)
    larger = mirrored(row, 12)
    assert larger.shape == (1, 3, 16, 20)
    assert larger[0, 0, 7].tolist() == [0, 1, 2, 3, 4, 4, 3, 2, 1, 0] * 2
    assert mirrored(larger, 12) is larger


def test_a_row_of_a_contact_sheet_is_as_high_as_its_highest_picture():
    tall, flat = Image.new("RGB", (10, 20), "red"), Image.new("RGB", (10, 5), "blue")
    sheet = contact_sheet([("a", tall), ("b", flat), ("c", flat)], columns=2, width=40)
    assert sheet.size == (40 + GAP + 40, LABEL + 80 + LABEL + 20)
    assert [sheet.getpixel(at) for at in ((0, LABEL), (40 + GAP, LABEL), (0, LABEL + 80 + LABEL))] == [
        (255, 0, 0),
        *[(0, 0, 255)] * 2,
    ]
    assert sheet.getpixel((40 + GAP, LABEL + 20)) == (255, 255, 255)
