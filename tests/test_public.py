"""The public names: listed in one place, and each with a docstring."""

import importlib
import inspect
import pkgutil
from collections.abc import Iterator

import pytest

import featviz
from featviz import ui
from featviz.recipes.table import RECIPES


def public() -> Iterator[tuple[str, object]]:
    """Yield every public class, function, method and property of every module but the page's, by its name below `featviz`."""
    for found in pkgutil.walk_packages(featviz.__path__, "featviz."):
        if found.name.startswith("featviz.ui") or found.name == "featviz.__main__":
            continue
        module, prefix = importlib.import_module(found.name), found.name.removeprefix("featviz.")
        for name, thing in vars(module).items():
            if getattr(thing, "__module__", None) != module.__name__ or name.startswith("_") or not callable(thing):
                continue
            yield f"{prefix}.{name}", thing
            for part, value in vars(thing).items() if inspect.isclass(thing) else ():
                if not part.startswith(("_", "model_")) and (inspect.isfunction(value) or isinstance(value, property)):
                    yield f"{prefix}.{name}.{part}", getattr(thing, part)


def test_the_public_names_are_there_every_recipe_among_them():
    assert len(featviz.__all__) == len(set(featviz.__all__))
    assert all(hasattr(featviz, name) for name in featviz.__all__)
    assert {recipe.__name__ for recipe in RECIPES.values()} < set(featviz.__all__)


@pytest.mark.parametrize("package", [featviz, ui], ids=lambda package: package.__name__)
def test_no_public_name_hides_a_module(package):
    """`import featviz.x` has to give the module."""
    modules = {module.name for module in pkgutil.iter_modules(package.__path__)}
    assert not modules & set(package.__all__)
    assert all(inspect.ismodule(getattr(package, name)) for name in modules & vars(package).keys())


def test_everything_public_has_a_docstring():
    found = dict(public())
    assert {"recipes.deepdream.DeepDream.run", "optimise.tiles.grid", "runtime.stream.Preview.done"} < found.keys()
    assert [name for name, thing in found.items() if not inspect.getdoc(thing)] == []
