"""The page without a browser and without a network: what it shows is decided by the recipes' fields and a runner."""

import asyncio
import json
import logging
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from itertools import accumulate
from operator import or_
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import unquote

import av
import clips
import gradio as gr
import hostile
import numpy as np
import pytest
from gradio.context import LocalContext
from PIL import Image, ImageColor
from standins import outputs

from featviz import aliases, recipe_of, save, ui
from featviz import run as compute
from featviz.errors import FeatvizError, LimitError
from featviz.media.images import open_picture, to_tensor
from featviz.networks import hub
from featviz.networks.table import BUNDLED, NETWORKS
from featviz.optimise.regions import NAMES, colour_regions
from featviz.recipes import metadata, presets
from featviz.recipes.deepdream import DeepDream
from featviz.recipes.recipe import Recipe, bounds, choices, group, param
from featviz.recipes.style_transfer import StyleTransfer
from featviz.recipes.table import RECIPES, TABS
from featviz.runtime.devices import limitations
from featviz.runtime.estimate import Estimate
from featviz.runtime.inspection import ChannelResponse, LayerInspection
from featviz.runtime.jobs import INTERNAL_ERROR
from featviz.runtime.scheduler import Waiting
from featviz.runtime.stream import Part, Preview
from featviz.ui import forecast as forecasts
from featviz.ui import text
from featviz.ui.controls import caption, control, label, spoken
from featviz.ui.forecast import Forecast
from featviz.ui.instruments import lesson
from featviz.ui.instruments.atlas import find_channels
from featviz.ui.masks import COLOURS, OPACITY, painted, roles_of
from featviz.ui.measures import bars
from featviz.ui.page import Page
from featviz.ui.runs import Gallery
from featviz.ui.serving import admission
from featviz.ui.serving.engine import Engine
from featviz.ui.serving.files import displayable

STEPS = 3
CAT = {"path": str(presets.FOLDER / "cat.jpg")}
LAYER = "efficientnet_lite0/block4"


def fake(recipe: Recipe, **pictures: Image.Image) -> Iterator[Preview]:
    """A stand-in for a run. Each of its few steps yields the first picture, darker than before, with the measures of some recipes."""
    first = next(
        (given for given in pictures.values() if isinstance(given, Image.Image)), Image.new("RGB", (64, 48), (200, 100, 50))
    )
    for step in range(1, STEPS + 1):
        darker = first.point(lambda value, step=step: value // (step + 1))
        measures = {"psnr": 31.26, "tabby": 0.8}
        yield Preview(step, STEPS, "octave 1 of 1", step / STEPS, STEPS - step, 0.0, darker, step == STEPS, measures)


def fake_try_out(recipe: Recipe, **pictures: Image.Image) -> Iterator[tuple[Recipe, Preview]]:
    """The first two variants, each seen twice."""
    for variant in recipe.variants()[:2]:
        yield from ((variant, preview) for preview in list(fake(variant, **pictures))[:2])


def fake_inspection(recipe: Recipe, **pictures: Image.Image) -> LayerInspection:
    cells = tuple(ChannelResponse(recipe.layer, channel, 1500.0, Image.new("RGB", (64, 48))) for channel in (7, 2))
    return LayerInspection(recipe.layer, cells, mean=0.123456, shape=(40, 12, 16), field=(67, 67))


def fake_estimate(recipe: Recipe, pictures: dict, count: int = 1) -> Estimate:
    """A second and a kilobyte for each pixel of the result's longest side."""
    return Estimate(recipe.size, recipe.size * 1e3)


ENGINE = Engine(
    fake,
    fake_try_out,
    fake_estimate,
    fake_inspection,
    lambda recipe, peaks, **pictures: (ChannelResponse(LAYER, 3, 0.72),),
    lambda recipe, **pictures: Image.new("RGB", (4, 4)),
    prepare=lambda recipe, **pictures: iter(()),
)


@pytest.fixture(autouse=True)
def cache(tidy_gradio, tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "gradio"))


@pytest.fixture(scope="module")
def demo(tidy_gradio) -> gr.Blocks:
    return ui.build(ENGINE)


@pytest.fixture
def page(demo, monkeypatch) -> Page:
    """The page, whose engine a test may replace."""
    monkeypatch.setattr(demo.instrument.runs, "engine", demo.instrument.runs.engine)
    return demo.instrument


def run_by(page: Page, monkeypatch, **functions) -> None:
    """Replace functions of the engine."""
    engine = replace(ENGINE, **functions).with_device(lambda run: run)
    monkeypatch.setattr(page.runs, "engine", engine)


def sent(page: Page, name: str = "deepdream", **given) -> dict:
    """What the browser sends: the defaults of all controls, the open tab, and what is given, by name."""
    values = {component: component.value for component in page.everything}
    values |= dict.fromkeys(page.pictures) | {page.name: name, page.job: "", page.visitor: {"id": "me"}}
    form = page.forms[name]
    return values | {form.parts.get(role, role): value for role, value in given.items()}


def shown(page: Page, job_id: str, history: tuple = ()) -> list[dict]:
    """What the page shows of a job after each update, until it ends."""

    async def watched() -> list[dict]:
        return [update async for update in page.watch(job_id, history, {"id": "me"})]

    return list(accumulate(asyncio.run(watched()), or_))


def run(page: Page, name: str = "deepdream", **given) -> tuple[dict, list[dict]]:
    """What the page shows when Start is clicked, and after that."""
    (begun,) = page.begin(sent(page, name, **given))
    return begun, shown(page, begun[page.job])


def refused(page: Page, name: str = "deepdream", **given) -> str:
    """The sentence with which a run is refused. The status line shows it too."""
    begin = page.begin(sent(page, name, **given))
    update = next(begin)
    with pytest.raises(gr.Error) as caught:
        next(begin)
    assert caught.value.message in update[page.panel.status]
    assert caught.value.print_exception is False
    return caught.value.message


def click(index: int = 0, target: gr.blocks.Block | None = None, value: object = None) -> gr.SelectData:
    return gr.SelectData(target, {"index": index, "value": value})


# Controls


@pytest.mark.parametrize("recipe", TABS.values(), ids=TABS)
def test_a_control_says_what_its_field_says(recipe):
    for name, field in recipe.model_fields.items():
        made = control(name, field)
        assert (made.value, made.info, made.label) == (field.default, field.description, name.replace("_", " ").capitalize())
        if choices(field):
            assert {value for _, value in made.choices} == set(choices(field))
        elif field.annotation in (int, float):
            assert (made.minimum, made.maximum) == bounds(field)
            assert (made.precision == 0) == (field.annotation is int)
    if recipe.name in ("deepdream", "deepdream_zoom", "style_transfer"):
        assert 2 <= sum(not group(field) for field in recipe.model_fields.values()) <= 4  # In sight.
        assert [caption(recipe()), caption(recipe(size=128))] == ["default settings", "size 128"]


def test_a_slider_is_for_what_can_be_set_by_hand():
    class Some(Recipe):
        name = "some"
        few: int = param(1, "Few.", ge=0, le=10)
        many: int = param(1, "Many.", ge=0, le=2**31 - 1)
        endless: float = param(1.0, "Endless.", ge=0)
        whether: bool = param(True, "Whether.")

    kinds = {name: type(control(name, field)) for name, field in Some.model_fields.items()}
    assert kinds == {"few": gr.Slider, "many": gr.Number, "endless": gr.Number, "whether": gr.Checkbox}


