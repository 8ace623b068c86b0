"""The result panel: whichever run is meant, its preview, its result, and what can be done with it."""

import time
from dataclasses import replace
from html import escape
from typing import Any

import gradio as gr

from featviz.errors import FeatvizError
from featviz.media.video import is_video
from featviz.recipes import metadata, presets
from featviz.recipes.presets import Example
from featviz.recipes.recipe import Recipe, live
from featviz.runtime.estimate import duration
from featviz.runtime.jobs import Job, Result, Update
from featviz.runtime.result_files import before, film_of, has_film, small
from featviz.runtime.scheduler import Waiting
from featviz.runtime.stream import Part, Preview
from featviz.ui import text
from featviz.ui.cards import Card, Cards, drawn
from featviz.ui.controls import caption, enumeration, label, lower_first
from featviz.ui.instruments.atlas import AtlasBox
from featviz.ui.measures import bars
from featviz.ui.runs import Gallery, Runs, compares_results
from featviz.ui.serving.errors import error_sentences
from featviz.ui.serving.files import address, data_url_of, in_cache

ENTRIES = 12
"""Results in the history of a browser."""

PREMADE = tuple(str(presets.FOLDER / "premade" / name) for name in ("before.jpg", "after.jpg"))
"""The picture and the result of the first visit, at first."""


