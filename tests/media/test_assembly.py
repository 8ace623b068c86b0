"""Parts of a video and a sound, joined: what comes out is compared packet by packet with what went in."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from clips import clip, length, packets, times, window

from featviz.errors import FeatvizError
from featviz.media.assembly import SoundChanged, assemble, last_picture
from featviz.media.video import GROWING, Video, read_note


def part(path: Path, numbers: range, note: str = "") -> Path:
    """Write frames of 0.1 seconds each."""
    with Video(path, 10, note, format_=GROWING) as video:
        for number in numbers:
            video.write(window(number), Fraction(number, 10), Fraction(1, 10))
    return path


def test_parts_follow_one_another_without_being_encoded_again(tmp_path):
    parts = [part(tmp_path / "a.mp4", range(3)), part(tmp_path / "b.mp4", range(3, 8))]
    assemble(tmp_path / "out.mp4", parts, clip(tmp_path / "sound.mp4", sound=""), "a note")
    assert packets(tmp_path / "out.mp4", "video") == [packet for it in parts for packet in packets(it, "video")]
    assert times(tmp_path / "out.mp4") == [Fraction(number, 10) for number in range(8)]
    assert length(tmp_path / "out.mp4", "video") == pytest.approx(0.8)
    assert read_note(tmp_path / "out.mp4") == "a note"
    data = (tmp_path / "out.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")  # The index comes first.
    assert b"moof" not in data  # One whole file, which every player can seek in.


def test_a_result_can_be_a_part_itself(tmp_path):
    out = tmp_path / "out.mp4"
    assemble(out, [part(tmp_path / "a.mp4", range(3))], clip(tmp_path / "sound.mp4"), "")
    assemble(out, [out, part(tmp_path / "b.mp4", range(3, 5))], tmp_path / "sound.mp4", "")
    assert times(out) == [Fraction(number, 10) for number in range(5)]
    count, picture = last_picture(out)
    assert count == 5
    assert np.abs(np.asarray(picture).astype(int) - np.asarray(window(4))).mean() < 4


@pytest.mark.parametrize("container", [".mp4", ".mkv", ".mov"])
def test_sound_is_copied_as_it_is_and_cut_to_the_pictures(container, tmp_path):
    source = clip(tmp_path / f"sound{container}")
    assemble(tmp_path / "out.mp4", [part(tmp_path / "a.mp4", range(6))], source, "")
    copied = packets(tmp_path / "out.mp4")
    given = packets(source)
    start = given.index(copied[0])
    assert start <= 1  # The first packet may be the encoder's delay, before the first frame.
    assert copied == given[start : start + len(copied)]
    assert 0.6 <= length(tmp_path / "out.mp4", "audio") < 0.8  # A packet lasts 0.128 seconds.


@pytest.mark.parametrize(("codec", "container"), [("pcm_s16le", ".mkv"), ("pcm_s16le", ".mov"), ("pcm_mulaw", ".avi")])
def test_sound_that_mp4_does_not_take_becomes_aac_with_a_warning(codec, container, tmp_path):
    source = clip(tmp_path / f"sound{container}", sound=codec)
    with pytest.warns(SoundChanged, match=f"encoded as AAC, since MP4 takes none in {codec}"):
        assemble(tmp_path / "out.mp4", [part(tmp_path / "a.mp4", range(6))], source, "")
    with av.open(tmp_path / "out.mp4") as file:
        (stream,) = file.streams.audio
        heard = np.concatenate([frame.to_ndarray()[0] for frame in file.decode(stream)])
        assert (stream.codec_context.name, stream.codec_context.sample_rate) == ("aac", 8000)
    spectrum = np.abs(np.fft.rfft(heard[1000:4000]))
    assert spectrum.argmax() * 8000 / 3000 == pytest.approx(440, abs=4)


def test_sound_of_a_video_that_starts_late_stays_in_time(tmp_path):
    """Its first frame and its sound are at 5 seconds."""
    clip(tmp_path / "sound.mp4")
    with av.open(tmp_path / "sound.mp4") as early, av.open(tmp_path / "late.mkv", "w") as late:
        streams = {stream.index: late.add_stream_from_template(stream) for stream in early.streams}
        for packet in early.demux():
            if packet.dts is not None:
                shift = round(5 / packet.time_base)
                packet.pts, packet.dts, packet.stream = packet.pts + shift, packet.dts + shift, streams[packet.stream.index]
                late.mux(packet)
    for source in ("sound.mp4", "late.mkv"):
        assemble(tmp_path / f"{source}.mp4", [part(tmp_path / "a.mp4", range(6))], tmp_path / source, "")
    early, late = (packets(tmp_path / f"{source}.mp4") for source in ("sound.mp4", "late.mkv"))
    assert early[1:] == late[-len(early) + 1 :]


def test_an_existing_file_stays_if_the_new_one_cannot_be_written(tmp_path):
    out = tmp_path / "out.mp4"
    out.write_bytes(b"as it was")
    with pytest.raises(FeatvizError, match=r"out\.mp4' could not be written"):
        assemble(out, [tmp_path / "absent.mp4"], clip(tmp_path / "sound.mp4"), "")
    assert out.read_bytes() == b"as it was"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.mp4", "sound.mp4"]