def test_a_slider_reaches_every_default_preset_and_example_and_ends_before_what_is_typed(demo, page):
    sent = {component["id"]: component["props"] for component in demo.get_config_file()["components"]}
    ends = set()
    for form in page.forms.values():
        used = [form.recipe(), *(one.recipe for one in (*form.presets, *form.examples))]
        used += [form.finished(recipe, finish) for recipe in used for finish in presets.FINISHES]
        for name, field in form.recipe.model_fields.items():
            if isinstance(slider := form.parts[name], gr.Slider):
                (_, most), props = bounds(field), sent[slider._id]
                assert max(getattr(recipe, name) for recipe in used) <= props["maximum"] <= most
                assert (f"up-to-{most:g}" in (props["elem_classes"] or [])) == (props["maximum"] < most)
                assert slider.maximum == most  # As the API says.
                ends.add((form.recipe.name, name, props["maximum"]))
    assert {("deepdream", "size", 1536), ("style_transfer", "steps", 200), ("deepdream", "strength", 10)} <= ends


def test_bundled_networks_come_first_and_downloads_are_marked():
    layers = control("layer", DeepDream.model_fields["layer"]).choices
    downloads = [text.endswith(" (download)") for text, _ in layers]
    assert downloads == sorted(downloads)
    assert {value.partition("/")[0] for (_, value), download in zip(layers, downloads, strict=True) if not download} == set(
        BUNDLED
    )
    assert ("VGG-19 · relu1_1", "vgg19/relu1_1") == layers[0]
    assert [spoken(name) for name in ("vgg19/relu4_2", "vgg19", "none")] == ["VGG-19 · relu4_2", "VGG-19", "none"]


def test_a_caption_names_what_was_changed():
    changed = DeepDream(detail=False, full_size=True)
    assert [caption(DeepDream()), caption(changed)] == ["default settings", "no detail, full size"]
    assert [caption(DeepDream(), "de"), caption(changed, "de")] == ["Standardeinstellungen", "ohne Feinheiten, Volle Größe"]


# The endpoint's own description


# A run


@pytest.fixture
def photo(tmp_path) -> dict[str, str]:
    Image.new("RGB", (64, 48), (200, 100, 50)).save(tmp_path / "photo.png")
    return {"path": str(tmp_path / "photo.png")}


@pytest.mark.parametrize(("name", "roles"), [("deepdream", ["image"]), ("style_transfer", ["content", "style"])])
def test_a_run_shows_its_previews_then_before_and_after(page, photo, monkeypatch, name, roles):
    begun, (working, *updates) = run(page, name, **dict.fromkeys(roles, photo))
    panel = page.panel
    assert "Waiting" in begun[panel.status]
    assert (working[page.start]["visible"], working[page.stop]["visible"]) == (False, True)
    last = updates[-1]
    assert f"Done in {STEPS} steps · 64×48 pixels" in last[panel.status]
    assert (last[page.start]["visible"], last[page.stop]["visible"]) == (True, False)
    before, after = last[panel.compare]["value"]
    assert after == last[panel.download]["value"]
    with Image.open(after) as file:
        assert (file.format, file.getpixel((0, 0)), file.getexif()) == ("PNG", (50, 25, 12), {})
    with Image.open(before) as file:
        assert file.size == (64, 48)
        assert file.getpixel((0, 0)) == pytest.approx((200, 100, 50), abs=2)
    assert last[panel.refine]["visible"] == ("start" in RECIPES[name].optional_images)


def test_a_preview_is_shown_with_its_progress(page, photo):
    preview = Preview(1, 3, "octave 1 of 1", 1 / 3, 2.0, 0.0, Image.new("RGBA", (8, 8), (9, 9, 9, 128)))
    job = page.jobs.start(DeepDream(), {}, run=lambda recipe: iter([preview]))
    update = replace(job.now, state="running", latest=preview, result=None)
    changes, _ = page.panel.show(job, update, None)
    counted = '<featviz-seconds left="2"></featviz-seconds>'
    assert f"Octave 1 of 1 · step 1 of 3 · about {counted} s left" in changes[page.panel.status]
    with Image.open(changes[page.panel.view]["value"]) as picture:
        assert (picture.mode, picture.format) == ("RGB", "JPEG")
    part = Part(3, 9, 0.6, Image.new("RGB", (8, 4)))
    changes, _ = page.panel.show(job, replace(update, part=part), None)
    counted = '<featviz-seconds left="1"></featviz-seconds>'
    assert f"Octave 1 of 1, tile 3 of 9 · step 1 of 3 · about {counted} s left" in changes[page.panel.status]
    with Image.open(changes[page.panel.view]["value"]) as picture:
        assert picture.size == (8, 4)
    for latest in (preview, None):  # The tile of a style, after the first step and before it.
        changes, _ = page.panel.show(job, replace(update, latest=latest, part=replace(part, picture=None)), None)
        assert "tile 3 of 9" in changes[page.panel.status].lower()
        assert (page.panel.view in changes) == (latest is not None)


@pytest.mark.parametrize(
    ("waiting", "sentence"),
    [
        (Waiting(0, 0.0, 30.0), "Waiting for a step of another run, up to 2 s. Your result comes in about 30 s."),
        (Waiting(1, 4.4, 30.0), "Waiting: 1 run goes before yours. Your result comes in about 34 s."),
        (Waiting(3, 150.0, 30.0), "Waiting: 3 runs go before yours. Your result comes in about 3 min."),
    ],
)
def test_a_run_that_waits_says_for_what_and_how_long_until_its_result(page, photo, waiting, sentence):
    (begun,) = page.begin(sent(page, image=photo))
    job = page.jobs.find(begun[page.job])
    for state in ("waiting", "running"):  # In the queue, and for the device.
        changes, _ = page.panel.show(job, replace(job.now, state=state, waiting=waiting, result=None), None)
        assert sentence in changes[page.panel.status]


def test_an_example_fills_every_input_and_runs(page, monkeypatch):
    for form in page.forms.values():
        for index, example in enumerate(form.examples):
            seen = {}
            monkeypatch.setattr(
                page.runs,
                "start",
                lambda request, *_, seen=seen, **__: (
                    seen.update({request.recipe: request.pictures})
                    or page.jobs.start(request.recipe, {}, run=lambda recipe: iter(()))
                ),
            )
            (update,) = page.begin_example(sent(page, form.recipe.name), click(index))
            assert list(seen) == [example.recipe]
            assert set(seen[example.recipe]) == set(example.pictures)
            assert {role: update[form.parts[role]] for role in example.pictures} == {
                role: str(path) for role, path in example.pictures.items()
            }
            assert [update[control] for control in form.controls.values()] == list(example.recipe.model_dump().values())
    assert {type(example.recipe) for form in page.forms.values() for example in form.examples} == set(TABS.values())


def test_own_pictures_that_an_example_or_a_result_replaces_can_be_put_back(page, photo, video):
    """Also after a second example. The picture of an example is no loss."""
    values = sent(page, "style_transfer", content=photo, style=CAT)
    (changes,) = page.begin_example(values, click(0))
    assert "Your own picture was replaced." in changes[page.origin.line]
    assert changes[page.origin.undo]["visible"]
    values |= {page.picture: {"path": changes[page.picture]}, page.origin.found: changes[page.origin.found]}
    (changes,) = page.begin_example(values, click(1))
    values[page.origin.found] = changes[page.origin.found]
    assert page.restore(page.take(values, click(0))[page.origin.found]).items() >= {page.picture: photo["path"]}.items()
    assert page.style not in page.restore(changes[page.origin.found])
    shown(page, changes[page.job])
    used = page.use(values | {page.job: changes[page.job], page.picture: photo, page.origin.found: None})
    assert page.restore(used[page.origin.found])[page.picture] == photo["path"]
    (changes,) = page.begin_example(video, click(0))
    assert page.restore(changes[page.origin.found])[page.clip] == video[page.clip]["path"]
    (changes,) = page.begin_example(sent(page, image=CAT), click(0))
    assert not changes[page.origin.row]["visible"]


