"""What the server remembers of a visitor: files and numbers, no pictures. Runs go through Gradio as the browser's do."""

import asyncio
import gc
import inspect
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

import gradio as gr
import numpy as np
import pytest
import torch
from gradio.state_holder import SessionState
from PIL import Image

from featviz import ui
from featviz.errors import FeatvizError
from featviz.recipes.deepdream import DeepDream
from featviz.recipes.presets import FOLDER
from featviz.recipes.recipe import Recipe
from featviz.runtime import memory
from featviz.runtime.estimate import Estimate, estimate
from featviz.runtime.inspection import ChannelResponse, LayerInspection
from featviz.runtime.memory import Ledger
from featviz.runtime.stream import Preview
from featviz.runtime.tile_budget import tile_budgets
from featviz.ui.running import Engine, Result

CAT = (451, 300)
PICTURE = Image.new("RGB", (64, 48), (200, 100, 50))
SHARED = (type, ModuleType, FunctionType, BuiltinFunctionType, gr.blocks.Block, gr.blocks.BlocksConfig)
"""What belongs to the program and not to a session."""


def fake(recipe: Recipe, **pictures: Image.Image) -> Iterator[Preview]:
    for step in (1, 2):
        yield Preview(step, 2, "", step / 2, 0.0, 0.0, PICTURE.copy(), is_video_frame=step == 2, measures={"psnr": 30.0})
    if getattr(recipe, "seed", 0) == 13:
        raise FeatvizError("The lamp went out.")


def fake_try_out(recipe: Recipe, **pictures: Image.Image) -> Iterator[tuple[Recipe, Preview]]:
    yield from ((variant, next(fake(variant))) for variant in recipe.variants()[:2])


def fake_look(recipe: Recipe, **pictures: Image.Image) -> LayerInspection:
    cell = ChannelResponse(recipe.layer, 7, 1.0, PICTURE.copy(), (PICTURE.copy(), PICTURE.copy()))
    return LayerInspection(recipe.layer, (cell,), mean=0.1, shape=(40, 12, 16), field=(67, 67))


ENGINE = Engine(
    fake,
    fake_try_out,
    lambda recipe, size: Estimate(1, 1),
    fake_look,
    lambda recipe, peaks, **pictures: fake_look(recipe).cells,
    lambda recipe, **pictures: PICTURE.copy(),
    prepare=lambda recipe, **pictures: iter(()),
)


@pytest.fixture(autouse=True)
def cache(tidy_gradio, tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "gradio"))


@pytest.fixture(scope="module")
def page(tidy_gradio) -> gr.Blocks:
    return ui.build(ENGINE)


def uploaded(tmp_path) -> dict[str, Any]:
    """A picture, as the browser sends it once it is uploaded."""
    with Image.open(FOLDER / "cat.jpg") as cat:
        file = gr.processing_utils.save_pil_to_cache(cat, str(tmp_path / "gradio"), format="png")
    return {"path": file, "meta": {"_type": "gradio.FileData"}}


def events(page: gr.Blocks, method: str) -> list[gr.blocks.BlockFunction]:
    """Those that call a tab's method, one for each tab."""
    found = {}
    for event in page.fns.values():
        function = inspect.unwrap(event.fn) if event.fn else None
        if isinstance(function, MethodType) and function.__name__ == method:
            found.setdefault(type(function.__self__).__name__ + function.__self__.recipe.name, event)
    return list(found.values())


def happen(
    event: gr.blocks.BlockFunction, page: gr.Blocks, session: SessionState, value: Callable[[Any], Any], steps: int = 100
) -> None:
    """An event of a session, as Gradio drives it; a run is left after some steps. `value`: what the browser sends of an input."""

    async def driven() -> None:
        inputs, iterator = [value(block) for block in event.inputs], None
        for _ in range(steps):
            done = await page.process_api(event, inputs, state=session, iterator=iterator, session_hash="s")
            iterator = done.get("iterator")
            if iterator is None:
                return
        iterator.iterator.close()  # As Gradio does when a run is stopped.

    asyncio.run(driven())


