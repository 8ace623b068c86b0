"""The tab of a recipe: inputs on the left, the result on the right, and the recipe's API endpoint."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import accumulate
from typing import Any

import gradio as gr
from gradio.events import Dependency
from PIL import Image

from featviz.errors import FeatvizError
from featviz.recipes.presets import Example, Preset
from featviz.recipes.recipe import Recipe, bounds, group, live
from featviz.recipes.table import RECIPES
from featviz.runtime.stream import Preview
from featviz.ui import text
from featviz.ui.controls import (
    caption,
    control,
    enabled_unless,
    enumeration,
    label,
    lower_first,
    recipe_of,
)
from featviz.ui.forecast import Forecast
from featviz.ui.links import CopyLink, Origin
from featviz.ui.masks import Painting, mention_stretching, painted
from featviz.ui.measures import bars
from featviz.ui.presets import PresetCards, example_cards
from featviz.ui.running import (
    PAGE_EVENT,
    RUN_QUEUE,
    Engine,
    Result,
    RunState,
    displayable,
    download_line,
    file_of,
    progress_line,
    status_line,
    validate_request,
    without_disabled,
)
from featviz.ui.sheet import Sheet

EARLIER_COUNT, EARLIER_PIXELS = 8, 16_000_000
"""Most earlier results in the gallery, and most pixels of all of them together: the browser loads them all."""

BESIDE = {"guide": "What", "style2": "Style"}
"""Optional picture → the group of controls that it stands in. The others have no box: a mask is painted, a start is a result."""

SHOW_RESULT = """(...values) => {{
    setTimeout(() => document.querySelector("#{}_result")?.scrollIntoView({{behavior: "smooth", block: "nearest"}}), 100);
    return values;
}}"""
"""On a phone the result is below the controls, out of sight. Delayed, because Gradio builds a tab when it is first opened."""


class Tab:
    """Inputs on the left, the result on the right, examples that run on one click, and the endpoint of the same name."""

    FILE = "PNG"

    def __init__(self, recipe: type[Recipe], engine: Engine, examples: Sequence[Example], presets: Sequence[Preset] = ()):
        self.recipe = recipe
        self.engine = engine
        gr.Markdown(recipe.__doc__.splitlines()[0], elem_classes="lead")
        with gr.Row(equal_height=False):
            with gr.Column(scale=5, min_width=320):
                buttons = self._examples(examples)
                self._inputs(presets)
            with gr.Column(scale=6, min_width=320):
                self._build_result()
                with gr.Accordion("How it works", elem_classes="prose-block"):
                    gr.Markdown(recipe.explanation)
        self._events(buttons)
        self._passed_on()

    def _examples(self, examples: Sequence[Example]) -> list[tuple[gr.Button, Example]]:
        gr.Markdown("Click an example to run it:", elem_classes="hint", visible=bool(examples))
        with gr.Row(elem_classes="examples"):
            return list(zip(example_cards(examples), examples, strict=True))

    def _inputs(self, presets: Sequence[Preset]) -> None:
        recipe = self.recipe
        with gr.Row():
            height = 240 if len(recipe.images) > 1 else 280
            self.pictures = [self._picture(role, meaning, height=height) for role, meaning in recipe.images.items()]
        self.origin = Origin()
        self.painting = Painting(self.pictures[0], recipe) if "mask" in recipe.optional_images else None
        self.presets = PresetCards(recipe, presets)
        self.named = self._controls([""])
        self.extras = {
            role: self._picture(role, recipe.optional_images[role], visible="hidden")
            for role in recipe.optional_images
            if role not in BESIDE
        }
        groups = list(dict.fromkeys(group(field) for field in recipe.model_fields.values() if group(field)))
        with gr.Accordion("Advanced", open=False, visible=bool(groups)):
            self.named |= self._controls(groups)
        self.named = {name: self.named[name] for name in recipe.model_fields}  # In the order of the fields.
        self.controls = list(self.named.values())
        self.extras = [self.extras[role] for role in recipe.optional_images]
        self.start_button = gr.Button(recipe.action, variant="primary")
        self.forecast = Forecast(recipe, self.engine.estimate, self.engine.memory_left)
        self.link = CopyLink()

    def _controls(self, groups: Sequence[str]) -> dict[str, gr.components.Component]:
        """Build the controls of some groups, each under its title, with the pictures of that group."""
        made = {}
        for title in groups:
            if title:
                gr.Markdown(title, elem_classes="group")
            for name, field in self.recipe.model_fields.items():
                if group(field) == title:
                    made[name] = control(name, field)
                    if (name,) == self.recipe.sweep_fields[:1]:
                        self.sweep_button = gr.Button(self.recipe.sweep_action, size="sm", elem_classes="quiet")
            for role in self.recipe.optional_images:
                if BESIDE.get(role) == title:
                    self.extras[role] = self._picture(role, self.recipe.optional_images[role], height=180)
        return made

    def _picture(self, role: str, meaning: str, **options: Any) -> gr.Image:
        return gr.Image(
            label=label(role), type="filepath", image_mode=None, format="png",
            sources=["upload", "clipboard", "webcam"], webcam_options=gr.WebcamOptions(mirror=False), buttons=[],
            alt_text=meaning, elem_id=f"{self.recipe.name}_{role}", min_width=140, **options,
        )  # fmt: skip

    def _build_result(self) -> None:
        with gr.Column(elem_id=f"{self.recipe.name}_result", elem_classes="result"):
            self.status = gr.HTML(status_line(text.READY if self.recipe.images else text.READY_WITHOUT), elem_classes="status")
            shared = {"height": 480, "interactive": False, "elem_classes": "view"}
            self.view = gr.Image(label="Result", format="jpeg", buttons=[], alt_text="The picture so far.", **shared)
            self.compare = self._final_view(shared)
            self.measures = gr.HTML(visible=False, elem_classes="measures")
            self.stop_button = gr.Button(
                "Stop", variant="stop", visible=False
            )  # Beside the result, because on a phone the controls are out of sight.
            self.download = gr.DownloadButton(f"Download {self.FILE}", interactive=False)
            self._build_follow_ups()
        self.earlier_gallery = gr.Gallery(
            label="Earlier results", columns=4, height=180, fit_columns=False, interactive=False, visible=False,
            allow_preview=False, buttons=[], elem_id=f"{self.recipe.name}_earlier",
        )  # fmt: skip
        self.sheet = Sheet(self.recipe, self.engine, self.sweep_button) if self.recipe.sweep_fields else None
        self.latest = gr.State()
        self.earlier_results = gr.State([])
        self.run_state = gr.State(RunState())

    def _build_follow_ups(self) -> None:
        """Build the buttons that use a result as an input: of this recipe or of another one."""
        with gr.Row(visible=False, elem_classes="onward") as self.follow_ups:
            self.reuse_button = gr.Button("Use as input", size="sm", min_width=120) if self.recipe.images else None
            self.refine_button = gr.Button(
                "Refine larger", size="sm", min_width=120, visible="start" in self.recipe.optional_images
            )
            others = [recipe for recipe in RECIPES.values() if recipe is not self.recipe and recipe.images]
            self.send_buttons = {other.name: gr.Button(f"Send to {other.title}", size="sm", min_width=120) for other in others}

    def _final_view(self, shared: dict[str, Any]) -> gr.components.Component:
        """Build the component that shows the final result."""
        return gr.ImageSlider(
            label="Before and after", format="png", max_height=480, buttons=["fullscreen"], visible=False, **shared
        )

    def _events(self, buttons: Sequence[tuple[gr.Button, Example]]) -> None:
        immediate = {"queue": False, **PAGE_EVENT}
        scrolled = immediate | {"js": SHOW_RESULT.format(self.recipe.name)}
        outputs = self._run_outputs()
        # "multiple": otherwise a run that is stopping would swallow the click that starts the next one.
        run = {
            "fn": self.start,
            "inputs": [*self.pictures, *self.controls, *self.extras, self.latest, self.earlier_results, self.run_state],
            "outputs": outputs,
            "preprocess": False,
            "trigger_mode": "multiple",
        } | RUN_QUEUE | PAGE_EVENT  # fmt: skip

        self.run = run
        editors = [self.painting.editor] if self.painting else []
        runs = [self.start_button.click(self.prepare_run, editors, [*self.extras, *outputs], **scrolled).then(**run)]
        if "start" in self.recipe.optional_images:
            size = self.named["size"]
            refined = self.refine_button.click(
                self.prepare_refinement, [self.latest, *editors], [*self.extras, size, *outputs], **scrolled
            )
            runs.append(refined.then(**run))
        for button, example in buttons:
            filled = button.click(partial(self.fill_example, example), outputs=[*self._example_outputs(), *outputs], **scrolled)
            runs.append(filled.then(**run))
        for button, _ in buttons:
            button.click(None, cancels=runs)  # An example replaces the run under way, whose picture is kept.
        stopped = self.stop_button.click(None, cancels=runs).then(
            self.stop_run, [self.latest, self.run_state], outputs, **immediate
        )

        self.steering_hint = ""
        if names := live(self.recipe) if self.engine.in_process else []:
            self.steering_hint = f"You can change {lower_first(enumeration(label(name) for name in names))} during the run."
        for slider in (self.named[name] for name in live(self.recipe)):
            moved = [slider.input, slider.release]  # The reset button fires `release` only.
            gr.on(moved, self.steer, [*self.controls, self.run_state], trigger_mode="always_last", **immediate)
        if self.reuse_button:
            self.reuse_button.click(self.use_as_input, self.latest, [self.pictures[0], *self.origin.outputs], **immediate)
        self.earlier_gallery.select(self.show_earlier, [self.latest, self.earlier_results, self.run_state], outputs, **immediate)
        self._disabling()
        self.presets.events(self.named)
        files = dict(zip([*self.recipe.images, *self.recipe.optional_images], [*self.pictures, *self.extras], strict=True))
        self.forecast.events(files, self.named, [*runs, stopped], self.painting.source if self.painting else None)
        if self.painting:
            self.painting.events()
        if self.sheet:
            paint = {
                "fn": lambda *painted_on: self.masks(*painted_on) or None,
                "inputs": editors,
                "outputs": self.extras,
            } | immediate
            self.sheet.events(self.pictures, self.named, self.extras, paint)

    def start_after(self, event: Dependency) -> None:
        """Start a run after an event of another tab has set the controls. Stop ends it at its next step."""
        prepared = event.then(
            self.prepare_run, None, [*self.extras, *self._run_outputs()], queue=False,
            js=SHOW_RESULT.format(self.recipe.name), **PAGE_EVENT,
        )  # fmt: skip
        prepared.then(**self.run)

    def _disabling(self) -> None:
        """Disable the controls that have no effect, by the recipe's rules, when the page opens and when an input of a rule changes."""
        if deciding := self.rule_inputs:
            gr.on(
                None, self.disable_unused, list(deciding.values()), [self.parts[name] for name in self.disableable],
                queue=False, preprocess=False, trigger_mode="multiple", **PAGE_EVENT,
            )  # fmt: skip

    @property
    def inputs(self) -> dict[str, gr.components.Component]:
        """The pictures and the controls, by name."""
        return dict(zip(self.recipe.images, self.pictures, strict=True)) | self.parts

    @property
    def parts(self) -> dict[str, gr.components.Component]:
        """The controls and the optional pictures, by name."""
        return self.named | dict(zip(self.recipe.optional_images, self.extras, strict=True))

    @property
    def disableable(self) -> list[str]:
        """The names of the controls and pictures that a rule can disable."""
        return list(dict.fromkeys(name for rule in self.recipe.rules for name in rule.unused))

    @property
    def rule_inputs(self) -> dict[str, gr.components.Component]:
        """The inputs of the recipe's rules, by name. A mask counts as given while the picture is open for painting."""
        painted = {"mask": self.painting.source} if self.painting else {}
        return {name: (self.parts | painted)[name] for rule in self.recipe.rules for name in [rule.beside or rule.without]}

    def disable_unused(self, *values: Any) -> dict:
        """Enable or disable every control and picture in `disableable`. `values` are those of `rule_inputs`."""
        known = dict(zip(self.rule_inputs, values, strict=True))
        unused = self.recipe.unused(known, [name for name in self.recipe.optional_images if known.get(name) is not None])
        changes = {}
        for name in self.disableable:
            field = self.recipe.model_fields.get(name)
            texts = {"info": field.description} if field else {"label": label(name)}
            changes[self.parts[name]] = enabled_unless(unused.get(name), **texts)
        return changes

    def _passed_on(self) -> None:
        """Connect the link with the settings, and restore the settings of a picture that featviz made."""
        immediate = {"queue": False, **PAGE_EVENT}
        changed = [*self.origin.outputs, *self.settable]
        self.link.events(self.recipe, self.named)
        for picture in self.pictures:
            picture.upload(self.restore_settings, [picture, *self.controls], changed, preprocess=False, **immediate)
            picture.clear(self.origin.closed, None, self.origin.outputs, **immediate)
        for picture in (*self.pictures, *self.extras):
            picture.upload(displayable, picture, picture, preprocess=False, **immediate)
        self.origin.undo.click(self.undo_restore, self.origin.recipe, changed, **immediate)

    def _run_outputs(self) -> list[gr.components.Component]:
        """The components that a run may change."""
        shown = [self.view, self.compare, self.measures, self.status, self.download, self.follow_ups, self.earlier_gallery]
        return [*shown, self.start_button, self.stop_button, self.latest, self.earlier_results]

    def _example_outputs(self) -> list[gr.components.Component]:
        """The components that an example fills."""
        inputs = [*self.pictures, *self.extras, *self.settable, *self.origin.outputs]
        return [*inputs, *self.painting.outputs] if self.painting else inputs

    def _validate(self, sent: Sequence[Any]) -> tuple[Recipe, dict[str, Image.Image]]:
        recipe, pictures = validate_request(self.recipe, sent)
        mention_stretching(pictures)
        return recipe, pictures

    def _run_results(
        self, recipe: Recipe, pictures: Mapping[str, Image.Image], source: str | None, **steering: Callable
    ) -> Iterator[tuple[Preview, Result]]:
        """Yield the previews of a run, each with the result so far. `source`: the file of the first picture."""
        for preview in self.engine.run(recipe, **pictures, **steering):
            yield preview, Result(recipe, preview, source)

    def steer(self, *values: Any) -> None:
        """Pass the new settings to the run under way, if it can take them."""
        *values, state = values
        if state.busy and not self.engine.in_process:
            gr.Info("This change takes effect in the next run.")
        elif state.busy:
            with suppress(FeatvizError):  # A number is half typed: keep the settings.
                state.settings = recipe_of(self.recipe, values)

    def fill_example(self, example: Example) -> dict:
        """Put an example into the inputs, before its run."""
        files = [example.pictures.get(role) for role in (*self.recipe.images, *self.recipe.optional_images)]
        chosen = {picture: file and str(file) for picture, file in zip([*self.pictures, *self.extras], files, strict=True)}
        painting = self.painting.closed() if self.painting else {}
        return chosen | painting | self.set(example.recipe) | self.origin.closed() | self.show_waiting()

    def set(self, recipe: Recipe) -> dict:
        """Set the controls to a recipe."""
        return {self.named[name]: value for name, value in recipe} | self.presets.replaced(recipe)

    @property
    def settable(self) -> list[gr.components.Component]:
        """The components that `set` changes."""
        return [*self.controls, *self.presets.outputs, self.presets.finish]

    def restore_settings(self, sent: Mapping[str, Any] | None, *values: Any) -> dict:
        """Restore the settings of an uploaded picture that featviz made."""
        message, recipe = self.origin.read_settings(self.recipe, sent, values)
        return message | (self.set(recipe) if recipe else {})

    def undo_restore(self, before: Recipe) -> dict:
        """Bring back the settings from before `restore_settings`."""
        return self.set(before) | self.origin.closed()

    def use_as_input(self, result: Result) -> dict:
        """Use a result as the first picture, with the current settings."""
        return {self.pictures[0]: result.file()} | self.origin.closed()

    def prepare_run(self, editor: Mapping[str, Any] | None = None) -> dict:
        """Prepare a run: take the painted mask, and start from no earlier result."""
        starts = {
            picture: None for role, picture in zip(self.recipe.optional_images, self.extras, strict=True) if role == "start"
        }
        return starts | self.masks(editor) | self.show_waiting()

    def prepare_refinement(self, result: Result, editor: Mapping[str, Any] | None = None) -> dict:
        """Prepare a run that continues from a result at double its size, up to the greatest size."""
        _, greatest = bounds(self.recipe.model_fields["size"])
        start = self.extras[list(self.recipe.optional_images).index("start")]
        return self.prepare_run(editor) | {start: result.file(), self.named["size"]: min(2 * result.recipe.size, int(greatest))}

    def masks(self, editor: Mapping[str, Any] | None = None) -> dict:
        """The painted mask by picture component; empty for a recipe without a mask."""
        return {
            picture: painted(editor)
            for role, picture in zip(self.recipe.optional_images, self.extras, strict=True)
            if role == "mask"
        }

    def show_waiting(self) -> dict:
        """Show that the run waits in the queue."""
        return {
            self.status: status_line("Waiting in the queue…", 0),
            self.start_button: gr.update(interactive=False),
            self.stop_button: gr.update(visible=True),
            self.download: gr.update(visible=False),
            self.follow_ups: gr.update(visible=False),
        }

    def start(self, *values: Any) -> Iterator[dict]:
        """Run the recipe and yield updates of the page. After an error the latest picture is shown, and another run can start."""
        *sent, latest, earlier, state = values
        number, result = state.begin(), latest
        try:
            recipe, pictures = self._validate(without_disabled(self.recipe, sent))
            yield {self.status: status_line("Getting ready…", 0)}
            for download in self.engine.prepare(recipe, **pictures):
                if state.number != number:
                    yield {self.status: gr.skip()}
                    return
                yield {self.status: download_line(download)}
            steering = {"steer": lambda: state.settings or recipe} if self.steering_hint else {}
            if self.engine.in_process:
                steering["stopped"] = lambda: state.number != number
            source = file_of(sent[0]) if recipe.images else None
            for preview, current in self._run_results(recipe, pictures, source, **steering):
                if state.number != number:
                    yield {self.status: gr.skip()}  # Gradio shows the last update once more.
                    return
                first, result, picture = result is latest, current, preview.picture.convert("RGB")
                changes = {self.view: picture, self.status: progress_line(preview), self.latest: result}
                changes |= self.show_measures(preview, self.steering_hint)
                if first:  # Move the previous result to the gallery.
                    changes |= {self.view: gr.update(value=picture, visible=True), self.compare: gr.update(visible=False)}
                    changes |= self.keep_earlier(latest, earlier)
                yield changes
        except gr.Error as error:
            yield self.show_finished(result) | {self.status: status_line(error.message)}
            raise
        finally:
            if state.number == number:
                state.end()
            if result is not latest:
                with suppress(gr.Error):  # The disk is full. The picture stays in memory.
                    result.file()
        yield self.show_finished(result)

    def stop_run(self, latest: Result | None, state: RunState) -> dict:
        """Stop the current run and show its latest picture."""
        state.end()
        return self.show_finished(latest)

    def show_finished(self, result: Result | None) -> dict:
        """Show the end of a run: the latest picture beside its source, if there is one yet."""
        idle = {self.start_button: gr.update(interactive=True), self.stop_button: gr.update(visible=False)}
        if result is None:
            return idle | {self.status: status_line("Stopped before the first step."), self.download: gr.update(visible=True)}
        try:
            return idle | self.show_result(result)
        except gr.Error as error:  # The file cannot be written. The preview stays visible.
            return idle | {self.status: status_line(error.message)}

    def show_result(self, result: Result) -> dict:
        """Show a result and the buttons for it."""
        return {
            self.view: gr.update(visible=False),
            self.compare: gr.update(value=result.shown(), visible=True),
            self.status: status_line(result.outcome),
            self.download: gr.update(value=result.file(), visible=True, interactive=True),
            self.follow_ups: gr.update(visible=True),
        } | self.show_measures(result)

    def show_measures(self, run: Preview | Result, hint: str = "") -> dict:
        """Show the measures of a run, if it has any."""
        return {self.measures: gr.update(value=bars(run.measures, hint), visible=True)} if run.measures else {}

    def keep_earlier(self, latest: Result | None, earlier: Sequence[Result]) -> dict:
        """Add the previous result to the gallery, once, and remove results whose files were deleted."""
        if latest is None or latest in earlier:
            return {}
        earlier = limit_pixels([result for result in (latest, *earlier) if result.exists][:EARLIER_COUNT], EARLIER_PIXELS)
        strip = [(result.file(), caption(result.recipe)) for result in earlier]
        return {self.earlier_results: earlier, self.earlier_gallery: gr.update(value=strip, visible=True, selected_index=None)}

    def show_earlier(self, latest: Result, earlier: Sequence[Result], state: RunState, event: gr.SelectData) -> dict:
        """Show an earlier result, and add the current one to the gallery."""
        if state.busy:
            gr.Info("You can open earlier results when this run is over.")
            return {self.status: gr.skip()}
        result = earlier[event.index]
        return self.show_result(result) | {self.latest: result} | self.keep_earlier(latest, earlier)


def limit_pixels(results: Sequence[Result], pixels: int) -> list[Result]:
    """Return as many of the first results as have at most `pixels` together, and at least one."""
    total = accumulate(math.prod(result.size) for result in results)
    return [result for result, so_far in zip(results, total, strict=True) if so_far <= pixels] or list(results[:1])
