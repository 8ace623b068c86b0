"""A recipe on a video, from file to file: times, sound, recipe, going on where it ended, and what may be wrong with a file."""

import os
import re
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from clips import TIMES, clip, damaged, length, packets, times, window
from limited import ONE_THREAD_OFFLINE

from featviz import DeepDream, DeepDreamZoom, StyleTransfer, film
from featviz.errors import FieldError, InputError, LimitError
from featviz.media.video import frames, read_video_header
from featviz.recipes import metadata, presets
from featviz.recipes.table import RECIPES
from featviz.runtime import memory
from featviz.runtime.clip import check_length, complete_clip, estimate_clip, film_clip, read_headers, takes_video
from featviz.runtime.stream import Preview, run

DREAM = DeepDream(layer="efficientnet_lite0/block2", size=64, octaves=1, steps=2)
ROOT_ON_PATH = {"PYTHONPATH": str(Path(__file__).parents[2])}
WAVE = presets.FOLDER / "great_wave.jpg"


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    return clip(tmp_path_factory.mktemp("clip") / "clip.mp4")


def made(out: Path, source: Path, recipe: DeepDream = DREAM, **options) -> list[Preview]:
    return list(film(recipe, out, image=source, **options))


def stopped_at(out: Path, source: Path, number: int) -> None:
    """Make a video of the first frames."""
    previews = film(DREAM, out, image=source, every=0)
    for preview in previews:
        if preview.stage == f"frame {number} of 6" and preview.is_video_frame:
            break
    previews.close()


def test_a_video_has_the_times_the_sound_and_the_recipe(source, tmp_path):
    *_, last = made(tmp_path / "out.mp4", source)
    assert last.done
    assert times(tmp_path / "out.mp4") == TIMES
    assert length(tmp_path / "out.mp4", "video") == pytest.approx(0.8)
    copied, given = packets(tmp_path / "out.mp4"), packets(source)
    assert copied == given[given.index(copied[0]) :][: len(copied)]
    assert 0.6 <= length(tmp_path / "out.mp4", "audio") < 0.95
    restored = metadata.read(tmp_path / "out.mp4", RECIPES)
    assert (restored.recipe, restored.whole, restored.remarks) == (DREAM, True, ())
    assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]


def test_the_first_frame_is_that_of_a_still(source, tmp_path):
    made(tmp_path / "out.mp4", source)
    first, still = next(frames(tmp_path / "out.mp4")), run(DREAM, image=next(frames(source)))
    assert np.abs(np.asarray(first).astype(int) - np.asarray(still)).mean() < 5  # As H.264 keeps it.


def test_previews_count_the_steps_and_the_work_of_the_whole_video(source, tmp_path):
    previews = made(tmp_path / "out.mp4", source, every=0)
    assert [preview.step for preview in previews] == list(range(1, 8))  # Two steps, then one a frame.
    assert [preview.stage for preview in previews[1:]] == [f"frame {number} of 6" for number in range(1, 7)]
    assert [preview.work for preview in previews] == sorted(preview.work for preview in previews)
    assert [preview.done for preview in previews] == [False] * 6 + [True]
    assert previews[0].work < 0.2
    assert [preview.is_video_frame for preview in previews] == [False] + [True] * 6


def test_a_style_on_a_video(source, tmp_path):
    recipe = StyleTransfer(network="efficientnet_lite0", size=64, steps=2)
    for _ in film(recipe, tmp_path / "out.mp4", content=source, style=WAVE):
        pass
    assert len(times(tmp_path / "out.mp4")) == 6
    assert metadata.read(tmp_path / "out.mp4", RECIPES).fingerprints.keys() == {"salt", "content", "style"}


def test_a_run_that_was_stopped_leaves_a_video_with_sound_and_goes_on_from_there(source, tmp_path):
    out = tmp_path / "out.mp4"
    stopped_at(out, source, 3)
    assert times(out) == TIMES[:3]
    assert length(out, "video") == pytest.approx(0.5)  # Its last frame as long as in the source.
    assert 0.3 <= length(out, "audio") < 0.65
    assert metadata.read(out, RECIPES).whole is False
    before = packets(out, "video")
    rest = made(out, source, every=0)
    assert [preview.stage for preview in rest] == [f"frame {number} of 6" for number in (4, 5, 6)]
    assert times(out) == TIMES
    assert packets(out, "video")[:3] == before  # They are not encoded again.
    assert metadata.read(out, RECIPES).whole is True
    first, last = list(frames(out))[2:4]
    likeness = np.corrcoef(np.asarray(first)[1:-1, 2:].ravel(), np.asarray(last)[:-2, :-2].ravel())[0, 1]
    assert likeness > 0.8  # It follows, moved by two pixels and one.


