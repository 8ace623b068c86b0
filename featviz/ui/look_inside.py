"""The room "Look Inside": what a layer answers, what a picture is called, what a channel looks for, what is kept."""

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
from featviz.ui.running import BEHIND_THE_PAGE, RUNS_AT_ONCE, Shot, Turn, deleted, in_cache, line
from featviz.ui.tab import SHOW_RESULT, Tab

LEGIBLE = 192
"""Pixels at which a thumbnail of the atlas is shown."""


def thumbnail(layer: str, channel: int) -> Image.Image | None:
    """What a channel looks for, out of the atlas, None where it has none."""
    sheet = atlas.sheets().get(layer)
    return sheet and sheet.thumbnail(channel).resize((LEGIBLE, LEGIBLE), Image.Resampling.BICUBIC)


class RebuiltTab(Tab):
    """A tab whose measures are no distances: they are said in words."""

    def measured(self, run: Preview | Shot, hint: str = "") -> dict:
        said = self.recipe.measure_sentence.format(*run.measures.values()) if run.measures else ""
        return {self.measures: gr.update(value=f"<p>{said}</p>", visible=True)} if said else {}


class StyleTab(RebuiltTab):
    """Beside the texture, the numbers that it was made from: the Gram matrix as a picture."""

    def _result(self) -> None:
        super()._result()
        self.numbers = gr.Button("Show its Gram matrix", size="sm", elem_classes="quiet")
        self.gram = gr.Image(
            label="Which channels answer together", alt_text="The Gram matrix.", height=320, interactive=False, buttons=[],
            visible=False,
        )  # fmt: skip

    def _events(self, buttons: Sequence[tuple[gr.Button, Any]]) -> None:
        super()._events(buttons)
        self.numbers.click(
            self.correlated, [*self.pictures, *self.controls], self.gram, preprocess=False, **RUNS_AT_ONCE, **BEHIND_THE_PAGE
        )

    def correlated(self, *sent: Any) -> dict:
        """The Gram matrix of the deepest layer that takes part."""
        recipe, pictures = self._checked(sent)
        look = RECIPES["activation_maps"](layer=f"{recipe.network}/{recipe.places[-1]}", size=recipe.size)
        picture = self.engine.gram_picture(look, image=pictures["style"])
        side = max(320, picture.width)
        shown = picture.resize((side, side), Image.Resampling.NEAREST)
        return gr.update(value=shown, visible=True, label=f"Which channels of {recipe.places[-1]} answer together")


class NoiseTab(Tab):
    """A tab of a recipe that starts from noise: there is no before, only an after. Choosing a channel is choosing a picture."""

    def _result(self) -> None:
        super()._result()
        self.atlas = gr.Gallery(
            label="Atlas", columns=8, height=420, allow_preview=False, interactive=False, buttons=[], visible=False,
            elem_classes="atlas",
        )  # fmt: skip
        self.browse = gr.Button("Show me what every channel of this layer looks for", size="sm", elem_classes="quiet")

    def _events(self, buttons: Sequence[tuple[gr.Button, Any]]) -> None:
        super()._events(buttons)
        at_once = {"queue": False, **BEHIND_THE_PAGE}
        self.browse.click(self.browsed, self.named["layer"], self.atlas, **at_once)
        self.atlas.select(self.picked, None, [self.named["channel"], *_freeing(self, "channel")], **at_once)

    @property
    def deciding(self) -> dict[str, gr.components.Component]:
        return super().deciding | {"layer": self.named["layer"]}

    def disabled(self, *values: Any) -> dict:
        """As for every tab; the channels that can be chosen are those of the layer."""
        network, layer = split(dict(zip(self.deciding, values, strict=True))["layer"])
        changes = super().disabled(*values)
        changes[self.named["channel"]] |= {"maximum": load_untrained(network).channels(layer) - 1}
        return changes

    def picked(self, event: gr.SelectData) -> dict:
        """The channel whose thumbnail was clicked."""
        return {self.named["channel"]: event.index} | _freeing(self, "channel")

    def browsed(self, layer: str) -> dict:
        """The thumbnails of a layer, or where there are some."""
        sheet = atlas.sheets().get(layer)
        if sheet is None:
            gr.Info(f"The atlas has {enumeration(spoken(known) for known in atlas.sheets())}.")
            return gr.skip()
        tiles = [(in_cache(sheet.thumbnail(channel), "jpeg"), str(channel)) for channel in range(len(sheet.peaks))]
        label = f"Computed beforehand: what the {len(tiles)} channels of {spoken(layer)} look for. Click one to choose it."
        return gr.update(value=tiles, visible=True, label=label, selected_index=None)

    def _final(self, shared: dict[str, Any]) -> gr.components.Component:
        return gr.Image(label="Result", format="png", buttons=["fullscreen"], alt_text="The result.", visible=False, **shared)


