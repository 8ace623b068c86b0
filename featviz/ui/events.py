"""What happens when the components of the page are used: each function connects the events of one concern.

Gradio calls the listeners of an event one after the other, so listeners in the browser are connected first: they never wait.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import gradio as gr

from featviz.recipes.recipe import live
from featviz.ui.serving.files import displayable

if TYPE_CHECKING:
    from featviz.ui.page import Page

PAGE_EVENT = {"api_visibility": "private", "show_progress": "hidden", "show_progress_on": []}
"""Options of events that are not part of the API. Gradio's progress display is off, because it would cover the preview.
`show_progress_on` is empty because Gradio otherwise updates every output of every event, which took most of the browser's time."""

EVENT = {"preprocess": False, "concurrency_limit": None, **PAGE_EVENT}
"""Options of an event that can show a message to the visitor. Gradio shows messages of queued events only."""

IMMEDIATE = {"preprocess": False, "queue": False, **PAGE_EVENT}
"""Options of an event without words."""

SHOW, TO_RESULT = "(...values) => featviz.showResult(values)", "(...values) => featviz.toResult(values)"
"""Scroll to the result where it is below the controls: of a run, and of what has no Stop."""


def connect(page: Page, demo: gr.Blocks) -> None:
    """Connect all events of the page."""
    _arrival(page, demo)
    _runs(page)
    _settings(page)
    _pictures(page)
    _painting(page)
    _result(page)
    _look_inside(page)


def in_browser(event: Callable, function: str, inputs: Any = None, outputs: Any = None) -> Any:
    """Connect an event to a function of `page.js`. The server takes no part."""
    return event(None, inputs, outputs, js=function, **PAGE_EVENT)


def unique(*parts: Iterable[Any]) -> list[Any]:
    """Return every component once."""
    return list(dict.fromkeys(part for some in parts for part in some))


def _arrival(page: Page, demo: gr.Blocks) -> None:
    arrived = demo.load(
        page.arrive, [page.visitor, page.history, page.job, *page.pictures],
        unique(page.begun, page.channel.outputs, page.tab, page.kept), js="(...values) => featviz.arrive(values)", **EVENT,
    )  # fmt: skip
    in_browser(arrived.then, "() => featviz.arrived()", outputs=page.revision)
    in_browser(demo.load, "(html) => featviz.translate(html)", page.masthead, [page.masthead, page.panel.status])
    in_browser(demo.load, "() => featviz.menus()", outputs=page.menus)
    translated = in_browser(demo.load, "() => featviz.texts()", outputs=[*page.texts(str), *page.of_tab])
    in_browser(translated.then, "() => featviz.changed()", outputs=page.revision)  # For the reasons of what is disabled.


def _runs(page: Page) -> None:
    forms, begins = page.forms.values(), {"inputs": page.everything, "outputs": page.begun, **EVENT}
    watched = page.job.change(
        page.watch, [page.job, page.history, page.visitor], [*page.run_outputs, page.gallery, *page.kept],
        trigger_mode="always_last", **EVENT,
    )  # fmt: skip
    in_browser(watched.then, "() => featviz.ended()")
    page.start.click(page.begin, js=SHOW, trigger_mode="multiple", **begins)
    page.stop.click(page.end, page.job, None, **IMMEDIATE)
    replacing = begins | {"outputs": [*page.begun, *page.origin.outputs]}
    gr.on([form.example_cards.html.select for form in forms], page.begin_example, js=SHOW, **replacing)
    gr.on([form.sweep_button.click for form in forms], page.begin_sweep, js=SHOW, **begins)
    page.panel.refine.click(page.begin_refinement, js=SHOW, **begins)
    page.mirror.html.select(page.keep, {page.job, page.visitor}, page.begun, **EVENT)
    page.anew.click(page.begin_premade, js=SHOW, **replacing)
    moved = [getattr(form.parts[name], event) for form in forms for name in live(form.recipe) for event in ("input", "release")]
    gr.on(moved, page.steer, page.everything, None, trigger_mode="always_last", **EVENT)