def test_another_run_does_not_go_on_from_it(source, tmp_path):
    out = tmp_path / "out.mp4"
    for recipe, video in ((DREAM.replace(seed=1), source), (DREAM, clip(tmp_path / "other.mp4", size=(64, 50)))):
        stopped_at(out, source, 2)
        assert made(out, video, recipe, every=0)[0].stage == "frame 1 of 6"
        assert times(out) == TIMES


def test_a_run_that_was_stopped_after_its_last_frame_is_completed(source, tmp_path, monkeypatch):
    out = tmp_path / "out.mp4"
    stopped_at(out, source, 5)
    clip(tmp_path / "clip.mp4", count=5)
    (preview,) = made(out, tmp_path / "clip.mp4")
    assert (preview.done, preview.stage) == (True, "frame 5 of 5")
    assert metadata.read(out, RECIPES).whole is True


FULL_THEN_KILLED = """
import os, resource, signal, sys
from featviz import DeepDream, FeatvizError, film
from featviz.media.video import Video

def limit(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

def write_and_die(video, *given):
    write(video, *given)
    if video.count == 5:
        video._opened[0].mux(video._opened[1].encode(None))  # What the encoder has before it.
        os.kill(os.getpid(), signal.SIGKILL)

def make(out):
    for _ in film(recipe, out, image=sys.argv[1]):
        pass

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
recipe = DeepDream(layer="efficientnet_lite0/block2", size=64, octaves=1, steps=2)
limit(3000)
try:
    make("full.mp4")
except FeatvizError as error:
    print(error, flush=True)
limit(resource.RLIM_INFINITY)
make("full.mp4")
write, Video.write = Video.write, write_and_die
make("killed.mp4")
"""


