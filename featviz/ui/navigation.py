"""The tabs of the page."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import groupby
from typing import Any

import gradio as gr

from featviz.recipes.recipe import Recipe


class Navigation:
    """A tab for each group of recipes and, in a group of several recipes, one for each of them."""

    def __init__(self, others: Mapping[str, Mapping[str, Callable[[], object]]]) -> None:
        """`others`: group → {id of a tab without a recipe: what fills it}. They come before those of the group's recipes."""
        self.others = others
        self.outer = gr.Tabs()
        self.inner: dict[str, gr.Tabs] = {}
        """The inner tabs of each tab group, by the name of the group."""
        self.tabs: dict[str, gr.Tab] = {}
        """The tab of each recipe, by its name. A recipe that is alone in its group has the tab of the group, by the name of the group."""
        self.titles: dict[gr.Tab, str] = {}
        self.selects: list[Any] = []

    @property
    def outputs(self) -> list[gr.Tabs]:
        return [self.outer, *self.inner.values()]

    def tabs_of(self, recipes: Iterable[type[Recipe]]) -> Iterator[type[Recipe]]:
        """Yield every recipe inside its tab. The id of the tab in the page has the name of the recipe."""
        with self.outer:
            for tab_group, side_by_side in groupby(recipes, lambda recipe: recipe.tab_group):
                first, *others = side_by_side
                if not others:
                    with self._tab(tab_group, id=tab_group, elem_id=f"tab_{first.name}"):
                        yield first
                    continue
                with self._group(tab_group):
                    for recipe in (first, *others):
                        with self._tab(inner_title(recipe), id=recipe.name, elem_id=f"tab_{recipe.name}"):
                            yield recipe
            for tab_group in self.others:
                if tab_group not in self.inner:
                    with self._group(tab_group):
                        pass

    @contextmanager
    def _group(self, tab_group: str) -> Iterator[None]:
        """Add the tab of a group with its tabs that have no recipe. Inside this context those of its recipes are added."""
        with self._tab(tab_group, id=tab_group), gr.Tabs() as self.inner[tab_group]:
            for name, fill in self.others.get(tab_group, {}).items():
                with self._tab(name.capitalize(), id=name, elem_id=f"tab_{name}"):
                    fill()
            yield

    def _tab(self, title: str, **options: Any) -> gr.Tab:
        tab = self.tabs[options["id"]] = gr.Tab(title, **options)
        self.titles[tab] = title
        self.selects.append(tab.select)
        return tab

    def select(self, recipe: type[Recipe]) -> dict:
        """Open the tab of a recipe."""
        return self.select_tab(recipe.tab_group, recipe.name)

    def select_tab(self, tab_group: str, name: str) -> dict:
        """Open a tab of a group."""
        inner = self.inner.get(tab_group)
        return {self.outer: gr.Tabs(selected=tab_group)} | ({inner: gr.Tabs(selected=name)} if inner else {})


def inner_title(recipe: type[Recipe]) -> str:
    """Title of a recipe inside its group: its product, e.g. "Picture", if its own title is that of the group."""
    return recipe.title if recipe.title != recipe.tab_group else recipe.produces.capitalize()
