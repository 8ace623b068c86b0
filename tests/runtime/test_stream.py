"""Device, lock, pacing and stopping, with a recipe that only counts."""

import sys
from types import SimpleNamespace
from typing import ClassVar, Literal

import av
import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter
from standins import PICTURE, Count, together

from featviz.errors import DivergedError, ImageError, InputError
from featviz.media.video import Video
from featviz.recipes.classification import Classification
from featviz.recipes.deepdream import DeepDream
from featviz.recipes.recipe import Demand, Frame, Recipe, param
from featviz.runtime.film import film, record
from featviz.runtime.scheduler import Scheduler, Slot
from featviz.runtime.stream import open_pictures, run, stream


@pytest.fixture(autouse=True)
def _plain(monkeypatch):
    monkeypatch.setattr(sys.modules["featviz.runtime.stream"], "load", lambda name, device: None)
    Count.log.clear()


def test_frames_become_pictures_and_numbers():
    previews = list(stream(Count(steps=4), every=0, image=PICTURE))
    assert [preview.step for preview in previews] == [1, 2, 3, 4]
    assert [preview.loss for preview in previews] == [1, 2, 3, 4]
    assert [preview.picture.getpixel((0, 0)) for preview in previews] == [(150, 75, 38), (100, 50, 25), (50, 25, 12), (0, 0, 0)]
    assert [preview.done for preview in previews] == [False, False, False, True]
    assert previews[-1].seconds_left == 0


def test_the_first_step_says_little_about_the_time_that_is_left():
    """3 s for a ten-thousandth of the work, most of them spent on preparing kernels, said "about 30000 s left"."""
    timer = sys.modules["featviz.runtime.stream"]._StepTimer(torch.device("cpu"), SimpleNamespace(held=3.0), 10.0)
    assert timer.seconds_left(1e-4) == pytest.approx(159, abs=1)
    assert timer.seconds_left(0.5) == pytest.approx(3, rel=0.03)
    assert timer.seconds_left(1.0) == 0


def test_the_first_step_and_the_last_are_always_shown_and_the_rest_paced():
    assert [preview.step for preview in stream(Count(steps=50), every=1e9, image=PICTURE)] == [1, 50]
    shown = [preview.step for preview in stream(Count(steps=30, seconds=0.01), every=0.1, image=PICTURE)]
    assert 2 < len(shown) < 10


class Fade(Recipe):
    """A recipe without pictures, with a live field."""

    name: ClassVar[str] = "fade"
    title: ClassVar[str] = "Fade"
    tab_group: ClassVar[str] = "Fade"
    images: ClassVar[dict[str, str]] = {}
    network_name: ClassVar[str] = "vgg19"

    grey: float = param(0.0, "Of the picture.", ge=0, le=1, live=True)
    steps: int = param(3, "Steps.", ge=1)

    def demand(self, network, size):
        assert size is None
        return Demand(flops=1.0, bytes=1.0)

    def run(self, network):
        settings = self
        for step in range(1, self.steps + 1):
            image = torch.full((1, 3, 16, 16), settings.grey)
            measures = {"grey": image.mean()}
            settings = (yield Frame(step, self.steps, "", step / self.steps, image.mean(), image, measures=measures)) or settings


def test_a_run_without_pictures_is_steered_from_its_next_step_on_and_only_in_its_live_fields():
    steering, previews = [Fade()], []
    for preview in stream(Fade(), every=0, steer=steering.pop):
        previews.append(preview)
        steering.append(Fade(grey=preview.step / 5, steps=99))
    assert [preview.picture.getpixel((0, 0))[0] for preview in previews] == [0, 51, 102]
    assert [preview.measures["grey"] for preview in previews] == pytest.approx([0, 0.2, 0.4])


def test_steps_of_simultaneous_runs_never_overlap_and_all_finish():
    together(*[lambda: run(Count(steps=20, seconds=0.002), image=PICTURE)] * 4)
    assert Count.log.count(20) == 4