def endless(recipe: Recipe, **pictures: Image.Image) -> Iterator[Preview]:
    """A run that works until it is stopped."""
    while True:
        yield next(fake(recipe, **pictures))


def test_stop_keeps_the_latest_picture_and_another_start_ends_the_run_before(page, photo, monkeypatch):
    run_by(page, monkeypatch, run=endless)
    (begun,) = page.begin(sent(page, image=photo))
    first = page.jobs.find(begun[page.job])
    next(update for update in first.watch() if update.latest)
    (begun,) = page.begin(sent(page, image=photo) | {page.job: first.id})
    assert first.now.state == "stopped"
    second = page.jobs.find(begun[page.job])
    next(update for update in second.watch() if update.latest)
    page.end(second.id)
    *_, last = shown(page, second.id)
    assert "Stopped at step 1 of 3" in last[page.panel.status]
    with Image.open(last[page.panel.download]["value"]) as file:
        assert file.getpixel((0, 0)) == (100, 50, 25)


def test_a_run_that_fails_half_way_keeps_its_latest_picture(page, photo, monkeypatch, caplog):
    def failing(recipe, **pictures):
        yield next(fake(recipe, **pictures))
        raise FeatvizError("The <b>lamp</b> went out.")

    def broken(recipe, **pictures):
        raise ZeroDivisionError("secret")
        yield

    run_by(page, monkeypatch, run=failing)
    _, (*_, last) = run(page, image=photo)
    assert "The &lt;b&gt;lamp&lt;/b&gt; went out." in last[page.panel.status]
    assert last[page.panel.download]["value"]
    run_by(page, monkeypatch, run=broken)
    with caplog.at_level(logging.ERROR):
        _, (*_, last) = run(page, image=photo)
    assert INTERNAL_ERROR in last[page.panel.status]
    assert "secret" in caplog.text


def test_a_wrong_value_is_named_with_what_is_accepted(page, photo):
    low, high = bounds(DeepDream.model_fields["steps"])
    for value in (0, None, "many"):
        assert refused(page, image=photo, steps=value) == f"steps is {value!r}; expected a whole number from {low} to {high}."
    assert refused(page, "style_transfer", content=None, style=photo).startswith("The content is missing: choose a picture")


def test_the_film_of_a_result_shows_its_steps_and_runs_nothing_again(page, photo, monkeypatch):
    begun, (*_, last) = run(page, image=photo)
    assert last[page.panel.film]["visible"]
    assert last[page.panel.animate]["visible"]  # There is a picture before it.
    run_by(page, monkeypatch, run=lambda *_, **__: pytest.fail("It runs again."))
    html = page.film(begun[page.job])
    path = unquote(re.search(r'src="gradio_api/file=([^"]+)"', html)[1])
    with av.open(path) as film:
        means = [frame.to_ndarray(format="rgb24").mean() for frame in film.decode(video=0)]
    with Image.open(photo["path"]) as picture:
        whole = np.asarray(picture.convert("RGB")).mean()
    assert len(means) == 144
    assert sorted({round(whole / mean) for mean in means}) == [step + 1 for step in range(1, STEPS + 1)]
    assert page.film(begun[page.job]) == html


def test_the_gradient_of_a_run_stands_below_its_preview_and_stays_with_the_result(page, photo, monkeypatch):
    def with_gradient(recipe, **pictures):
        for preview in fake(recipe, **pictures):
            yield replace(preview, gradient=Image.new("RGB", (8, 6), (100 + preview.step, 0, 0)))

    assert not run(page, image=photo)[1][-1][page.panel.gradient]["visible"]
    run_by(page, monkeypatch, run=with_gradient)
    begun, (*_, last) = run(page, image=photo, show_gradient=True)
    assert last[page.panel.gradient]["visible"]
    file = page.jobs.find(begun[page.job]).result.gradient_file()
    assert last[page.panel.gradient]["value"] == file
    with Image.open(file) as picture:
        assert picture.getpixel((0, 0)) == (100 + STEPS, 0, 0)


def test_a_video_is_played_at_the_end_and_has_no_film_of_its_steps(page, photo):
    begun, (*_, last) = run(page, "deepdream_zoom", image=photo)
    assert last[page.panel.video]["value"] == last[page.panel.download]["value"]
    assert last[page.panel.video]["value"].endswith("featviz_deepdream_zoom.mp4")
    assert not last[page.panel.film]["visible"]
    with pytest.raises(gr.Error, match="No steps of this result were kept"):
        page.film(begun[page.job])


def test_names_measures_and_matrices_are_shown(page, photo):
    _, (*_, last) = run(page, "reconstruct_content", image=photo)
    assert "31.3 decibels" in last[page.panel.measures]["value"]
    gram = page.show_gram(sent(page, "reconstruct_style", style=photo))
    assert gram[page.panel.picture]["value"].size == (320, 320)  # Large enough to see its cells.
    _, (*_, last) = run(page, "classification", image=photo)
    assert last[page.panel.names]["value"] == {"psnr": 31.26, "tabby": 0.8}
    assert "Most likely: psnr." in last[page.panel.status]
    assert not last[page.panel.download]["visible"]


# Coming back


def request(query: str = "") -> gr.Request:
    request = gr.Request()
    request.query_params = dict(pair.split("=") for pair in query.split("&") if pair)
    return request


def arrive(page: Page, query: str = "", visitor: object = None, history: tuple = (), job: str = "") -> dict:
    return page.arrive(request(query), visitor, history, job, *[None] * len(page.pictures))


def test_a_first_visit_shows_a_result_that_was_made_earlier_and_says_so(page):
    """It is part of the page: no answer of the server can put it in the place of a run."""
    assert "Made earlier by this program: Castle of eyes and faces" in page.panel.status.value
    before, after = (each["path"] for each in page.panel.compare.value)
    with Image.open(before) as first, Image.open(after) as last:
        assert first.size == last.size
    assert not {page.anew, page.panel.status, *page.panel.views} & set(arrive(page))
    (update,) = page.begin_premade(sent(page))
    assert update[page.picture] == str(presets.FOLDER / "mountain.jpg")
    page.end(update[page.job])


def test_a_link_opens_its_tab_with_its_settings(page, capsys):
    for name, form in page.forms.items():
        size = int(bounds(form.recipe.model_fields["size"])[1])
        changes = arrive(page, f"recipe={name}&size={size}")
        assert (changes[page.name], changes[form.parts["size"]]) == (name, size)
    changes = arrive(page, "recipe=style_transfer&style_strength=3&steps=9999")
    form = page.forms["style_transfer"]
    assert (changes[page.name], changes[form.parts["style_strength"]]) == ("style_transfer", 3)
    assert form.parts["steps"] not in changes
    assert changes[page.navigation.outer].selected == "Style Transfer"
    assert "Some settings of this link cannot be used: steps is '9999'" in capsys.readouterr().out
    assert page.name not in arrive(page, "recipe=dreem")
    box, html = page.channel, page.panel.atlas.html
    channel = arrive(page, f"recipe=feature_visualization&layer={LAYER}&channel=7")
    assert (channel[box.chosen], channel[html]["value"], channel[box.visualization]["visible"]) == ((LAYER, 7), LAYER, True)
    for without in (f"layer={LAYER}&channel=77", "class_name=tabby", "layer=vgg16/relu1_1"):
        assert box.chosen not in arrive(page, f"recipe=feature_visualization&{without}")
    assert "There is no recipe 'dreem'" in capsys.readouterr().out


