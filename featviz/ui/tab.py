"""A recipe as people use it: inputs left, result right, and behind them the endpoint for programs."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import accumulate
from typing import Any

import gradio as gr
from PIL import Image

from featviz.errors import FeatvizError
from featviz.recipes.presets import Example, Preset
from featviz.recipes.recipe import Recipe, bounds, group, live
from featviz.recipes.table import RECIPES
from featviz.runtime.stream import Preview
from featviz.ui import text
from featviz.ui.controls import caption, control, enabled_unless, enumeration, label, named_after, recipe_of
from featviz.ui.endpoints import addresses
from featviz.ui.forecast import Forecast
from featviz.ui.links import CopyLink, Origin
from featviz.ui.masks import Painting, mention_stretching, painted
from featviz.ui.measures import bars
from featviz.ui.presets import Looks, example_cards
from featviz.ui.running import (
    BEHIND_THE_PAGE,
    RUNS_AT_ONCE,
    Engine,
    Shot,
    Turn,
    arriving,
    checked,
    file_of,
    line,
    progress,
    showable,
    without_disabled,
)
from featviz.ui.sheet import Sheet

EARLIER_KEPT, EARLIER_PIXELS = 8, 16_000_000
"""How many earlier results a visitor can go back to, and the pixels that all of them may have together: the page loads them all."""

BESIDE = {"guide": "What", "style2": "Style"}
"""Pictures a recipe can do without, and the group of fields each belongs to. A mask is painted, a start is a result."""

SHOW_RESULT = """(...values) => {{
    document.querySelector("#{}_result").scrollIntoView({{behavior: "smooth", block: "nearest"}});
    return values;
}}"""
"""On a phone the result is below the controls, out of sight."""


class Tab:
    """Inputs left, result right, examples that run on one click, and the endpoint of the same name."""

    FILE = "PNG"

    def __init__(self, recipe: type[Recipe], engine: Engine, shown: Sequence[Example], looks: Sequence[Preset] = ()):
        self.recipe = recipe
        self.engine = engine
        gr.Markdown(recipe.__doc__.splitlines()[0], elem_classes="lead")
        with gr.Row(equal_height=False):
            with gr.Column(scale=5, min_width=320):
                buttons = self._examples(shown)
                self._inputs(looks)
            with gr.Column(scale=6, min_width=320):
                self._result()
                with gr.Accordion("How it works", elem_classes="prose-block"):
                    gr.Markdown(recipe.explanation)
        self._events(buttons)
        self._passed_on()
        self._endpoint()

    def _examples(self, shown: Sequence[Example]) -> list[tuple[gr.Button, Example]]:
        gr.Markdown("One click, and it runs:", elem_classes="hint", visible=bool(shown))
        with gr.Row(elem_classes="examples"):
            return list(zip(example_cards(shown), shown, strict=True))

    def _inputs(self, looks: Sequence[Preset]) -> None:
        recipe = self.recipe
        with gr.Row():
            height = 240 if len(recipe.images) > 1 else 280
            self.pictures = [self._picture(role, meaning, height=height) for role, meaning in recipe.images.items()]
        self.origin = Origin()
        self.painting = Painting(self.pictures[0], recipe) if "mask" in recipe.extras else None
        self.looks = Looks(recipe, looks)
        self.named = self._controls([""])
        self.extras = {
            role: self._picture(role, recipe.extras[role], visible="hidden") for role in recipe.extras if role not in BESIDE
        }
        groups = list(dict.fromkeys(group(field) for field in recipe.model_fields.values() if group(field)))
        with gr.Accordion("Advanced", open=False, visible=bool(groups)):
            self.named |= self._controls(groups)
        self.named = {name: self.named[name] for name in recipe.model_fields}  # In the order of the fields, wherever they are.
        self.controls = list(self.named.values())
        self.extras = [self.extras[role] for role in recipe.extras]
        self.go = gr.Button(recipe.action, variant="primary")
        self.forecast = Forecast(recipe, self.engine.estimate, self.engine.memory_left)
        self.link = CopyLink()

    def _controls(self, groups: Sequence[str]) -> dict[str, gr.components.Component]:
        """The controls of some groups, each under its title, with the pictures that belong there."""
        made = {}
        for title in groups:
            if title:
                gr.Markdown(title, elem_classes="group")
            for name, field in self.recipe.model_fields.items():
                if group(field) == title:
                    made[name] = control(name, field)
                    if (name,) == self.recipe.sweep_fields[:1]:
                        self.which = gr.Button(self.recipe.sweep_action, size="sm", elem_classes="quiet")
            for role in self.recipe.extras:
                if BESIDE.get(role) == title:
                    self.extras[role] = self._picture(role, self.recipe.extras[role], height=180)
        return made

    def _picture(self, role: str, meaning: str, **options: Any) -> gr.Image:
        return gr.Image(
            label=label(role), type="filepath", image_mode=None, format="png",
            sources=["upload", "clipboard", "webcam"], webcam_options=gr.WebcamOptions(mirror=False), buttons=[],
            alt_text=meaning, elem_id=f"{self.recipe.name}_{role}", min_width=140, **options,
        )  # fmt: skip

    def _result(self) -> None:
        with gr.Column(elem_id=f"{self.recipe.name}_result", elem_classes="result"):
            self.status = gr.HTML(line(text.READY if self.recipe.images else text.READY_WITHOUT), elem_classes="status")
            shared = {"height": 480, "interactive": False, "elem_classes": "view"}
            self.view = gr.Image(label="Result", format="jpeg", buttons=[], alt_text="The picture so far.", **shared)
            self.compare = self._final(shared)
            self.measures = gr.HTML(visible=False, elem_classes="measures")
            self.stop = gr.Button("Stop", variant="stop", visible=False)  # Here, since on a phone the controls are out of sight.
            self.download = gr.DownloadButton(f"Download {self.FILE}", interactive=False)
            self._onward()
        self.earlier = gr.Gallery(
            label="Earlier results", columns=4, height=180, fit_columns=False, interactive=False, visible=False,
            allow_preview=False, buttons=[], elem_id=f"{self.recipe.name}_earlier",
        )  # fmt: skip
        self.sheet = Sheet(self.recipe, self.engine, self.which) if self.recipe.sweep_fields else None
        self.latest = gr.State()
        self.kept = gr.State([])
        self.turn = gr.State(Turn())

    def _onward(self) -> None:
        """Where a result can go from here: back to the start, or to another recipe."""
        with gr.Row(visible=False, elem_classes="onward") as self.onward:
            self.again = gr.Button("Use as input", size="sm", min_width=120) if self.recipe.images else None
            self.refine = gr.Button("Refine larger", size="sm", min_width=120, visible="start" in self.recipe.extras)
            others = [recipe for recipe in RECIPES.values() if recipe is not self.recipe and recipe.images]
            self.ways = {o.name: gr.Button(f"Send to {o.title}", size="sm", min_width=120) for o in others}

    def _final(self, shared: dict[str, Any]) -> gr.components.Component:
        """What shows a run that is over."""
        return gr.ImageSlider(
            label="Before and after", format="png", max_height=480, buttons=["fullscreen"], visible=False, **shared
        )

    def _events(self, buttons: Sequence[tuple[gr.Button, Example]]) -> None:
        at_once = {"queue": False, **BEHIND_THE_PAGE}
        scrolled = at_once | {"js": SHOW_RESULT.format(self.recipe.name)}
        outputs = self._shown()
        # "multiple", since a run that is being stopped would otherwise swallow the click that starts the next one.
        run = {
            "fn": self.start,
            "inputs": [*self.pictures, *self.controls, *self.extras, self.latest, self.kept, self.turn],
            "outputs": outputs,
            "preprocess": False,
            "trigger_mode": "multiple",
        } | RUNS_AT_ONCE | BEHIND_THE_PAGE  # fmt: skip

        editors = [self.painting.editor] if self.painting else []
        runs = [self.go.click(self.asked, editors, [*self.extras, *outputs], **scrolled).then(**run)]
        if "start" in self.recipe.extras:
            size = self.named["size"]
            refined = self.refine.click(self.refined, [self.latest, *editors], [*self.extras, size, *outputs], **scrolled)
            runs.append(refined.then(**run))
        for button, example in buttons:
            filled = button.click(partial(self.filled, example), outputs=[*self._filled(), *outputs], **scrolled)
            runs.append(filled.then(**run))
        for button, _ in buttons:
            button.click(None, cancels=runs)  # An example takes the place of the run under way, whose picture is kept.
        stopped = self.stop.click(None, cancels=runs).then(self.stopped, [self.latest, self.turn], outputs, **at_once)

        self.steering_hint = ""
        if followed := live(self.recipe) if self.engine.within_reach else []:
            self.steering_hint = f"{enumeration(label(name) for name in followed)} can be changed while it works."
        for slider in (self.named[name] for name in live(self.recipe)):
            moved = [slider.input, slider.release]  # Reset, it is only released.
            gr.on(moved, self.steered, [*self.controls, self.turn], trigger_mode="always_last", **at_once)
        if self.again:
            self.again.click(self.received, self.latest, [self.pictures[0], *self.origin.outputs], **at_once)
        self.earlier.select(self.back, [self.latest, self.kept, self.turn], outputs, **at_once)
        self._disabling()
        self.looks.events(self.named)
        self.forecast.events(self.pictures[:1], self.named, [*runs, stopped])
        if self.painting:
            self.painting.events()
        if self.sheet:
            paint = {
                "fn": lambda *painted_on: self.masks(*painted_on) or None,
                "inputs": editors,
                "outputs": self.extras,
            } | at_once
            self.sheet.events(self.pictures, self.named, self.extras, paint)

    def _disabling(self) -> None:
        """Disable what has no effect, by the recipe's rules, when the page opens and whenever what decides changes."""
        if deciding := self.deciding:
            gr.on(
                None, self.disabled, list(deciding.values()), [self.parts[name] for name in self.concerned],
                queue=False, preprocess=False, trigger_mode="multiple", **BEHIND_THE_PAGE,
            )  # fmt: skip

    @property
    def parts(self) -> dict[str, gr.components.Component]:
        """The controls and the optional pictures, by name."""
        return self.named | dict(zip(self.recipe.extras, self.extras, strict=True))

    @property
    def concerned(self) -> list[str]:
        """The names of what can have no effect."""
        return list(dict.fromkeys(name for rule in self.recipe.rules for name in rule.unused))

    @property
    def deciding(self) -> dict[str, gr.components.Component]:
        """What the recipe's rules ask for, by name. A mask counts as given while the picture is open for painting."""
        painted = {"mask": self.painting.of} if self.painting else {}
        return {name: (self.parts | painted)[name] for rule in self.recipe.rules for name in [rule.beside or rule.without]}

    def disabled(self, *values: Any) -> dict:
        """How every control and picture looks that a rule is about, where what decides has these values."""
        known = dict(zip(self.deciding, values, strict=True))
        unused = self.recipe.unused(known, [name for name in self.recipe.extras if known.get(name) is not None])
        changes = {}
        for name in self.concerned:
            field = self.recipe.model_fields.get(name)
            texts = {"info": field.description} if field else {"label": label(name)}
            changes[self.parts[name]] = enabled_unless(unused.get(name), **texts)
        return changes

    def _passed_on(self) -> None:
        """Settings that leave as a link, and that come with a picture."""
        at_once = {"queue": False, **BEHIND_THE_PAGE}
        changed = [*self.origin.outputs, *self.settable]
        self.link.events(self.recipe, self.named)
        for picture in self.pictures:
            picture.upload(self.dropped, [picture, *self.controls], changed, preprocess=False, **at_once)
            picture.clear(self.origin.closed, None, self.origin.outputs, **at_once)
        for picture in (*self.pictures, *self.extras):
            picture.upload(showable, picture, picture, preprocess=False, **at_once)
        self.origin.undo.click(self.undone, self.origin.recipe, changed, **at_once)

    def _shown(self) -> list[gr.components.Component]:
        """What a run may change."""
        result = [self.view, self.compare, self.measures, self.status, self.download, self.onward, self.earlier]
        return [*result, self.go, self.stop, self.latest, self.kept]

    def _filled(self) -> list[gr.components.Component]:
        """What an example fills."""
        inputs = [*self.pictures, *self.extras, *self.settable, *self.origin.outputs]
        return [*inputs, *self.painting.outputs] if self.painting else inputs

    def _endpoint(self) -> None:
        """For programs: the recipe's own name (and earlier ones) and parameters, one result out."""
        inputs = [*self.pictures, *self.controls, *self.extras]
        for address in addresses(self.recipe.name):
            endpoint = named_after(self.recipe, self._answers, address["api_name"])
            gr.Button(visible=False).click(endpoint, inputs, self._answer(), preprocess=False, **address, **RUNS_AT_ONCE)

    def _answer(self) -> gr.components.Component:
        """What programs get: lossless."""
        return gr.Image(label="Result", format="png", visible=False)

    def _answers(self, sent: Sequence[Any]) -> Iterator[Any]:
        """What goes into `_answer` in the course of a run."""
        recipe, pictures = self._checked(sent)
        for _ in self.engine.prepare(recipe, **pictures):
            yield None  # A run can be cancelled wherever it yields.
        for preview in self.engine.run(recipe, **pictures):
            yield preview.picture

    def _checked(self, sent: Sequence[Any]) -> tuple[Recipe, dict[str, Image.Image]]:
        recipe, pictures = checked(self.recipe, sent)
        mention_stretching(pictures)
        return recipe, pictures

    def _shots(
        self, recipe: Recipe, pictures: Mapping[str, Image.Image], source: str | None, **steering: Callable[[], Recipe]
    ) -> Iterator[tuple[Preview, Shot]]:
        """The previews of a run, each with what the page keeps of it. `source`: the file of the first picture."""
        for preview in self.engine.run(recipe, **pictures, **steering):
            yield preview, Shot(recipe, preview, source)

    def steered(self, *values: Any) -> None:
        """A control was moved that a run under way can follow."""
        *values, turn = values
        if turn.busy and not self.engine.within_reach:
            gr.Info("This takes effect in the next run.")
        elif turn.busy:
            with suppress(FeatvizError):  # A number half typed; the run goes on as it was.
                turn.wanted = recipe_of(self.recipe, values)

    def filled(self, example: Example) -> dict:
        """An example in the inputs, about to run."""
        files = [example.pictures.get(role) for role in (*self.recipe.images, *self.recipe.extras)]
        chosen = {picture: file and str(file) for picture, file in zip([*self.pictures, *self.extras], files, strict=True)}
        painting = self.painting.closed() if self.painting else {}
        return chosen | painting | self.set(example.recipe) | self.origin.closed() | self.waiting()

    def set(self, recipe: Recipe) -> dict:
        """The settings of a recipe, wherever they come from."""
        return {self.named[name]: value for name, value in recipe} | self.looks.replaced(recipe)

    @property
    def settable(self) -> list[gr.components.Component]:
        """What `set` sets."""
        return [*self.controls, *self.looks.outputs, self.looks.finish]

    def dropped(self, sent: Mapping[str, Any] | None, *values: Any) -> dict:
        """A picture was chosen. One that was made here brings its settings along."""
        said, recipe = self.origin.found(self.recipe, sent, values)
        return said | (self.set(recipe) if recipe else {})

    def undone(self, before: Recipe) -> dict:
        """The settings before it did."""
        return self.set(before) | self.origin.closed()

    def received(self, shot: Shot) -> dict:
        """A result as the first picture. It keeps the settings that are there."""
        return {self.pictures[0]: shot.file()} | self.origin.closed()

    def asked(self, editor: Mapping[str, Any] | None = None) -> dict:
        """A run was asked for. What has been painted by now is its mask; no result is gone on from."""
        starts = {picture: None for role, picture in zip(self.recipe.extras, self.extras, strict=True) if role == "start"}
        return starts | self.masks(editor) | self.waiting()

    def refined(self, shot: Shot, editor: Mapping[str, Any] | None = None) -> dict:
        """A run was asked for that goes on from a result at double its size, as far as sizes go."""
        _, most = bounds(self.recipe.model_fields["size"])
        start = self.extras[list(self.recipe.extras).index("start")]
        return self.asked(editor) | {start: shot.file(), self.named["size"]: min(2 * shot.recipe.size, int(most))}

    def masks(self, editor: Mapping[str, Any] | None = None) -> dict:
        """What has been painted in the editor, as the recipe takes it."""
        return {picture: painted(editor) for role, picture in zip(self.recipe.extras, self.extras, strict=True) if role == "mask"}

    def waiting(self) -> dict:
        """What the page shows from the click until the run has its turn."""
        return {
            self.status: line("Waiting for its turn…", 0),
            self.go: gr.update(interactive=False),
            self.stop: gr.update(visible=True),
            self.download: gr.update(visible=False),
            self.onward: gr.update(visible=False),
        }

    def start(self, *values: Any) -> Iterator[dict]:
        """What the page shows of a run. Whatever goes wrong, the latest picture comes back, and another run can start."""
        *sent, latest, kept, turn = values
        mine, shot = turn.take(), latest
        try:
            recipe, pictures = self._checked(without_disabled(self.recipe, sent))
            yield {self.status: line("Getting ready…", 0)}
            for download in self.engine.prepare(recipe, **pictures):
                if turn.number != mine:
                    yield {self.status: gr.skip()}
                    return
                yield {self.status: arriving(download)}
            steering = {"steer": lambda: turn.wanted or recipe} if self.steering_hint else {}
            source = file_of(sent[0]) if recipe.images else None
            for preview, now in self._shots(recipe, pictures, source, **steering):
                if turn.number != mine:
                    yield {self.status: gr.skip()}  # Gradio shows what was yielded last once more.
                    return
                first, shot, picture = shot is latest, now, preview.picture.convert("RGB")
                changes = {self.view: picture, self.status: progress(preview), self.latest: shot}
                changes |= self.measured(preview, self.steering_hint)
                if first:  # Until now the last result was in sight; from now on it is among the earlier ones.
                    changes |= {self.view: gr.update(value=picture, visible=True), self.compare: gr.update(visible=False)}
                    changes |= self.keeping(latest, kept)
                yield changes
        except gr.Error as error:
            yield self.finished(shot) | {self.status: line(error.message)}
            raise
        finally:
            if turn.number == mine:
                turn.rest()
            if shot is not latest:
                with suppress(gr.Error):  # The disk is full: the picture stays in memory.
                    shot.file()
        yield self.finished(shot)

    def stopped(self, latest: Shot | None, turn: Turn) -> dict:
        turn.rest()
        return self.finished(latest)

    def finished(self, shot: Shot | None) -> dict:
        """What the page shows when a run is over: the latest picture beside the one it was made of, if there is one yet."""
        idle = {self.go: gr.update(interactive=True), self.stop: gr.update(visible=False)}
        if shot is None:
            return idle | {self.status: line("Stopped before the first step."), self.download: gr.update(visible=True)}
        try:
            return idle | self.result(shot)
        except gr.Error as error:  # The file cannot be written; the picture stays in sight.
            return idle | {self.status: line(error.message)}

    def result(self, shot: Shot) -> dict:
        """A result, and what can be done with it."""
        return {
            self.view: gr.update(visible=False),
            self.compare: gr.update(value=shot.shown(), visible=True),
            self.status: line(shot.outcome),
            self.download: gr.update(value=shot.file(), visible=True, interactive=True),
            self.onward: gr.update(visible=True),
        } | self.measured(shot)

    def measured(self, run: Preview | Shot, hint: str = "") -> dict:
        """The numbers of a run, where it has any."""
        return {self.measures: gr.update(value=bars(run.measures, hint), visible=True)} if run.measures else {}

    def keeping(self, latest: Shot | None, kept: Sequence[Shot]) -> dict:
        """The result that was in sight is among the earlier ones from now on, once. Those that were deleted leave."""
        if latest is None or latest in kept:
            return {}
        kept = within([shot for shot in (latest, *kept) if shot.exists][:EARLIER_KEPT], EARLIER_PIXELS)
        strip = [(shot.file(), caption(shot.recipe)) for shot in kept]
        return {self.kept: kept, self.earlier: gr.update(value=strip, visible=True, selected_index=None)}

    def back(self, latest: Shot, kept: Sequence[Shot], turn: Turn, event: gr.SelectData) -> dict:
        """An earlier result in sight again; the one that was there joins the others."""
        if turn.busy:
            gr.Info("Earlier results can be opened again when this run is over.")
            return {self.status: gr.skip()}
        shot = kept[event.index]
        return self.result(shot) | {self.latest: shot} | self.keeping(latest, kept)


def within(shots: Sequence[Shot], pixels: int) -> list[Shot]:
    """The first ones, as many as have no more pixels together, and at least one."""
    total = accumulate(math.prod(shot.size) for shot in shots)
    return [shot for shot, so_far in zip(shots, total, strict=True) if so_far <= pixels] or list(shots[:1])
