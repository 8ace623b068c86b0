"""The page without a browser and without a network: what it shows is decided by the recipes' fields and a runner."""

import errno
import inspect
import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import hostile
import numpy as np
import pytest
from PIL import Image
from standins import outputs

from featviz import save, ui
from featviz.errors import FeatvizError, WeightsError
from featviz.media.images import NOTE, Header, open_picture
from featviz.networks.hub import DownloadProgress
from featviz.networks.table import BUNDLED, NETWORKS
from featviz.recipes import metadata, presets
from featviz.recipes.deepdream import DeepDream
from featviz.recipes.recipe import Recipe, bounds, choices, group, param
from featviz.recipes.style_transfer import StyleTransfer
from featviz.recipes.table import RECIPES
from featviz.runtime.estimate import Estimate
from featviz.runtime.stream import Preview
from featviz.ui import look_inside, running
from featviz.ui.controls import api_function, caption, control, spoken
from featviz.ui.links import query_of
from featviz.ui.masks import LONGEST, OPACITY, mention_stretching, painted
from featviz.ui.measures import bars
from featviz.ui.running import INTERNAL_ERROR, Engine, Result, RunState, displayable, validate_request
from featviz.ui.tab import Tab, limit_pixels

FIELDS = [(recipe, name) for recipe in RECIPES.values() for name in recipe.model_fields]
STEPS = 3


def fake(recipe: Recipe, **pictures: Image.Image) -> Iterator[Preview]:
    """A run of a few steps: the first picture, getting darker."""
    first = next(iter(pictures.values()))
    for step in range(1, STEPS + 1):
        darker = first.point(lambda value, step=step: value // (step + 1))
        yield Preview(step, STEPS, "octave 1 of 1", step / STEPS, seconds_left=STEPS - step, loss=0.0, picture=darker)


def fake_try_out(recipe: Recipe, **pictures: Image.Image) -> Iterator[tuple[Recipe, Preview]]:
    """The first two variants."""
    yield from ((variant, next(fake(variant, **pictures))) for variant in recipe.variants()[:2])


def fake_estimate(recipe: Recipe, pictures: Mapping[str, Header]) -> Estimate:
    """A second and a kilobyte for each pixel of the result's longest side."""
    return Estimate(recipe.size, recipe.size * 1e3)


ENGINE = Engine(fake, fake_try_out, fake_estimate)


FROM_PICTURES = {name: recipe for name, recipe in RECIPES.items() if name not in look_inside.KINDS}
"""Whose tab has pictures on the left and the result on the right; the others have tests of their own."""


@pytest.fixture(params=FROM_PICTURES.values(), ids=FROM_PICTURES)
def recipe(request) -> type[Recipe]:
    return request.param


@pytest.fixture
def pictures(recipe, tmp_path) -> list[dict[str, str]]:
    """The recipe's pictures, as the page sends them."""
    files = [tmp_path / f"{role}.png" for role in recipe.images]
    for i, file in enumerate(files):
        Image.new("RGB", (64, 48), (200, 100 + i, 50)).save(file)
    return [{"path": str(file)} for file in files]


@pytest.fixture(autouse=True)
def cache(tidy_gradio, tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "gradio"))


def tab(recipe: type[Recipe], run=fake) -> Tab:
    looks = [look for look in presets.read_presets() if type(look.recipe) is recipe]
    with gr.Blocks(analytics_enabled=False):
        return Tab(recipe, replace(ENGINE, run=run).with_device(lambda run: run), [], looks)


def started(tab: Tab, pictures: list, latest=None, kept=(), state=None, **fields) -> Iterator[dict]:
    values = {name: field.default for name, field in tab.recipe.model_fields.items()} | fields
    return tab.start(
        *pictures, *values.values(), *[None] * len(tab.recipe.optional_images), latest, list(kept), state or RunState()
    )


def fails(run: Iterator[dict]) -> tuple[list[dict], str]:
    """What is shown until the sentence comes."""
    updates = []
    with pytest.raises(gr.Error) as caught:
        updates.extend(run)
    assert caught.value.print_exception is False
    return updates, caught.value.message


def arriving(recipe: Recipe, **_: Image.Image) -> Iterator[DownloadProgress]:
    """A download that is half way, and then fails."""
    yield DownloadProgress("org/model", 25_000_000, 50_000_000, 12.4)
    raise WeightsError("It broke off.")


def test_a_download_is_seen_to_arrive_and_its_failure_said_and_no_gpu_asked_for(recipe, pictures):
    page = tab(recipe)
    page.engine = replace(page.engine, prepare=arriving, run=None).with_device(lambda run: run)
    updates, said = fails(started(page, pictures))
    lines = [update[page.status] for update in updates if page.status in update]
    assert "Downloading org/model · 25 of 50 MB · about 12 s left" in lines[1]
    assert 'value="0.500"' in lines[1]
    assert said == "It broke off."
    assert updates[-1][page.start_button] == gr.update(interactive=True)