def held(session: SessionState) -> list[object]:
    """Pictures and tensors that a session refers to."""
    left, seen, found = [session.state_data, session.config_values], set(), []
    while left:
        one = left.pop()
        if id(one) in seen or isinstance(one, SHARED):
            continue
        seen.add(id(one))
        if isinstance(one, Image.Image | torch.Tensor | np.ndarray):
            found.append(one)
        left += gc.get_referents(one)
    return found


def sent(tmp_path, **fields: Any) -> Callable[[Any], Any]:
    """What the browser sends: a picture for each that is shown, the defaults of the controls."""
    picture = uploaded(tmp_path)

    def value(block: Any) -> Any:
        if isinstance(block, gr.Image):
            return picture if block.visible is True and block.interactive is None else None
        if isinstance(block, gr.State):
            return None
        return fields.get((block.label or "").lower(), block.value)

    return value


def results(session: SessionState) -> list[Result]:
    return [value for value in session.state_data.values() if isinstance(value, Result)]


@pytest.mark.parametrize("way", ["whole", "stopped", "failed"])
def test_after_a_run_a_session_holds_no_picture(page, tmp_path, way):
    runs = events(page, "start")
    assert len(runs) == 6  # Every recipe but the two that are answered at once.
    for run in runs:
        session, value = SessionState(page), sent(tmp_path, seed=13 if way == "failed" else 0)
        for _ in range(2):  # The second run keeps the result of the first.
            with suppress(gr.Error):  # The page says it, and shows the latest picture.
                happen(run, page, session, value, steps=3 if way == "stopped" else 100)
        assert results(session)
        assert held(session) == []
        assert all(result.file() for result in results(session))


@pytest.mark.parametrize(("method", "count"), [("inspect", 1), ("show_names", 1), ("show", 4), ("show_gram_matrix", 1)])
def test_after_an_inspection_or_a_sheet_a_session_holds_no_picture(page, tmp_path, method, count):
    found = events(page, method)
    assert len(found) >= count
    for event in found:
        session = SessionState(page)
        happen(event, page, session, sent(tmp_path))
        assert held(session) == []


def test_pictures_in_a_session_are_found(page):
    session = SessionState(page)
    session.state_data[0] = {"deep": [(Preview(1, 1, "", 1.0, 0.0, 0.0, PICTURE), lambda: None)]}
    assert held(session) == [PICTURE]


def test_what_does_not_fit_is_refused_on_the_page_and_the_largest_size_that_fits_is_one_click_away(tmp_path, monkeypatch):
    cpu = torch.device("cpu")
    monkeypatch.setattr(memory, "_ledgers", {cpu: Ledger(lambda: 2e9)})
    page = ui.build(
        replace(Engine.on("cpu"), estimate=lambda recipe, pictures: replace(estimate(recipe, pictures, device="cpu"), seconds=1))
    )
    run = next(event for event in events(page, "start") if inspect.unwrap(event.fn).__self__.recipe is DeepDream)
    tab = inspect.unwrap(run.fn).__self__
    value = sent(tmp_path, **{"size": 4096, "octaves above": 3, "octave scale": 2})

    with pytest.raises(gr.Error) as caught:
        happen(run, page, SessionState(page), lambda block: None if block in tab.extras else value(block))
    shown, fitting = tab.forecast.sentence({"image": value(tab.pictures[0])}, [value(control) for control in tab.controls])
    assert shown.endswith(f"; there are 2.0 GB free. Size {fitting} would fit.")
    assert caught.value.message == (
        f"This run takes {shown.split()[4]} GB of memory, and 2.0 GB are free; the largest size that fits is {fitting}."
    )
    takes = [
        memory.peak_memory(
            DeepDream(size=size, octaves_above=3, octave_scale=2), cpu, {"image": CAT}, budget=tile_budgets(cpu)[-1]
        )
        for size in (fitting, fitting + 16)
    ]
    assert takes[0] <= 2e9 < takes[1]

    after = [event for event in page.fns.values() if event.trigger_after == run._id and tab.forecast.smaller in event.outputs]
    assert len(after) == 1  # The button is brought up to date after every run, also after one that was refused.
    (click,) = (event for event in page.fns.values() if (tab.forecast.smaller._id, "click") in event.targets)
    assert dict(zip(click.outputs, click.fn(fitting), strict=True)) == {tab.named["size"]: fitting, tab.named["full_size"]: False}