class Panel:
    """The components of the result. Methods return updates of them."""

    def __init__(self, runs: Runs, premade: Example):
        """`premade`: the example whose result, made earlier by this program, is shown until there is another one."""
        self.runs = runs
        shared = {"height": 480, "interactive": False, "elem_classes": "view"}
        made = text.TABLES["en"]["premade"].format(title=premade.title, caption=caption(premade.recipe, "en"))
        self.status = gr.HTML(status_line(escape(made, quote=False)), elem_classes="status")
        self.view = gr.Image(
            label=text.label("result"), format="jpeg", buttons=[], alt_text="The picture so far.", visible=False, **shared
        )
        self.compare = gr.ImageSlider(
            PREMADE, label=text.label("before_after"), format="png", max_height=480, buttons=["fullscreen"], **shared
        )
        self.picture = gr.Image(
            label=text.label("result"), format="png", buttons=["fullscreen"], alt_text="The result.", visible=False, **shared
        )
        self.video = gr.Video(label=text.label("result"), autoplay=True, loop=True, buttons=[], visible=False, **shared)
        with gr.Row():
            self.names = gr.Label(label=text.label("names"), visible=False)
            self.names_before = gr.Label(label=text.label("names_before"), visible=False)
        self.tiles, self.strongest = (
            gr.Gallery(
                label=text.label(key), columns=4, height=height, allow_preview=False, interactive=False,
                buttons=[], visible=False, elem_classes="sheet",
            )
            for key, height in (("tiles", 420), ("tiles_strongest", 230))
        )  # fmt: skip
        self.atlas = AtlasBox()
        self.gradient = gr.Image(
            label=text.label("gradient_image"), format="png", height=200, interactive=False, buttons=["fullscreen"], visible=False,
            alt_text="The gradient image.", elem_classes=["view", "gradient"],
        )  # fmt: skip
        self.measures = gr.HTML(visible=False, elem_classes="measures")
        with gr.Row(elem_classes="onward", visible=False) as self.onward:
            shared = {"size": "sm", "min_width": 90}
            self.download = gr.DownloadButton(text.label("download"), elem_id="download", **shared)
            self.share = gr.Button(text.label("share"), elem_id="share", **shared)
            self.use = gr.Button(text.label("use"), **shared)
            self.refine = gr.Button(text.label("refine"), visible=False, **shared)
            self.gram = gr.Button(text.label("gram"), visible=False, **shared)
        with gr.Row(visible=False, elem_classes="onward", elem_id="sharing") as self.sharing:
            self.link = gr.Button(text.label("copy_link"), elem_id="copy_link", **shared)
            self.send = gr.Button(text.label("share_file"), elem_id="send", **shared)
            self.film = gr.Button(text.label("film"), elem_id="film", **shared)
            self.animate = gr.DownloadButton(text.label("animate"), elem_id="animate", **shared)
        self.linked = gr.HTML(elem_classes=["forecast", "copied"])

    def add_history(self) -> None:
        """Add the components of the history, below those that were built since."""
        with gr.Column(elem_id="history", visible=False) as self.history_box:
            gr.Markdown(text.label("history"), elem_classes="hint")
            self.history_cards = Cards(kind="history")
            self.forget = gr.Button(text.label("forget"), size="sm", elem_classes="quiet")

    @property
    def views(self) -> list[gr.components.Component]:
        """The components of which one shows the result, according to its kind."""
        return [self.view, self.compare, self.picture, self.video, self.names, self.tiles, self.strongest, self.atlas.html]

    @property
    def outputs(self) -> list[Any]:
        """Everything that a run changes here."""
        return [*self.views, self.names_before, self.status, self.gradient, self.measures, self.download, self.onward, self.refine,
                self.gram, self.film, self.animate, self.sharing, self.linked]  # fmt: skip

    def only(self, *shown: Any) -> dict:
        """Hide all views but these."""
        return {view: gr.update(visible=view in shown) for view in self.views}

    def cleared(self) -> dict:
        """Show that a run has been started."""
        parts = (self.onward, self.sharing, self.gradient, self.measures, self.names_before)
        hidden = dict.fromkeys(parts, gr.update(visible=False))
        return hidden | {self.status: status_line(text.say("waiting"), 0), self.linked: ""}

    def show(self, job: Job, update: Update, shown: Gallery | None) -> tuple[dict, Gallery]:
        """Return the changes for an update of a job, and its gallery, which is `shown` if it did not change."""
        gallery = self.runs.gallery(job)
        try:
            with error_sentences():
                return self._show(job, update, gallery, shown), gallery
        except gr.Error as error:  # The disk is full.
            return {self.status: status_line(error.message)}, gallery

    def _show(self, job: Job, update: Update, gallery: Gallery, shown: Gallery | None) -> dict:
        if update.final:
            changes = self.finished(job, update)
        elif update.download:
            changes = {self.status: status_line(str(update.download), update.download.share)}
        elif update.waiting:
            changes = {self.status: status_line(waiting_sentence(update.waiting), update.latest.work if update.latest else 0)}
        elif update.part:
            changes = self.in_step(update.part, update.latest) if not gallery.tiles else {}
        elif update.latest is None:
            changes = {self.status: status_line(text.say("waiting" if update.state == "waiting" else "getting_ready"), 0)}
        else:
            changes = self.working(job.recipe, update.latest) if not gallery.tiles else {}
            changes[self.status] = progress_line(update.latest)
        if gallery is not shown and gallery.tiles:
            changes = self.only(self.tiles, *([self.strongest] if gallery.strongest else [])) | changes
            for component, tiles in ((self.tiles, gallery.tiles), (self.strongest, gallery.strongest)):
                value = [(tile.file, tile.caption) for tile in tiles]
                changes[component] = gr.update(value=value, visible=bool(tiles), selected_index=None)
            changes[self.tiles] |= enlargeable(job.recipe)
        return changes

    def working(self, recipe: Recipe, preview: Preview) -> dict:
        """Show a preview."""
        names = [label(name) for name in live(type(recipe))]
        hint = text.say("steer", names=lower_first(enumeration(names))) if names and self.runs.engine.in_process else ""
        changes = {self.view: gr.update(value=in_cache(preview.picture.convert("RGB"), "jpeg"), visible=True)}
        if preview.gradient is not None:
            changes[self.gradient] = gr.update(value=in_cache(preview.gradient, "jpeg"), visible=True)
        return changes | self.measured(recipe, preview.measures, hint)

    def in_step(self, part: Part, latest: Preview | None) -> dict:
        """Show the middle of a step after the latest preview."""
        picture = part.picture or (latest and latest.picture)
        changes = {self.view: gr.update(value=in_cache(picture.convert("RGB"), "jpeg"), visible=True)} if picture else {}
        tile = text.say("tile", number=part.number, count=part.count)
        if latest is None:
            return changes | {self.status: status_line(f"{text.say('getting_ready')} {tile}", 0)}
        before = replace(latest, stage=f"{latest.stage}, {tile}", seconds_left=max(0.0, latest.seconds_left - part.seconds))
        return changes | {self.status: progress_line(before)}

    def measured(self, recipe: Recipe, measures: Any, hint: str = "") -> dict:
        """Show the measures of a run: as a sentence where the recipe has one, else as bars."""
        if not measures or recipe.produces == "numbers":
            return {self.measures: gr.update(visible=False)}
        sentence = recipe.measure_sentence.format(*measures.values()) if recipe.measure_sentence else ""
        shown = f"<p>{sentence}</p>" if sentence else bars(measures, f"{text.say('measures')} {hint}")
        return {self.measures: gr.update(value=shown, visible=True)}

    def finished(self, job: Job, update: Update) -> dict:
        """Show the end of a job: its latest picture, if there is one, and what can be done with it."""
        result, gallery = update.result, self.runs.gallery(job)
        if result is None:
            return {self.status: status_line(escape(update.error) or text.say("stopped_early"))}
        file, gradient = result.file(), result.gradient_file()
        sentence = escape(update.error) or (gallery.sentence if update.state == "done" else "") or outcome(result)
        changes = {
            self.status: status_line(sentence),
            self.onward: gr.update(visible=True),
            self.gradient: gr.update(value=gradient, visible=gradient is not None),
            self.download: gr.update(value=file, visible=result.recipe.produces != "numbers"),
            self.film: gr.update(visible=has_film(file)),
            self.animate: gr.update(visible=before(file) is not None),
            self.refine: gr.update(visible="start" in result.recipe.optional_images and not is_video(file)),
            self.gram: gr.update(visible=result.recipe.name == "reconstruct_style"),
        }
        if result.recipe.produces == "numbers":
            changes[self.status] = status_line(text.say("likely", name=next(iter(result.measures))))
            earlier = next(
                (other.result for other in self.runs.jobs.of(job.owner)
                 if other.started < job.started and type(other.recipe) is type(job.recipe) and other.result), None,
            )  # fmt: skip
            named = {
                self.names: gr.update(value=dict(result.measures), visible=True),
                self.names_before: gr.update(value=earlier and dict(earlier.measures), visible=earlier is not None),
            }
            return changes | self.only(self.names) | named
        changes |= self.measured(result.recipe, result.measures)
        return changes if gallery.tiles else changes | self.shown(file)

    def shown(self, file: str) -> dict:
        """Show the file of a result."""
        source = before(file)
        view, value = (self.video, file) if is_video(file) else (self.compare, (source, file)) if source else (self.picture, file)
        return self.only(view) | {view: gr.update(value=value, visible=True)}


