"""The tab group "Look Inside": activation maps, classification, feature visualisation and reconstruction."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from featviz.networks.cache import load_untrained
from featviz.networks.table import split
from featviz.recipes.table import RECIPES
from featviz.runtime import atlas
from featviz.runtime.inspection import ChannelResponse, LayerInspection
from featviz.runtime.stream import Preview
from featviz.ui import text
from featviz.ui.controls import enumeration, spoken
from featviz.ui.running import PAGE_EVENT, RUN_QUEUE, Result, RunState, deleted_error, in_cache, status_line
from featviz.ui.tab import SHOW_RESULT, Tab

THUMBNAIL = 192
"""Side in pixels at which a thumbnail of the atlas is shown."""


SHOW_CHANNEL = """() => requestAnimationFrame(() => {
    const title = document.querySelector("#activation_maps_channel h3");
    title?.scrollIntoView({behavior: "smooth", block: "start"});
    title?.focus({preventScroll: true});
})"""
"""The box of a channel opens above or below the clicked map, often out of sight."""

NO_THUMBNAIL = "There is no stored picture for this layer. Press 'See what it looks for' to compute it."


def thumbnail(layer: str, channel: int) -> Image.Image | None:
    """Return the picture that a channel responds to most, from the atlas; None if the atlas lacks the layer."""
    sheet = atlas.sheets().get(layer)
    return sheet and sheet.thumbnail(channel).resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BICUBIC)


class ReconstructionTab(Tab):
    """A tab that states its measures in sentences, because they are not distances."""

    def show_measures(self, run: Preview | Result, hint: str = "") -> dict:
        sentence = self.recipe.measure_sentence.format(*run.measures.values()) if run.measures else ""
        return {self.measures: gr.update(value=f"<p>{sentence}</p>", visible=True)} if sentence else {}


class StyleReconstructionTab(ReconstructionTab):
    """A reconstruction from a Gram matrix, with a button that shows the matrix as a picture."""

    def _build_result(self) -> None:
        super()._build_result()
        self.gram_button = gr.Button("Show the Gram matrix", size="sm", elem_classes="quiet")
        self.gram = gr.Image(
            label="Which channels are active together", alt_text="The Gram matrix.", height=320, interactive=False, buttons=[],
            visible=False,
        )  # fmt: skip

    def _events(self, buttons: Sequence[tuple[gr.Button, Any]]) -> None:
        super()._events(buttons)
        self.gram_button.click(
            self.show_gram_matrix, [*self.pictures, *self.controls], self.gram, preprocess=False, **RUN_QUEUE, **PAGE_EVENT
        )

    def show_gram_matrix(self, *sent: Any) -> dict:
        """Show the Gram matrix of the deepest layer in use."""
        recipe, pictures = self._validate(sent)
        inspection = RECIPES["activation_maps"](layer=f"{recipe.network}/{recipe.places[-1]}", size=recipe.size)
        picture = self.engine.gram_picture(inspection, image=pictures["style"])
        side = max(320, picture.width)
        shown = picture.resize((side, side), Image.Resampling.NEAREST)
        return gr.update(value=shown, visible=True, label=f"Which channels of {recipe.places[-1]} are active together")


class FeatureVisualizationTab(Tab):
    """A tab of a recipe that starts from noise. The channel can be chosen by a click on its picture in the atlas."""

    def _build_result(self) -> None:
        super()._build_result()
        self.atlas = gr.Gallery(
            label="Atlas", columns=8, height=420, allow_preview=False, interactive=False, buttons=[], visible=False,
            elem_classes="atlas",
        )  # fmt: skip
        self.browse = gr.Button("Show what every channel of this layer looks for", size="sm", elem_classes="quiet")

    def _events(self, buttons: Sequence[tuple[gr.Button, Any]]) -> None:
        super()._events(buttons)
        immediate = {"queue": False, **PAGE_EVENT}
        self.browse.click(self.show_atlas, self.named["layer"], self.atlas, **immediate)
        self.atlas.select(self.choose_channel, None, [self.named["channel"], *_clear_conflicts(self, "channel")], **immediate)

    @property
    def rule_inputs(self) -> dict[str, gr.components.Component]:
        return super().rule_inputs | {"layer": self.named["layer"]}

    def disable_unused(self, *values: Any) -> dict:
        """Extend `Tab.disable_unused`: limit the channel to the channels of the layer."""
        network, layer = split(dict(zip(self.rule_inputs, values, strict=True))["layer"])
        changes = super().disable_unused(*values)
        changes[self.named["channel"]] |= {"maximum": load_untrained(network).channels(layer) - 1}
        return changes

    def choose_channel(self, event: gr.SelectData) -> dict:
        """Set the channel whose thumbnail was clicked."""
        return {self.named["channel"]: event.index} | _clear_conflicts(self, "channel")

    def show_atlas(self, layer: str) -> dict:
        """Show the thumbnails of a layer, or say which layers have some."""
        sheet = atlas.sheets().get(layer)
        if sheet is None:
            covered, button = enumeration(map(spoken, atlas.sheets())), self.recipe.action
            gr.Info(f"There are pictures only for {covered}. Press '{button}' to compute one.")
            return gr.skip()
        tiles = [(in_cache(sheet.thumbnail(channel), "jpeg"), str(channel)) for channel in range(len(sheet.peaks))]
        label = f"What the {len(tiles)} channels of {spoken(layer)} look for, computed earlier. Click one to choose it."
        return gr.update(value=tiles, visible=True, label=label, selected_index=None)

    def _final_view(self, shared: dict[str, Any]) -> gr.components.Component:
        return gr.Image(label="Result", format="png", buttons=["fullscreen"], alt_text="The result.", visible=False, **shared)


class ClassificationTab(Tab):
    """A tab whose result is class probabilities, beside those of the previous picture."""

    def _build_result(self) -> None:
        with gr.Column(elem_id=f"{self.recipe.name}_result", elem_classes="result"):
            self.status = gr.HTML(status_line(text.READY), elem_classes="status")
            with gr.Row():
                self.now = gr.Label(label="This picture", min_width=240)
                self.before = gr.Label(label="Previous picture", min_width=240, visible=False)
        self.latest, self.run_state = gr.State(), gr.State(RunState())
        self.send_buttons, self.sheet = {}, None

    def _events(self, buttons: Sequence[tuple[gr.Button, Any]]) -> None:
        outputs = [self.status, self.now, self.before, self.latest]
        run = {
            "fn": self.show_names, "inputs": [*self.pictures, *self.controls, self.latest], "outputs": outputs, "preprocess": False,
        } | RUN_QUEUE | PAGE_EVENT  # fmt: skip
        scrolled = {"queue": False, "js": SHOW_RESULT.format(self.recipe.name), **PAGE_EVENT}
        self.start_button.click(**run)
        self.pictures[0].change(**run)
        for button, example in buttons:
            button.click(partial(self.fill_example, example), outputs=self._example_outputs(), **scrolled)
        self.presets.events(self.named)

    def show_names(self, *values: Any) -> dict:
        """Classify the picture. The previous result moves to the second column."""
        *sent, latest = values
        if sent[0] is None:
            return {self.status: status_line(text.READY)}
        recipe, pictures = self._validate(sent)
        *_, preview = self.engine.run(recipe, **pictures)
        names = dict(preview.measures)
        return {
            self.status: status_line(f"Most likely: {next(iter(names))}."),
            self.now: names,
            self.before: gr.update(value=latest, visible=latest is not None),
            self.latest: names,
        }

    def show_waiting(self) -> dict:
        return {}


@dataclass(frozen=True)
class Channel:
    """A channel and its response to a picture, as a session keeps it: pictures are files in Gradio's cache."""

    layer: str
    channel: int
    strength: float
    activation_map: str | None
    patches: tuple[str, ...]

    @classmethod
    def of(cls, cell: ChannelResponse) -> "Channel":
        activation_map = cell.picture and in_cache(cell.picture)
        return cls(cell.layer, cell.channel, cell.strength, activation_map, tuple(map(in_cache, cell.patches)))


