"""Video files, read back with the decoders that people's players have."""

import socket
import threading
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import av
import clips
import limited
import numpy as np
import pytest
from PIL import Image, ImageSequence

from featviz.errors import FeatvizError, InputError
from featviz.media.video import VIDEO_FORMATS, Video, count_frames, frames, read_video_header, timed_frames

COLOURS = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (200, 100, 50), (17, 180, 90), (128, 128, 128), (255, 255, 255), (0, 0, 0)]

every_format = pytest.mark.parametrize("extension", VIDEO_FORMATS)


def write(path: Path, fps: int = 12, size: tuple[int, int] = (96, 64), colours=COLOURS) -> Path:
    with Video(path, fps) as video:
        for colour in colours:
            video.write(Image.new("RGB", size, colour))
    return path


def read(path: Path) -> tuple[list[np.ndarray], list[Fraction]]:
    """Return the pictures (H, W, 3) and the seconds at which each ends."""
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
def test_a_video_has_every_picture_in_its_colours(extension, tmp_path):
    pictures, _ = read(write(tmp_path / f"a{extension}"))
    assert [picture.shape for picture in pictures] == [(64, 96, 3)] * len(COLOURS)
    for picture, colour in zip(pictures, COLOURS, strict=True):
        assert np.abs(picture.astype(int) - colour).max() <= 4


@every_format
@pytest.mark.parametrize("fps", [1, 7, 12, 30, 50])
def test_frame_times_are_exact_to_a_tick_of_the_time_base_and_do_not_drift(extension, fps, tmp_path):
    _, ends = read(write(tmp_path / f"a{extension}", fps))
    tick = Fraction(1, VIDEO_FORMATS[extension].clock or 10**6)
    assert all(abs(end - Fraction(number, fps)) <= tick for number, end in enumerate(ends, 1))


def test_an_mp4_is_playable_by_browsers_and_tagged_with_its_colour_space(tmp_path):
    path = write(tmp_path / "a.mp4", size=(97, 65))
    with av.open(path) as file:
        (stream,) = file.streams
        context = stream.codec_context
        assert (context.codec.canonical_name, context.pix_fmt, stream.average_rate) == ("h264", "yuv420p", 12)
        assert (context.width, context.height) == (96, 64)
        # Numbers of ITU-T H.273: BT.709, limited range, the transfer function of sRGB.
        assert (context.colorspace, context.color_primaries, context.color_range, context.color_trc) == (1, 1, 1, 13)
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")  # The index comes first.


@pytest.mark.parametrize(("extension", "size"), [(".webp", (97, 65)), (".gif", (97, 65))])
def test_webp_and_gif_keep_odd_sizes_and_repeat_for_ever(extension, size, tmp_path):
    with Image.open(write(tmp_path / f"a{extension}", size=size)) as file:
        assert (file.size, file.info["loop"]) == (size, 0)


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
def test_a_video_closed_at_any_frame_is_playable(extension, tmp_path):
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


def test_what_comes_after_closing_is_ignored_and_without_a_picture_there_is_no_file(tmp_path):
    with Video(tmp_path / "a.mp4", 12):
        pass
    assert list(tmp_path.iterdir()) == []
    with Video(tmp_path / "a.MP4", 12) as video:
        video.write(Image.new("RGB", (96, 64)))
        video.close()
        video.write(Image.new("RGB", (96, 64)))
    assert video.count == len(read(tmp_path / "a.MP4")[0]) == 1
    with pytest.raises(FeatvizError, match="could not be written: No such file or directory"):
        write(tmp_path / "nowhere" / "a.mp4")


# Read

RED = (200, 30, 30)

BT709, BT601, BT2020 = (0.2126, 0.0722), (0.299, 0.114), (0.2627, 0.0593)
"""Shares of red and of blue in luma."""

PQ, HLG = 16, 18
"""Transfer characteristics, as ITU-T H.273 numbers them."""


