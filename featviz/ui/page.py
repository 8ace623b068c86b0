"""The page: a tab for each recipe, and the ways from one to another."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import gradio as gr

from featviz import examples
from featviz.stream import NETWORKS, RECIPES
from featviz.ui import words
from featviz.ui.running import BEHIND_THE_PAGE, Engine, Runner, Shot
from featviz.ui.tab import Tab
from featviz.ui.video import VideoTab

HOURS_KEPT = 2
"""How long pictures stay on the server's disk."""

KINDS = {"picture": Tab, "video": VideoTab}


def build(
    engine: Engine | None = None, *, lend: Callable[[Runner], Runner] = lambda run: run, folder: Path = examples.FOLDER
) -> gr.Blocks:
    """The app, not launched yet.

    Args:
        engine: what the page asks of the library: `Engine()`, or what stands in for it.
        lend: wraps whatever needs the device once more, e.g. `spaces.GPU(duration=60)`.
        folder: where the examples are.
    """
    engine = (engine or Engine()).lent(lend)
    shown, looks = examples.read_all(folder), examples.looks(folder)
    with gr.Blocks(
        title=f"{words.TITLE} · {words.TAGLINE}", analytics_enabled=False, delete_cache=(600, HOURS_KEPT * 3600)
    ) as demo:
        gr.HTML(f"<h1>{words.TITLE}</h1><p>{words.TAGLINE}</p>", elem_id="masthead")
        with gr.Tabs() as tabs:
            rooms = []
            for recipe in RECIPES.values():
                with gr.Tab(recipe.title, id=recipe.name):
                    own = [[one for one in all_ if type(one.recipe) is recipe] for all_ in (shown, looks)]
                    rooms.append(KINDS[recipe.produces](recipe, engine, *own))
        for room in rooms:
            for other in rooms:
                if button := room.ways.get(other.recipe.name):
                    sent = partial(_sent, tabs, other)
                    button.click(sent, room.latest, [tabs, other.pictures[0]], queue=False, **BEHIND_THE_PAGE)
        _footer(folder)
    return demo


def _sent(tabs: gr.Tabs, room: Tab, shot: Shot) -> dict:
    """A result as the first picture of another room, which opens."""
    return {tabs: gr.Tabs(selected=room.recipe.name), room.pictures[0]: shot.file()}


def _footer(folder: Path) -> None:
    networks = "\n".join(f"- **{spec.title}**: {spec.good_for} Weights: {spec.licence}." for spec in NETWORKS.values())
    with gr.Accordion("Networks, licences and your privacy", open=False, elem_classes="prose-block"):
        gr.Markdown(f"#### The networks\n{networks}\n\n#### Your privacy\n{words.PRIVACY.format(hours=HOURS_KEPT)}")
        _, _, sources = (folder / "SOURCES.md").read_text(encoding="utf-8").partition("\n")
        gr.Markdown(f"#### The example pictures\n{sources}")
