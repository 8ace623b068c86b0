"""The film of how a picture came about: which steps it shows, when, and what it holds meanwhile."""

import sys
import tracemalloc
from itertools import groupby, pairwise

import av
import numpy as np
import pytest
from PIL import Image
from standins import PICTURE, Count

from featviz.errors import DivergedError
from featviz.recipes.table import recipe_of
from featviz.runtime import history
from featviz.runtime.film import film
from featviz.runtime.history import FPS, HOLD_SECONDS, SECONDS, History


def grey(value: float, size: tuple[int, int] = (32, 24)) -> Image.Image:
    return Image.new("RGB", size, (round(value),) * 3)


def shown(of: History) -> list[tuple[int, int]]:
    """Return the brightness of each picture of a film, and the number of frames for which it is shown."""
    brightness = [frame.getpixel((0, 0))[0] for frame in of.frames()]
    return [(value, len(list(same))) for value, same in groupby(brightness)]


def kept(values) -> History:
    result = History()
    for value in values:
        result.add(grey(value))
    return result


@pytest.mark.parametrize("steps", [1, 2, 7, 500])
def test_the_length_is_the_same_whatever_the_steps(steps):
    film = kept(np.linspace(0, 250, steps))
    assert sum(count for _, count in shown(film)) == FPS * SECONDS
    assert shown(film)[-1][0] == (250 if steps > 1 else 0)


def test_every_picture_of_a_short_run_stays_as_long_as_the_change_up_to_the_next_one_and_the_last_for_a_second():
    assert shown(kept([0, 50, 60, 60, 200])) == [(0, 30), (50, 6), (60, 84), (200, FPS * HOLD_SECONDS)]


def test_seconds_of_little_change_are_skipped_in_a_long_run():
    """200 steps without visible change, 50 in which all happens, and 200 more without."""
    busy = np.linspace(0, 250, 51)
    frames = shown(kept([*[0] * 200, *busy, *[250] * 200]))
    assert [value for value, _ in frames] == pytest.approx(busy, abs=1)
    assert {count for _, count in frames[:-1]} <= {2, 3}


def test_kept_pictures_of_a_long_run_are_spread_by_change():
    """Brightness rises fast at first, then ever more slowly. Steps of equal number would leave gaps of 60."""
    film = History(most=20)
    for step in range(300):
        film.add(grey(250 * (1 - 0.95**step)))
    values = [value for value, _ in shown(film)]
    assert (values[0], values[-1], len(values)) == (0, 250, 20)
    assert max(after - before for before, after in pairwise(values)) <= 30


def test_smaller_pictures_are_enlarged_and_nothing_is_larger_than_the_limit():
    film = History()
    gradient = Image.radial_gradient("L").convert("RGB")
    for side in (8, 64, 256):
        film.add(gradient.resize((side * 2, side)))
    film.add(gradient.resize((2880, 1440)))
    frames = list(film.frames())
    assert {frame.size for frame in frames} == {(history.LONGEST, history.LONGEST // 2)}
    smooth = np.asarray(gradient.resize(frames[0].size), float)
    errors = [np.abs(np.asarray(frame, float) - smooth).mean() for frame, _ in groupby(frames)]
    assert errors[0] > errors[1] > errors[-1]  # From coarse to sharp.
    assert errors[-1] < 1


def test_a_stored_history_gives_the_same_film_and_holds_nothing(tmp_path):
    pictures = [Image.effect_noise((32, 24), 20 * step).convert("RGB") for step in range(1, 5)]
    film = History()
    for picture in pictures:
        film.add(picture)
    frames = [frame.tobytes() for frame in film.frames()]
    film.store(tmp_path / "steps.zip")
    assert list(film.frames()) == []
    assert [frame.tobytes() for frame in History.load(tmp_path / "steps.zip").frames()] == frames
    film.store(tmp_path / "nothing.zip")
    assert [path.name for path in tmp_path.iterdir()] == ["steps.zip"]


def test_memory_does_not_grow_with_the_number_of_steps():
    picture = Image.effect_noise((192, 192), 40).convert("RGB")
    size = len(history._as_jpeg(picture))
    film = History(most=8)
    tracemalloc.start()
    try:
        for step in range(80):
            film.add(Image.blend(picture, grey(0, picture.size), step / 80))
            if step == 8:
                tracemalloc.reset_peak()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 10 * size


# The film of a run


@pytest.fixture
def _counting(monkeypatch):
    monkeypatch.setattr(sys.modules["featviz.runtime.stream"], "load", lambda name, device: None)
    monkeypatch.setattr("featviz.recipes.table.RECIPES", {"count": Count})
    Count.log.clear()


def played(path) -> list[tuple[int, int]]:
    with av.open(path) as file:
        reds = [int(frame.to_ndarray(format="rgb24")[8, 8, 0]) for frame in file.decode(video=0)]
    return [(value, len(list(same))) for value, same in groupby(reds)]


@pytest.mark.usefixtures("_counting")
def test_a_film_of_a_picture_has_all_its_steps_and_the_recipe_however_previews_are_paced(tmp_path):
    *_, last = film(Count(steps=5), tmp_path / "a.mp4", every=1e9, image=PICTURE)
    assert last.picture.getpixel((0, 0)) == (0, 0, 0)
    values, counts = zip(*played(tmp_path / "a.mp4"), strict=True)
    assert values == pytest.approx([160, 120, 80, 40, 0], abs=3)
    assert counts == pytest.approx([30, 30, 30, 30, 24], abs=1)
    assert recipe_of(tmp_path / "a.mp4") == Count(steps=5)


@pytest.mark.usefixtures("_counting")
def test_a_run_that_fails_or_is_stopped_leaves_a_film_of_full_length_up_to_there_unless_it_has_no_step(tmp_path):
    with pytest.raises(DivergedError):
        list(film(Count(breaks=1), tmp_path / "a.mp4", image=PICTURE))
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(DivergedError):
        list(film(Count(steps=4, breaks=3), tmp_path / "failed.mp4", image=PICTURE))
    previews = film(Count(steps=4), tmp_path / "stopped.mp4", every=0, image=PICTURE)
    while next(previews).step < 2:
        pass
    previews.close()
    for name in ("failed.mp4", "stopped.mp4"):
        values, counts = zip(*played(tmp_path / name), strict=True)
        assert values == pytest.approx([150, 100], abs=3)
        assert sum(counts) == FPS * SECONDS
    assert Count.log[-1] == "closed"