class ActivationMapsTab(Tab):
    """A tab whose result is a gallery of activation maps. A click on one shows its channel and what the channel looks for."""

    def _build_result(self) -> None:
        with gr.Column(elem_id=f"{self.recipe.name}_result", elem_classes="result"):
            self.status = gr.HTML(status_line(text.READY), elem_classes="status")
            self.maps = gr.Gallery(
                label="The most active channels: click one", columns=4, height=420, allow_preview=False, interactive=False,
                buttons=[], elem_classes="sheet",
            )  # fmt: skip
            with gr.Column(visible=False, elem_id="activation_maps_channel") as self.box:
                self.title = gr.HTML()
                with gr.Row():
                    shared = {"height": 260, "interactive": False, "buttons": [], "min_width": 140}
                    self.map = gr.Image(label="Where it is active", alt_text="Its activation map.", **shared)
                    self.visualization = gr.Image(
                        label="What it looks for", alt_text="The picture that activates it most.", **shared
                    )
                self.patches = gr.Gallery(
                    label="Parts of your picture that activate it most", columns=4, rows=1, height=170, allow_preview=False,
                    interactive=False, buttons=[], elem_classes="sheet",
                )  # fmt: skip
                with gr.Row(elem_classes="onward"):
                    self.dream = gr.Button("Dream this channel", size="sm", min_width=120)
                    self.visualize = gr.Button("See what it looks for", size="sm", min_width=120)
            self.most = gr.Gallery(
                label="The most active channels of the whole network: click one", columns=4, height=230, allow_preview=False,
                interactive=False, buttons=[], visible=False, elem_classes="sheet",
            )  # fmt: skip
        self.shown, self.strongest_channels, self.chosen = gr.State(()), gr.State(()), gr.State()
        self.run_state, self.latest = gr.State(RunState()), gr.State()
        self.send_buttons, self.sheet = {}, None

    def _events(self, buttons: Sequence[tuple[gr.Button, Any]]) -> None:
        immediate = {"queue": False, **PAGE_EVENT}
        outputs = [self.status, self.maps, self.shown, self.box, self.most, self.strongest_channels]
        run = {
            "fn": self.inspect, "inputs": [*self.pictures, *self.controls], "outputs": outputs, "preprocess": False,
        } | RUN_QUEUE | PAGE_EVENT  # fmt: skip
        scrolled = immediate | {"js": SHOW_RESULT.format(self.recipe.name)}
        runs = [
            self.start_button.click(lambda: {self.status: status_line("Getting ready…", 0)}, None, outputs, **scrolled).then(
                **run
            )
        ]
        for button, example in buttons:
            filled = button.click(
                partial(self.fill_example, example), outputs=[*self._example_outputs(), self.status], **scrolled
            )
            runs.append(filled.then(**run))
        self.forecast.events(dict(zip(self.recipe.images, self.pictures, strict=True)), self.named, runs)
        channel = [self.box, self.title, self.map, self.visualization, self.patches, self.chosen]
        for gallery, channels in ((self.maps, self.shown), (self.most, self.strongest_channels)):
            gallery.select(self.show_channel, channels, channel, **immediate).success(None, js=SHOW_CHANNEL, **PAGE_EVENT)
        self.presets.events(self.named)

    def inspect(self, *sent: Any) -> Iterator[dict]:
        """Show the maps of the layer, then the most active channels of the whole network."""
        recipe, pictures = self._validate(sent)
        inspection = self.engine.inspect_layer(recipe, **pictures)
        channels = tuple(map(Channel.of, inspection.cells))
        tiles = [(channel.activation_map, f"channel {channel.channel} · {number(channel.strength)}") for channel in channels]
        yield {
            self.status: status_line(describe_layer(inspection)),
            self.maps: tiles,
            self.shown: channels,
            self.box: gr.update(visible=False),
        }
        peaks = {layer: sheet.peaks for layer, sheet in atlas.sheets().items() if layer.startswith(f"{recipe.network_name}/")}
        if not peaks:
            yield {self.most: gr.update(visible=False), self.strongest_channels: ()}
            return
        most = self.engine.strongest_channels(recipe, peaks, **pictures)
        tiles = [(in_cache(thumbnail(cell.layer, cell.channel)), channel_caption(cell)) for cell in most]
        yield {self.most: gr.update(value=tiles, visible=True), self.strongest_channels: tuple(map(Channel.of, most))}

    def show_channel(self, channels: Sequence[Channel], event: gr.SelectData) -> dict:
        """Show the clicked channel in the box."""
        chosen = channels[event.index]
        if not all(Path(file).is_file() for file in (*chosen.patches, *filter(None, [chosen.activation_map]))):
            raise deleted_error()
        visualization = thumbnail(chosen.layer, chosen.channel)
        note = "" if visualization else f"<p>{NO_THUMBNAIL}</p>"
        return {
            self.box: gr.update(visible=True),
            self.title: f'<h3 tabindex="-1">{escape(spoken(chosen.layer))}, channel {chosen.channel}</h3>{note}',
            self.map: gr.update(value=chosen.activation_map, visible=chosen.activation_map is not None),
            self.visualization: gr.update(value=visualization, visible=visualization is not None),
            self.patches: gr.update(value=list(chosen.patches), visible=bool(chosen.patches)),
            self.chosen: chosen,
        }

    def show_waiting(self) -> dict:
        return {self.status: status_line("Getting ready…", 0)}