def test_a_visitor_who_comes_back_finds_the_run_the_result_and_the_history(page, photo):
    _, (*_, last) = run(page, image=photo)
    visitor = {"id": "me"}
    changes = arrive(page, visitor=visitor, history=last[page.history])
    assert changes[page.job] == page.jobs.of("me")[0].id
    (item,) = last[page.history]
    assert json.loads(json.dumps(item))["fields"] == DeepDream().model_dump()
    assert item["source"].startswith("data:image/jpeg;base64,")
    assert len(item["source"]) < 10_000
    assert item["source"] in last[page.panel.history_cards.html]
    assert abs(item["time"] - time.time()) < 3600
    assert f'<featviz-time at="{item["time"]}">' in last[page.panel.history_cards.html]
    opened = page.open_history(sent(page) | {page.history: last[page.history]}, click())
    assert opened[page.job] == item["id"]
    Path(page.jobs.find(item["id"]).result.file()).unlink()
    opened = page.open_history(sent(page) | {page.history: last[page.history]}, click())
    assert page.job not in opened
    assert "Press 'Start dreaming' to make it again" in opened[page.panel.status]


def test_after_a_restart_of_the_server_the_page_has_the_settings_of_the_lost_run_and_says_so(page):
    lost = StyleTransfer(steps=77)
    changes = arrive(page, "recipe=deepdream&steps=5", visitor={"id": "somebody", "running": metadata.as_json(lost)})
    assert "The server was restarted, and this run was lost. Press 'Transfer the style'" in changes[page.panel.status]
    assert (changes[page.name], changes[page.forms["style_transfer"].parts["steps"]]) == ("style_transfer", 77)
    assert page.forms["deepdream"].parts["steps"] not in changes
    assert changes[page.visitor] == {"id": "somebody", "running": None}


def test_arrival_changes_no_setting_that_the_address_does_not_name_and_the_address_is_that_of_the_settings(page, photo):
    values = sent(page, layer="efficientnet_lite0/block9", class_name="pizza", channels="3")
    address = "?recipe=deepdream&amp;layer=efficientnet_lite0/block9&amp;class_name=pizza"
    assert f'data-link="{address}"' in page.refresh(values)[page.line]
    controls = {part for form in page.forms.values() for part in form.parts.values()}
    assert not controls & set(arrive(page))
    assert controls & set(arrive(page, "recipe=deepdream&steps=5")) == {page.forms["deepdream"].parts["steps"]}
    assert arrive(page, job="started meanwhile")[page.job] == "started meanwhile"


# Settings


def _pressed(drawn: str) -> list[str]:
    return [part.split('"')[0] for part in drawn.split('aria-pressed="')[1:]]


def test_a_preset_sets_every_field_and_is_the_only_one_marked(page):
    form = page.forms["deepdream"]
    update = page.choose_preset(sent(page), click(2))
    preset = form.presets[2]
    assert [update[control] for control in form.controls.values()] == list(preset.recipe.model_dump().values())
    drawn = page.refresh(sent(page, **preset.recipe.model_dump()))[form.preset_cards.html]
    assert [pressed == "true" for pressed in _pressed(drawn)].index(True) == 2
    assert _pressed(drawn).count("true") == 1
    assert "true" not in _pressed(page.refresh(sent(page, strength=9.9))[form.preset_cards.html])
    # A layer is chosen by its picture, and the picture is marked.
    assert page.choose_layer("deepdream", click(1)) == {form.parts["layer"]: form.layers[1]}
    drawn = page.refresh(sent(page, layer=form.layers[1]))[form.layer_cards.html]
    assert _pressed(drawn).index("true") == 1


def test_a_finish_is_relative_to_the_preset_and_says_its_time(page, photo):
    form = page.forms["deepdream"]
    values = sent(page, image=photo, **form.presets[2].recipe.model_dump()) | {form.finish: "Fine"}
    assert page.apply_finish(values) == {form.parts["size"]: 1024, form.parts["steps"]: 15}
    assert page.refresh(values)[form.finish]["choices"] == [
        ("Draft · 4 min", "Draft"),
        ("Standard · 11 min", "Standard"),
        ("Fine · 17 min", "Fine"),
    ]


def test_the_tab_decides_the_text_of_start_and_whether_there_is_a_picture(page):
    tabs = json.loads(page.script.removeprefix("const FEATVIZ = ").removesuffix(";"))["tabs"]
    assert tabs.keys() == {*TABS, "explore", "lesson", "game"}
    assert tabs["deepdream_zoom"][:2] == ["deepdream_zoom", "Start the zoom"]
    assert [tabs[name][2]["visible"] for name in ("deepdream", "feature_visualization")] == [True, False]
    for name in ("deepdream", "style_transfer"):
        assert page.refresh(sent(page, name, image=CAT, content=CAT))[page.painting.button]["value"] == RECIPES[name].mask_action


def disabled(page: Page, **given) -> set[str]:
    form = page.forms["deepdream"]
    source = given.pop("mask", None)
    changes = page.refresh(sent(page, **given) | {page.painting.source: source})
    return {name for name in form.disableable if not changes[form.parts[name]]["interactive"]}


def test_what_has_no_effect_is_disabled_with_the_reason(page):
    plain = {"guide_by", "outside", "feather"}
    assert disabled(page) == plain
    assert disabled(page, guide=CAT) == {"channels", "outside", "feather"}
    assert disabled(page, mask="x") == {"guide_by"}
    assert disabled(page, full_size=True) == plain | {"size"}
    assert disabled(page, class_name="pizza") == plain | {"more_layers", "channels", "guide"}
    changes, parts = page.refresh(sent(page, class_name="pizza")), page.forms["deepdream"].parts
    reason = " No effect beside class name: the class is amplified and no layer."
    assert changes[parts["channels"]]["info"] == DeepDream.model_fields["channels"].description + reason
    assert changes[parts["guide"]]["label"] == "Guide." + reason


def test_what_a_disabled_control_holds_is_left_out_of_a_run_with_a_word(page, photo, capsys):
    block9, block1 = (f"efficientnet_lite0/block{number}" for number in (9, 1))
    fields = {"layer": block9, "class_name": "pizza", "channels": "3", "outside": block1}
    begun, _ = run(page, image=photo, **fields)
    assert page.jobs.find(begun[page.job]).recipe == DeepDream(layer=fields["layer"], class_name="pizza")
    printed = capsys.readouterr().out
    assert "Left out: Channels. It has no effect beside class name" in printed
    assert "Left out: Outside. It has no effect without mask" in printed


# Runs beside the queue


def test_runs_beside_the_queue_are_few_at_a_time_and_count_as_runs_unless_they_have_one_step(monkeypatch):
    counted = []
    monkeypatch.setattr(admission, "count_run", lambda: counted.append(1))
    with ExitStack() as others:
        for _ in range(admission.UNQUEUED):
            others.enter_context(admission.unqueued_run())
        for draw in (lesson.gradient, lesson.dream):
            with pytest.raises(LimitError, match=f"{admission.UNQUEUED} runs of Explore and Learn are under way"):
                draw(ENGINE, CAT["path"], "vgg19/relu3_1")
    one = replace(ENGINE, run_steps=lambda recipe, **pictures: iter([list(fake(recipe))[-1]]))
    lesson.gradient(one, CAT["path"], "vgg19/relu3_1")
    assert len(counted) == admission.UNQUEUED + 1  # `dream` counts.