def test_a_run_of_the_page_is_stopped_when_the_page_shows_another(photo):
    heard, ends, state = [], [], RunState()

    def run(recipe, stopped, **given):
        ends.append(stopped)
        for preview in fake(recipe, **given):
            heard.append(stopped())
            yield preview

    updates = started(tab(DeepDream, run), [photo], state=state)
    while not heard:
        next(updates)
    state.end()
    assert heard == [False]
    assert ends[0]()


# Controls


@pytest.mark.parametrize(("recipe", "name"), FIELDS, ids=lambda value: getattr(value, "name", value))
def test_a_control_says_what_its_field_says(recipe, name):
    field = recipe.model_fields[name]
    made = control(name, field)
    assert made.value == field.default
    assert made.info == field.description
    assert made.label == name.replace("_", " ").capitalize()
    if choices(field):
        assert {value for _, value in made.choices} == set(choices(field))
    elif field.annotation in (int, float):
        assert (made.minimum, made.maximum) == bounds(field)
        assert (made.precision == 0) == (field.annotation is int)


def test_a_slider_is_for_what_can_be_set_by_hand():
    class Some(Recipe):
        name = "some"
        few: int = param(1, "Few.", ge=0, le=10)
        many: int = param(1, "Many.", ge=0, le=2**31 - 1)
        endless: float = param(1.0, "Endless.", ge=0)
        whether: bool = param(True, "Whether.")

    kinds = {name: type(control(name, field)) for name, field in Some.model_fields.items()}
    assert kinds == {"few": gr.Slider, "many": gr.Number, "endless": gr.Number, "whether": gr.Checkbox}


def test_bundled_networks_come_first_and_downloads_are_marked():
    layers = control("layer", DeepDream.model_fields["layer"]).choices
    downloads = [text.endswith(" (download)") for text, _ in layers]
    assert downloads == sorted(downloads)
    assert {value.partition("/")[0] for (_, value), download in zip(layers, downloads, strict=True) if not download} == set(
        BUNDLED
    )
    assert ("VGG-19 · relu1_1", "vgg19/relu1_1") == layers[0]


def test_choices_are_spoken_and_other_words_left_alone():
    assert spoken("vgg19/relu4_2") == "VGG-19 · relu4_2"
    assert spoken("vgg19") == "VGG-19"
    assert spoken("none") == "none"


def test_a_caption_names_what_was_changed(recipe):
    assert caption(recipe()) == "default settings"
    assert caption(recipe(size=128)) == "size 128"


def test_two_to_four_controls_are_in_sight(recipe):
    assert 2 <= sum(not group(field) for field in recipe.model_fields.values()) <= 4


# The endpoint's own description


def test_the_endpoint_has_the_recipe_s_name_parameters_and_meanings(recipe):
    endpoint = api_function(recipe, iter)
    assert endpoint.__name__ == recipe.name
    assert inspect.isasyncgenfunction(endpoint)  # Gradio streams it, and can cancel it in the middle of a step.
    parameters = inspect.signature(endpoint).parameters
    assert list(parameters) == [*recipe.images, *recipe.model_fields, *recipe.optional_images]
    assert all(parameters[role].default is None for role in recipe.optional_images)
    for name, field in recipe.model_fields.items():
        assert parameters[name].default == field.default
        assert parameters[name].annotation == field.annotation
        assert f"    {name}: {field.description}" in endpoint.__doc__.splitlines()
    for role, meaning in recipe.images.items():
        assert parameters[role].default is inspect.Parameter.empty
        assert f"    {role}: {meaning}" in endpoint.__doc__.splitlines()


# A run


def test_a_run_shows_its_previews_then_before_and_after(recipe, pictures):
    page = tab(recipe)
    ready, *previews, last = started(page, pictures)
    assert "Getting ready" in ready[page.status]
    assert len(previews) == STEPS
    assert [f"step {i} of {STEPS}" in update[page.status] for i, update in enumerate(previews, start=1)] == [True] * STEPS
    assert "Octave 1 of 1 · step 1 of 3 · about 2 s left" in previews[0][page.status]
    assert previews[1][page.view].getpixel((0, 0)) == (66, 33, 16)
    assert f"Done in {STEPS} steps · 64×48 pixels" in last[page.status]
    before, after = last[page.compare]["value"]
    with Image.open(last[page.download]["value"]) as file:
        assert file.format == "PNG"
        assert file.getpixel((0, 0)) == (50, 25, 12)
        assert file.getexif() == {}
    with Image.open(before) as file:
        assert (file.size, file.getpixel((0, 0))) == ((64, 48), (200, 100, 50))
    assert after == last[page.download]["value"]


def test_an_example_fills_every_input(recipe):
    page = tab(recipe)
    example = next(example for example in presets.read_examples() if type(example.recipe) is recipe)
    update = page.fill_example(example)
    assert [update[picture] for picture in page.pictures] == [str(path) for path in example.pictures.values()]
    assert [update[control] for control in page.controls] == list(example.recipe.model_dump().values())
    assert "Waiting" in update[page.status]


