"""The page: a tab for each room with its recipes, and the ways from one to another."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from html import escape
from itertools import groupby
from pathlib import Path

import gradio as gr

from featviz import limits
from featviz.networks.table import NETWORKS
from featviz.recipes import presets
from featviz.recipes.recipe import Recipe
from featviz.recipes.table import RECIPES
from featviz.ui import look_inside, text
from featviz.ui.endpoints import publish
from featviz.ui.links import followed
from featviz.ui.request_limits import Blocks
from featviz.ui.running import BEHIND_THE_PAGE, Engine, Runner, Shot
from featviz.ui.shutdown import SWEPT_EVERY
from featviz.ui.tab import Tab
from featviz.ui.video import VideoTab

KINDS = {"picture": Tab, "video": VideoTab}
"""By what a recipe produces; the room "Look Inside" has its own."""


def build(
    engine: Engine | None = None,
    *,
    lend: Callable[[Runner], Runner] = lambda run: run,
    zero_gpu: bool = False,
    folder: Path = presets.FOLDER,
) -> gr.Blocks:
    """The app, not launched yet.

    Args:
        engine: what the page asks of the library: `Engine()`, or what stands in for it.
        lend: wraps whatever needs the device once more, e.g. `spaces.GPU(duration=60)`.
        apart: whether what is lent runs in a process of its own, out of the page's reach, as on ZeroGPU.
        folder: where the examples are.
    """
    engine = (engine or Engine()).lent(lend, zero_gpu=zero_gpu)
    shown, looks = presets.read_examples(folder), presets.read_presets(folder)
    with Blocks(
        title=f"{text.TITLE} · {text.TAGLINE}",
        analytics_enabled=False,
        delete_cache=(SWEPT_EVERY, limits.HOURS_KEPT.value * 3600),
    ) as demo:
        gr.HTML(f"<h1>{text.TITLE}</h1><p>{text.TAGLINE}</p>", elem_id="masthead")
        doors, tabs = Doors(), []
        for recipe in doors.entered(RECIPES.values()):
            own = [[one for one in all_ if type(one.recipe) is recipe] for all_ in (shown, looks)]
            kind = look_inside.KINDS.get(recipe.name) or KINDS[recipe.produces]
            tabs.append(kind(recipe, engine, *own))
        for tab in tabs:
            for other in tabs:
                if button := tab.ways.get(other.recipe.name):
                    sent = partial(_sent, doors, other)
                    changed = [*doors.outputs, other.pictures[0], *other.origin.outputs]
                    button.click(sent, tab.latest, changed, queue=False, **BEHIND_THE_PAGE)
        look_inside.connect({tab.recipe.name: tab for tab in tabs}, doors)
        _let_in(demo, doors, tabs)
        publish(looks, engine.estimate)
        _footer(folder, engine.limitations())
    return demo


class Doors:
    """A tab for each room and, inside a room of several recipes, one for each of them."""

    def __init__(self) -> None:
        self.outer = gr.Tabs()
        self.inner: dict[str, gr.Tabs] = {}  # By room.

    @property
    def outputs(self) -> list[gr.Tabs]:
        return [self.outer, *self.inner.values()]

    def entered(self, recipes: Iterable[type[Recipe]]) -> Iterator[type[Recipe]]:
        """Every recipe in turn, inside its tab."""
        with self.outer:
            for tab_group, side_by_side in groupby(recipes, lambda recipe: recipe.tab_group):
                side_by_side = list(side_by_side)
                with gr.Tab(tab_group, id=tab_group):
                    if len(side_by_side) == 1:
                        yield side_by_side[0]
                        continue
                    with gr.Tabs() as self.inner[tab_group]:
                        for recipe in side_by_side:
                            with gr.Tab(inner_title(recipe), id=recipe.name):
                                yield recipe

    def opened(self, recipe: type[Recipe]) -> dict:
        """The tabs, with a recipe in sight."""
        inner = self.inner.get(recipe.tab_group)
        return {self.outer: gr.Tabs(selected=recipe.tab_group)} | ({inner: gr.Tabs(selected=recipe.name)} if inner else {})


def inner_title(recipe: type[Recipe]) -> str:
    """A recipe among others of its room: the one that the room is named after goes by what it makes."""
    return recipe.title if recipe.title != recipe.tab_group else recipe.produces.capitalize()


def _sent(doors: Doors, tab: Tab, shot: Shot) -> dict:
    """A result as the first picture of another recipe, whose tab opens."""
    return doors.opened(tab.recipe) | tab.received(shot)


def _let_in(demo: gr.Blocks, doors: Doors, tabs: Sequence[Tab]) -> None:
    """Settings that bring their tab with them: of a link that was followed, or of a picture made with another recipe."""
    by_recipe = {tab.recipe: tab for tab in tabs}
    outputs = [*doors.outputs, *(component for tab in tabs for component in (*tab.settable, *tab.origin.outputs))]

    def opened(recipe: Recipe) -> dict:
        tab = by_recipe[type(recipe)]
        return doors.opened(tab.recipe) | tab.set(recipe) | tab.origin.closed()

    def visited(request: gr.Request) -> dict:
        restored = followed(request)
        return opened(restored.recipe) if restored else {doors.outer: gr.skip()}

    demo.load(visited, None, outputs, **BEHIND_THE_PAGE)
    for tab in tabs:
        tab.origin.there.click(opened, tab.origin.recipe, outputs, queue=False, **BEHIND_THE_PAGE)


def _footer(folder: Path, limitations: Sequence[str]) -> None:
    if limitations:
        gr.HTML(f"<p>On this server: {escape(' '.join(limitations), quote=False)}</p>", elem_id="lacks")
    networks = "\n".join(f"- **{spec.title}**: {spec.good_for} Weights: {spec.licence}." for spec in NETWORKS.values())
    with gr.Accordion("Networks, licences and your privacy", open=False, elem_classes="prose-block"):
        gr.Markdown(f"#### The networks\n{networks}\n\n#### Your privacy\n{text.PRIVACY.format(hours=limits.HOURS_KEPT.value)}")
        _, _, sources = (folder / "SOURCES.md").read_text(encoding="utf-8").partition("\n")
        gr.Markdown(f"#### The example pictures\n{sources}")