# The estimate


FORECAST = Forecast(fake_estimate, lambda: 1e12)


def forecast(recipe: type[Recipe], picture: dict | None, *, among: Forecast = FORECAST, **fields) -> tuple[str, int | None]:
    return among.sentence(recipe, {"image": picture}, (recipe().model_dump() | fields).values())


def test_an_estimate_is_one_line_and_what_is_too_much_is_offered_smaller(page, photo):
    assert forecast(DeepDream, photo, size=80) == ("About 80 s and 0.1 GB on this machine.", None)
    assert forecast(DeepDream, None) == forecast(DeepDream, {"path": __file__}) == ("", None)
    message, fitting = forecast(DeepDream, photo, size=1600)
    assert message == "About 27 min and 0.1 GB on this machine. A run may take 15 min. Size 896 would fit."
    assert fitting == 896
    message, fitting = forecast(DeepDream, photo, among=Forecast(fake_estimate, lambda: 100e3), size=400)
    assert message == "About 7 min and 0.1 GB on this machine. Only 0.1 GB are free. Size 96 would fit."
    assert fitting == 96
    assert forecast(DeepDream, photo, among=Forecast(fake_estimate, lambda: 0), size=400)[1] is None
    assert forecast(DeepDream, photo, class_name="dragonfish")[0].startswith("There is no class 'dragonfish'")
    parts = page.forms["deepdream"].parts
    assert page.choose_size("deepdream", 96) == {parts["size"]: 96, parts["full_size"]: False}


def test_settings_take_effect_before_the_machine_is_measured(page, photo, monkeypatch):
    measured = threading.Event()
    monkeypatch.setattr(page.forecast, "estimate", lambda *given, **more: measured.wait(20) and fake_estimate(*given, **more))
    monkeypatch.setattr(forecasts, "PATIENCE", 0.01)
    values = sent(page, image=photo, steps=5, full_size=True)
    for _ in range(2):
        changes = page.refresh(values)
        assert 'data-link="?recipe=deepdream&amp;steps=5&amp;full_size=True" data-again' in changes[page.line]
        assert "Measuring the speed of this machine" in changes[page.line]
        assert not changes[page.forms["deepdream"].parts["size"]]["interactive"]
    measured.set()
    monkeypatch.setattr(forecasts, "PATIENCE", 20)
    line = page.refresh(values)[page.line]
    assert "About 11 min" in line
    assert "data-again" not in line


def test_a_slow_prediction_holds_up_no_other_and_is_handed_over_later(monkeypatch):
    monkeypatch.setattr(forecasts, "PATIENCE", 0.01)
    forecast, go, begun = Forecast(fake_estimate, lambda: 1e12), threading.Event(), []
    for size in (80, 80, 96):
        assert forecast.soon(lambda size=size: begun.append(size) or (go.wait(20) and size), size) is None
    monkeypatch.setattr(forecasts, "PATIENCE", 20)
    assert forecast.soon(lambda: "quick", "another visitor") == "quick"
    go.set()
    assert [forecast.soon(lambda: "again", size) for size in (80, 96, 80)] == [80, 96, "again"]
    assert sorted(begun) == [80, 96]


def test_predictions_are_bounded_and_finished_ones_make_room(monkeypatch):
    monkeypatch.setattr(forecasts, "PATIENCE", 0.01)
    monkeypatch.setattr(forecasts, "MOST", 2)
    forecast, go, begun = Forecast(fake_estimate, lambda: 1e12), threading.Event(), []
    for size in range(3):
        assert forecast.soon(lambda size=size: begun.append(size) or (go.wait(20) and "slow"), size) is None
    go.set()
    monkeypatch.setattr(forecasts, "PATIENCE", 20)
    for _ in range(2000):
        if answer := forecast.soon(lambda: "quick", 2):
            break
        time.sleep(0.01)  # Until one of the first two has ended.
    assert answer == "quick"
    assert sorted(begun) == [0, 1]


def test_a_panorama_is_offered_a_size_at_which_its_shorter_side_is_large_enough(tmp_path):
    quick = Forecast(lambda recipe, pictures: Estimate(1, 1), lambda: 1e12)
    Image.new("RGB", (6000, 600)).save(tmp_path / "a.png")
    sent = {"path": str(tmp_path / "a.png")}
    assert forecast(DeepDream, sent)[1] is None  # 1280 s would exceed the time limit.
    for width, height, offered in ((6000, 600, 1280), (600, 6000, 1280), (600, 400, None)):
        Image.new("RGB", (width, height)).save(tmp_path / "a.png")
        message, size = forecast(DeepDream, sent, among=quick)
        assert size == offered
        assert ("The shorter side has fewer than 128 pixels; size 1280 is better." in message) == (offered is not None)


# The picture


def layer(*boxes: tuple[int, int, int, int], paint: str = COLOURS[0]) -> Image.Image:
    picture = Image.new("RGBA", (64, 48))
    for box in boxes:
        picture.paste((*ImageColor.getrgb(paint), round(255 * OPACITY)), box)
    return picture


def test_the_mask_is_white_where_it_was_painted():
    mask = painted([layer((0, 0, 10, 10)), layer((20, 20, 30, 30))])
    assert [mask.getpixel(place) for place in [(5, 5), (25, 25), (50, 40)]] == [255, 255, 0]
    for nothing in ([], [layer()], [layer((0, 0, 64, 48))]):
        assert painted(nothing) is None


LEFT, RIGHT = (0, 0, 32, 48), (32, 0, 64, 48)


@pytest.mark.parametrize(
    ("paint", "style_paint", "roles"),
    [
        ([layer(LEFT)], [], {"mask": (255, 0)}),
        ([layer(LEFT), layer(RIGHT, paint=COLOURS[1])], [], {"regions": COLOURS[:2]}),
        ([layer(LEFT)], [layer(RIGHT)], {"regions": (COLOURS[0], "black"), "style_regions": ("black", COLOURS[0])}),
        (
            [layer(LEFT), layer(RIGHT, paint=COLOURS[1])],
            [layer(LEFT, paint=COLOURS[1]), layer(RIGHT)],
            {"regions": COLOURS[:2], "style_regions": COLOURS[1::-1]},
        ),
        ([layer(LEFT), layer(RIGHT, paint=COLOURS[1])], [layer(LEFT, RIGHT)], {"regions": COLOURS[:2]}),
        ([], [layer(LEFT)], {"style": (255, 0)}),
        ([layer(LEFT, RIGHT)], [layer(LEFT)], {"style": (255, 0)}),
        ([layer()], [layer()], {}),
        ([layer(LEFT, RIGHT)], [], {}),
    ],
)
def test_paint_of_one_colour_is_a_mask_and_several_or_paint_on_the_style_are_regions(paint, style_paint, roles):
    found = roles_of(paint, style_paint)
    for role, values in roles.items():
        expected = [ImageColor.getrgb(value) if isinstance(value, str) else value for value in values]
        assert [found[role].getpixel(place) for place in ((5, 5), (50, 5))] == expected
    assert found.keys() == roles.keys()


def test_the_nth_paint_is_for_the_nth_style_and_what_is_not_painted_for_the_one_after():
    quarters = [layer((16 * number, 0, 16 * number + 16, 24), paint=paint) for number, paint in enumerate(COLOURS)]
    names = colour_regions(to_tensor(roles_of(quarters, [])["regions"]), (48, 64))
    assert list(names) == [*(NAMES[paint] for paint in COLOURS), "black"]


