"""The page: a tab for each recipe, and behind each tab an endpoint for programs."""

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

import gradio as gr
from gradio.processing_utils import save_file_to_cache, save_pil_to_cache
from gradio.utils import get_upload_folder
from PIL import Image, ImageOps

from featviz import examples
from featviz.recipe import Recipe, group
from featviz.stream import NETWORKS, RECIPES, Preview, stream
from featviz.ui import words
from featviz.ui.controls import caption, control, label, named_after
from featviz.ui.running import Runner, checked, polite, sentences
from featviz.video import Video

HOURS_KEPT = 2
"""How long pictures stay on the server's disk."""

RUNS_AT_ONCE = {"concurrency_id": "runs", "concurrency_limit": 4}
"""They take turns on the device step by step, so nobody waits for a whole run of someone else."""

BEHIND_THE_PAGE = {"api_visibility": "private", "show_progress": "hidden"}
"""Events of the page alone. Nothing may cover the preview: a line of its own says how far a run is."""

EARLIER_KEPT = 8

SHOW_RESULT = """(...values) => {{
    document.querySelector("#{}_result").scrollIntoView({{behavior: "smooth", block: "nearest"}});
    return values;
}}"""
"""On a phone the result is below the controls, out of sight."""


@dataclass(frozen=True)
class Shot:
    """The latest picture of a run, and what it was made of."""

    recipe: Recipe
    before: Image.Image
    preview: Preview

    def shown(self) -> tuple[Image.Image, str] | str:
        """What is shown when the run is over: the picture before, at the size of the result, and the result's file."""
        return self.before.resize(self.preview.picture.size, Image.Resampling.LANCZOS), self.file()

    def file(self) -> str:
        """A PNG of full quality, in Gradio's cache, which is emptied regularly."""
        return save_pil_to_cache(self.preview.picture, get_upload_folder(), name=f"featviz_{self.recipe.name}", format="png")


@dataclass
class Turn:
    """Whose turn it is on a visitor's page. A run that is stopped or replaced works on until its step ends, and a double
    click starts two; only the last one started shows anything."""

    number: int = 0

    def take(self) -> int:
        self.number += 1
        return self.number


def build(
    run: Runner = stream, *, lend: Callable[[Runner], Runner] = lambda run: run, folder: Path = examples.FOLDER
) -> gr.Blocks:
    """The app, not launched yet.

    Args:
        run: what the buttons run: `featviz.stream`, or what stands in for it.
        lend: wraps it once more, e.g. `spaces.GPU(duration=60)`.
        folder: where the examples are.
    """
    run = lend(polite(run))
    shown = examples.read_all(folder)
    with gr.Blocks(
        title=f"{words.TITLE} · {words.TAGLINE}", analytics_enabled=False, delete_cache=(600, HOURS_KEPT * 3600)
    ) as demo:
        gr.HTML(f"<h1>{words.TITLE}</h1><p>{words.TAGLINE}</p>", elem_id="masthead")
        with gr.Tabs():
            for recipe in RECIPES.values():
                with gr.Tab(recipe.title, id=recipe.name):
                    kind = VideoTab if recipe.produces == "video" else Tab
                    kind(recipe, run, [example for example in shown if type(example.recipe) is recipe])
        _footer(folder)
    return demo


