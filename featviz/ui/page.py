"""The page: one picture, one result, and a tab with the controls of each recipe."""

import asyncio
import filecmp
import json
import secrets
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial, wraps
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.processing_utils import save_bytes_to_cache
from gradio.utils import get_upload_folder

from featviz import limits
from featviz.errors import JobError
from featviz.media.images import MASK
from featviz.media.video import is_video
from featviz.networks.table import NETWORKS
from featviz.recipes import metadata, presets
from featviz.recipes.presets import Example, Preset
from featviz.recipes.recipe import Recipe, bounds, usual
from featviz.recipes.table import RECIPES, TABS
from featviz.runtime.jobs import Job
from featviz.ui import animation, events, text
from featviz.ui.api.calls import publish_calls
from featviz.ui.api.endpoints import publish
from featviz.ui.api.job_endpoints import publish_jobs
from featviz.ui.controls import caption, without_disabled
from featviz.ui.events import unique
from featviz.ui.first_screen import first_screen
from featviz.ui.forecast import PAINTED, Forecast
from featviz.ui.form import Form, picture_input
from featviz.ui.instruments.atlas import chosen, of_atlas
from featviz.ui.instruments.explorer import TAB, TAB_GROUP, Explorer
from featviz.ui.instruments.game import Game
from featviz.ui.instruments.lesson import Lesson
from featviz.ui.instruments.mirror import MirrorBox
from featviz.ui.links import Origin, read_file, read_link
from featviz.ui.look_inside import ChannelBox, gram_picture
from featviz.ui.masks import Painting, mention_stretching
from featviz.ui.navigation import Navigation
from featviz.ui.result import ENTRIES, Panel, entry, film, history, status_line
from featviz.ui.runs import Gallery, Runs, Tile
from featviz.ui.serving.admission import validate_request
from featviz.ui.serving.engine import Engine
from featviz.ui.serving.errors import Runner, error_sentences
from featviz.ui.serving.files import address, file_of
from featviz.ui.serving.gradio_internals import Blocks
from featviz.ui.serving.shutdown import SWEPT_EVERY


def build(
    engine: Engine | None = None,
    *,
    lend: Callable[[Runner], Runner] = lambda run: run,
    zero_gpu: bool = False,
    folder: Path = presets.FOLDER,
) -> gr.Blocks:
    """Build the app, without launching it.

    Args:
        engine: the functions of the library that the page calls; `Engine()` by default.
        lend: wraps each function that needs the device, e.g. `spaces.GPU(duration=60)`.
        zero_gpu: whether `lend` runs its function in another process, as ZeroGPU does.
        folder: the folder of the examples.
    """
    engine = (engine or Engine()).with_device(lend, zero_gpu=zero_gpu)
    with Blocks(
        title=f"{text.TITLE} · {text.TABLES['en']['tagline']}",
        analytics_enabled=False,
        delete_cache=(SWEPT_EVERY, limits.HOURS_KEPT.value * 3600),
    ) as demo:
        page = Page(engine, folder)
        events.connect(page, demo)
        publish_calls({name: form.parts for name, form in page.forms.items()}, engine)
        publish_jobs(engine)
        publish(presets.read_presets(folder), engine.estimate)
        demo.narrowed = page.narrowed
    demo.instrument = page
    return demo


def told(begin: Callable[..., dict]) -> Callable[..., Iterator[dict]]:
    """Return a method of the page that shows an error in the status line as well."""

    @wraps(begin)
    def wrapped(page: "Page", *arguments: Any) -> Iterator[dict]:
        try:
            yield begin(page, *arguments)
        except gr.Error as error:
            yield {page.panel.status: status_line(error.message)}
            raise

    return wrapped