def plain(colour, shares=BT709, *, size=(64, 48), full=False, bits=8) -> av.VideoFrame:
    """A frame of one colour, R'G'B' in [0, 255], as Y'CbCr by the formulas of ITU-T H.273 (8.3.4)."""
    red, green, blue = (value / 255 for value in colour)
    luma = shares[0] * red + (1 - sum(shares)) * green + shares[1] * blue
    parts = luma, (blue - luma) / (2 - 2 * shares[1]), (red - luma) / (2 - 2 * shares[0])
    ranges = [(2**bits - 1, 0)] + [(2**bits - 1, 2 ** (bits - 1))] * 2
    if not full:
        ranges = [(share << bits - 8, zero << bits - 8) for share, zero in ((219, 16), (224, 128), (224, 128))]
    frame = av.VideoFrame(*size, "yuv420p" if bits == 8 else "yuv420p10le")
    for plane, part, (share, zero) in zip(frame.planes, parts, ranges, strict=True):
        kind = np.dtype(np.uint8 if bits == 8 else np.uint16)
        plane.update(np.full(plane.buffer_size // kind.itemsize, round(share * part + zero), kind).tobytes())
    return frame


def quarters(size=(64, 48)) -> av.VideoFrame:
    """Red at the top left, green at the top right, blue at the bottom left, black."""
    width, height = size
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[: height // 2, : width // 2, 0] = pixels[: height // 2, width // 2 :, 1] = pixels[height // 2 :, : width // 2, 2] = 250
    return av.VideoFrame.from_ndarray(pixels).reformat(format="yuv444p")


def clip(path: Path, frame: av.VideoFrame, rotation=None, ratio=None, **tags) -> Path:
    """A video of one frame, without loss. `tags` are attributes of the codec's context."""
    with av.open(path, "w") as file:
        stream = file.add_stream(
            "ffv1" if path.suffix == ".mkv" else "libx264", rate=25, options={"crf": "0", "preset": "ultrafast"}
        )
        stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, frame.format.name
        for name, value in tags.items():
            setattr(stream.codec_context, name, value)
            setattr(frame, name, value)
        if ratio:
            stream.codec_context.sample_aspect_ratio = ratio
        if rotation:
            stream.set_display_rotation(rotation[0], hflip=rotation[1])
        file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return path


def only(path: Path) -> Image.Image:
    (picture,) = frames(path)
    assert count_frames(path) in (0, 1)  # 0 where the container does not say.
    return picture


def corners(picture: Image.Image) -> str:
    """Which colour is at the top left, top right, bottom left and bottom right."""
    width, height = picture.size
    places = [(x, y) for y in (height // 4, height * 3 // 4) for x in (width // 4, width * 3 // 4)]
    pixels = np.array([picture.getpixel(place) for place in places])
    return "".join("rgb"[pixel.argmax()] if pixel.max() > 200 else "-" for pixel in pixels)


@pytest.mark.parametrize("extension", [".mp4", ".mov", ".mkv"])
@pytest.mark.parametrize(
    ("rotation", "seen"),
    [
        (None, "rgb-"),
        ((45, False), "rgb-"),  # No multiple of 90 degrees.
        ((90, False), "g-rb"),
        ((180, False), "-bgr"),
        ((-90, False), "br-g"),
        ((0, True), "gr-b"),
        ((180, True), "b-rg"),
        ((90, True), "-gbr"),
        ((-90, True), "rbg-"),
    ],
)
def test_a_clip_is_turned_and_mirrored_as_its_display_matrix_says(rotation, seen, extension, tmp_path):
    picture = only(clip(tmp_path / f"a{extension}", quarters(), rotation))
    assert corners(picture) == seen
    assert picture.size == ((48, 64) if rotation and rotation[0] in (90, -90) else (64, 48))


@pytest.mark.parametrize(
    ("ratio", "rotation", "size"),
    [
        (Fraction(4, 3), None, (85, 48)),
        (Fraction(3, 4), None, (64, 64)),
        (Fraction(4, 3), (90, False), (48, 85)),
        (Fraction(1000, 1), None, (64, 48)),  # Such a strip is a damaged header.
    ],
)
def test_pixels_that_are_not_square_are_stretched(ratio, rotation, size, tmp_path):
    picture = only(clip(tmp_path / "a.mp4", quarters(), rotation, ratio))
    assert picture.size == size


@pytest.mark.parametrize(
    ("shares", "size", "tags"),
    [
        (BT601, (640, 480), {}),
        (BT601, (720, 576), {}),
        (BT709, (1280, 720), {}),
        (BT709, (1280, 544), {}),
        (BT709, (720, 1280), {}),
        (BT709, (64, 48), {"colorspace": 1}),
        (BT601, (1280, 720), {"colorspace": 5}),
        (BT601, (1280, 720), {"colorspace": 6}),
        (BT709, (64, 48), {"colorspace": 1, "color_range": 2}),
        (BT601, (64, 48), {"color_range": 2}),
        (BT709, (1280, 720), {"bits": 10}),
        (BT601, (64, 48), {"bits": 10, "color_range": 2}),
    ],
)
def test_colours_are_decoded_by_the_matrix_and_range_that_are_tagged_or_usual(shares, size, tags, tmp_path):
    bits, tags = tags.get("bits", 8), {name: value for name, value in tags.items() if name != "bits"}
    for colour in (RED, (30, 200, 30), (30, 30, 200), (255, 255, 255), (0, 0, 0)):
        frame = plain(colour, shares, size=size, full=tags.get("color_range") == 2, bits=bits)
        picture = only(clip(tmp_path / "a.mp4", frame, **tags))
        assert np.abs(np.asarray(picture).astype(int) - colour).max() <= 2


def test_pictures_without_a_colour_matrix_are_decoded_as_they_are(tmp_path):
    with av.open(tmp_path / "a.mkv", "w") as file:
        stream = file.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 1280, 720, "bgr0"
        file.mux(stream.encode(av.VideoFrame.from_image(Image.new("RGB", (1280, 720), RED))))
        file.mux(stream.encode(None))
    assert only(tmp_path / "a.mkv").getpixel((9, 9)) == RED


@pytest.mark.parametrize(
    ("transfer", "code", "expected"),
    [
        (PQ, 0.5806889, 191),  # Reference white, 203 cd/m² (ITU-R BT.2408); by Reinhard's curve 0.52 of white.
        (PQ, 0.7518, 255),  # 1000 cd/m².
        (HLG, 0.5, 124),  # 1/12 of the light of the scene: 1000 ⋅ (1/12)^1.2 = 50.7 cd/m²; by the curve 0.2019 of white.
        (HLG, 1.0, 255),
    ],
)
def test_a_clip_of_high_dynamic_range_is_tone_mapped(transfer, code, expected, tmp_path):
    for tags in ({"colorspace": 9, "color_primaries": 9}, {"color_primaries": 9}, {}):
        frame = plain((255 * code,) * 3, BT2020, bits=10)
        picture = only(clip(tmp_path / "a.mkv", frame, **tags, color_trc=transfer, color_range=1))
        assert np.abs(np.asarray(picture).astype(int) - expected).max() <= 2


def test_a_clip_of_wide_gamut_comes_out_in_the_colours_of_srgb(tmp_path):
    red = tuple(255 * value for value in (0.6400, 0.2528, 0.1610))  # RED in BT.2020's primaries, transfer as in sRGB.
    for tags in ({"colorspace": 9, "color_trc": 14}, {"color_trc": 14}, {}):
        frame = plain(red, BT2020, size=(64, 200), bits=10)
        picture = only(clip(tmp_path / "a.mkv", frame, **tags, color_primaries=9))
        assert picture.size == (64, 200)
        assert np.abs(np.asarray(picture).astype(int) - RED).max() <= 2


def test_a_file_with_sound_only_has_no_pictures(tmp_path):
    with av.open(tmp_path / "a.mp4", "w") as file:
        stream = file.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), format="fltp", layout="stereo")
        frame.rate = 44100
        file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    with pytest.raises(InputError, match=r"a\.mp4' has no pictures\."):
        next(frames(tmp_path / "a.mp4"))


MANIFESTS = {
    "HLS": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{address}\n#EXT-X-ENDLIST\n",
    "DASH": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT1S" '
    'profiles="urn:mpeg:dash:profile:isoff-on-demand:2011"><Period><AdaptationSet mimeType="video/mp4"><Representation id="1" '
    'bandwidth="1"><BaseURL>{address}</BaseURL><SegmentBase/></Representation></AdaptationSet></Period></MPD>',
}


@pytest.mark.parametrize("manifest", MANIFESTS)
def test_what_a_file_names_on_another_machine_is_not_fetched(manifest, tmp_path):
    asked: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    with connection:
                        asked.append(connection.recv(100))

        threading.Thread(target=answer, daemon=True).start()
        path = tmp_path / "a.mp4"
        path.write_text(MANIFESTS[manifest].format(address=f"http://127.0.0.1:{server.getsockname()[1]}/a.mp4"))
        with pytest.raises(InputError, match=r"a\.mp4' cannot be read as a video"):
            list(frames(path))
    assert asked == []


# Times, transparency, interlacing, limits


def test_frames_have_their_times_and_durations(tmp_path):
    timed = list(timed_frames(clips.clip(tmp_path / "a.mp4")))
    assert [frame.time for frame in timed] == clips.TIMES
    assert [float(frame.duration) for frame in timed] == pytest.approx([0.1, 0.1, 0.3, 0.1, 0.1, 0.1])
    rest = list(timed_frames(tmp_path / "a.mp4", skip=4))
    assert [frame.time for frame in rest] == clips.TIMES[4:]
    assert rest[0].picture.tobytes() == timed[4].picture.tobytes()


@pytest.mark.parametrize("rotation", [None, (90, False)])
def test_frames_can_be_scaled_down_while_they_are_converted(rotation, tmp_path):
    path = clip(tmp_path / "a.mp4", quarters(), rotation, Fraction(4, 3))
    (full,), (small,), (same,) = (list(timed_frames(path, longest)) for longest in (None, 40, 400))
    assert small.picture.size == ((40, 22) if rotation is None else (22, 40))
    assert corners(small.picture) == corners(full.picture)
    assert same.picture.size == full.picture.size


def test_the_header_says_rate_length_and_sound(tmp_path):
    header = read_video_header(clips.clip(tmp_path / "a.mp4"))
    assert (header.frames, float(header.fps), float(header.seconds), header.sound) == (6, 7.5, 0.8, "aac")
    assert header.decoded_bytes == 64 * 48 * 3 // 2
    assert read_video_header(clips.clip(tmp_path / "b.mkv", sound="")).frames == 8  # By the duration and the rate.


def test_transparent_frames_are_laid_on_white(tmp_path):
    picture = Image.new("RGBA", (64, 48), (200, 0, 0, 0))
    picture.paste((0, 0, 200, 255), (0, 0, 32, 48))
    with av.open(tmp_path / "a.mov", "w") as file:
        stream = file.add_stream("qtrle", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "argb"
        file.mux(stream.encode(av.VideoFrame.from_ndarray(np.asarray(picture), "rgba").reformat(format="argb")))
        file.mux(stream.encode(None))
    made = only(tmp_path / "a.mov")
    assert [made.getpixel((x, 20)) for x in (10, 50)] == [(0, 0, 200), (255, 255, 255)]


def test_interlaced_frames_are_deinterlaced_in_time(tmp_path):
    """Fields of a bar that moves: their comb is gone, and every frame is still there."""
    with av.open(tmp_path / "a.mkv", "w") as file:
        stream = file.add_stream("libx264", rate=25, options={"x264-params": "tff=1", "crf": "0"})
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for number in range(6):
            pixels = np.zeros((64, 96, 3), np.uint8)
            for field in (0, 1):
                left = 8 * (2 * number + field)
                pixels[field::2, left : left + 12] = 255
            file.mux(stream.encode(av.VideoFrame.from_ndarray(pixels)))
        file.mux(stream.encode(None))
    timed = list(timed_frames(tmp_path / "a.mkv"))
    assert [float(frame.time) for frame in timed] == pytest.approx([number / 25 for number in range(6)], abs=0.002)
    for frame in timed[1:5]:
        rows = np.asarray(frame.picture)[8:56, :, 0].astype(int)
        assert np.abs(np.diff(rows, axis=0)).mean() < 3  # 21 where rows of both fields alternate.
        assert rows.max() > 200


def test_frames_above_the_limit_of_pixels_are_refused_before_decoding(tmp_path, monkeypatch):
    path = clips.clip(tmp_path / "a.mp4")
    monkeypatch.setenv("FEATVIZ_MAX_PIXELS", "3000")
    for use in (read_video_header, lambda it: next(timed_frames(it))):
        with pytest.raises(InputError, match=r"frames of '.*a\.mp4' have 0 megapixels; at most 0\.003 are accepted"):
            use(path)


# Nothing is lost


FULL_DISK = """
import signal
from pathlib import Path
import numpy as np
from PIL import Image
from featviz.errors import FeatvizError
from featviz.media.video import Video

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
noise, messages = np.random.default_rng(0), []
for path in {paths!r}:
    try:
        with Video(Path(path), 10) as video:
            for _ in range(80):
                video.write(Image.fromarray(noise.integers(0, 256, (64, 96, 3), dtype=np.uint8)))
    except FeatvizError as error:
        messages.append(str(error))
print(json.dumps(messages))
"""


def test_on_a_full_disk_the_video_before_stays_and_there_is_no_other(tmp_path):
    paths = [tmp_path / f"a{extension}" for extension in VIDEO_FORMATS]
    for path in paths:
        path.write_bytes(b"as it was")
    messages = limited.printed(FULL_DISK.format(paths=list(map(str, paths))))
    for path, message in zip(paths, messages, strict=True):
        assert message.startswith(f"The video '{path}' could not be written: ")
        assert path.read_bytes() == b"as it was"
    assert {*tmp_path.iterdir()} == {*paths}


def test_a_video_replaces_another_only_when_it_is_closed(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"as it was")
    with Video(path, 12) as video:
        video.write(Image.new("RGB", (96, 64)))
        assert path.read_bytes() == b"as it was"
    assert len(list(frames(path))) == 1