def test_the_box_of_one_more_style_appears_once_those_before_it_have_a_picture(page, photo):
    parts = page.forms["style_transfer"].parts
    for given, visible in (({}, (False, False)), ({"style2": photo}, (True, False)), ({"style3": photo}, (True, True))):
        changes = page.refresh(sent(page, "style_transfer", content=photo, style=photo, **given))
        assert tuple(changes[parts[role]]["visible"] for role in ("style3", "style4")) == visible
    assert (parts["style2"].visible, parts["style3"].visible) == (True, False)


def test_what_is_painted_on_both_pictures_reaches_the_run(page, photo, tmp_path, monkeypatch):
    given = []
    run_by(page, monkeypatch, run=lambda recipe, **pictures: given.append(pictures) or fake(recipe, **pictures))
    files = [tmp_path / "paint.png", tmp_path / "style_paint.png"]
    for file, box in zip(files, (LEFT, RIGHT), strict=True):
        layer(box).save(file)
    paint, style_paint = ({"layers": [{"path": str(file)}]} for file in files)
    values = sent(page, "style_transfer", content=photo, style=photo) | {page.painting.style_editor: style_paint}
    for painted_too in ({page.painting.editor: paint}, {}):
        (begun,) = page.begin(values | painted_too)
        shown(page, begun[page.job])
    assert given[0]["regions"].getpixel((5, 5)) == given[0]["style_regions"].getpixel((50, 5)) == ImageColor.getrgb(COLOURS[0])
    assert [given[1]["style"].getpixel(place)[3] for place in ((5, 5), (50, 5))] == [0, 255]
    assert not {"mask", "regions", "style_regions"} & set(given[1])


def test_the_style_is_opened_for_painting_beside_the_picture_and_follows_its_box(page, photo):
    both, editor = sent(page, "style_transfer", content=photo, style=photo), page.painting.style_editor
    assert page.paint_style(both)[editor] == gr.skip()
    opened = page.paint(both)
    assert opened[editor]["value"]["background"].size == (64, 48)
    now = {page.painting.source: opened[page.painting.source]}
    assert page.refresh(both | now)[page.painting.button]["value"] == "Use the whole picture"
    assert page.paint_style(both | now)[editor]["visible"]
    assert not page.paint_style(both | now | {page.style: None})[editor]["visible"]
    assert not page.paint(both | now)[editor]["visible"]


def test_the_picture_is_opened_for_painting_and_closed_by_another(page, photo):
    painting = page.painting
    opened = page.paint(sent(page, image=photo))
    assert opened[painting.editor]["visible"]
    assert opened[painting.editor]["value"]["background"].size == (64, 48)
    source = {painting.source: opened[painting.source]}
    assert painting.editor not in page.close_painting(sent(page, image=photo) | source)
    for closed in (
        page.close_painting(sent(page, image={"path": "another.png"}) | source),
        page.close_painting(sent(page) | source),
        page.paint(sent(page, image=photo) | source),
    ):
        assert (closed[painting.editor]["visible"], closed[painting.source]) == (False, None)
    with pytest.raises(gr.Error, match="The picture is missing"):
        page.paint(sent(page))


# A video in place of the picture


SMALL = {"layer": "efficientnet_lite0/block2", "size": 64, "octaves": 1, "steps": 2}


@pytest.fixture
def video(page, tmp_path) -> dict:
    """What the browser sends with a video in its box."""
    return sent(page, **SMALL) | {page.clip: {"path": str(clips.clip(tmp_path / "clip.mp4"))}}


def test_a_video_becomes_a_video_with_its_sound_that_can_be_used_again(page, video):
    (begun,) = page.begin(video)
    *_, last = shown(page, begun[page.job])
    file = last[page.panel.download]["value"]
    assert last[page.panel.video] == gr.update(value=file, visible=True)
    assert "Done" in last[page.panel.status]
    assert not any(last[button]["visible"] for button in (page.panel.refine, page.panel.animate))
    assert clips.times(file) == clips.TIMES
    assert clips.packets(file)
    assert recipe_of(file) == DeepDream(**SMALL)
    assert page.use(video | {page.job: begun[page.job]})[page.clip] == file


def test_the_estimate_of_a_video_counts_its_frames_and_a_long_one_is_refused(page, video, monkeypatch):
    counts = []
    monkeypatch.setattr(
        page.forecast, "estimate", lambda recipe, pictures, count=1: counts.append(count) or fake_estimate(recipe, pictures)
    )
    page.refresh(video)
    page.refresh(sent(page, **SMALL, image=video[page.clip] | {"path": str(presets.FOLDER / "cat.jpg")}))
    assert sorted(set(counts)) == [1, 6]
    monkeypatch.setenv("FEATVIZ_MAX_VIDEO_SECONDS", "2")
    clips.clip(Path(video[page.clip]["path"]).with_name("long.mp4"), tick=1)
    video[page.clip] = {"path": video[page.clip]["path"].replace("clip.mp4", "long.mp4")}
    sentence = "The video lasts 8 s; at most 2 s are accepted here. Cut out a part of it."
    assert sentence in page.refresh(video)[page.line]
    with pytest.raises(gr.Error, match=re.escape(sentence)):
        list(page.begin(video))


def test_small_versions_are_made_of_the_first_frame_of_a_video(page, video, monkeypatch):
    given = []
    run_by(page, monkeypatch, try_out=lambda recipe, **pictures: given.append(pictures) or fake_try_out(recipe, **pictures))
    (begun,) = page.begin_sweep(video)
    shown(page, begun[page.job])
    ((first,),) = (pictures.values() for pictures in given)
    assert np.abs(np.asarray(first).astype(int) - np.asarray(clips.window(0))).mean() < 5


def test_a_video_goes_before_the_picture_only_where_a_recipe_follows_one(page, video, photo):
    both = video | {page.picture: photo}
    assert page.values(both)["image"] == both[page.clip]
    assert page.values(both | {page.name: "classification"})["image"] == photo
    assert page.refresh(both)[page.painting.button]["visible"] is False
    assert page.close_painting(both | {page.painting.source: photo["path"]})[page.painting.source] is None


@pytest.mark.parametrize("kind", ["tiff", "heic"])
def test_a_picture_that_browsers_cannot_show_is_shown_as_a_png_of_the_same_pixels(kind, tmp_path):
    picture = hostile.gradient()
    path = tmp_path / f"a.{kind}"
    path.write_bytes(hostile.written(picture, kind))
    (answer,) = displayable(None, {"path": str(path)})
    ((uploaded, shown),) = answer.items()
    assert uploaded == str(path)
    with Image.open(shown["path"]) as png:
        assert png.format == "PNG"
        assert np.array_equal(np.asarray(png), np.asarray(open_picture(path)))


def test_any_other_picture_stays_in_its_box_and_what_is_none_leaves_it_with_a_sentence(tmp_path):
    path, other = tmp_path / "a.jpg", tmp_path / "b.jpg"
    path.write_bytes(hostile.written(hostile.gradient(), "jpeg"))
    assert list(displayable({"path": str(path)}, None)) == [{}]
    other.write_bytes(b"no picture")
    shown = displayable({"path": str(path)}, {"path": str(other)})
    assert next(shown) == {str(other): None}
    with pytest.raises(gr.Error, match="is not a picture; PNG, JPEG"):
        next(shown)