class Page:
    """The components of the page, and what happens when they are used.

    Every way to start or to open a run sets `job`, the id of the run that is shown. One event watches it.
    """

    def __init__(self, engine: Engine, folder: Path):
        self.engine, self.jobs, self.runs = engine, engine.jobs, Runs(engine)
        self.forecast = Forecast(engine.estimate, engine.memory_left)
        self.visitor = gr.BrowserState("", storage_key="featviz_visitor", secret="featviz")
        self.history = gr.BrowserState([], storage_key="featviz_history", secret="featviz")
        self.job, self.gallery, self.fitting = gr.State(""), gr.State(Gallery()), gr.State()
        self.name = gr.Textbox(next(iter(TABS)), visible=False)
        """The recipe of the open tab. The browser sets it, so it is true before the server answers."""
        self.revision = gr.Number(0, visible=False)
        """Counts the times that the browser asked for what follows from the settings."""
        self.uploads = gr.JSON({}, visible=False)
        """The latest answer of `displayable`."""
        self.explorer, self.lesson, self.game = Explorer(engine), Lesson(engine), Game(engine)
        self.instead = {TAB: self.explorer.html, "lesson": self.lesson.html, "game": self.game.html}
        """The id of a tab without a recipe → what stands in place of the result there; "hidden" elsewhere, so that it is kept."""
        with gr.Row(elem_id="masthead"):
            self.masthead = gr.HTML(masthead())
        with gr.Row(equal_height=False, elem_id="instrument"):
            with gr.Column(scale=5, min_width=320, elem_id="inputs"):
                self._add_inputs(presets.read_examples(folder), presets.read_presets(folder))
                self._add_bar()
            with gr.Column(scale=6, min_width=320, elem_id="result"):
                self._add_result()
        self.footer = Footer(folder, engine.limitations())

    def _add_inputs(self, examples: Sequence[Example], all_presets: Sequence[Preset]) -> None:
        self.picture = picture_input(text.label("picture"), "Your picture.", height=170, elem_id="picture")
        self.clip = gr.Video(label="Video", sources=["upload"], buttons=[], height=170, elem_id="clip")
        self.origin = Origin()
        self.example_pictures = {path for example in examples for path in example.pictures.values()}
        """The files of the pictures that come with the examples. A visitor has uploaded every other picture."""
        self.painting = Painting(RECIPES[self.name.value].mask_action)
        self.navigation = Navigation({
            TAB_GROUP: {TAB: partial(self.explorer.add_tab, examples)},
            "Learn": {"lesson": self.lesson.add_tab, "game": self.game.add_tab},
        })  # fmt: skip
        self.forms = {
            recipe.name: Form(recipe, self.picture, self.clip, self.painting, _of(recipe, examples), _of(recipe, all_presets))
            for recipe in self.navigation.tabs_of(TABS.values())
        }
        with self.navigation.tabs["deepdream"]:
            self.mirror = MirrorBox(self.engine.mirror)

    def _add_bar(self) -> None:
        """Add Start and what is said above it. Start is last: the text may grow, and the button stays where it is."""
        with gr.Column(elem_id="bar"):
            with gr.Row(elem_id="forecast"):
                self.line = gr.HTML(elem_classes="forecast", elem_id="estimate")
                self.smaller = gr.Button(visible=False, size="sm", scale=0, min_width=110, elem_classes="quiet")
            with gr.Row():
                self.start = gr.Button(RECIPES[self.name.value].action, variant="primary", elem_id="start")
                self.stop = gr.Button(text.label("stop"), variant="stop", visible=False, elem_id="stop")

    def _add_result(self) -> None:
        for component in self.instead.values():
            component.render()
        self.premade = next(item for item in presets.read_examples() if item.recipe.name == self.name.value)
        self.panel = Panel(self.runs, self.premade)
        self.anew = gr.Button(text.label("anew"), size="sm", elem_classes="quiet")
        self.channel = ChannelBox()
        self.panel.add_history()

    @property
    def everything(self) -> set[gr.components.Component]:
        """All inputs. An event with them gets a dict."""
        states = [self.name, self.job, self.visitor, self.painting.editor, self.painting.style_editor, self.painting.source]
        return {*states, self.origin.found, *self.inputs, *(form.finish for form in self.forms.values())}

    @property
    def inputs(self) -> list[gr.components.Component]:
        """The boxes of pictures, that of a video, and the controls of all recipes, each once."""
        return unique([self.clip], *(form.parts.values() for form in self.forms.values()))

    @property
    def style(self) -> gr.Image:
        """The box of the style that can be painted."""
        return self.forms["style_transfer"].parts["style"]

    @property
    def following(self) -> list[gr.components.Component]:
        """What follows from the settings."""
        of_forms = [part for f in self.forms.values() for part in (f.finish, f.preset_cards.html, f.layer_cards.html)]
        return [self.line, self.smaller, self.fitting, self.painting.button, *of_forms, *self.disableable]

    @property
    def run_outputs(self) -> list[Any]:
        """What a run changes."""
        return [*self.panel.outputs, self.start, self.stop, self.anew, self.channel.box]

    @property
    def begun(self) -> list[Any]:
        """What the start of a run changes."""
        return [self.job, *self.run_outputs, *self.inputs]

    @property
    def kept(self) -> list[Any]:
        """What the browser keeps, and the components that show it."""
        return [self.visitor, self.history, self.panel.history_box, self.panel.history_cards.html]

    @property
    def pictures(self) -> list[gr.Image]:
        """All boxes for pictures, the shared one first."""
        return [part for part in self.inputs if isinstance(part, gr.Image)]

    @property
    def menus(self) -> list[gr.Dropdown]:
        return [part for part in self.inputs if isinstance(part, gr.Dropdown)]

    @property
    def narrowed(self) -> dict[gr.components.Component, dict[str, Any]]:
        """The sliders that end before what their field accepts → the maximum of the slider. Greater values are typed."""
        fields = [(form.parts[name], field) for form in self.forms.values() for name, field in form.recipe.model_fields.items()]
        return {part: {"maximum": usual(field)} for part, field in fields if usual(field)}

    @property
    def of_tab(self) -> list[gr.components.Component]:
        """What depends on the open tab. The browser sets it."""
        return [self.name, self.start, self.picture, self.clip, self.painting.button, *self.instead.values()]

    def texts(self, say: Callable[[str], str]) -> dict[gr.blocks.Block, dict[str, str]]:
        """Return what recipes and tabs say of themselves: component → {property: text}. `say` translates an English text."""
        tabs = {tab: {"label": say(title)} for tab, title in self.navigation.titles.items()}
        parts = (*self.forms.values(), self.explorer, self.footer)
        return tabs | {component: texts for part in parts for component, texts in part.texts(say).items()}

    def translations(self, tag: str) -> str:
        """Return the address of all texts in another language, in JSON: updates, and {English: text} of what changes with the tab.

        It is kept as long as the page.
        """
        say = partial(text.translated, tag=tag)
        updates = [{"__type__": "update"} | texts for texts in self.texts(say).values()]
        words = {english: say(english) for recipe in TABS.values() for english in (recipe.action, recipe.mask_action) if english}
        content = json.dumps({"updates": updates, "words": words}).encode()
        file = save_bytes_to_cache(content, f"{tag}.json", get_upload_folder())
        self.revision.keep_in_cache.add(file)
        return address(file)

    @property
    def tab(self) -> list[gr.components.Component]:
        """What opens another tab."""
        return [self.name, *self.navigation.outputs]

    @property
    def first_screen(self) -> str:
        """HTML that is shown until the page is there."""
        cards = self.forms[self.name.value].example_cards.cards
        made = {tag: table["premade"].format(**self.premade_values(tag)) for tag, table in text.TABLES.items()}
        return first_screen(cards, made, [address(file["path"]) for file in self.panel.compare.value])

    def premade_values(self, tag: str) -> dict[str, str]:
        """Return what the sentence about the first result says in a language."""
        return {"title": text.translated(self.premade.title, tag), "caption": caption(self.premade.recipe, tag)}

    @property
    def script(self) -> str:
        """JavaScript that defines what `page.js` knows of this page."""
        same, shown, absent = {"__type__": "update"}, gr.update(visible=True), gr.update(visible=False)
        hidden = gr.update(visible="hidden")
        tabs = {
            name: [
                name,
                recipe.action,
                *(shown if there else absent for there in (bool(recipe.images), recipe.follows_video)),
                recipe.mask_action,
                *[hidden] * len(self.instead),
            ]
            for name, recipe in TABS.items()
        }
        for tab in self.instead:
            tabs[tab] = [same, same, shown, absent, same, *(shown if other == tab else hidden for other in self.instead)]
        lists = list(dict.fromkeys(tuple(menu.choices) for menu in self.menus))
        known = {
            "tabs": tabs,
            "boxes": [box.elem_id for box in self.pictures],
            "lists": lists,
            "menus": [lists.index(tuple(menu.choices)) for menu in self.menus],
            "premade": {tag: self.premade_values(tag) for tag in text.TABLES},
            "words": text.words(),
            "texts": {tag: self.translations(tag) for tag in text.TRANSLATIONS},
        }
        return f"const FEATVIZ = {json.dumps(known)};"

    @property
    def disableable(self) -> list[gr.components.Component]:
        """The controls and boxes that a rule can disable."""
        return list(dict.fromkeys(form.parts[name] for form in self.forms.values() for name in form.disableable))

    # Which tab, and what is set in it

    def form(self, sent: Mapping[Any, Any]) -> Form:
        """The form of the open tab."""
        return self.forms[sent[self.name]]

    def values(self, sent: Mapping[Any, Any]) -> dict[str, Any]:
        """The values of the open tab by name, with the painted mask."""
        form = self.form(sent)
        with error_sentences():
            files = self.painting.files(sent, sent.get(form.parts.get("style")))
            roles = (*form.recipe.images, *form.recipe.optional_images)
            return form.values(sent, **{role: file for role, file in files.items() if role in roles})

    def _clip(self, sent: Mapping[Any, Any]) -> bool:
        """Whether a video goes before the picture in the open tab."""
        return self.form(sent).recipe.follows_video and sent[self.clip] is not None

    def open(self, recipe: Recipe) -> dict:
        """Open the tab of a recipe with its settings."""
        return self._opened(recipe.name) | self.forms[recipe.name].set(recipe)

    def refresh(self, sent: Mapping[Any, Any]) -> dict:
        """Bring up to date what follows from the settings: estimate, marks, what is disabled, the address."""
        form = self.form(sent)
        values = form.values(sent, mask=sent[self.painting.source])
        recipe, fields = form.recipe_or_none(values), [values[name] for name in form.recipe.model_fields]
        roles = (*form.recipe.images, *form.recipe.optional_images)
        pictures = {role: values[role] for role in roles if role != MASK} | {PAINTED: sent[self.painting.source]}
        forecast = self.forecast
        predicted = forecast.soon(
            lambda: (*forecast.sentence(form.recipe, pictures, fields), forecast.finishes(recipe, pictures)),
            form.recipe.name, fields, pictures,
        )  # fmt: skip
        message, fitting, finishes = predicted or (text.say("measuring"), None, [])
        link = f' data-link="{escape(metadata.link(recipe))}"' if recipe else ""
        again = "" if predicted else " data-again"
        changes = {
            self.line: f"<p{link}{again}>{escape(message, quote=False)}</p>",
            self.smaller: gr.update(visible=fitting is not None, value=text.say("use_size", size=fitting)),
            self.fitting: fitting,
            self.painting.button: gr.update(
                value=text.say("whole_picture") if sent[self.painting.source] else text.translated(form.recipe.mask_action),
                visible=bool(form.recipe.mask_action and sent[self.picture] and not self._clip(sent)),
            ),
            form.finish: gr.update(choices=finishes) if predicted else gr.skip(),
        }
        return changes | form.marks(recipe) | form.disabled(values)

    def choose_preset(self, sent: Mapping[Any, Any], event: gr.SelectData) -> dict:
        """Set the controls to a preset, at the chosen level of finish."""
        form = self.form(sent)
        return form.set(form.finished(form.presets[event.index].recipe, sent[form.finish]))

    def choose_layer(self, name: str, event: gr.SelectData) -> dict:
        form = self.forms[name]
        return {form.parts["layer"]: form.layers[event.index]}

    def apply_finish(self, sent: Mapping[Any, Any]) -> dict:
        """Set the size and the steps to a level of finish: relative to the preset that the settings are of, else to the defaults."""
        form = self.form(sent)
        recipe = form.recipe_or_none(form.values(sent)) or form.recipe()
        base = next((preset.recipe for preset in form.presets if preset.recipe.layer == recipe.layer), form.recipe())
        finished = form.finished(base, sent[form.finish])
        return {form.parts[name]: getattr(finished, name) for name in ("size", "steps")}

    def choose_size(self, name: str, size: int) -> dict:
        parts = self.forms[name].parts
        return {parts["size"]: size} | ({parts["full_size"]: False} if "full_size" in parts else {})

    # Runs

    @told
    def begin(self, sent: Mapping[Any, Any]) -> dict:
        """Start a run with the settings of the open tab."""
        return self._begin(self.form(sent), self.values(sent), sent)

    @told
    def begin_sweep(self, sent: Mapping[Any, Any]) -> dict:
        """Start small versions of the run that differ in a few fields."""
        return self._begin(self.form(sent), self.values(sent), sent, sweep=True)

    @told
    def begin_example(self, sent: Mapping[Any, Any], event: gr.SelectData) -> dict:
        """Set the controls and pictures to those of an example, and start its run."""
        return self._begin_example(self.form(sent).examples[event.index], sent)

    @told
    def begin_premade(self, sent: Mapping[Any, Any]) -> dict:
        """Start the run whose result, made earlier, is shown on the first visit."""
        return self._begin_example(self.premade, sent)

    @told
    def begin_refinement(self, sent: Mapping[Any, Any]) -> dict:
        """Continue from the result at double its size, up to the greatest size."""
        result = self._result(sent[self.job])
        form = self.forms[result.recipe.name]
        _, greatest = bounds(form.recipe.model_fields["size"])
        size = min(2 * result.recipe.size, int(greatest))
        values = self.values({**sent, self.name: form.recipe.name}) | {"size": size, "start": {"path": result.file()}}
        return {form.parts["size"]: size} | self._begin(form, values, sent)

    @told
    def keep(self, sent: Mapping[Any, Any], event: gr.SelectData) -> dict:
        """Keep what the mirror shows, as the result of a run."""
        with error_sentences():
            return self._show_job(self.mirror.mirrors.keep(event.value, self.runs, self._id(sent)), sent)

    def _begin_example(self, example: Example, sent: Mapping[Any, Any]) -> dict:
        form = self.forms[example.recipe.name]
        files = {role: str(path) for role, path in example.pictures.items()}
        names = (*form.recipe.images, *form.recipe.model_fields, *form.recipe.optional_images)
        given = dict(example.recipe) | {role: {"path": path} for role, path in files.items()}
        filled = {
            form.parts[role]: files.get(role)
            for role in (*form.recipe.images, *form.recipe.optional_images)
            if role in form.parts
        }
        filled = self._replaced(filled | {self.clip: None}, sent)
        return filled | form.set(example.recipe) | self._begin(form, {name: given.get(name) for name in names}, sent)

    def _begin(self, form: Form, values: Mapping[str, Any], sent: Mapping[Any, Any], *, sweep: bool = False) -> dict:
        request = validate_request(form.recipe, without_disabled(form.recipe, list(values.values())))
        mention_stretching(request.pictures)
        with error_sentences():
            source = file_of(values[next(iter(form.recipe.images))]) if form.recipe.images else None
            job = self.runs.start(request, source, self._id(sent), sweep=sweep)
        return self._show_job(job, sent)

    def _show_job(self, job: Job, sent: Mapping[Any, Any]) -> dict:
        self.end(sent[self.job])  # A page shows one run.
        first = {} if sent[self.job] else self.panel.only()  # What was made earlier is no result of this run.
        return {self.job: job.id} | first | self.panel.cleared() | self._working(True)

    def _working(self, working: bool) -> dict:
        """Show Stop during a run, else Start."""
        changes = {self.start: gr.update(visible=not working), self.stop: gr.update(visible=working)}
        hidden = gr.update(visible=False)
        return changes | ({self.anew: hidden, self.channel.box: hidden} if working else {})

    def _id(self, sent: Mapping[Any, Any]) -> str:
        return (sent[self.visitor] or {}).get("id", "")

    def _find(self, job_id: str) -> Job | None:
        try:
            return self.jobs.find(job_id)
        except JobError:
            return None

    def _result(self, job_id: str) -> Any:
        with error_sentences():
            return self.jobs.find(job_id).result

    async def watch(self, job_id: str, entries: Sequence[dict], visitor: Mapping[str, str]) -> AsyncIterator[dict]:
        """Show a run until it ends, then add its result to the history."""
        job = self._find(job_id)
        if job is None:
            yield {self.panel.status: gr.skip()}
            return
        shown, viewing = None, False
        yield self._working(True) | {self.visitor: {**(visitor or {}), "running": metadata.as_json(job.recipe)}}
        async for update in job.watch_async():
            changes, shown = await asyncio.to_thread(self.panel.show, job, update, shown)
            if self.panel.view in changes and not viewing:
                changes, viewing = self.panel.only(self.panel.view) | changes, True
            if update.final:
                changes |= self._working(False) | self._remembered(job, entries)
                changes[self.visitor] = {**(visitor or {}), "running": None}
            yield changes | {self.gallery: shown}

    def _remembered(self, job: Job, entries: Sequence[dict]) -> dict:
        known = any(item["id"] == job.id for item in entries)
        new = None if known else entry(job)
        return self._history([new, *entries][:ENTRIES] if new else list(entries))

    def _history(self, entries: Sequence[dict]) -> dict:
        box, cards = self.panel.history_box, self.panel.history_cards.html
        return {self.history: list(entries), box: gr.update(visible=bool(entries)), cards: history(entries)}

    def end(self, job_id: str) -> None:
        """Stop a run. Its latest picture is the result."""
        if job := self._find(job_id):
            job.stop()

    def steer(self, sent: Mapping[Any, Any]) -> None:
        """Give the run under way the new settings, if it can take them."""
        job, form = self._find(sent[self.job]), self.form(sent)
        if job is None or job.now.final or type(job.recipe) is not form.recipe:
            return
        if not self.engine.in_process:
            gr.Info(text.say("next_run"))
        elif recipe := form.recipe_or_none(form.values(sent)):
            job.steer(recipe)

    # Coming and going

    def arrive(self, request: gr.Request, visitor: Any, entries: Sequence[dict], job_id: str, *sent: Any) -> dict:
        """Restore what the visitor left: the settings in the address, the pictures in the browser, the run on the server.

        The visitor may have used the page before this answer, so nothing else is set.
        """
        visitor = visitor if isinstance(visitor, dict) and visitor.get("id") else {"id": secrets.token_urlsafe(16)}
        jobs = self.jobs.of(visitor["id"])
        lost = not jobs and not job_id and visitor.get("running")
        with error_sentences():
            restored = metadata.from_json(lost, TABS) if lost else read_link(request)
        changes = {self.visitor: {**visitor, "running": None}} | self._history(entries or [])
        if "lesson" in request.query_params:
            changes |= self.navigation.select_tab("Learn", "lesson")
        if restored:
            recipe, parts = restored.recipe, self.forms[restored.recipe.name].parts
            changes |= self._opened(recipe.name) | {parts[name]: getattr(recipe, name) for name in recipe.model_fields_set}
            if not lost and (channel := of_atlas(recipe)):
                changes |= self._atlas(channel.layer) | self.channel.show(channel)
        for box, picture in zip(self.pictures, sent, strict=True):
            if picture:
                changes[box] = changes.get(box, {}) | gr.update(value=picture["path"])
        if lost:
            status = status_line(text.say("lost", action=text.translated(restored.recipe.action)))
            return changes | self.panel.only() | {self.panel.status: status, self.anew: gr.update(visible=False)}
        return changes | ({self.job: job_id or jobs[0].id} if job_id or jobs else {})

    def open_history(self, sent: Mapping[Any, Any], event: gr.SelectData) -> dict:
        """Open an earlier result: its settings and, while the server has it, the result."""
        item = (sent[self.history] or [])[event.index]
        with error_sentences():
            recipe = metadata.from_json(item, TABS).recipe
        opened, job = self.open(recipe), self._find(item["id"])
        if job and job.result and job.result.exists:
            return opened | {self.job: job.id}
        return opened | {self.panel.status: status_line(text.say("gone", action=text.translated(recipe.action)))}

    # The picture

    def read_picture(self, sent: Mapping[Any, Any]) -> dict:
        """Restore the settings of a picture or a video that was made here; the visitor can undo that."""
        form, found = self.form(sent), sent[self.origin.found]
        uploaded = sent[self.clip if self._clip(sent) else self.picture]
        stored, message = read_file(uploaded)
        if stored is None:
            # An example may have replaced the upload before this function runs. The row then says so, and stays.
            stays = found is None or (isinstance(found, dict) and file_of(uploaded) in found.values())
            return {self.origin.row: gr.skip()} if stays else self.origin.cleared()
        if type(stored) is not form.recipe:
            said = f"{text.say('made_elsewhere', title=text.translated(stored.title))} {message}"
            return self.origin.shown(said, stored, there=True)
        current = form.recipe_or_none(form.values(sent)) or form.recipe()
        if current == stored:
            return self.origin.shown(f"{text.say('made_here')} {message}", stored)
        said = f"{text.say('made_restored')} {message}"
        return self.origin.shown(said, current, undo=True) | form.set(stored)

    def _replaced(self, changes: dict, sent: Mapping[Any, Any]) -> dict:
        """Return changes of boxes. If they replace pictures of the visitor, offer Undo: for these, and for those that were replaced before."""
        found = sent[self.origin.found]
        own = dict(found) if isinstance(found, dict) else {}
        return changes | self.origin.replaced(own | {box.elem_id: file for box in changes if (file := self._own(sent[box]))})

    def _own(self, picture: Mapping[str, Any] | None) -> str | None:
        """Return the file of a picture in a box; None if there is none, or if it is an example's."""
        file = file_of(picture)
        if not file or not Path(file).is_file():
            return None
        return None if any(filecmp.cmp(file, path, shallow=False) for path in self.example_pictures) else file

    def restore(self, found: Recipe | Mapping[str, str]) -> dict:
        """Set the settings that `read_picture` found, or those from before it; or put replaced pictures back."""
        if isinstance(found, Recipe):
            return self.open(found) | self.origin.cleared()
        return {box: found[box.elem_id] for box in (*self.pictures, self.clip) if box.elem_id in found} | self.origin.cleared()

    def take(self, sent: Mapping[Any, Any], event: gr.SelectData) -> dict:
        """Take an example picture to explore."""
        return self._replaced({self.picture: self.explorer.take(event)}, sent)

    def paint(self, sent: Mapping[Any, Any]) -> dict:
        action = text.translated(self.form(sent).recipe.mask_action)
        return self.painting.toggled(action, sent[self.picture], sent[self.style], sent[self.painting.source])

    def paint_style(self, sent: Mapping[Any, Any]) -> dict:
        """Open a new style for painting, if the painting is open."""
        if sent[self.painting.source] is None:
            return {self.painting.style_editor: gr.skip()}
        return self.painting.style_opened(sent[self.style])

    def close_painting(self, sent: Mapping[Any, Any]) -> dict:
        """Close the painting when the picture was replaced, or when a video goes before it."""
        source = sent[self.painting.source]
        if source is None or ((sent[self.picture] or {}).get("path") == source and not self._clip(sent)):
            return {self.painting.source: gr.skip()}
        return self.painting.closed(text.translated(self.form(sent).recipe.mask_action))

    def use(self, sent: Mapping[Any, Any]) -> dict:
        """Use the result as the picture."""
        result = self._result(sent[self.job])
        with error_sentences():
            file = result.file()
        return self._replaced({self.clip: file} if is_video(file) else {self.picture: file, self.clip: None}, sent)

    def film(self, job_id: str) -> str:
        """Show the film of how the result came about, with a link to save it."""
        with error_sentences():
            return film(self._result(job_id).file())

    def animate(self, job_id: str) -> str:
        """Make an animation from the picture to the result, and show it with a link to save it."""
        with error_sentences():
            return animation.shown(self._result(job_id).file())

    # Look inside

    def choose_tile(self, gallery: Gallery, event: gr.SelectData) -> dict:
        return self._choose(gallery.tiles[event.index])

    def choose_strongest(self, gallery: Gallery, event: gr.SelectData) -> dict:
        return self._choose(gallery.strongest[event.index])

    def _choose(self, tile: Tile) -> dict:
        """Do what a click on a tile means: show its channel, or set the fields in which its recipe differs."""
        if tile.channel:
            return self.channel.show(tile.channel)
        form, recipe = self.forms[tile.recipe.name], tile.recipe
        chosen = {form.parts[name]: getattr(recipe, name) for name in tile.fields}
        for name in tile.fields:
            chosen |= form.reset_conflicts(name)
        return chosen | {self.channel.box: gr.skip()}

    def dream_channel(self, chosen: tuple[str, int]) -> dict:
        """Open DeepDream with the channel."""
        form, (layer, channel) = self.forms["deepdream"], chosen
        channel = {form.parts["layer"]: layer, form.parts["channels"]: str(channel)}
        return self._opened("deepdream") | form.reset_conflicts("channels") | channel

    @told
    def see_channel(self, sent: Mapping[Any, Any]) -> dict:
        """Open the visualisation of the channel and run it."""
        chosen, form = sent[self.channel.chosen], self.forms["feature_visualization"]
        channel = form.reset_conflicts("channel") | dict(zip([form.parts["layer"], form.parts["channel"]], chosen, strict=True))
        values = form.values({**sent, **channel})
        return self._opened(form.recipe.name) | channel | self._begin(form, values, sent)

    def _opened(self, name: str) -> dict:
        """Open the tab of a recipe, and leave its settings."""
        return self.navigation.select(RECIPES[name]) | {self.name: name}

    def show_atlas(self, sent: Mapping[Any, Any]) -> dict:
        """Show what the channels of the layer look for."""
        return self._atlas(self.form(sent).values(sent)["layer"])

    def _atlas(self, layer: str) -> dict:
        """Show the atlas at a layer."""
        shown, status = self.panel.atlas.html, {self.panel.status: status_line(text.say("channels"))}
        return (
            self.panel.only(shown) | {shown: gr.update(value=layer, visible=True), self.anew: gr.update(visible=False)} | status
        )

    def choose_channel(self, event: gr.SelectData) -> dict:
        """Show a channel of the atlas, and set it."""
        with error_sentences():
            channel = chosen(event.value)
        form = self.forms["feature_visualization"]
        fields = {form.parts["layer"]: channel.layer, form.parts["channel"]: channel.channel}
        return form.reset_conflicts("channel") | fields | self.channel.show(channel)

    def show_gram(self, sent: Mapping[Any, Any]) -> dict:
        """Show the Gram matrix of the deepest layer in use."""
        values = self.values(sent)
        request = validate_request(self.form(sent).recipe, list(values.values()))
        picture = gram_picture(self.engine, request.recipe, request.pictures)
        return self.panel.only(self.panel.picture) | {self.panel.picture: gr.update(value=picture, visible=True)}