class Tab:
    """Inputs left, result right, examples that run on one click, and the endpoint of the same name."""

    FILE = "PNG"

    def __init__(self, recipe: type[Recipe], run: Runner, shown: Sequence[examples.Example]):
        self.recipe = recipe
        self.run = run
        gr.Markdown(recipe.__doc__.splitlines()[0], elem_classes="lead")
        with gr.Row(equal_height=False):
            with gr.Column(scale=5, min_width=320):
                buttons = self._examples(shown)
                self._inputs()
            with gr.Column(scale=6, min_width=320):
                self._result()
                with gr.Accordion("How it works", elem_classes="prose-block"):
                    gr.Markdown(words.HOW_IT_WORKS[recipe.name])
        self._events(buttons)
        self._endpoint()

    def _examples(self, shown: Sequence[examples.Example]) -> list[tuple[gr.Button, examples.Example]]:
        gr.Markdown("One click, and it runs:", elem_classes="hint")
        with gr.Row(elem_classes="examples"), tempfile.TemporaryDirectory() as folder:
            buttons = [gr.Button(e.title, icon=_thumbnail(e, folder), min_width=90, elem_classes="example") for e in shown]
        for button in buttons:
            button.keep_in_cache.add(button.icon["path"])  # Or it would be deleted with the visitors' pictures.
        return list(zip(buttons, shown, strict=True))

    def _inputs(self) -> None:
        recipe = self.recipe
        with gr.Row():
            height = 240 if len(recipe.images) > 1 else 280
            self.pictures = [self._picture(role, meaning, height) for role, meaning in recipe.images.items()]
        fields = recipe.model_fields
        controls = {name: control(name, field) for name, field in fields.items() if not group(field)}
        with gr.Accordion("Advanced", open=False):
            for title in dict.fromkeys(group(field) for field in fields.values() if group(field)):
                gr.Markdown(title, elem_classes="group")
                controls |= {name: control(name, field) for name, field in fields.items() if group(field) == title}
            self.extras = [self._picture(role, meaning, 180) for role, meaning in recipe.extras.items()]
        self.controls = [controls[name] for name in fields]  # In the order of the fields, wherever they are on the page.
        self.go = gr.Button(words.RUN[recipe.name], variant="primary")

    def _picture(self, role: str, meaning: str, height: int) -> gr.Image:
        return gr.Image(
            label=label(role), type="filepath", image_mode=None, height=height,
            sources=["upload", "clipboard", "webcam"], webcam_options=gr.WebcamOptions(mirror=False), buttons=[],
            alt_text=meaning, elem_id=f"{self.recipe.name}_{role}", min_width=140,
        )  # fmt: skip

    def _result(self) -> None:
        with gr.Column(elem_id=f"{self.recipe.name}_result", elem_classes="result"):
            self.status = gr.HTML(_line("Choose a picture, or click an example."), elem_classes="status")
            shared = {"height": 480, "interactive": False, "elem_classes": "view"}
            self.view = gr.Image(label="Result", format="jpeg", buttons=[], alt_text="The picture so far.", **shared)
            self.compare = self._final(shared)
            self.stop = gr.Button("Stop", variant="stop", visible=False)  # Here, since on a phone the controls are out of sight.
            self.download = gr.DownloadButton(f"Download {self.FILE}", interactive=False)
        self.earlier = gr.Gallery(
            label="Earlier results", columns=4, height=180, fit_columns=False, interactive=False, visible=False
        )
        self.latest = gr.State()
        self.kept = gr.State([])
        self.turn = gr.State(Turn())

    def _final(self, shared: dict[str, Any]) -> gr.components.Component:
        """What shows a run that is over."""
        return gr.ImageSlider(
            label="Before and after", format="png", max_height=480, buttons=["fullscreen"], visible=False, **shared
        )

    def _events(self, buttons: Sequence[tuple[gr.Button, examples.Example]]) -> None:
        inputs = [*self.pictures, *self.controls, *self.extras, self.latest, self.kept, self.turn]
        outputs = [self.view, self.compare, self.status, self.download, self.earlier, self.go, self.stop, self.latest, self.kept]
        at_once = {"queue": False, **BEHIND_THE_PAGE}
        scrolled = at_once | {"js": SHOW_RESULT.format(self.recipe.name)}
        # "multiple", since a run that is being stopped would otherwise swallow the click that starts the next one.
        run = {"fn": self.start, "inputs": inputs, "outputs": outputs, "preprocess": False, "trigger_mode": "multiple"}
        run |= RUNS_AT_ONCE | BEHIND_THE_PAGE

        runs = [self.go.click(self.waiting, outputs=outputs, **scrolled).then(**run)]
        for button, example in buttons:
            filled = button.click(
                partial(self.filled, example), outputs=[*self.pictures, *self.controls, *self.extras, *outputs], **scrolled
            )
            runs.append(filled.then(**run))
        for button, _ in buttons:
            button.click(None, cancels=runs)  # An example takes the place of the run under way, whose picture is kept.
        self.stop.click(None, cancels=runs).then(self.stopped, [self.latest, self.turn], outputs, **at_once)

    def _endpoint(self) -> None:
        """For programs: the recipe's own name and parameters, one result out."""
        gr.Button(visible=False).click(
            named_after(self.recipe, self._answers),
            [*self.pictures, *self.controls, *self.extras], self._answer(), api_name=self.recipe.name, preprocess=False, **RUNS_AT_ONCE,
        )  # fmt: skip

    def _answer(self) -> gr.components.Component:
        """What programs get: lossless."""
        return gr.Image(label="Result", format="png", visible=False)

    def _answers(self, sent: Sequence[Any]) -> Iterator[Any]:
        """What goes into `_answer` in the course of a run."""
        for shot in self._shots(*checked(self.recipe, sent)):
            yield shot.preview.picture

    def _shots(self, recipe: Recipe, pictures: Mapping[str, Image.Image]) -> Iterator[Shot]:
        """A run, as the page keeps it."""
        before = next(iter(pictures.values()))
        for preview in self.run(recipe, **pictures):
            yield Shot(recipe, before, preview)

    def filled(self, example: examples.Example) -> dict:
        """An example in the inputs, about to run."""
        files = [example.pictures.get(role) for role in (*self.recipe.images, *self.recipe.extras)]
        inputs = [*self.pictures, *self.extras, *self.controls]
        values = [*(file and str(file) for file in files), *example.recipe.model_dump().values()]
        return dict(zip(inputs, values, strict=True)) | self.waiting()

    def waiting(self) -> dict:
        """What the page shows from the click until the run has its turn."""
        return {
            self.status: _line("Waiting for its turn…", 0),
            self.go: gr.update(interactive=False),
            self.stop: gr.update(visible=True),
            self.download: gr.update(visible=False),
        }

    def start(self, *values: Any) -> Iterator[dict]:
        """What the page shows of a run. Whatever goes wrong, the latest picture comes back, and another run can start."""
        *sent, latest, kept, turn = values
        mine, shot = turn.take(), latest
        try:
            recipe, pictures = checked(self.recipe, sent)
            yield {self.status: _line("Getting ready…", 0)}
            for now in self._shots(recipe, pictures):
                if turn.number != mine:
                    yield {self.status: gr.skip()}  # Gradio shows what was yielded last once more.
                    return
                first, shot, picture = shot is latest, now, now.preview.picture.convert("RGB")
                changes = {self.view: picture, self.status: _progress(now.preview), self.latest: shot}
                if first:  # Until now the last result was in sight; from now on it is among the earlier ones.
                    changes |= {self.view: gr.update(value=picture, visible=True), self.compare: gr.update(visible=False)}
                    if latest is not None:
                        kept = [(latest.file(), caption(latest.recipe)), *kept][:EARLIER_KEPT]
                        changes |= {self.kept: kept, self.earlier: gr.update(value=kept, visible=True)}
                yield changes
        except gr.Error as error:
            yield self.finished(shot) | {self.status: _line(error.message)}
            raise
        yield self.finished(shot)

    def stopped(self, latest: Shot | None, turn: Turn) -> dict:
        turn.take()
        return self.finished(latest)

    def finished(self, shot: Shot | None) -> dict:
        """What the page shows when a run is over: the latest picture beside the one it was made of, if there is one yet."""
        idle = {self.go: gr.update(interactive=True), self.stop: gr.update(visible=False)}
        if shot is None:
            return idle | {self.status: _line("Stopped before the first step."), self.download: gr.update(visible=True)}
        return idle | {
            self.view: gr.update(visible=False),
            self.compare: gr.update(value=shot.shown(), visible=True),
            self.status: _line(_outcome(shot.preview)),
            self.download: gr.update(value=shot.file(), visible=True, interactive=True),
        }