def test_runs_on_a_full_disk_and_in_a_process_that_was_killed_go_on_later(source, tmp_path):
    child = subprocess.run(
        [sys.executable, "-c", FULL_THEN_KILLED, source], cwd=tmp_path, env=os.environ | ONE_THREAD_OFFLINE | ROOT_ON_PATH,
        check=False, timeout=120, text=True, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert child.returncode == -9
    assert "could not be written: File too large." in child.stdout
    full, killed = tmp_path / "full.mp4", tmp_path / "killed.mp4"
    assert times(full) == TIMES
    assert metadata.read(full, RECIPES).whole is True
    assert sorted(path.name for path in tmp_path.iterdir()) == [".killed.part.mp4", "full.mp4"]
    complete_clip(DREAM, killed, image=source)
    assert times(killed) == TIMES[:4]  # The last one waited in the muxer.
    assert made(killed, source, every=0)[0].stage == "frame 5 of 6"
    assert times(killed) == TIMES
    assert sorted(path.name for path in tmp_path.iterdir()) == ["full.mp4", "killed.mp4"]


def test_a_video_that_is_damaged_in_the_middle_gives_everything_before_and_a_sentence(source, tmp_path):
    video, out = damaged(source, tmp_path / "clip.mp4", 3), tmp_path / "out.mp4"
    with pytest.raises(InputError, match=r"clip\.mp4' cannot be read as a video: .* The result ends there, after "):
        made(out, video)
    assert times(out) == TIMES[:3]
    assert length(out, "audio") > 0.3


def test_a_video_that_is_cut_off_ends_early_with_a_sentence(source, tmp_path):
    """Its index comes first, and the rest is missing."""
    whole = tmp_path / "whole.mp4"
    made(whole, source)
    data = whole.read_bytes()
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(data[: data.index(packets(whole, "video")[4])])
    with pytest.raises(
        InputError, match=r"cut\.mp4' should last 0\.8 s, and its end is missing\. The result ends there, after 0\.6 s"
    ):
        made(tmp_path / "out.mp4", cut)
    assert times(tmp_path / "out.mp4") == TIMES[:4]


def test_odd_sizes_lose_a_row_and_a_column_and_a_stopped_run_goes_on(tmp_path):
    source, recipe = clip(tmp_path / "clip.mp4", size=(66, 50), sound=""), DREAM.replace(size=65)
    previews = film(recipe, tmp_path / "out.mp4", image=source, every=0)
    shown = [next(previews) for _ in range(3)]
    previews.close()
    assert shown[0].picture.size == (65, 49)
    made(tmp_path / "out.mp4", source, recipe)
    assert {picture.size for picture in frames(tmp_path / "out.mp4")} == {(64, 48)}
    assert len(times(tmp_path / "out.mp4")) == 6


def test_a_video_is_taken_by_recipes_that_follow_one():
    assert takes_video(DeepDream, {"image": "a.MP4"})
    assert not takes_video(DeepDream, {"image": "a.jpg"})
    assert not takes_video(DeepDream, {"image": window(0)})
    assert not takes_video(DeepDreamZoom, {"image": "a.mp4"})


def test_a_start_picture_has_no_effect_beside_a_video(source, tmp_path):
    recipe = StyleTransfer(network="efficientnet_lite0", size=64, steps=1)
    with pytest.raises(FieldError, match="start has no effect beside a video"):
        next(film(recipe, tmp_path / "out.mp4", content=source, style=WAVE, start=window(0)))


def test_a_run_ends_at_its_seconds_and_when_it_is_stopped_with_what_it_has(source, tmp_path):
    with pytest.raises(LimitError, match="A run may take 0 s here"):
        list(film_clip(DREAM, tmp_path / "out.mp4", image=source, seconds=0))
    seen = []
    for preview in film_clip(DREAM, tmp_path / "b.mp4", image=source, every=0, stopped=lambda: len(seen) > 3):
        seen.append(preview)
    assert not seen[-1].done
    assert metadata.read(tmp_path / "b.mp4", RECIPES).whole is False


def test_frames_that_need_too_much_memory_are_refused(source, tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "FRAMES_DECODED", 10**12)
    with pytest.raises(LimitError, match=r"Decoding the video takes .* GB of memory, and .* choose one with smaller frames"):
        made(tmp_path / "out.mp4", source)


def write(path: Path, size: tuple[int, int], count: int, fps: int) -> Path:
    """Write a video of grey frames that are encoded as fast as possible."""
    with av.open(path, "w") as file:
        stream = file.add_stream("libx264", rate=fps, options={"preset": "ultrafast", "g": "600", "threads": "1"})
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        frame = av.VideoFrame(*size, "yuv420p")
        for plane, value in zip(frame.planes, (150, 128, 128), strict=True):
            plane.update(bytes([value]) * plane.buffer_size)
        for number in range(count):
            frame.pts, frame.time_base = number, Fraction(1, fps)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return path


def test_a_video_in_8k_becomes_one_of_the_size_asked_for(tmp_path):
    source, out = write(tmp_path / "8k.mp4", (7680, 4320), 1, 30), tmp_path / "out.mp4"
    assert read_video_header(source).decoded_bytes == 7680 * 4320 * 3 // 2
    made(out, source)
    (picture,) = frames(out)
    assert picture.size == (64, 36)
    assert np.asarray(picture).mean() == pytest.approx(1.164 * (150 - 16), abs=8)


def test_two_hours_are_counted_begin_at_once_and_are_refused_by_a_server(tmp_path):
    source, out = write(tmp_path / "long.mp4", (64, 48), 7200, 1), tmp_path / "out.mp4"
    with pytest.raises(LimitError, match=r"The video lasts 2 h; at most 60 s are accepted here"):
        check_length(read_video_header(source))
    assert read_headers(DREAM, {"image": source})[1] == 7200
    previews = film(DREAM, out, image=source, every=0)
    assert [next(previews).stage for _ in range(3)][-1] == "frame 2 of 7200"
    previews.close()
    assert times(out) == [0, 1]


def test_the_estimate_grows_with_the_frames(source, tmp_path):
    one, six = (
        estimate_clip(DREAM.replace(size=256), {"image": it}, device="cpu").seconds
        for it in (clip(tmp_path / "one.mp4", count=1), source)
    )
    assert one < six < 6 * one
    alone = estimate_clip(DREAM.replace(size=256, steadiness=0), {"image": source}, device="cpu").seconds
    assert re.fullmatch(r"About \d+ s and 0\.\d GB on this machine\.", str(estimate_clip(DREAM, {"image": source}, device="cpu")))
    assert alone > six