def masthead() -> str:
    """The title, and a link that moves the focus to Start."""
    start = "(document.getElementById('start') || document.getElementById('stop')).focus(); return false"
    skip = f'<a class="skip" href="#start" onclick="{start}">{text.say("skip")}</a>'
    return f"<h1>{text.TITLE}</h1><span>{text.say('tagline')}</span>{skip}"


def _of(recipe: type[Recipe], items: Iterable[Any]) -> list[Any]:
    return [item for item in items if type(item.recipe) is recipe]


class Footer:
    """What this server cannot do, the networks, privacy, and where the pictures are from."""

    def __init__(self, folder: Path, limitations: Sequence[str]):
        self.limitations = limitations
        self.limits = gr.HTML(self._limits(str), elem_id="limitations", visible=bool(limitations))
        with gr.Accordion(text.label("about"), open=False, elem_classes="prose-block"):
            self.networks = gr.Markdown(self._networks(str))
            gr.Markdown(text.label("privacy"))
            self.sources = {
                gr.Markdown(self._titled(title, sources)): (title, sources)
                for title, sources in (
                    ("The example pictures", _sources(folder)),
                    ("The pictures of the atlas", _sources(presets.FOLDER / "atlas" / "pictures")),
                )
            }

    def texts(self, say: Callable[[str], str]) -> dict[gr.components.Component, dict[str, str]]:
        """Return component → {property: text}. `say` translates an English text."""
        sources = {markdown: {"value": self._titled(say(title), body)} for markdown, (title, body) in self.sources.items()}
        return {self.limits: {"value": self._limits(say)}, self.networks: {"value": self._networks(say)}} | sources

    def _limits(self, say: Callable[[str], str]) -> str:
        sentences = " ".join(map(say, self.limitations))
        return f"<p>{escape(say('On this server: {limitations}').format(limitations=sentences), quote=False)}</p>"

    def _networks(self, say: Callable[[str], str]) -> str:
        weights = say("Weights: {licence}.")
        rows = (f"- **{spec.title}**: {say(spec.good_for)} {weights.format(licence=spec.licence)}" for spec in NETWORKS.values())
        return self._titled(say("The networks"), "\n".join(rows))

    @staticmethod
    def _titled(title: str, body: str) -> str:
        return f"#### {title}\n{body}"


def _sources(folder: Path) -> str:
    """Return the list of where the pictures of a folder are from."""
    _, _, sources = (folder / "SOURCES.md").read_text(encoding="utf-8").partition("\n")
    return sources