def film(file: str) -> str:
    """Return the film of how a result came about as HTML with a link to save it."""
    path = escape(address(film_of(file)))
    return (
        f'<p><video src="{path}" controls autoplay loop muted playsinline></video></p>'
        f'<p><a href="{path}" download="featviz.mp4">featviz.mp4</a></p>'
    )


def entry(job: Job) -> dict[str, Any] | None:
    """Return the entry of an ended job in the history of the browser: all of it is text, the picture as well."""
    result = job.result
    try:
        picture = small(result.file()) if result else b""
    except (OSError, FeatvizError):  # There is no file, and the page says why.
        picture = b""
    if not picture:
        return None
    described = f"{text.translated(result.recipe.title)}: {caption(result.recipe)}"
    return {
        "id": job.id,
        "title": described,
        "source": data_url_of(picture, "jpeg"),
        **metadata.as_json(result.recipe),
        "time": round(time.time() - time.monotonic() + job.started),
    }


def history(entries: list[dict[str, Any]]) -> str:
    """Draw the history of a browser."""
    return drawn([Card(item["title"], item["source"], item["time"]) for item in entries])


def enlargeable(recipe: Recipe) -> dict[str, Any]:
    """Return the options of a gallery for a job: pictures beside a magnified detail are shown larger, and a click enlarges them."""
    large = compares_results(recipe)
    return {"columns": 2 if large else 4, "allow_preview": large, "elem_classes": ["sheet", "large"] if large else ["sheet"]}


def status_line(sentence: str, share: float | None = None) -> str:
    """A status line as HTML, with a progress bar if `share` is given. Screen readers announce only lines without a bar."""
    if share is None:
        return f'<p role="status">{sentence}</p>'
    return f'<progress value="{share:.3f}" max="1" aria-label="Progress of the run"></progress><p>{sentence}</p>'


def progress_line(preview: Preview) -> str:
    """The status line of a run under way."""
    stage = text.translated_pattern(preview.stage)
    if stage.partition(" ")[0].isalpha():  # `relu1_2` is a name.
        stage = stage[:1].upper() + stage[1:]
    seconds = (
        f'<featviz-seconds left="{max(1, round(preview.seconds_left))}"></featviz-seconds>'  # They count down in the browser.
    )
    return status_line(text.say("progress", stage=stage, step=preview.step, steps=preview.steps, seconds=seconds), preview.work)


def waiting_sentence(waiting: Waiting) -> str:
    """Return a sentence that says what a run waits for, and when its result is expected."""
    key = "waiting_many" if waiting.ahead > 1 else "waiting_one" if waiting.ahead else "waiting_step"
    return text.say(key, count=waiting.ahead, duration=duration(waiting.until_done))


def outcome(result: Result) -> str:
    """Return a sentence that says how a run ended."""
    key = "stopped" if not result.done else "done_one" if result.steps == 1 else "done"
    width, height = result.size
    return text.say(key, step=result.step, steps=result.steps, width=width, height=height)