class NamesTab(Tab):
    """A tab whose result are names: bars, and beside them those of the picture before."""

    def _result(self) -> None:
        with gr.Column(elem_id=f"{self.recipe.name}_result", elem_classes="result"):
            self.status = gr.HTML(line(text.READY), elem_classes="status")
            with gr.Row():
                self.now = gr.Label(label="This picture", min_width=240)
                self.before = gr.Label(label="The one before", min_width=240, visible=False)
        self.latest, self.turn = gr.State(), gr.State(Turn())
        self.ways, self.sheet = {}, None

    def _events(self, buttons: Sequence[tuple[gr.Button, Any]]) -> None:
        outputs = [self.status, self.now, self.before, self.latest]
        run = {
            "fn": self.named_, "inputs": [*self.pictures, *self.controls, self.latest], "outputs": outputs, "preprocess": False,
        } | RUNS_AT_ONCE | BEHIND_THE_PAGE  # fmt: skip
        scrolled = {"queue": False, "js": SHOW_RESULT.format(self.recipe.name), **BEHIND_THE_PAGE}
        self.go.click(**run)
        self.pictures[0].change(**run)
        for button, example in buttons:
            button.click(partial(self.filled, example), outputs=self._filled(), **scrolled)
        self.looks.events(self.named)

    def named_(self, *values: Any) -> dict:
        """The names of the picture; those of the one before stay beside them."""
        *sent, latest = values
        if sent[0] is None:
            return {self.status: line(text.READY)}
        *_, names = self._answers(sent)
        return {
            self.status: line(f"Most likely: {next(iter(names))}."),
            self.now: names,
            self.before: gr.update(value=latest, visible=latest is not None),
            self.latest: names,
        }

    def waiting(self) -> dict:
        return {}

    def _answer(self) -> gr.components.Component:
        return gr.Label(label="Names", visible=False)

    def _answers(self, sent: Sequence[Any]) -> Iterator[dict[str, float]]:
        recipe, pictures = self._checked(sent)
        for preview in self.engine.run(recipe, **pictures):
            yield dict(preview.measures)


@dataclass(frozen=True)
class Channel:
    """A channel and what it answers to a picture, as a session keeps it: pictures are files in Gradio's cache."""

    layer: str
    channel: int
    strength: float
    activation_map: str | None
    patches: tuple[str, ...]

    @classmethod
    def of(cls, cell: ChannelResponse) -> "Channel":
        activation_map = cell.picture and in_cache(cell.picture)
        return cls(cell.layer, cell.channel, cell.strength, activation_map, tuple(map(in_cache, cell.patches)))