class Film:
    """The file of a run that makes a video: in a folder of its own while it grows, then in Gradio's cache."""

    def __init__(self, recipe: Recipe):
        self._folder = tempfile.TemporaryDirectory()
        self._video = Video(Path(self._folder.name) / f"featviz_{recipe.name}.mp4", recipe.fps)
        self._finished: str | None = None
        self._lock = Lock()

    def write(self, preview: Preview) -> None:
        if preview.kept:
            with sentences():
                self._video.write(preview.picture)

    def finish(self, last: Preview | None) -> str | None:
        """The file's address, once for all. Where there is no picture yet, `last` has to do."""
        with self._lock, sentences():
            if self._finished is None and self._folder is not None:
                if self._video.count == 0 and last is not None:
                    self._video.write(last.picture)
                self._video.close()
                if self._video.count:
                    self._finished = save_file_to_cache(self._video.path, get_upload_folder())
                self._folder.cleanup()
                self._folder = None
        return self._finished


@dataclass(frozen=True)
class VideoShot(Shot):
    """Where a run is that makes a video."""

    film: Film

    def shown(self) -> str:
        return self.file()

    def file(self) -> str:
        """A video of what there is so far. It ends here: whoever asks has stopped the run, or has seen its end."""
        return self.film.finish(self.preview)