def test_another_run_keeps_the_result_before_it(recipe, pictures):
    page = tab(recipe)
    *_, preview, _ = started(page, pictures, size=128)
    latest = preview[page.latest]
    _, first, *_ = started(page, pictures, latest=latest)
    ((file, words_below),) = first[page.earlier_gallery]["value"]
    assert first[page.earlier_results] == [latest]
    assert words_below == "size 128"
    with Image.open(file) as earlier:
        assert earlier.getpixel((0, 0)) == (50, 25, 12)


def test_stopping_keeps_the_latest_picture_and_shows_no_later_one(recipe, pictures):
    page, state = tab(recipe), RunState()
    run = started(page, pictures, state=state)
    next(run)
    latest = next(run)[page.latest]
    update = page.stop_run(latest, state)
    assert "Stopped at step 1 of 3" in update[page.status]
    with Image.open(update[page.download]["value"]) as file:
        assert file.getpixel((0, 0)) == (100, 50, 25)
    assert list(run) == [{page.status: gr.skip()}]


def test_of_two_runs_only_the_last_one_started_shows_anything(recipe, pictures):
    page, state = tab(recipe), RunState()
    first = started(page, pictures, state=state)
    next(first)
    second = started(page, pictures, state=state)
    next(second)
    assert list(first) == [{page.status: gr.skip()}]
    *_, last = second
    assert "Done" in last[page.status]


def test_stopping_before_the_first_step_says_so(recipe):
    page = tab(recipe)
    assert "before the first step" in page.show_finished(None)[page.status]


# What goes wrong


def test_a_missing_picture_is_one_sentence_and_the_result_before_stays(recipe, pictures):
    page = tab(recipe)
    *_, preview, _ = started(page, pictures)
    (update,), sentence = fails(started(page, [None] * len(pictures), latest=preview[page.latest]))
    assert sentence == f"There is no {next(iter(recipe.images))} yet: choose one, or click an example."
    assert sentence in update[page.status]
    with Image.open(update[page.download]["value"]) as file:
        assert file.getpixel((0, 0)) == (50, 25, 12)


@pytest.mark.parametrize(("value", "said"), [(0, "0"), (10**9, "1000000000"), (None, "None"), (2.5, "2.5"), ("many", "'many'")])
def test_a_wrong_value_is_named_with_what_is_accepted(recipe, pictures, value, said):
    low, high = bounds(recipe.model_fields["steps"])
    _, sentence = fails(started(tab(recipe), pictures, steps=value))
    assert sentence == f"steps is {said}; expected a whole number from {low} to {high}."


def test_what_is_wrong_is_found_before_a_gpu_is_asked_for(recipe, pictures):
    def lent(*_, **__):
        raise AssertionError("asked")
        yield

    _, sentence = fails(started(tab(recipe, lent), pictures, size=1))
    assert sentence.startswith("size is 1; expected")


def test_a_run_that_fails_half_way_keeps_its_latest_picture(recipe, pictures):
    def failing(recipe, **pictures):
        yield next(fake(recipe, **pictures))
        raise FeatvizError("The <b>lamp</b> went out.")

    page = tab(recipe, failing)
    (*_, last), sentence = fails(started(page, pictures))
    assert sentence == "The &lt;b&gt;lamp&lt;/b&gt; went out."  # Gradio renders it as HTML.
    assert last[page.download]["value"]


def test_the_unexpected_is_logged_and_said_politely(recipe, pictures, caplog):
    def broken(recipe, **pictures):
        raise ZeroDivisionError("secret")
        yield

    with caplog.at_level(logging.ERROR):
        _, sentence = fails(started(tab(recipe, broken), pictures))
    assert sentence == INTERNAL_ERROR
    assert "secret" in caplog.text


# Before a run


def test_a_look_sets_every_field_and_is_the_only_one_marked():
    page = tab(RECIPES["deepdream"])
    look = page.presets.presets[2]
    update = page.presets.choose(look, "Standard")
    assert [update[control] for control in page.controls] == list(look.recipe.model_dump().values())
    assert ["chosen" in update[button]["elem_classes"] for button in page.presets.buttons].index(True) == 2
    assert sum("chosen" in update[button]["elem_classes"] for button in page.presets.buttons) == 1


@pytest.mark.parametrize(("finish", "size", "steps"), [("Draft", 256, 10), ("Standard", 320, 10), ("Fine", 768, 15)])
def test_a_finish_is_relative_to_the_look(finish, size, steps):
    recipe = RECIPES["deepdream"](size=320, steps=10)
    assert presets.FINISHES[finish].of(recipe) == {"size": size, "steps": steps}


def test_a_finish_stays_within_what_a_field_accepts():
    assert presets.FINISHES["Fine"].of(RECIPES["deepdream"](steps=100))["steps"] == 100


def forecast(page: Tab, picture: dict | None, **fields) -> tuple[str, int | None]:
    return page.forecast.sentence(
        dict.fromkeys([*page.recipe.images][:1], picture), (page.recipe().model_dump() | fields).values()
    )


def test_an_estimate_is_one_line(recipe, pictures):
    assert forecast(tab(recipe), pictures[0], size=80) == ("About 80 s and 0.1 GB on this machine.", None)


