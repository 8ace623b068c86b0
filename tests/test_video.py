"""Video files, read back with the decoders that people's players have."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image, ImageSequence

from featviz.errors import FeatvizError, InputError
from featviz.video import FORMATS, Video

COLOURS = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (200, 100, 50), (17, 180, 90), (128, 128, 128), (255, 255, 255), (0, 0, 0)]

every_format = pytest.mark.parametrize("extension", FORMATS)


def write(path: Path, fps: int = 12, size: tuple[int, int] = (96, 64), colours=COLOURS) -> Path:
    with Video(path, fps) as video:
        for colour in colours:
            video.write(Image.new("RGB", size, colour))
    return path


def read(path: Path) -> tuple[list[np.ndarray], list[Fraction]]:
    """The pictures (H, W, 3) and the seconds at which each gives way to the next."""
    if path.suffix.lower() == ".mp4":
        with av.open(path) as file:
            (stream,) = file.streams
            frames = list(file.decode(stream))
            ends = [*(frame.pts * stream.time_base for frame in frames[1:]), stream.duration * stream.time_base]
            return [frame.to_ndarray(format="rgb24") for frame in frames], ends
    pictures, ends, now = [], [], Fraction(0)
    with Image.open(path) as file:
        for frame in ImageSequence.Iterator(file):
            pictures.append(np.asarray(frame.convert("RGB")))
            now += Fraction(frame.info["duration"]) / 1000
            ends.append(now)
    return pictures, ends


@every_format
def test_every_picture_is_there_in_its_colours(extension, tmp_path):
    pictures, _ = read(write(tmp_path / f"a{extension}"))
    assert [picture.shape for picture in pictures] == [(64, 96, 3)] * len(COLOURS)
    for picture, colour in zip(pictures, COLOURS, strict=True):
        assert np.abs(picture.astype(int) - colour).max() <= 4


@every_format
@pytest.mark.parametrize("fps", [1, 7, 12, 30, 50])
def test_the_time_is_kept_to_the_clock_s_tick_and_does_not_drift(extension, fps, tmp_path):
    _, ends = read(write(tmp_path / f"a{extension}", fps))
    tick = Fraction(1, FORMATS[extension].clock or 10**6)
    assert all(abs(end - Fraction(number, fps)) <= tick for number, end in enumerate(ends, 1))


def test_mp4_is_what_browsers_play_at_once_and_says_which_colours_it_has(tmp_path):
    path = write(tmp_path / "a.mp4", size=(97, 65))
    with av.open(path) as file:
        (stream,) = file.streams
        context = stream.codec_context
        assert (context.codec.canonical_name, context.pix_fmt, stream.average_rate) == ("h264", "yuv420p", 12)
        assert (context.width, context.height) == (96, 64)
        # BT.709, limited range, as ITU-T H.273 numbers them; the transfer is that of sRGB.
        assert (context.colorspace, context.color_primaries, context.color_range, context.color_trc) == (1, 1, 1, 13)
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")  # The index comes first.


@pytest.mark.parametrize(("extension", "size"), [(".webp", (97, 65)), (".gif", (97, 65))])
def test_webp_and_gif_keep_odd_sizes_and_repeat_for_ever(extension, size, tmp_path):
    with Image.open(write(tmp_path / f"a{extension}", size=size)) as file:
        assert (file.size, file.info["loop"]) == (size, 0)


def test_the_extension_may_be_in_capitals(tmp_path):
    assert len(read(write(tmp_path / "a.MP4"))[0]) == len(COLOURS)


@every_format
def test_details_survive(extension, tmp_path):
    rng = np.random.default_rng(0)
    rough = Image.fromarray(rng.integers(0, 256, (8, 12, 3), dtype=np.uint8)).resize((96, 64), Image.Resampling.BICUBIC)
    with Video(tmp_path / f"a{extension}", 12) as video:
        for _ in range(3):
            video.write(rough)
    for picture in read(tmp_path / f"a{extension}")[0]:
        assert np.corrcoef(picture.ravel(), np.asarray(rough).ravel())[0, 1] > 0.98


@every_format
def test_it_can_be_played_wherever_it_was_closed(extension, tmp_path):
    path = tmp_path / f"a{extension}"

    def interrupted():
        with Video(path, 12) as video:
            video.write(Image.new("RGB", (96, 64), COLOURS[0]))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    (picture,), (end,) = read(path)
    assert np.abs(picture.astype(int) - COLOURS[0]).max() <= 4
    if extension == ".mp4":  # Of one picture, the others are pictures that stand still.
        assert end == pytest.approx(1 / 12, abs=0.001)


def test_transparency_is_left_aside(tmp_path):
    with Video(tmp_path / "a.mp4", 12) as video:
        video.write(Image.new("RGBA", (96, 64), (255, 0, 0, 0)))
    assert np.abs(read(tmp_path / "a.mp4")[0][0].astype(int) - (255, 0, 0)).max() <= 4


def test_without_a_picture_there_is_no_file(tmp_path):
    with Video(tmp_path / "a.mp4", 12) as video:
        pass
    video.close()  # A second time does nothing.
    assert list(tmp_path.iterdir()) == []


def test_what_is_written_after_closing_is_left_out(tmp_path):
    with Video(tmp_path / "a.mp4", 12) as video:
        video.write(Image.new("RGB", (96, 64)))
        video.close()
        video.write(Image.new("RGB", (96, 64)))
    assert video.count == len(read(tmp_path / "a.mp4")[0]) == 1


def test_what_cannot_be_written_is_one_sentence(tmp_path):
    with pytest.raises(InputError, match=r"'a.avi' has no extension of a video; accepted: .mp4, .webp, .gif."):
        Video("a.avi", 12)
    with pytest.raises(FeatvizError, match="could not be written: No such file or directory"):
        write(tmp_path / "nowhere" / "a.mp4")
