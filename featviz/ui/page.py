"""The page: a tab for each group of recipes, and the buttons that lead from one recipe to another."""

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
from featviz.ui.job_endpoints import publish_runs
from featviz.ui.links import settings_from_link
from featviz.ui.request_limits import Blocks
from featviz.ui.running import PAGE_EVENT, Engine, Result, Runner
from featviz.ui.shutdown import SWEPT_EVERY
from featviz.ui.tab import Tab
from featviz.ui.video import VideoTab

KINDS = {"picture": Tab, "video": VideoTab}
"""Tab class by what a recipe produces; the group "Look Inside" has its own classes."""


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
    examples, all_presets = presets.read_examples(folder), presets.read_presets(folder)
    with Blocks(
        title=f"{text.TITLE} · {text.TAGLINE}",
        analytics_enabled=False,
        delete_cache=(SWEPT_EVERY, limits.HOURS_KEPT.value * 3600),
    ) as demo:
        gr.HTML(f"<h1>{text.TITLE}</h1><p>{text.TAGLINE}</p>", elem_id="masthead")
        navigation, tabs = Navigation(), []
        for recipe in navigation.tabs_of(RECIPES.values()):
            own = [[item for item in items if type(item.recipe) is recipe] for items in (examples, all_presets)]
            kind = look_inside.KINDS.get(recipe.name) or KINDS[recipe.produces]
            tabs.append(kind(recipe, engine, *own))
        for tab in tabs:
            for other in tabs:
                if button := tab.send_buttons.get(other.recipe.name):
                    sent = partial(_send_result, navigation, other)
                    changed = [*navigation.outputs, other.pictures[0], *other.origin.outputs]
                    button.click(sent, tab.latest, changed, queue=False, **PAGE_EVENT)
        look_inside.connect({tab.recipe.name: tab for tab in tabs}, navigation)
        _connect_settings(demo, navigation, tabs)
        publish(all_presets, engine.estimate)
        publish_runs({tab.recipe: tab.inputs for tab in tabs}, engine)
        _footer(folder, engine.limitations())
    return demo


class Navigation:
    """A tab for each group of recipes and, in a group of several recipes, one for each of them."""

    def __init__(self) -> None:
        self.outer = gr.Tabs()
        self.inner: dict[str, gr.Tabs] = {}
        """By tab group."""

    @property
    def outputs(self) -> list[gr.Tabs]:
        return [self.outer, *self.inner.values()]

    def tabs_of(self, recipes: Iterable[type[Recipe]]) -> Iterator[type[Recipe]]:
        """Yield every recipe inside its tab."""
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

    def select(self, recipe: type[Recipe]) -> dict:
        """Open the tab of a recipe."""
        inner = self.inner.get(recipe.tab_group)
        return {self.outer: gr.Tabs(selected=recipe.tab_group)} | ({inner: gr.Tabs(selected=recipe.name)} if inner else {})


def inner_title(recipe: type[Recipe]) -> str:
    """Title of a recipe inside its group: its product, e.g. "Picture", if its own title is that of the group."""
    return recipe.title if recipe.title != recipe.tab_group else recipe.produces.capitalize()


def _send_result(navigation: Navigation, tab: Tab, result: Result) -> dict:
    """Open another recipe with a result as its first picture."""
    return navigation.select(tab.recipe) | tab.use_as_input(result)


def _connect_settings(demo: gr.Blocks, navigation: Navigation, tabs: Sequence[Tab]) -> None:
    """Restore settings and open their tab: from a link, or from a picture made with another recipe."""
    by_recipe = {tab.recipe: tab for tab in tabs}
    outputs = [*navigation.outputs, *(component for tab in tabs for component in (*tab.settable, *tab.origin.outputs))]

    def open_settings(recipe: Recipe) -> dict:
        tab = by_recipe[type(recipe)]
        return navigation.select(tab.recipe) | tab.set(recipe) | tab.origin.closed()

    def open_link(request: gr.Request) -> dict:
        restored = settings_from_link(request)
        return open_settings(restored.recipe) if restored else {navigation.outer: gr.skip()}

    demo.load(open_link, None, outputs, **PAGE_EVENT)
    for tab in tabs:
        tab.origin.there.click(open_settings, tab.origin.recipe, outputs, queue=False, **PAGE_EVENT)


def _footer(folder: Path, limitations: Sequence[str]) -> None:
    if limitations:
        gr.HTML(f"<p>On this server: {escape(' '.join(limitations), quote=False)}</p>", elem_id="limitations")
    networks = "\n".join(f"- **{spec.title}**: {spec.good_for} Weights: {spec.licence}." for spec in NETWORKS.values())
    with gr.Accordion("Networks, licences and your privacy", open=False, elem_classes="prose-block"):
        gr.Markdown(f"#### The networks\n{networks}\n\n#### Your privacy\n{text.PRIVACY.format(hours=limits.HOURS_KEPT.value)}")
        _, _, sources = (folder / "SOURCES.md").read_text(encoding="utf-8").partition("\n")
        gr.Markdown(f"#### The example pictures\n{sources}")