def describe_layer(inspection: LayerInspection) -> str:
    """Describe a layer in one line: its shape, its receptive field and its mean activation."""
    channels, height, width = inspection.shape
    rows, columns = inspection.field
    field = "the whole picture" if rows == float("inf") else f"{columns:.0f}×{rows:.0f} pixels"
    shape = f"{channels} channels of {width}×{height}"
    return f"{spoken(inspection.layer)}: {shape} · each unit sees {field} · mean activation {number(inspection.mean)}"


def number(value: float) -> str:
    """Format a number with three significant digits, or as a whole number from 100 on."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def channel_caption(cell: ChannelResponse) -> str:
    """Caption of a thumbnail of the atlas: layer, channel and strength."""
    return f"{cell.layer.rpartition('/')[2]} · {cell.channel} · {cell.strength:.0%}"


KINDS: dict[str, type[Tab]] = {
    "activation_maps": ActivationMapsTab,
    "classification": ClassificationTab,
    "feature_visualization": FeatureVisualizationTab,
    "reconstruct_content": ReconstructionTab,
    "reconstruct_style": StyleReconstructionTab,
}


def connect(tabs: Mapping[str, Tab], navigation: Any) -> None:
    """Connect the buttons of a channel with the tabs that dream it and visualise it."""
    maps = tabs["activation_maps"]
    immediate = {"queue": False, **PAGE_EVENT}
    for button, name, field in ((maps.dream, "deepdream", "channels"), (maps.visualize, "feature_visualization", "channel")):
        tab = tabs[name]
        opened = button.click(
            partial(_open_channel, tab, navigation, field), [maps.chosen, *maps.pictures],
            [*navigation.outputs, tab.named["layer"], tab.named[field], *tab.pictures[:1], *_clear_conflicts(tab, field)],
            preprocess=False, **immediate,
        )  # fmt: skip
        if button is maps.visualize:
            tab.start_after(opened)


def _open_channel(tab: Tab, navigation: Any, field: str, cell: Channel, picture: Mapping[str, Any] | None) -> dict:
    """Open another recipe with a channel and, if it takes a picture, with the same picture."""
    value = str(cell.channel) if field == "channels" else cell.channel
    pictures = {tab.pictures[0]: picture and picture["path"]} if tab.pictures else {}
    return (
        navigation.select(tab.recipe)
        | {tab.named["layer"]: cell.layer, tab.named[field]: value}
        | pictures
        | _clear_conflicts(tab, field)
    )


def _clear_conflicts(tab: Tab, name: str) -> dict:
    """Reset everything that would disable a field."""
    others = [rule.beside for rule in tab.recipe.rules if name in rule.unused and rule.beside]
    fields = tab.recipe.model_fields
    return {tab.parts[other]: fields[other].default if other in fields else None for other in others}