def _settings(page: Page) -> None:
    forms = page.forms.values()
    gr.on(page.navigation.selects, None, None, page.of_tab, js="() => featviz.opened()", **PAGE_EVENT)
    kept = [picture.change for picture in page.pictures]
    gr.on(kept, None, page.pictures, None, js="(...files) => featviz.keep(files)", **PAGE_EVENT)
    # Gradio 6.31 notices the change of a state by an event of the queue only.
    changes = [*(part.change for part in page.inputs), page.name.change, page.painting.source.change]
    gr.on(changes, None, None, page.revision, js="() => featviz.changed()", **PAGE_EVENT)
    refreshed = page.revision.change(page.refresh, page.everything, page.following, **IMMEDIATE)
    for ended in (refreshed.success, refreshed.failure):
        in_browser(ended, "() => featviz.refreshed()", outputs=page.revision)
    gr.on([form.preset_cards.html.select for form in forms], page.choose_preset, page.everything, page.inputs, **IMMEDIATE)
    gr.on([form.layer_cards.html.select for form in forms], page.choose_layer, page.name, page.inputs, **IMMEDIATE)
    gr.on([form.finish.input for form in forms], page.apply_finish, page.everything, page.inputs, **IMMEDIATE)
    page.smaller.click(page.choose_size, [page.name, page.fitting], page.inputs, **IMMEDIATE)


def _pictures(page: Page) -> None:
    same = f"file => Array({len(page.instead)}).fill(file)"
    in_browser(page.picture.change, same, page.picture, list(page.instead.values()))
    boxes = {
        "inputs": {page.job, page.picture, page.clip, page.origin.found},
        "outputs": [page.picture, page.clip, *page.origin.outputs],
    }
    page.explorer.cards.html.select(page.take, **boxes, **IMMEDIATE)
    uploads = [picture.upload for picture in page.pictures]
    seen = gr.on(uploads, displayable, page.pictures, page.uploads, trigger_mode="multiple", **EVENT)
    for ended in (seen.success, seen.failure):
        in_browser(ended, "(...given) => featviz.uploaded(given)", [page.uploads, *page.pictures], page.pictures)
    gr.on(
        [page.picture.upload, page.clip.upload], page.read_picture, page.everything, [*page.origin.outputs, *page.inputs],
        trigger_mode="multiple", **EVENT,
    )  # fmt: skip
    restored = unique(page.origin.outputs, page.inputs, page.tab)
    gr.on([page.origin.undo.click, page.origin.there.click], page.restore, page.origin.found, restored, **EVENT)
    page.panel.use.click(page.use, **boxes, **EVENT)


def _painting(page: Page) -> None:
    page.painting.button.click(page.paint, page.everything, page.painting.outputs, **EVENT)
    replaced = [page.picture.change, page.clip.change]
    gr.on(replaced, page.close_painting, page.everything, page.painting.outputs, trigger_mode="multiple", **IMMEDIATE)
    page.style.change(page.paint_style, page.everything, page.painting.style_editor, **IMMEDIATE)


def _result(page: Page) -> None:
    panel = page.panel
    panel.share.click(lambda: gr.update(visible=True), None, panel.sharing, **IMMEDIATE)
    in_browser(panel.link.click, "() => featviz.copyLink()", outputs=panel.linked)
    in_browser(panel.send.click, "(file) => featviz.send(file)", panel.download, panel.linked)
    panel.film.click(page.film, page.job, panel.linked, **EVENT)
    panel.animate.click(page.animate, page.job, panel.linked, **EVENT)
    opened = unique([page.job, panel.status], page.tab, page.inputs)
    panel.history_cards.html.select(page.open_history, {page.history, *page.everything}, opened, **EVENT)
    panel.forget.click(lambda: ({}, [], gr.update(visible=False), ""), None, page.kept, js="() => featviz.forget()", **IMMEDIATE)


def _look_inside(page: Page) -> None:
    panel, channel = page.panel, page.channel
    chosen = {"outputs": [*channel.outputs, *page.inputs], **EVENT}
    for event in (
        panel.tiles.select(page.choose_tile, page.gallery, **chosen),
        panel.strongest.select(page.choose_strongest, page.gallery, **chosen),
        panel.atlas.html.select(page.choose_channel, None, **chosen),
    ):
        in_browser(event.success, "() => featviz.showChannel()")
    channel.dream.click(page.dream_channel, channel.chosen, unique(page.tab, page.inputs), **EVENT)
    channel.visualize.click(page.see_channel, page.everything | {channel.chosen}, unique(page.begun, page.tab), js=SHOW, **EVENT)
    panel.gram.click(page.show_gram, page.everything, [*panel.views], js=TO_RESULT, **EVENT)
    shown = [*panel.views, panel.status, page.anew]
    asked = [form.atlas_button.click for form in page.forms.values()]
    gr.on(asked, page.show_atlas, page.everything, shown, js=TO_RESULT, **EVENT)