def test_a_run_holds_the_device_from_one_preview_to_the_next_unless_another_goes_before_it(monkeypatch):
    entered = []
    enter = Slot.__enter__
    monkeypatch.setattr(Slot, "__enter__", lambda slot: entered.append(slot) or enter(slot))
    assert [preview.step for preview in stream(Count(steps=50), every=1e9, image=PICTURE)] == [1, 50]
    assert len(entered) == 2  # To the first preview, and to the last.


def test_unusable_pictures_are_refused_before_any_work():
    with pytest.raises(ImageError, match="The image is missing"):
        next(stream(Count()))
    with pytest.raises(ImageError, match="image is 1×1 pixels"):
        next(stream(Count(), image=Image.new("RGB", (1, 1))))
    with pytest.raises(InputError, match="Count takes no picture 'style'; it takes image"):
        next(stream(Count(), image=PICTURE, style=PICTURE))
    assert Count.log == []


def test_a_run_that_diverges_ends_with_one_sentence():
    previews = stream(Count(steps=5, breaks=3), every=0, image=PICTURE)
    assert [next(previews).step, next(previews).step] == [1, 2]
    with pytest.raises(DivergedError, match="ran out of range at step 3; the last good picture is kept"):
        next(previews)
    assert Count.log[-1] == "closed"


def test_a_device_with_too_little_memory_is_a_sentence_and_stays_free(monkeypatch):
    def step_once_and_run_out(self, network, *, image):
        yield Frame(1, 2, "counting", 0.5, torch.tensor(1.0), image)
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB.")

    with monkeypatch.context() as patch:
        patch.setattr(Count, "run", step_once_and_run_out)
        previews = stream(Count(), every=0, image=PICTURE)
        assert next(previews).step == 1
        with pytest.raises(InputError, match="The device has too little memory for that; choose a smaller size"):
            next(previews)
    assert run(Count(), image=PICTURE)


def test_transparency_is_kept_and_a_soft_edge_has_the_colour_of_the_picture_without_white():
    half = Image.new("RGBA", (20, 16), (200, 100, 50, 128))
    assert run(Count(), image=half).getpixel((5, 5)) == (0, 0, 0, 128)
    alpha = Image.new("L", (64, 64))
    alpha.paste(255, (16, 16, 48, 48))
    picture = Image.new("RGBA", (64, 64), (4, 9, 53))
    picture.putalpha(alpha.filter(ImageFilter.BoxBlur(4)))
    preview = next(stream(Count(steps=10_000), image=picture))
    pixels = np.asarray(preview.picture).reshape(-1, 4).astype(int)
    assert np.abs(pixels[pixels[:, 3] > 0][:, :3] - (4, 9, 53)).max() <= 1


def test_a_mask_and_a_large_picture_are_opened_as_a_recipe_needs_them(tmp_path):
    Image.new("RGB", (4000, 3000), (9, 200, 30)).save(tmp_path / "large.jpg")
    mask = Image.new("RGBA", (40, 30), (255, 255, 255, 0))
    mask.paste((255, 255, 255, 255), (0, 0, 20, 30))
    given = {"image": tmp_path / "large.jpg", "mask": mask}
    opened = open_pictures(DeepDream(size=128), given)
    assert opened["image"].size == (1000, 750)
    assert (opened["mask"].mode, opened["mask"].getpixel((30, 9))) == ("L", 0)
    assert open_pictures(DeepDream(full_size=True), given)["image"].size == (4000, 3000)
    assert open_pictures(DeepDream(size=512, octaves_above=2, octave_scale=2), given)["image"].size == (4000, 3000)


# Films


class Flicker(Count):
    """A video, of which every second step is a finished picture."""

    title: ClassVar[str] = "Flicker"
    produces: ClassVar[Literal["picture", "video"]] = "video"

    fps: int = param(10, "Frames a second.", ge=1)

    def run(self, network, *, image):
        for frame in super().run(network, image=image):
            yield frame.replace(is_video_frame=frame.step % 2 == 0)


def reds(path) -> list[int]:
    with av.open(path) as file:
        return [int(frame.to_ndarray(format="rgb24")[8, 8, 0]) for frame in file.decode(video=0)]


