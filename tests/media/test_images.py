import io
import os
import signal
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
import torch
from PIL import Image, ImageChops, ImageCms, ImageDraw, ImageFile

from featviz import limits
from featviz.errors import ImageError
from featviz.media.images import (
    count_frames,
    frames,
    on_white,
    open_picture,
    read_header,
    remarks,
    to_picture,
    to_tensor,
    with_alpha,
)
from featviz.optimise.scaling import fit
from featviz.optimise.tiles import release_free_memory
from featviz.recipes import presets

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


def cut_out(hidden: tuple[int, int, int] = (255, 255, 255)) -> Image.Image:
    """Red on the left, blue on the right, transparent between, where the file has the colour `hidden`."""
    pixels = np.zeros((24, 40, 4), np.uint8)
    pixels[:, :10], pixels[:, 10:30, :3], pixels[:, 30:] = (200, 20, 0, 255), hidden, (0, 20, 200, 255)
    return Image.fromarray(pixels)


def disc(colour: tuple[int, int, int], size: int = 128) -> Image.Image:
    """A disc of one colour with a soft edge, on a transparent ground."""
    alpha = Image.new("L", (4 * size, 4 * size))
    ImageDraw.Draw(alpha).ellipse((size // 2, size // 2, size * 7 // 2, size * 7 // 2), fill=255)
    picture = Image.new("RGBA", (size, size), colour)
    picture.putalpha(alpha.resize((size, size), Image.Resampling.LANCZOS))
    return picture


def test_colours_of_opaque_pixels_are_continued_under_transparent_ones():
    opened = open_picture(cut_out())
    pixels, before = np.asarray(opened).astype(int), np.asarray(cut_out())
    assert np.array_equal(pixels[..., 3], before[..., 3])
    assert np.array_equal(pixels[:, [0, 9, 30, 39]], before[:, [0, 9, 30, 39]])
    assert np.abs(pixels[:, 10:12, :3] - (200, 20, 0)).max() < 40
    assert np.abs(pixels[:, 28:30, :3] - (0, 20, 200)).max() < 40
    assert np.abs(pixels[:, 20, :3] - (100, 20, 100)).max() < 50  # Between the two, both.
    assert open_picture(opened).tobytes() == opened.tobytes() == open_picture(cut_out((0, 255, 0))).tobytes()


def test_a_soft_edge_keeps_its_colour_when_it_is_resized():
    colour = (4, 9, 53)
    opened = open_picture(disc(colour))
    result = with_alpha(to_picture(fit(to_tensor(opened), 50, 16)), opened)
    pixels = np.asarray(result).reshape(-1, 4).astype(int)
    edge = pixels[(pixels[:, 3] > 20) & (pixels[:, 3] < 235)]
    assert len(edge) > 30
    assert np.abs(edge[:, :3] - colour).max() <= 2


def test_a_picture_may_be_half_transparent_all_over_and_has_no_transparency_where_all_is_opaque():
    opaque = open_picture(Image.new("RGBA", (20, 20), (255, 0, 0, 255)))
    assert opaque.getpixel((3, 3)) == (255, 0, 0)
    assert with_alpha(Image.new("RGB", (10, 10)), opaque).mode == "RGB"
    picture = Image.fromarray(RGB)
    picture.putalpha(128)
    assert np.array_equal(np.asarray(open_picture(picture))[..., :3], RGB)


def test_on_white_is_what_a_browser_shows():
    shown = np.asarray(on_white(open_picture(cut_out((0, 0, 0)))))
    assert shown[5, [5, 20, 35]].tolist() == [[200, 20, 0], [255, 255, 255], [0, 20, 200]]


# Masks


def on_transparent(colour: tuple[int, int, int], opacity: int = 255) -> Image.Image:
    """A mask as most painting programs write it: a stroke on a transparent layer."""
    mask = Image.new("RGBA", (40, 24), (255, 255, 255, 0))
    mask.paste((*colour, opacity), (0, 0, 20, 24))
    return mask


@pytest.mark.parametrize(
    ("mask", "inside", "outside"),
    [
        (on_transparent((255, 255, 255)), 255, 0),
        (on_transparent((255, 255, 255), 128), 128, 0),
        (on_transparent((128, 128, 128)), 128, 0),
        (ImageChops.invert(on_transparent((255, 255, 255)).getchannel("A")), 0, 255),
    ],
)
def test_a_mask_is_brightness_times_opacity(mask, inside, outside, tmp_path):
    mask.save(tmp_path / "mask.png")
    opened = open_picture(tmp_path / "mask.png", "mask")
    assert (opened.getpixel((5, 5)), opened.getpixel((35, 20))) == (inside, outside)
    assert open_picture(opened, "mask").tobytes() == opened.tobytes()  # Pages pass on what they have opened.
    assert remarks(tmp_path / "mask.png", "mask") == []


def test_a_coloured_mask_is_read_as_brightness_with_a_remark():
    mask = Image.new("RGB", (40, 24))
    mask.paste((255, 255, 0), (0, 0, 20, 24))
    assert open_picture(mask, "mask").getpixel((5, 5)) == 226
    assert remarks(mask, "mask") == ["The mask has colours; their brightness is used, so white is inside and black is outside."]
    assert remarks(mask, "image") == []


def test_an_embedded_profile_is_converted_to_srgb():
    lab = Image.new("LAB", (20, 20), (128, 160, 128))
    plain = np.asarray(open_picture(lab))
    picture = Image.fromarray(RGB)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    same = np.asarray(open_picture(Image.open(buffer))).astype(int)
    assert np.abs(same - RGB).max() <= 1  # sRGB to sRGB changes nothing.
    assert plain[0, 0, 0] > plain[0, 0, 1]  # A positive a* is reddish.


def test_too_many_pixels_are_refused_before_decoding(monkeypatch, tmp_path):
    Image.new("1", (9000, 9000)).save(tmp_path / "large.png")
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("decoded"))
    with pytest.raises(ImageError, match="9000×9000, 81 megapixels; at most 50"):
        open_picture(tmp_path / "large.png")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no named pipes in folders.")
def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    before = signal.signal(signal.SIGALRM, lambda *_: pytest.fail("It waits for a writer."))
    signal.alarm(5)
    try:
        with pytest.raises(ImageError, match="is not a picture"):
            open_picture(tmp_path / "pipe.png")
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


# Every form and format


def as_file(picture: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    if kind == "heif":
        pillow_heif.from_pillow(picture).save(file, quality=-1, chroma=444, matrix_coefficients=0)
    else:
        picture.save(file, kind, **options)
    return file.getvalue()


GREY = RGB[..., 0]
FORMS = {
    "uint8 (H, W, 3)": (RGB, RGB),
    "float64 (H, W, 3)": (RGB / 255, RGB),
    "float16 (H, W, 3)": ((RGB / 255).astype(np.float16), RGB),
    "uint8 (H, W)": (GREY, np.stack([GREY] * 3, -1)),
    "float32 (H, W, 1)": ((GREY[..., None] / 255).astype(np.float32), np.stack([GREY] * 3, -1)),
    "bool (H, W)": (GREY > 127, np.stack([(GREY > 127) * np.uint8(255)] * 3, -1)),
    "uint8 (H, W, 4)": (np.dstack([RGB, GREY // 2 + 100]), np.dstack([RGB, GREY // 2 + 100])),
    "not contiguous": (RGB[::-1, ::-1], RGB[::-1, ::-1]),
    "tensor (C, H, W)": (torch.from_numpy(RGB).permute(2, 0, 1) / 255, RGB),
    "tensor (1, C, H, W)": (to_tensor(Image.fromarray(RGB)), RGB),
    "tensor uint8": (torch.from_numpy(RGB).permute(2, 0, 1), RGB),
    "tensor (H, W)": (torch.from_numpy(GREY), np.stack([GREY] * 3, -1)),
    "tensor with gradient": ((torch.from_numpy(RGB).permute(2, 0, 1) / 255).requires_grad_(), RGB),
    "bytes": (as_file(Image.fromarray(RGB), "png"), RGB),
    "bytearray": (bytearray(as_file(Image.fromarray(RGB), "png")), RGB),
    "open file": (io.BytesIO(as_file(Image.fromarray(RGB), "png")), RGB),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_picture_is_the_same_picture(form):
    given, pixels = FORMS[form]
    for _ in range(2):  # An open file can be read again.
        assert np.abs(np.asarray(open_picture(given)).astype(int) - pixels).max() <= (form.startswith("float16") and 1)


def test_bytes_and_open_files_have_the_limit_of_a_file(monkeypatch):
    monkeypatch.setenv(limits.MEGABYTES.variable, "1")
    large = as_file(Image.new("RGB", (800, 600)), "bmp")
    for given in (large, io.BytesIO(large)):
        with pytest.raises(ImageError, match="megabytes; at most 1 are accepted"):
            open_picture(given)


def test_heic_has_the_limits_of_any_picture_and_pillow_stays_as_it_is(tmp_path, monkeypatch):
    (tmp_path / "a.jpg").write_bytes(as_file(Image.fromarray(RGB).resize((400, 240)), "heif"))  # Whatever it is called.
    assert open_picture(tmp_path / "a.jpg").size == (400, 240)
    assert "HEIF" not in Image.OPEN
    monkeypatch.setenv(limits.PIXELS.variable, "50000")
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("decoded"))
    with pytest.raises(ImageError, match=r"The image is 400×240, 0 megapixels; at most 0\.05 are accepted"):
        open_picture(tmp_path / "a.jpg", "image")


def test_heic_keeps_transparency_and_its_turn(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # Rotate by 90° clockwise to see it upright.
    file = io.BytesIO()
    heif = pillow_heif.from_pillow(Image.fromarray(RGB))
    heif.save(file, quality=-1, chroma=444, matrix_coefficients=0, exif=exif.tobytes())
    assert open_picture(file.getvalue()).size == (24, 40)
    opened = open_picture(as_file(cut_out(), "heif"))
    assert [opened.getpixel((x, 5))[3] for x in (5, 20, 35)] == [255, 0, 255]


@pytest.mark.parametrize("kind", ["gif", "webp", "avif", "png"])
def test_frames_of_an_animation_are_counted_and_read_one_by_one(kind, tmp_path):
    levels = [Image.new("RGB", (40, 24), (level, 0, 0)) for level in (20, 120, 220)]
    (tmp_path / "a").write_bytes(as_file(levels[0], kind, save_all=True, append_images=levels[1:]))
    assert count_frames(tmp_path / "a") == 3
    assert [frame.getpixel((9, 9))[0] for frame in frames(tmp_path / "a")] == pytest.approx([20, 120, 220], abs=6)
    assert remarks(tmp_path / "a", "content") == ["The content has 3 frames; the first one is used."]
    assert remarks(presets.FOLDER / "cat.jpg") == []


# Decoding no more than is needed


def photo(path: Path, side: int = 4000) -> Path:
    Image.open(presets.FOLDER / "mountain.jpg").resize((side, side * 3 // 4)).save(path, quality=90)
    return path


@pytest.mark.parametrize("kind", ["jpg", "png"])
def test_a_large_picture_is_reduced_to_no_less_than_four_times_what_is_needed_and_looks_the_same(kind, tmp_path):
    path = photo(tmp_path / f"a.{kind}", 2400)
    whole, reduced = open_picture(path), open_picture(path, longest=200)
    assert whole.size == (2400, 1800)
    assert 800 <= reduced.width < 1600
    small = [to_tensor(picture.resize((200, 150), Image.Resampling.LANCZOS)) for picture in (whole, reduced)]
    assert (small[0] - small[1]).abs().mean() < 1 / 255
    own = Image.open(path)
    open_picture(own, longest=200)
    assert own.size == (2400, 1800)  # What people have opened themselves keeps its size.


@pytest.mark.parametrize("size", [(1023, 700), (2049, 1300), (1000, 3333), (4096, 17)])
@pytest.mark.parametrize("kind", ["jpg", "png", "turned.jpg", "tif"])
def test_the_header_tells_the_size_that_a_picture_is_opened_in_whatever_its_format(size, kind, tmp_path):
    exif = Image.Exif()
    if kind == "turned.jpg":
        exif[0x0112] = 6
    Image.linear_gradient("L").resize(size).save(tmp_path / f"a.{kind}", exif=exif)
    header = read_header(tmp_path / f"a.{kind}")
    assert header.size == (size[::-1] if kind == "turned.jpg" else size)
    for longest in (None, 16, 32, 64, 100, 128, 256, 1000):
        assert header.opened_size(longest) == open_picture(tmp_path / f"a.{kind}", longest=longest).size


def peak_memory(status: Path = Path("/proc/self/status")) -> int:
    """Bytes, since it was reset."""
    (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux alone can reset the peak of its memory.")
@pytest.mark.parametrize(("kind", "longest"), [("jpg", None), ("jpg", 128), ("png", None), ("png", 128), ("rgba.png", None)])
def test_decoding_takes_no_more_memory_than_estimated(kind, longest, tmp_path):
    path = tmp_path / f"a.{kind}"
    if kind == "rgba.png":
        disc((4, 9, 53), 2600).save(path, icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    else:
        photo(path)
    said = read_header(path).decoding_bytes(longest)
    release_free_memory()  # Else the pixels may go into memory that earlier tests have freed.
    Path("/proc/self/clear_refs").write_text("5")
    before = peak_memory()
    open_picture(path, longest=longest)
    assert peak_memory() - before < said + 8e6
    if kind == "jpg" and longest:
        assert said < 10e6
    elif longest is None:
        assert peak_memory() - before > said * 0.5