class MapsTab(Tab):
    """A tab whose result is a gallery of activation maps. A click on one shows its channel, and what it looks for."""

    def _result(self) -> None:
        with gr.Column(elem_id=f"{self.recipe.name}_result", elem_classes="result"):
            self.status = gr.HTML(line(text.READY), elem_classes="status")
            self.maps = gr.Gallery(
                label="The channels that answer most: click one", columns=4, height=420, allow_preview=False, interactive=False,
                buttons=[], elem_classes="sheet",
            )  # fmt: skip
            with gr.Column(visible=False, elem_classes="channel") as self.box:
                self.title = gr.HTML()
                with gr.Row():
                    shared = {"height": 260, "interactive": False, "buttons": [], "min_width": 140}
                    self.map = gr.Image(label="Where it answers", alt_text="Its activation map.", **shared)
                    self.wish = gr.Image(label="What it looks for", alt_text="Its visualisation.", **shared)
                self.patches = gr.Gallery(
                    label="Where your picture pleases it most", columns=4, rows=1, height=170, allow_preview=False,
                    interactive=False, buttons=[], elem_classes="sheet",
                )  # fmt: skip
                with gr.Row(elem_classes="onward"):
                    self.dream = gr.Button("Dream this channel", size="sm", min_width=120)
                    self.see = gr.Button("See what it looks for", size="sm", min_width=120)
            self.most = gr.Gallery(
                label="In the whole network: what your picture excites most", columns=4, height=230, allow_preview=False,
                interactive=False, buttons=[], visible=False, elem_classes="sheet",
            )  # fmt: skip
        self.shown, self.strongest_channels, self.chosen = gr.State(()), gr.State(()), gr.State()
        self.turn, self.latest = gr.State(Turn()), gr.State()
        self.ways, self.sheet = {}, None

    def _events(self, buttons: Sequence[tuple[gr.Button, Any]]) -> None:
        at_once = {"queue": False, **BEHIND_THE_PAGE}
        outputs = [self.status, self.maps, self.shown, self.box, self.most, self.strongest_channels]
        run = {
            "fn": self.seen, "inputs": [*self.pictures, *self.controls], "outputs": outputs, "preprocess": False,
        } | RUNS_AT_ONCE | BEHIND_THE_PAGE  # fmt: skip
        scrolled = at_once | {"js": SHOW_RESULT.format(self.recipe.name)}
        runs = [self.go.click(lambda: {self.status: line("Getting ready…", 0)}, None, outputs, **scrolled).then(**run)]
        for button, example in buttons:
            filled = button.click(partial(self.filled, example), outputs=[*self._filled(), self.status], **scrolled)
            runs.append(filled.then(**run))
        self.forecast.events(self.pictures, self.named, runs)
        channel = [self.box, self.title, self.map, self.wish, self.patches, self.chosen]
        self.maps.select(self.opened, self.shown, channel, **at_once)
        self.most.select(self.opened, self.strongest_channels, channel, **at_once)
        self.looks.events(self.named)

    def seen(self, *sent: Any) -> Iterator[dict]:
        """The gallery, then what the whole network answers."""
        recipe, pictures = self._checked(sent)
        found = self.engine.inspect_layer(recipe, **pictures)
        channels = tuple(map(Channel.of, found.cells))
        tiles = [(channel.activation_map, f"channel {channel.channel} · {number(channel.strength)}") for channel in channels]
        yield {self.status: line(described(found)), self.maps: tiles, self.shown: channels, self.box: gr.update(visible=False)}
        peaks = {layer: sheet.peaks for layer, sheet in atlas.sheets().items() if layer.startswith(f"{recipe.network_name}/")}
        if not peaks:
            yield {self.most: gr.update(visible=False), self.strongest_channels: ()}
            return
        most = self.engine.strongest_channels(recipe, peaks, **pictures)
        tiles = [(in_cache(thumbnail(cell.layer, cell.channel)), said(cell)) for cell in most]
        yield {self.most: gr.update(value=tiles, visible=True), self.strongest_channels: tuple(map(Channel.of, most))}

    def opened(self, channels: Sequence[Channel], event: gr.SelectData) -> dict:
        """The channel that was clicked, large."""
        chosen = channels[event.index]
        if not all(Path(file).is_file() for file in (*chosen.patches, *filter(None, [chosen.activation_map]))):
            raise deleted()
        wish = thumbnail(chosen.layer, chosen.channel)
        return {
            self.box: gr.update(visible=True),
            self.title: f"<h3>{escape(spoken(chosen.layer))}, channel {chosen.channel}</h3>",
            self.map: gr.update(value=chosen.activation_map, visible=chosen.activation_map is not None),
            self.wish: gr.update(value=wish, visible=wish is not None),
            self.patches: gr.update(value=list(chosen.patches), visible=bool(chosen.patches)),
            self.chosen: chosen,
        }

    def waiting(self) -> dict:
        return {self.status: line("Getting ready…", 0)}


def described(found: LayerInspection) -> str:
    """A layer's answer in a sentence."""
    channels, height, width = found.shape
    sees = "the whole picture" if found.field[0] == float("inf") else f"{found.field[1]:.0f}×{found.field[0]:.0f} pixels"
    return f"{spoken(found.layer)}: {channels} channels of {width}×{height} · each unit sees {sees} · mean answer {number(found.mean)}"


def number(value: float) -> str:
    """Three digits where there are not more before the point."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def said(cell: ChannelResponse) -> str:
    """A channel of the atlas, under its thumbnail."""
    return f"{cell.layer.rpartition('/')[2]} · {cell.channel} · {cell.strength:.0%}"


KINDS: dict[str, type[Tab]] = {
    "activation_maps": MapsTab,
    "classification": NamesTab,
    "feature_visualization": NoiseTab,
    "reconstruct_content": RebuiltTab,
    "reconstruct_style": StyleTab,
}


def connect(tabs: Mapping[str, Tab], doors: Any) -> None:
    """The ways from a channel to its dream, and to what it looks for."""
    maps = tabs["activation_maps"]
    at_once = {"queue": False, **BEHIND_THE_PAGE}
    for button, name, given in ((maps.dream, "deepdream", "channels"), (maps.see, "feature_visualization", "channel")):
        tab = tabs[name]
        button.click(
            partial(_with_channel, tab, doors, given), [maps.chosen, *maps.pictures],
            [*doors.outputs, tab.named["layer"], tab.named[given], *tab.pictures[:1], *_freeing(tab, given)], preprocess=False, **at_once,
        )  # fmt: skip


def _with_channel(tab: Tab, doors: Any, given: str, cell: Channel, picture: Mapping[str, Any] | None) -> dict:
    """Another recipe, opened on a channel and, where it takes one, on the same picture."""
    value = str(cell.channel) if given == "channels" else cell.channel
    pictures = {tab.pictures[0]: picture and picture["path"]} if tab.pictures else {}
    return doors.opened(tab.recipe) | {tab.named["layer"]: cell.layer, tab.named[given]: value} | pictures | _freeing(tab, given)


def _freeing(tab: Tab, name: str) -> dict:
    """What is cleared so that a field has an effect: all beside which it has none."""
    others = [rule.beside for rule in tab.recipe.rules if name in rule.unused and rule.beside]
    fields = tab.recipe.model_fields
    return {tab.parts[other]: fields[other].default if other in fields else None for other in others}