@pytest.mark.parametrize("picture", [None, {"path": __file__}])
def test_without_a_picture_there_is_no_estimate(recipe, picture):
    assert forecast(tab(recipe), picture) == ("", None)


def test_what_takes_too_long_is_offered_smaller(recipe, pictures):
    said, fitting = forecast(tab(recipe), pictures[0], size=1600)
    assert said == "About 27 min and 0.1 GB on this machine; that is over 15 min. Size 896 would fit."
    assert fitting == 896


def test_what_takes_more_memory_than_there_is_is_offered_smaller(recipe, pictures, monkeypatch):
    page = tab(recipe)
    monkeypatch.setattr(page.forecast, "memory_left", lambda: 100e3)
    said, fitting = forecast(page, pictures[0], size=400)
    assert said == "About 7 min and 0.1 GB on this machine; there are 0.1 GB free. Size 96 would fit."
    assert fitting == 96
    monkeypatch.setattr(page.forecast, "memory_left", lambda: 0)
    assert forecast(page, pictures[0], size=400)[1] is None


def test_a_panorama_is_offered_a_size_at_which_its_shorter_side_is_large_enough(tmp_path):
    page = tab(DeepDream)
    values = DeepDream().model_dump().values()
    Image.new("RGB", (6000, 600)).save(tmp_path / "a.png")
    assert (
        page.forecast.sentence({"image": {"path": str(tmp_path / "a.png")}}, values)[1] is None
    )  # 1280 s would exceed the time limit.
    page.forecast.estimate = lambda recipe, pictures: Estimate(1, 1)
    for width, height, offered in ((6000, 600, 1280), (600, 6000, 1280), (600, 400, None)):
        Image.new("RGB", (width, height)).save(tmp_path / "a.png")
        message, size = page.forecast.sentence({"image": {"path": str(tmp_path / "a.png")}}, values)
        assert size == offered
        assert ("The shorter side has fewer than 128 pixels; size 1280 is better." in message) == (offered is not None)


def test_the_estimate_is_of_all_pictures_and_of_a_mask_that_may_be_painted(tmp_path):
    seen = []
    with gr.Blocks(analytics_enabled=False) as demo:
        page = Tab(StyleTransfer, ENGINE.with_device(lambda run: run), [], [])
    page.forecast.estimate = lambda recipe, pictures: seen.append(pictures) or Estimate(1, 1)
    sent = {}
    for role, size in {"content": (64, 48), "style": (80, 60), "style2": (50, 90)}.items():
        Image.new("RGB", size).save(tmp_path / f"{role}.png")
        sent[role] = {"path": str(tmp_path / f"{role}.png")}
    values = list(StyleTransfer().model_dump().values())
    refresh = next(event.fn for event in demo.fns.values() if page.forecast.line in event.outputs)
    for painted_on in (None, sent["content"]["path"]):
        refresh(*sent.values(), None, None, painted_on, *values)
    sizes = {"content": (64, 48), "style": (80, 60), "style2": (50, 90)}
    expected = [sizes, sizes | {"mask": (LONGEST, LONGEST)}]
    assert [{role: header.size for role, header in pictures.items()} for pictures in seen] == expected


def test_a_setting_that_cannot_be_is_said_before_a_run(pictures):
    said, _ = forecast(tab(RECIPES["deepdream"]), pictures[0], class_name="dragonfish")
    assert said.startswith("There is no class 'dragonfish'")


# Where


def layer(*boxes: tuple[int, int, int, int]) -> Image.Image:
    picture = Image.new("RGBA", (64, 48))
    for box in boxes:
        picture.paste((139, 92, 246, round(255 * OPACITY)), box)
    return picture


def test_the_mask_is_white_where_it_was_painted():
    mask = painted({"background": None, "layers": [layer((0, 0, 10, 10)), layer((20, 20, 30, 30))], "composite": None})
    assert [mask.getpixel(place) for place in [(5, 5), (25, 25), (50, 40)]] == [255, 255, 0]


EVERYWHERE = layer((0, 0, 64, 48))


@pytest.mark.parametrize("value", [None, {"layers": []}, {"layers": None}, {"layers": [layer()]}, {"layers": [EVERYWHERE]}])
def test_nothing_painted_is_no_mask_nor_is_everything(value):
    assert painted(value) is None


def test_what_is_painted_is_the_mask_of_the_run(pictures):
    page = tab(RECIPES["deepdream"])
    update = page.prepare_run({"layers": [layer((0, 0, 10, 10))]})
    assert update[page.extras[list(page.recipe.optional_images).index("mask")]].getpixel((5, 5)) == 255
    assert page.extras[list(page.recipe.optional_images).index("guide")] not in update


def test_the_picture_is_opened_for_painting_and_closed_by_another(pictures):
    painting = tab(RECIPES["deepdream"]).painting
    opened = painting.toggled(pictures[0], None)
    assert opened[painting.editor]["visible"]
    assert opened[painting.editor]["value"]["background"].size == (64, 48)
    of = opened[painting.source]
    assert painting.editor not in painting.changed(pictures[0], of)
    for closed in (painting.changed({"path": "another.png"}, of), painting.changed(None, of), painting.toggled(pictures[0], of)):
        assert (closed[painting.editor]["visible"], closed[painting.source]) == (False, None)