def test_finished_pictures_of_a_video_are_yielded_however_fast_they_come():
    previews = list(stream(Flicker(steps=8), every=1e9, image=PICTURE))
    shown = [(preview.step, preview.is_video_frame) for preview in previews]
    assert shown == [(1, False), (2, True), (4, True), (6, True), (8, True)]


@pytest.mark.parametrize("every", [0, 1e9])
def test_a_film_has_every_finished_picture_whatever_the_pacing(every, tmp_path):
    shown = [preview.step for preview in film(Flicker(steps=8), tmp_path / "a.mp4", every=every, image=PICTURE)]
    assert shown == ([1, 2, 3, 4, 5, 6, 7, 8] if every == 0 else [1, 8])
    assert reds(tmp_path / "a.mp4") == pytest.approx([150, 100, 50, 0], abs=3)


def test_closing_a_film_stops_the_run_and_completes_the_video(tmp_path):
    previews = film(Flicker(steps=1000), tmp_path / "a.mp4", every=0, image=PICTURE)
    while next(previews).step < 6:
        pass
    previews.close()
    assert Count.log == [1, 2, 3, 4, 5, 6, "closed"]
    assert len(reds(tmp_path / "a.mp4")) == 3
    assert run(Count(steps=1), image=PICTURE)


def test_the_film_of_a_failed_run_has_the_pictures_before_it(tmp_path):
    with pytest.raises(DivergedError):
        list(film(Flicker(steps=8, breaks=5), tmp_path / "a.mp4", every=0, image=PICTURE))
    assert len(reds(tmp_path / "a.mp4")) == 2
    for _ in record(stream(Flicker(steps=4), image=PICTURE), Video(tmp_path / "a.webp", 10)):  # As any run's previews.
        pass
    with Image.open(tmp_path / "a.webp") as made:
        assert made.n_frames == 2


def test_the_device_is_free_while_a_film_encodes(tmp_path, monkeypatch):
    write, others = Video.write, []

    def write_after_another_run(self, picture):
        others.append(run(Count(steps=2), image=PICTURE))  # Would wait for ever.
        write(self, picture)

    monkeypatch.setattr(Video, "write", write_after_another_run)
    for _ in film(Flicker(steps=4), tmp_path / "a.mp4", image=PICTURE):
        pass
    assert len(others) == len(reds(tmp_path / "a.mp4")) == 2


def test_an_impossible_film_is_refused_before_any_work(tmp_path):
    with pytest.raises(InputError, match="Classification makes numbers in one step, which no film shows; use run or stream"):
        next(film(Classification(), tmp_path / "a.mp4", image=PICTURE))
    for recipe in (Count(), Flicker()):
        with pytest.raises(InputError, match="has no extension of a video; accepted"):
            next(film(recipe, tmp_path / "a.avi", image=PICTURE))
    assert (Count.log, list(tmp_path.iterdir())) == ([], [])


def test_a_video_does_not_get_the_transparency_of_its_picture():
    picture = Image.new("RGBA", (20, 16), (200, 100, 50, 0))  # Laid on white.
    picture.paste((200, 100, 50, 255), (0, 0, 10, 16))
    made = next(stream(Flicker(steps=10_000), image=picture)).picture
    assert [made.getpixel((x, 8)) for x in (5, 15)] == [(200, 100, 50), (255, 255, 255)]


class End:
    """A stand-in for the event that a card reaches at the end of a step."""

    log: ClassVar[list] = []

    def record(self, stream):
        self.number = sum(what == "queued" for what, _ in End.log) + 1
        End.log.append(("queued", self.number))

    def synchronize(self):
        End.log.append(("waited for", self.number))


def test_a_card_has_at_most_two_steps_of_a_run_before_it(monkeypatch):
    """So Stop waits for no more than these, and between two steps the card has something to do."""
    monkeypatch.setattr(torch.cuda, "Event", End)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: None)
    timer = sys.modules["featviz.runtime.stream"]._StepTimer(torch.device("cuda", 7), Scheduler().slot(), 1.0)
    for _ in range(4):
        with timer.slot, timer.step():
            pass
    assert End.log == [
        ("queued", 1), ("queued", 2), ("waited for", 1), ("queued", 3), ("waited for", 2), ("queued", 4),
    ]  # fmt: skip
