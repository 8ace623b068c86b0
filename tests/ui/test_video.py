"""The tab of a recipe that makes a video: pictures while it works, a player at the end or wherever it was stopped."""

from collections.abc import Iterator
from dataclasses import replace

import av
import gradio as gr
import pytest
from PIL import Image

from featviz.errors import FeatvizError
from featviz.recipes.deepdream_zoom import DeepDreamZoom
from featviz.recipes.recipe import Recipe
from featviz.runtime.stream import Preview
from featviz.ui.running import Engine, RunState
from featviz.ui.video import VideoTab

GREYS = [200, 150, 100, 50]


@pytest.fixture(autouse=True)
def cache(tidy_gradio, tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "gradio"))


@pytest.fixture
def picture(tmp_path) -> dict[str, str]:
    Image.new("RGB", (64, 48)).save(tmp_path / "image.png")
    return {"path": str(tmp_path / "image.png")}


def fake(recipe: Recipe, **pictures: Image.Image) -> Iterator[Preview]:
    """A step on the way, and then a finished picture, for each of the greys."""
    steps = 2 * len(GREYS)
    for number, grey in enumerate(GREYS, 1):
        on_the_way = Preview(2 * number - 1, steps, f"frame {number} of 4", 0.1, 1.0, 0.0, Image.new("RGB", (64, 48), (9, 9, 9)))
        yield on_the_way
        yield replace(on_the_way, step=2 * number, picture=Image.new("RGB", (64, 48), (grey, grey, grey)), is_video_frame=True)


def tab(run=fake) -> VideoTab:
    with gr.Blocks(analytics_enabled=False):
        return VideoTab(DeepDreamZoom, Engine(run).with_device(lambda run: run), [])


def started(page: VideoTab, picture: dict, latest=None, state=None) -> Iterator[dict]:
    return page.start(picture, *DeepDreamZoom().model_dump().values(), None, None, latest, [], state or RunState())


def greys(path: str) -> list[int]:
    with av.open(path) as file:
        return [int(frame.to_ndarray(format="rgb24")[9, 9, 0]) for frame in file.decode(video=0)]


def test_a_run_shows_pictures_then_a_player_and_a_download(picture):
    page = tab()
    _, *previews, last = started(page, picture)
    assert len(previews) == 8
    assert previews[1][page.view].getpixel((0, 0)) == (200, 200, 200)
    assert last[page.compare]["value"] == last[page.download]["value"]
    assert last[page.download]["value"].endswith("featviz_deepdream_zoom.mp4")
    assert greys(last[page.download]["value"]) == pytest.approx(GREYS, abs=3)
    assert "Done in 8 steps" in last[page.status]
    assert isinstance(page.compare, gr.Video)


@pytest.mark.parametrize(("shown", "there"), [(2, [200]), (5, [200, 150]), (6, [200, 150, 100])])
def test_stopping_keeps_a_video_of_what_there_is(picture, shown, there):
    page, state = tab(), RunState()
    run = started(page, picture, state=state)
    next(run)
    for _ in range(shown):
        latest = next(run)[page.latest]
    update = page.stop_run(latest, state)
    assert greys(update[page.download]["value"]) == pytest.approx(there, abs=3)
    assert list(run) == [{page.status: gr.skip()}]
    assert greys(page.show_finished(latest)[page.download]["value"]) == pytest.approx(there, abs=3)


def test_stopping_before_the_first_finished_picture_keeps_the_one_there_is(picture):
    page, state = tab(), RunState()
    run = started(page, picture, state=state)
    next(run)
    latest = next(run)[page.latest]
    assert greys(page.stop_run(latest, state)[page.download]["value"]) == pytest.approx([9], abs=3)
    run.close()


def test_another_run_keeps_the_video_before_it(picture):
    page = tab()
    *_, preview, _ = started(page, picture)
    _, first, *_ = started(page, picture, latest=preview[page.latest])
    ((file, _),) = first[page.earlier_gallery]["value"]
    assert greys(file) == pytest.approx(GREYS, abs=3)


def test_a_run_that_fails_half_way_keeps_a_video_of_what_there_is(picture):
    def failing(recipe, **pictures):
        previews = fake(recipe, **pictures)
        yield from (next(previews), next(previews))
        raise FeatvizError("The lamp went out.")

    page, updates = tab(failing), []
    with pytest.raises(gr.Error, match="The lamp went out"):
        updates.extend(started(page, picture))
    assert greys(updates[-1][page.download]["value"]) == pytest.approx([200], abs=3)


def test_nothing_is_left_behind_but_the_file(picture, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    run = started(tab(), picture)
    for _ in range(4):
        next(run)
    run.close()
    assert list((tmp_path / "temporary").iterdir()) == []