class VideoTab(Tab):
    """A tab whose result is a video: single pictures while it is in the making, then a player."""

    FILE = "MP4"

    def _final(self, shared: dict[str, Any]) -> gr.components.Component:
        return gr.Video(label="Result", autoplay=True, loop=True, buttons=[], visible=False, **shared)

    def _answer(self) -> gr.components.Component:
        return gr.Video(label="Result", visible=False)

    def _answers(self, sent: Sequence[Any]) -> Iterator[Any]:
        for shot in self._shots(*checked(self.recipe, sent)):
            yield None  # A run can be cancelled wherever it yields.
        yield shot.file()

    def _shots(self, recipe: Recipe, pictures: Mapping[str, Image.Image]) -> Iterator[Shot]:
        film, preview = Film(recipe), None
        try:
            for shot in super()._shots(recipe, pictures):
                preview = shot.preview
                film.write(preview)
                yield VideoShot(recipe, shot.before, preview, film)
        finally:
            film.finish(preview)


def _progress(preview: Preview) -> str:
    left = f"about {max(1, round(preview.seconds_left))} s left" if not preview.done else "done"
    stage = preview.stage[:1].upper() + preview.stage[1:]
    return _line(f"{stage} · step {preview.step} of {preview.steps} · {left}", preview.work)


def _outcome(preview: Preview) -> str:
    width, height = preview.picture.size
    how = f"Done in {preview.steps} steps" if preview.done else f"Stopped at step {preview.step} of {preview.steps}"
    return f"{how} · {width}×{height} pixels"


def _line(text: str, share: float | None = None) -> str:
    """The status line. Only what stays for a while is read out to those who listen, not every step."""
    if share is None:
        return f'<p role="status">{text}</p>'
    return f'<progress value="{share:.3f}" max="1" aria-label="Progress of the run"></progress><p>{text}</p>'


def _thumbnail(example: examples.Example, folder: str) -> str:
    """The pictures of an example side by side, as a file."""
    width, height = 240, 160
    sheet = Image.new("RGB", (width, height))
    for i, path in enumerate(example.pictures.values()):
        slot = width // len(example.pictures)
        with Image.open(path) as picture:
            sheet.paste(ImageOps.fit(picture.convert("RGB"), (slot, height)), (i * slot, 0))
    return save_pil_to_cache(sheet, folder, format="jpeg")


def _footer(folder: Path) -> None:
    networks = "\n".join(f"- **{spec.title}**: {spec.good_for} Weights: {spec.licence}." for spec in NETWORKS.values())
    with gr.Accordion("Networks, licences and your privacy", open=False, elem_classes="prose-block"):
        gr.Markdown(f"#### The networks\n{networks}\n\n#### Your privacy\n{words.PRIVACY.format(hours=HOURS_KEPT)}")
        _, _, sources = (folder / "SOURCES.md").read_text(encoding="utf-8").partition("\n")
        gr.Markdown(f"#### The example pictures\n{sources}")
