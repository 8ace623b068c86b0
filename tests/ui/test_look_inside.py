"""The room "Look Inside" without a browser: what a click shows."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import pytest
from PIL import Image

from featviz.recipes.presets import FOLDER
from featviz.recipes.recipe import Recipe
from featviz.recipes.table import RECIPES
from featviz.runtime import atlas
from featviz.runtime.estimate import Estimate
from featviz.runtime.inspection import ChannelResponse, LayerInspection
from featviz.runtime.stream import Preview
from featviz.ui import look_inside
from featviz.ui.running import Engine
from featviz.ui.sheet import Sheet
from featviz.ui.tab import Tab

CAT = {"path": str(FOLDER / "cat.jpg")}
LAYER = "efficientnet_lite0/block4"


def fake(recipe: Recipe, **pictures: Image.Image) -> Iterator[Preview]:
    """One step, with the measure that each recipe has."""
    measures = {"psnr": 31.26, "tabby": 0.8, "castle": 0.1}
    yield Preview(1, 1, "relu1_1", 1.0, 0.0, 0.0, Image.new("RGB", (64, 48)), measures=measures)


def fake_try_out(recipe: Recipe, **pictures: Image.Image) -> Iterator[tuple[Recipe, Preview]]:
    """Two variants, each seen twice: half done, and done."""
    for i, variant in enumerate(recipe.variants()[:2]):
        for step in (1, 2):
            picture = Image.new("RGB", (64, 48), (100 * i, 50 * step, 0))
            yield variant, Preview(step, 2, "", step / 2, 0.0, 0.0, picture, measures={"psnr": 10.0 * step})


def fake_look(recipe: Recipe, **pictures: Image.Image) -> LayerInspection:
    cells = tuple(ChannelResponse(recipe.layer, channel, 1500.0, Image.new("RGB", (64, 48))) for channel in (7, 2))
    return LayerInspection(recipe.layer, cells, mean=0.123456, shape=(40, 12, 16), field=(67, 67))


def fake_excited(recipe: Recipe, peaks: dict, **pictures: Image.Image) -> tuple[ChannelResponse, ...]:
    assert set(peaks) == {layer for layer in atlas.sheets() if layer.startswith(f"{recipe.network_name}/")}
    return (ChannelResponse(LAYER, 3, 0.72),)


ENGINE = Engine(fake, fake_try_out, lambda recipe, size: Estimate(1, 1), fake_look, fake_excited)


@pytest.fixture(autouse=True)
def cache(tidy_gradio, tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "gradio"))


def tab(name: str):
    with gr.Blocks(analytics_enabled=False):
        return look_inside.KINDS[name](RECIPES[name], ENGINE.with_device(lambda run: run), [])


def values(name: str, **fields) -> list:
    return list(RECIPES[name](**fields).model_dump().values())


def test_maps_come_first_and_then_what_the_whole_network_answers():
    maps = tab("activation_maps")
    first, then = maps.inspect(CAT, *values("activation_maps", layer=LAYER))
    assert [text for _, text in first[maps.maps]] == ["channel 7 · 1500", "channel 2 · 1500"]
    assert "40 channels of 16×12 · each unit sees 67×67 pixels · mean activation 0.123" in first[maps.status]
    assert [text for _, text in then[maps.most]["value"]] == ["block4 · 3 · 72%"]


def test_a_click_on_a_map_shows_its_channel_and_what_it_looks_for():
    maps = tab("activation_maps")
    event = gr.SelectData(None, {"index": 1, "value": None})
    shown = maps.show_channel(
        [look_inside.Channel.of(cell) for cell in fake_look(RECIPES["activation_maps"](layer=LAYER)).cells], event
    )
    assert "channel 2" in shown[maps.title]
    assert shown[maps.chosen].channel == 2
    assert shown[maps.visualization]["value"].size == (look_inside.THUMBNAIL, look_inside.THUMBNAIL)
    of_no_atlas = [shown[maps.chosen], look_inside.Channel.of(ChannelResponse("vgg19/relu1_2", 0, 1.0))]
    without = maps.show_channel(of_no_atlas, event)
    assert not without[maps.visualization]["visible"]
    assert "no stored picture for this layer" in without[maps.title]
    assert "no stored picture" not in shown[maps.title]
    Path(shown[maps.chosen].activation_map).unlink()
    with pytest.raises(gr.Error, match="This result was deleted from the server after 2 h; please run it again"):
        maps.show_channel([None, shown[maps.chosen]], event)


def test_see_what_it_looks_for_opens_the_tab_and_runs():
    with gr.Blocks(analytics_enabled=False) as demo:
        tabs = {name: Tab(RECIPES[name], ENGINE, []) for name in ("deepdream",)}
        tabs |= {
            name: look_inside.KINDS[name](RECIPES[name], ENGINE, []) for name in ("activation_maps", "feature_visualization")
        }
        look_inside.connect(tabs, SimpleNamespace(outputs=[], select=lambda recipe: {}))
    (click,) = (fn for fn in demo.fns.values() if (tabs["activation_maps"].visualize._id, "click") in fn.targets)
    (prepared,) = (fn for fn in demo.fns.values() if fn.trigger_after == click._id)
    (started,) = (fn for fn in demo.fns.values() if fn.trigger_after == prepared._id)
    assert started.fn == tabs["feature_visualization"].start


def test_a_missing_picture_is_one_sentence():
    with pytest.raises(gr.Error, match="There is no image yet"):
        next(tab("activation_maps").inspect(None, *values("activation_maps")))


def test_names_stand_beside_those_of_the_picture_before():
    names = tab("classification")
    first = names.show_names(CAT, *values("classification"), None)
    assert first[names.now]["tabby"] == 0.8
    assert not first[names.before]["visible"]
    then = names.show_names(CAT, *values("classification"), first[names.latest])
    assert then[names.before] == gr.update(value=first[names.now], visible=True)


def test_choosing_a_channel_is_choosing_a_picture():
    visual = tab("feature_visualization")
    shown = visual.show_atlas(LAYER)
    assert [text for _, text in shown["value"]] == [str(channel) for channel in range(40)]
    assert "computed earlier" in shown["label"]
    picked = visual.choose_channel(gr.SelectData(None, {"index": 9, "value": None}))
    assert picked == {visual.named["channel"]: 9, visual.named["class_name"]: ""}  # Beside a class it would have no effect.


def test_the_channels_that_can_be_chosen_are_those_of_the_layer():
    visual = tab("feature_visualization")
    for class_name, enabled in (("", True), ("pizza", False)):
        asked = {"class_name": class_name, "layer": LAYER}
        channel = visual.disable_unused(*(asked[name] for name in visual.rule_inputs))[visual.named["channel"]]
        assert (channel["maximum"], channel["interactive"]) == (39, enabled)


def test_dreaming_a_channel_clears_what_would_keep_it_from_having_an_effect():
    with gr.Blocks(analytics_enabled=False):
        dream, navigation = Tab(RECIPES["deepdream"], ENGINE, []), SimpleNamespace(select=lambda recipe: {})
    changes = look_inside._open_channel(dream, navigation, "channels", ChannelResponse(LAYER, 7, 1.0), CAT)
    assert changes[dream.named["channels"]] == "7"
    assert changes[dream.named["class_name"]] == ""
    assert changes[dream.parts["guide"]] is None


def test_a_board_fills_cell_by_cell_with_words_under_each():
    content = tab("reconstruct_content")
    sheet: Sheet = content.sheet
    updates = list(sheet.show(CAT, *values("reconstruct_content"), sheet.run_state.value))
    under = [[text for _, text in update[sheet.gallery]] for update in updates if sheet.gallery in update]
    assert under == [
        ["relu1_1 · 10.0 dB"],
        ["relu1_1 · 20.0 dB"],
        ["relu1_1 · 20.0 dB", "relu2_1 · 10.0 dB"],
        ["relu1_1 · 20.0 dB", "relu2_1 · 20.0 dB"],
    ]


def test_measures_are_said_in_words():
    content = tab("reconstruct_content")
    preview = Preview(1, 1, "", 1.0, 0.0, 0.0, Image.new("RGB", (8, 8)), measures={"psnr": 31.26})
    assert "31.3 decibels" in content.show_measures(preview)[content.measures]["value"]