def test_a_picture_made_here_restores_its_settings_which_can_be_undone(page, tmp_path):
    stored = DeepDream(layer="efficientnet_lite0/block1", size=64, steps=1, octaves=1, strength=4)
    save(compute(stored, image=CAT["path"]), tmp_path / "dream.png")
    dropped = {"path": str(tmp_path / "dream.png")}
    changes = page.read_picture(sent(page, image=dropped))
    assert "its settings are restored below" in changes[page.origin.line]
    assert changes[page.forms["deepdream"].parts["strength"]] == 4
    assert page.restore(changes[page.origin.found])[page.forms["deepdream"].parts["strength"]] == DeepDream().strength
    assert "with the settings below" in page.read_picture(sent(page, image=dropped, **dict(stored)))[page.origin.line]
    elsewhere = page.read_picture(sent(page, "style_transfer", content=dropped))
    assert "Made here, with DeepDream." in elsewhere[page.origin.line]
    assert elsewhere[page.origin.there]["visible"]
    opened = page.restore(elsewhere[page.origin.found])
    assert (opened[page.name], opened[page.forms["deepdream"].parts["strength"]]) == ("deepdream", 4)
    assert not page.read_picture(sent(page, image=CAT) | {page.origin.found: stored})[page.origin.row]["visible"]
    for found in (None, {"picture": CAT["path"]}):  # An example was clicked since the upload: before its answer, or after.
        assert list(page.read_picture(sent(page, image=CAT) | {page.origin.found: found}).values()) == [gr.skip()]


# During and after a run


def test_a_run_under_way_follows_the_controls(page, photo, monkeypatch, capsys):
    def steerable(recipe, *, steer, **pictures):
        while True:
            yield replace(next(fake(recipe, **pictures)), measures={"strength": steer().style_strength})

    run_by(page, monkeypatch, run=steerable)
    given = {"content": photo, "style": photo}
    (begun,) = page.begin(sent(page, "style_transfer", **given))
    job = page.jobs.find(begun[page.job])
    strengths = (update.latest.measures["strength"] for update in job.watch() if update.latest)
    assert next(strengths) == 1
    for value, expected in ((3, 3), (None, 3)):  # A number is half typed: the settings stay.
        page.steer(sent(page, "style_transfer", **given, style_strength=value) | {page.job: job.id})
        assert next(strength for strength in strengths if strength == expected) == expected
    preview = job.now.latest
    assert (
        "You can change style strength, content strength and smoothness"
        in page.panel.working(job.recipe, preview)[page.panel.measures]["value"]
    )
    monkeypatch.setattr(page, "engine", replace(page.engine, in_process=False))
    page.steer(sent(page, "style_transfer", **given) | {page.job: job.id})
    assert "This change takes effect in the next run." in capsys.readouterr().out
    page.end(job.id)


def test_bars_are_half_for_a_distance_of_one_and_names_are_escaped():
    assert bars({}, "") == ""
    drawn = bars({"a<b": 1.0, "c": 0.0}, "Distances")
    assert 'value="0.500"' in drawn
    assert 'value="0.000"' in drawn
    assert "a&lt;b" in drawn


def test_a_result_is_refined_at_double_its_size_and_becomes_the_picture_of_another_run(page, photo, monkeypatch):
    given = []
    run_by(
        page,
        monkeypatch,
        run=lambda recipe, **pictures: (
            given.append((recipe, {*pictures} - {"steer", "stopped", "on_wait", "on_part"}))
            or fake(recipe, content=pictures["content"])
        ),
    )
    values = sent(page, "style_transfer", content=photo, style=photo, size=2560)
    (begun,) = page.begin(values)
    shown(page, begun[page.job])
    (refined,) = page.begin_refinement(values | {page.job: begun[page.job]})
    shown(page, refined[page.job])
    assert refined[page.forms["style_transfer"].parts["size"]] == 4096
    assert given == [
        (StyleTransfer(size=2560), {"content", "style"}),
        (StyleTransfer(size=4096), {"content", "style", "start"}),
    ]
    used = page.use(values | {page.job: begun[page.job]})
    assert used[page.picture] == page.jobs.find(begun[page.job]).result.file()


def test_a_sweep_fills_and_a_click_sets_the_fields_in_which_it_differs(page, photo):
    form = page.forms["reconstruct_content"]
    (begun,) = page.begin_sweep(sent(page, form.recipe.name, image=photo, steps=5))
    *_, last = shown(page, begun[page.job])
    tiles = last[page.panel.tiles]["value"]
    assert [caption for _, caption in tiles] == ["relu1_1 · 31.3 dB", "relu2_1 · 31.3 dB"]
    assert "From shallow to deep" in last[page.panel.status]
    assert (last[page.panel.tiles]["columns"], last[page.panel.tiles]["allow_preview"]) == (2, True)  # A click enlarges it.
    chosen = page.choose_tile(last[page.gallery], click(1))
    assert chosen[form.parts["layer"]] == "vgg19/relu2_1"
    assert form.parts["steps"] not in chosen
    with Image.open(last[page.panel.download]["value"]) as sheet:  # The whole sweep on one picture.
        assert sheet.width > sheet.height


# Look inside


def test_maps_come_with_the_strongest_channels_and_a_click_shows_one(page, photo):
    _, (*_, last) = run(page, "activation_maps", image=photo, layer=LAYER)
    panel, box = page.panel, page.channel
    assert [caption for _, caption in last[panel.tiles]["value"]] == ["channel 7 · 1500", "channel 2 · 1500"]
    assert [caption for _, caption in last[panel.strongest]["value"]] == ["block4 · 3 · 72%"]
    assert "40 channels of 16×12 · each unit sees 67×67 pixels · mean activation 0.123" in last[panel.status]
    opened = page.choose_tile(last[page.gallery], click(1))
    assert "channel 2" in opened[box.title]
    assert opened[box.visualization]["value"].size == (192, 192)
    tile = last[page.gallery].tiles[1]
    without = page.choose_tile(Gallery((replace(tile, channel=replace(tile.channel, layer="vgg19/relu1_2")),)), click())
    assert not without[box.visualization]["visible"]
    assert "no optimised picture of this layer yet" in without[box.title]
    dreamt, parts = page.dream_channel(opened[box.chosen]), page.forms["deepdream"].parts
    assert [dreamt[parts[name]] for name in ("layer", "channels", "class_name", "guide")] == [LAYER, "2", "", None]
    seen, parts = next(page.see_channel(sent(page) | {box.chosen: opened[box.chosen]})), page.forms["feature_visualization"].parts
    assert (seen[page.name], seen[parts["layer"]], seen[parts["channel"]]) == ("feature_visualization", LAYER, 2)
    assert page.jobs.find(seen[page.job]).recipe == RECIPES["feature_visualization"](layer=LAYER, channel=2)
    Path(tile.channel.activation_map).unlink()
    with pytest.raises(gr.Error, match="This result was deleted from the server after 2 h; please run it again"):
        page.choose_tile(last[page.gallery], click(1))


def test_a_channel_is_chosen_in_the_atlas_within_the_range_of_the_layer(page):
    parts, html, box = page.forms["feature_visualization"].parts, page.panel.atlas.html, page.channel
    shown = page.show_atlas(sent(page, "feature_visualization", layer=LAYER))
    assert (shown[html]["value"], shown[html]["visible"], shown[page.panel.picture]["visible"]) == (LAYER, True, False)
    answer = find_channels({"text": LAYER})
    assert answer["found"] == [[LAYER, channel, ""] for channel in range(40)]
    assert answer["layers"][LAYER]["sheet"]["height"] == 3
    assert len(answer["layers"][LAYER]["patches"]) == 40
    assert find_channels({"no": "text"})["found"] == find_channels({"text": "x" * 10_000})["found"] == []
    picked = page.choose_channel(click(value={"layer": LAYER, "channel": 9}))
    assert [picked[parts[name]] for name in ("layer", "channel", "class_name")] == [LAYER, 9, ""]
    assert [picked[box.visualization]["visible"], picked[box.map]["visible"], len(picked[box.natural]["value"])] == [
        True,
        False,
        4,
    ]
    head = page.choose_channel(click(value={"layer": "efficientnet_lite0/head", "channel": 3}))
    assert "this channel counts most for: " in head[box.title]
    for value in ({"layer": LAYER, "channel": 40}, {"layer": "no/layer", "channel": 1}, "text", None):
        with pytest.raises(gr.Error, match=r"no channel 40|layer"):
            page.choose_channel(click(value=value))
    for class_name, enabled in (("", True), ("pizza", False)):
        channel = page.refresh(sent(page, "feature_visualization", layer=LAYER, class_name=class_name))[parts["channel"]]
        assert (channel["maximum"], channel["interactive"]) == (39, enabled)