def test_painting_without_a_picture_is_one_sentence():
    with pytest.raises(gr.Error, match="There is no picture yet"):
        tab(RECIPES["deepdream"]).painting.toggled(None, None)


@pytest.mark.parametrize(("size", "said"), [((64, 48), ""), ((32, 24), ""), ((48, 64), "The mask is 48×64 and was stretched")])
def test_a_mask_of_another_shape_is_used_with_a_word(capsys, size, said):
    mention_stretching({"image": Image.new("RGB", (64, 48)), "mask": Image.new("RGB", size)})
    assert capsys.readouterr().out.startswith(said)


def test_what_is_not_obvious_about_a_picture_is_said(tmp_path, capsys):
    frames = [Image.new("RGB", (64, 48), (level, 0, 0)) for level in (20, 220)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    mask = Image.new("RGB", (64, 48))
    mask.paste((255, 0, 0), (0, 0, 20, 48))
    mask.save(tmp_path / "mask.png")
    kind = RECIPES["deepdream"]
    given = {name: field.default for name, field in kind.model_fields.items()}
    given |= {"image": {"path": str(tmp_path / "a.gif")}, "mask": {"path": str(tmp_path / "mask.png")}, "guide": None}
    _, opened = validate_request(kind, [given[name] for name in (*kind.images, *kind.model_fields, *kind.optional_images)])
    said = capsys.readouterr().out
    assert "The image has 2 frames; the first one is used." in said
    assert "The mask has colours; their brightness is used" in said
    assert opened["mask"].getpixel((5, 5)) == 76


@pytest.mark.parametrize("kind", ["tiff", "heic"])
def test_a_picture_that_browsers_cannot_show_is_shown_as_a_png_of_the_same_pixels(kind, tmp_path):
    picture = hostile.gradient()
    path = tmp_path / f"a.{kind}"
    path.write_bytes(hostile.written(picture, kind))
    shown = displayable({"path": str(path)})
    with Image.open(shown) as png:
        assert png.format == "PNG"
        assert np.array_equal(np.asarray(png), np.asarray(open_picture(path)))


@pytest.mark.parametrize("content", [hostile.written(hostile.gradient(), "jpeg"), b"no picture"])
def test_any_other_file_stays_in_its_box_as_it_is(content, tmp_path):
    (tmp_path / "a.jpg").write_bytes(content)
    assert displayable({"path": str(tmp_path / "a.jpg")}) == gr.skip()
    assert displayable(None) == gr.skip()


# Links, and pictures that were made here


def test_a_link_is_to_what_is_set(recipe):
    assert query_of(recipe, *(recipe().model_dump() | {"size": 128}).values()) == f"?recipe={recipe.name}&size=128"
    with pytest.raises(gr.Error, match="size is 1; expected"):
        query_of(recipe, *(recipe().model_dump() | {"size": 1}).values())


def made(recipe: Recipe, tmp_path) -> dict[str, str]:
    """A picture with a recipe in it, as the page sends it."""
    picture = Image.new("RGB", (64, 48))
    picture.info[NOTE] = metadata.note(recipe, whole=True)
    save(picture, tmp_path / "made.png")
    return {"path": str(tmp_path / "made.png")}


def test_a_picture_made_here_restores_its_settings_and_undo_those_before(recipe, tmp_path):
    page, before = tab(recipe), recipe(size=96)
    update = page.restore_settings(made(recipe(size=128), tmp_path), *before.model_dump().values())
    assert [update[control] for control in page.controls] == list(recipe(size=128).model_dump().values())
    assert "its settings are restored" in update[page.origin.line]
    assert (update[page.origin.undo]["visible"], update[page.origin.there]["visible"]) == (True, False)
    undone = page.undo_restore(update[page.origin.recipe])
    assert [undone[control] for control in page.controls] == list(before.model_dump().values())
    assert undone[page.origin.box]["visible"] is False


def test_a_picture_made_with_another_recipe_changes_nothing_and_leads_there(recipe, tmp_path):
    page = tab(recipe)
    other = next(other for other in RECIPES.values() if other is not recipe)(size=128)
    update = page.restore_settings(made(other, tmp_path), *recipe().model_dump().values())
    assert not set(update) & set(page.controls)
    assert f"with {other.title}" in update[page.origin.line]
    assert (update[page.origin.undo]["visible"], update[page.origin.there]["visible"]) == (False, True)
    assert update[page.origin.recipe] == other


def test_a_picture_made_with_what_is_set_only_says_so(recipe, tmp_path):
    page = tab(recipe)
    update = page.restore_settings(made(recipe(), tmp_path), *recipe().model_dump().values())
    assert not set(update) & set(page.controls)
    assert "with the settings below" in update[page.origin.line]


@pytest.mark.parametrize("note", ["", "{", '{"recipe": "soup"}'])
def test_any_other_picture_says_nothing_and_changes_nothing(recipe, tmp_path, note):
    page, picture = tab(recipe), Image.new("RGB", (64, 48))
    picture.info[NOTE] = note
    save(picture, tmp_path / "any.png")
    update = page.restore_settings({"path": str(tmp_path / "any.png")}, *recipe().model_dump().values())
    assert update == page.origin.closed()


# Which layer?


def test_the_sheet_fills_layer_by_layer_and_a_click_sets_the_layer(pictures):
    sheet = tab(RECIPES["deepdream"]).sheet
    *updates, last = sheet.show(pictures[0], *RECIPES["deepdream"]().model_dump().values(), None, None, RunState())
    tiles = [update[sheet.gallery] for update in updates if sheet.gallery in update]
    assert [len(shown) for shown in tiles] == [1, 2]
    assert [caption for _, caption in tiles[-1]] == ["relu1_1", "relu1_2"]
    assert last[sheet.stop_button]["visible"] is False
    click = gr.SelectData(None, {"index": 1, "value": None})
    assert sheet.chosen(updates[-1][sheet.shown], click) == {sheet.sweep_fields["layer"]: "vgg19/relu1_2"}


def test_the_sheet_dreams_along_the_guide_and_inside_the_mask(pictures, tmp_path, monkeypatch):
    sent = {}
    sheet = tab(RECIPES["deepdream"]).sheet
    engine = replace(sheet.engine, try_out=lambda recipe, **given: sent.update(given) or fake_try_out(recipe, **given))
    monkeypatch.setattr(sheet, "engine", engine)
    Image.linear_gradient("L").save(tmp_path / "mask.png")
    mask = {"path": str(tmp_path / "mask.png")}
    list(sheet.show(pictures[0], *RECIPES["deepdream"]().model_dump().values(), pictures[0], mask, RunState()))
    assert list(sent) == ["image", "guide", "mask"]


def test_a_sheet_that_is_stopped_shows_nothing_more(pictures):
    sheet, state = tab(RECIPES["deepdream"]).sheet, RunState()
    run = sheet.show(pictures[0], *RECIPES["deepdream"]().model_dump().values(), None, None, state)
    next(run), next(run)
    sheet.stop_run(state)
    assert list(run) == [{sheet.status: gr.skip()}]


def test_a_sheet_without_a_picture_is_one_sentence():
    sheet = tab(RECIPES["deepdream"]).sheet
    (update,), sentence = fails(sheet.show(None, *RECIPES["deepdream"]().model_dump().values(), None, None, RunState()))
    assert sentence.startswith("There is no image yet")
    assert sentence in update[sheet.status]


# While a run goes on


def sent(path) -> dict[str, str]:
    """A picture, as the page sends it."""
    return {"path": str(path)}


PAIR = [sent(presets.FOLDER / name) for name in ("cat.jpg", "great_wave.jpg")]


def steerable(recipe: Recipe, *, steer, **pictures: Image.Image) -> Iterator[Preview]:
    """Shows the style strength that it is asked for, as if it were a distance."""
    for preview in fake(recipe, **pictures):
        yield replace(preview, measures={"strength": steer().style_strength})


def moved(page: Tab, state: RunState, **fields) -> None:
    page.steer(*(StyleTransfer().model_dump() | fields).values(), state)


def test_a_run_under_way_follows_the_controls_and_keeps_on_while_a_number_is_half_typed():
    page, state = tab(StyleTransfer, steerable), RunState()
    run = started(page, PAIR, state=state)
    next(run)
    assert "<span>1</span>" in next(run)[page.measures]["value"]
    moved(page, state, style_strength=3)
    assert "<span>3</span>" in (shown := next(run)[page.measures]["value"])
    assert "You can change style strength, content strength and smoothness during the run." in shown
    moved(page, state, style_strength=None)
    assert "<span>3</span>" in next(run)[page.measures]["value"]


def test_a_run_out_of_reach_is_not_steered_and_the_page_says_so(monkeypatch):
    said = []
    monkeypatch.setattr(gr, "Info", said.append)
    with gr.Blocks(analytics_enabled=False):
        page = Tab(StyleTransfer, ENGINE.with_device(lambda run: run, zero_gpu=True), [])
    state = RunState()
    run = started(page, PAIR, state=state)
    next(run), next(run)
    moved(page, state)
    assert said == ["This change takes effect in the next run."]
    assert state.settings is None


def test_bars_are_half_for_a_distance_of_one_and_names_are_escaped():
    assert bars({}) == ""
    shown = bars({"a<b": 1.0, "c": 0.0})
    assert 'value="0.500"' in shown
    assert 'value="0.000"' in shown
    assert "a&lt;b" in shown


# After a run


def test_a_result_is_refined_at_double_its_size_and_only_once():
    page = tab(StyleTransfer)
    result = Result(StyleTransfer(size=3000), next(fake(StyleTransfer(), image=Image.new("RGB", (32, 32)))))
    start = page.extras[list(StyleTransfer.optional_images).index("start")]
    asked = page.prepare_refinement(result)
    assert asked[start] == result.file()
    assert asked[page.named["size"]] == 4096
    assert page.prepare_run()[start] is None


def test_going_back_shows_an_earlier_result_and_loses_none(recipe, pictures):
    page = tab(recipe)
    results = []
    for size in (80, 96):
        *_, preview, _ = started(page, pictures, latest=results[-1] if results else None, kept=[], size=size)
        results.append(preview[page.latest])
    first, second = results
    update = page.show_earlier(second, [first], RunState(), gr.SelectData(None, {"index": 0, "value": None}))
    assert update[page.latest] is first
    assert update[page.earlier_results] == [second, first]
    assert update[page.compare]["value"] is not None
    assert page.keep_earlier(first, [second, first]) == {}  # It is there already.


def test_there_is_no_going_back_during_a_run(recipe, pictures, capsys):
    page, state = tab(recipe), RunState()
    run = started(page, pictures, state=state)
    next(run)
    latest = next(run)[page.latest]
    click = gr.SelectData(None, {"index": 0, "value": None})
    assert page.show_earlier(latest, [latest], state, click) == {page.status: gr.skip()}
    assert "when this run is over" in capsys.readouterr().out
    list(run)
    assert page.latest in page.show_earlier(latest, [latest], state, click)


def test_a_transparent_picture_is_shown_and_keeps_its_transparency(tmp_path):
    def transparent(recipe, **pictures):
        yield Preview(1, 1, "octave 1 of 1", 1.0, 0.0, 0.0, Image.new("RGBA", (64, 48), (9, 9, 9, 128)))

    page = tab(RECIPES["deepdream"], transparent)
    Image.new("RGBA", (64, 48), (9, 9, 9, 128)).save(tmp_path / "clear.png")
    _, preview, last = started(page, [{"path": str(tmp_path / "clear.png")}])
    assert preview[page.view]["value"].mode == "RGB"
    with Image.open(last[page.download]["value"]) as file:
        assert file.getpixel((0, 0)) == (9, 9, 9, 128)


# The whole


def test_there_is_an_example_for_every_recipe_that_takes_a_picture():
    needy = {recipe for recipe in RECIPES.values() if recipe.images}
    assert {type(example.recipe) for example in presets.read_examples()} == needy


def test_what_is_public_is_meant_to_be():
    demo = ui.build(ENGINE)
    public = {fn.api_name for fn in demo.fns.values() if fn.api_visibility == "public"}
    assert public == {
        *RECIPES,
        *(f"{name}_sheet" for name in RECIPES if RECIPES[name].sweep_fields),
        "presets",
        "estimate",
        "recipe",
        "start",
        "job",
        "stop",
    }


def test_the_events_of_the_page_cost_the_browser_little():
    """Progress is shown on no component. No two that wait for their turn listen to the same event, since Gradio lets each wake the
    other: seen from far away, a page asked twelve times a second for ever."""
    events = [fn for fn in ui.build(ENGINE).fns.values() if fn.api_visibility == "private"]
    assert [fn.api_name for fn in events if fn.outputs and fn.show_progress_on != []] == []
    waiting = Counter(target for fn in events if fn.fn and fn.trigger_mode == "always_last" for target in fn.targets)
    assert waiting.total() > 50
    assert [target for target, count in waiting.items() if count > 1] == []


def test_every_licence_and_source_is_on_the_page():
    text = " ".join(str(block.value) for block in ui.build(ENGINE).blocks.values() if isinstance(block, gr.Markdown))
    assert all(spec.licence in text and spec.title in text for spec in NETWORKS.values())
    assert all(path.name in text for example in presets.read_examples() for path in example.pictures.values())


def test_the_examples_thumbnails_outlive_the_visitors_pictures():
    icons = [block for block in ui.build(ENGINE).blocks.values() if isinstance(block, gr.Button) and block.icon]
    assert {button.value for button in icons} == {one.title for one in (*presets.read_examples(), *presets.read_presets())}
    assert all(button.icon["path"] in button.keep_in_cache for button in icons)


def test_every_run_goes_through_what_lends_the_gpu(pictures, recipe):
    lent = []

    def lend(run):
        def borrowed(*args, **kwargs):
            lent.append(args[0])
            yield from run(*args, **kwargs)

        return borrowed

    demo = ui.build(ENGINE, lend=lend)
    (endpoint,) = (fn.fn for fn in demo.fns.values() if fn.api_name == recipe.name)
    assert outputs(endpoint(*pictures, *recipe().model_dump().values(), *[None] * len(recipe.optional_images)))
    assert lent == [recipe()]


def test_a_result_is_written_once_and_is_said_to_be_deleted_where_its_file_is_gone(tmp_path, monkeypatch):
    written, save = [], running.save_pil_to_cache
    monkeypatch.setattr(
        running, "save_pil_to_cache", lambda *args, **kwargs: written.append(save(*args, **kwargs)) or written[-1]
    )
    preview = Preview(1, 1, "", 1.0, 0.0, 0.0, Image.new("RGB", (20, 16), "red"))
    Image.new("RGB", (64, 48), (200, 100, 50)).save(tmp_path / "upload.png")
    result = Result(DeepDream(), preview, str(tmp_path / "upload.png"))
    assert result.exists
    before, after = result.shown()
    assert result.file() == after == result.shown()[1]
    assert written == [after, before]
    with Image.open(before) as small, Image.open(after) as file:
        assert (small.size, small.getpixel((0, 0))) == ((20, 16), (200, 100, 50))
        assert file.tobytes() == preview.picture.tobytes()
    Path(before).unlink()
    assert Path(result.shown()[0]).exists()  # Made anew of the upload.
    Path(after).unlink()
    assert not result.exists
    for use in (result.file, result.shown):
        with pytest.raises(gr.Error, match="This result was deleted from the server after 2 h; please run it again"):
            use()


def test_a_result_that_cannot_be_written_is_not_lost(monkeypatch):
    result = Result(DeepDream(), Preview(1, 1, "", 1.0, 0.0, 0.0, Image.new("RGB", (20, 16), "red")))
    with monkeypatch.context() as patch:
        patch.setattr(running, "save_pil_to_cache", raises(OSError(errno.ENOSPC, "No space")))
        with pytest.raises(gr.Error, match="disk is full"):
            result.file()
    with Image.open(result.file()) as file:
        assert file.getpixel((0, 0)) == (255, 0, 0)


def raises(error: Exception):
    def raising(*_, **__):
        raise error

    return raising


def test_earlier_results_that_were_deleted_leave_the_strip():
    recipe = DeepDream
    page = tab(recipe)
    results = [Result(recipe(size=size), next(fake(recipe(), image=Image.new("RGB", (size, 32))))) for size in (80, 96, 112)]
    Path(results[1].file()).unlink()
    assert page.keep_earlier(results[0], results[1:])[page.earlier_results] == [results[0], results[2]]


def test_earlier_results_are_kept_up_to_so_many_pixels_and_always_the_latest():
    def result(width: int) -> SimpleNamespace:
        return SimpleNamespace(size=(width, 10))

    results = [result(30), result(20), result(60)]
    assert limit_pixels(results, 1100) == results
    assert limit_pixels(results, 1099) == results[:2]
    assert limit_pixels(results, 100) == results[:1]
    assert limit_pixels([], 100) == []


# What has no effect


@pytest.fixture
def photo(tmp_path) -> dict[str, str]:
    Image.new("RGB", (64, 48), (200, 100, 50)).save(tmp_path / "photo.png")
    return {"path": str(tmp_path / "photo.png")}


def shown(tab: Tab, **given) -> dict[str, bool]:
    """What can have no effect → whether its control is enabled, where this is given beside the defaults."""
    values = {name: field.default for name, field in tab.recipe.model_fields.items()} | given
    changes = tab.disable_unused(*(values.get(name) for name in tab.rule_inputs))
    return {name: changes[tab.parts[name]]["interactive"] for name in tab.disableable}


def test_what_has_no_effect_is_disabled_with_the_reason():
    page = tab(DeepDream)
    plain = {
        "more_layers": True,
        "channels": True,
        "guide": True,
        "guide_by": False,
        "outside": False,
        "feather": False,
        "size": True,
    }
    assert shown(page) == plain
    assert shown(page, guide={"path": "x"}) == plain | {"guide_by": True, "channels": False}
    assert shown(page, mask="x") == plain | {"outside": True, "feather": True}
    assert shown(page, full_size=True) == plain | {"size": False}
    assert shown(page, class_name="pizza", guide={"path": "x"}) == plain | dict.fromkeys(
        ["more_layers", "channels", "guide"], False
    )
    values = dict.fromkeys(page.rule_inputs) | {"class_name": "pizza", "full_size": False}
    changes = page.disable_unused(*values.values())
    reason = " No effect beside class name: the class is amplified and no layer."
    assert changes[page.named["channels"]]["info"] == DeepDream.model_fields["channels"].description + reason
    assert changes[page.parts["guide"]]["label"] == "Guide." + reason


def test_what_a_disabled_control_holds_is_left_out_of_a_run_with_a_word(photo, capsys):
    ran = []

    def run(recipe, stopped, **given):
        ran.append((recipe, set(given)))
        yield from fake(recipe, **given)

    page = tab(DeepDream, run)
    fields = {
        "layer": "efficientnet_lite0/block9",
        "class_name": "pizza",
        "channels": "3",
        "outside": "efficientnet_lite0/block1",
    }
    list(started(page, [photo], **fields))
    assert ran == [(DeepDream(layer=fields["layer"], class_name="pizza"), {"image"})]
    said = capsys.readouterr().out
    assert "Left out: Channels. It has no effect beside class name" in said
    assert "Left out: Outside. It has no effect without mask" in said


def test_a_page_s_estimate_and_link_leave_it_out_too(photo):
    values = [field.default for field in DeepDream.model_fields.values()]
    names = list(DeepDream.model_fields)
    for name, value in {"layer": "efficientnet_lite0/block9", "class_name": "pizza", "channels": "3"}.items():
        values[names.index(name)] = value
    assert query_of(DeepDream, *values) == "?recipe=deepdream&layer=efficientnet_lite0/block9&class_name=pizza"
    assert tab(DeepDream).forecast.sentence({"image": photo}, values)[0].startswith("About")