# The whole


def test_the_page_has_few_events_a_small_configuration_and_no_state_that_can_change_by_itself(demo):
    states = {type(block.value) for block in demo.blocks.values() if isinstance(block, gr.State)}
    assert states <= {str, tuple, type(None), Gallery}
    assert len(demo.fns) < 120
    assert len(json.dumps(demo.get_config_file(), default=str)) < 320_000


def test_earlier_names_of_endpoints_are_callable_and_undocumented(demo):
    visibility = {fn.api_name: fn.api_visibility for fn in demo.fns.values()}
    for earlier, current in aliases.ENDPOINTS.items():
        assert (visibility[earlier], visibility[current]) == ("undocumented", "public")


def test_the_events_of_the_page_cost_the_browser_little(demo):
    """Progress is shown on no component. No two that wait for their turn listen to the same event, since Gradio lets each wake the
    other: seen from far away, a page asked twelve times a second for ever."""
    events = [fn for fn in demo.fns.values() if fn.api_visibility == "private"]
    assert [fn.api_name for fn in events if fn.outputs and fn.show_progress_on != []] == []
    waiting = Counter(target for fn in events if fn.fn and fn.trigger_mode == "always_last" for target in fn.targets)
    assert set(waiting.values()) == {1}


def test_every_licence_and_source_is_on_the_page(demo):
    words = " ".join(str(block.value) for block in demo.blocks.values() if isinstance(block, gr.Markdown))
    assert all(spec.licence in words and spec.title in words for spec in NETWORKS.values())
    assert all(path.name in words for example in presets.read_examples() for path in example.pictures.values())


def test_every_run_of_a_program_goes_through_what_lends_the_gpu(photo):
    lent = []

    def lend(run):
        def borrowed(*args, **kwargs):
            lent.append(args[0])
            yield from run(*args, **kwargs)

        return borrowed

    demo = ui.build(ENGINE, lend=lend)
    (endpoint,) = (fn.fn for fn in demo.fns.values() if fn.api_name == "deepdream")
    assert outputs(endpoint(photo, *DeepDream().model_dump().values(), None, None))
    assert lent == [DeepDream()]


# Languages


def test_every_language_has_every_text_with_the_same_values():
    assert set(text.TABLES) == {"en", "de", "es", "zh-CN"}
    for table in text.TABLES.values():
        assert table.keys() == text.TABLES["en"].keys()
        for key, words in table.items():
            assert words.strip()
            assert _values(words) == _values(text.TABLES["en"][key]), key


def test_every_language_has_all_that_recipes_and_tabs_say_of_themselves(page):
    said = {"From {low} to {high}.", "At least {low}.", page.premade.title, *presets.FINISHES}

    def say(english: str) -> str:
        ranged = text.RANGE.fullmatch(english)
        said.add(ranged["meaning"] if ranged else english)
        return english

    page.texts(say)
    said -= {*page.footer.limitations}  # Those of this machine. Two are usual.
    said |= {hub.limitation(), limitations("cpu")[0], "Mountain"}
    for recipe in TABS.values():
        said |= {recipe.title, recipe.action, recipe.mask_action, recipe.sweep_caption} - {""}
        said |= {label(role) for role in (*recipe.images, *recipe.optional_images)}
        said |= {rule.reason for rule in recipe.rules}
    assert {"Look Inside", "Compare the layers", "Eyes", "Castle of eyes and faces", DeepDream.explanation, "Layer"} <= said
    assert set(text.TRANSLATIONS) == set(text.TABLES) - {"en"}
    for table in text.TRANSLATIONS.values():
        assert said - set(table) == set()
        assert [english for english, words in table.items() if _values(english) != _values(words) or not words.strip()] == []
    assert text.translated(DeepDream.model_fields["strength"].description, "de").endswith(" je Schritt, von 255. Von 0.1 bis 10.")
    assert text.translated("Not translated yet. From 1 to 2.", "de") == "Not translated yet. Von 1 bis 2."


@pytest.mark.parametrize(
    ("english", "german"),
    [
        ("octave 1 of 5", "Oktave 1 von 5"),
        (
            "scale 2 of 4, in smaller tiles, since memory is short",
            "Größe 2 von 4, in kleineren Kacheln, da der Speicher knapp ist",
        ),
        (
            "octave 1 of 1, in one piece, since its layers see the whole picture",
            "Oktave 1 von 1, in einem Stück, da seine Schichten das ganze Bild sehen",
        ),
        ("colours", "Farben"),
        ("frame 3 of 48", "Einzelbild 3 von 48"),
        ("frame 3", "Einzelbild 3"),
        ("channel 93", "Kanal 93"),
        ("objective", "Ziel"),
        ("out of relu4_1 + stem", "aus relu4_1 + stem"),
        ("About 5 s and 0.5 GB on this machine.", "Etwa 5 s und 0.5 GB auf diesem Rechner."),
        (
            "About 27 min and 0.1 GB on this machine, once the network has been downloaded.",
            "Etwa 27 min und 0.1 GB auf diesem Rechner, sobald das Netz heruntergeladen ist.",
        ),
        ("A run may take 15 min.", "Ein Lauf darf 15 min dauern."),
        ("Only 0.1 GB are free.", "Nur 0.1 GB sind frei."),
        ("Size 896 would fit.", "Größe 896 würde passen."),
        (
            "The shorter side has fewer than 128 pixels; size 1280 is better.",
            "Die kürzere Seite hat weniger als 128 Pixel; Größe 1280 ist besser.",
        ),
        ("relu1_2", "relu1_2"),
    ],
)
def test_the_stage_of_a_run_and_its_estimate_are_said_in_the_language_of_the_visitor(monkeypatch, english, german):
    monkeypatch.setattr(text, "language", lambda: "de")
    assert text.translated_pattern(english) == german
    for tag in text.TRANSLATIONS:
        monkeypatch.setattr(text, "language", lambda tag=tag: tag)
        assert (text.translated_pattern(english) == english) == (english == "relu1_2"), tag


def _values(words: str) -> set[str]:
    return {part.split("}")[0] for part in words.split("{")[1:]}


@pytest.mark.parametrize(
    ("accepted", "language"),
    [("de-AT,de;q=0.9,en;q=0.8", "de"), ("zh-TW", "zh-CN"), ("fr,es;q=0.5", "es"), ("fr", "en"), ("", "en")],
)
def test_the_browser_chooses_the_language(monkeypatch, accepted, language):
    asked = SimpleNamespace(headers={"accept-language": accepted})
    token = LocalContext.request.set(asked)
    try:
        assert text.language() == language
        assert text.say("done_one", width=3, height=4) == text.TABLES[language]["done_one"].format(width=3, height=4)
    finally:
        LocalContext.request.reset(token)
