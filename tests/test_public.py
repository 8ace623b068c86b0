"""What others may use: named in one place, and each says what it is."""

import importlib
import inspect
import pkgutil
from collections.abc import Iterator

import pytest

import featviz
from featviz import ui
from featviz.recipes.table import RECIPES


def public() -> Iterator[tuple[str, object]]:
    """Every class and function of every module but the page, and every method, whose name begins with a letter."""
    for found in pkgutil.iter_modules(featviz.__path__):
        if found.name in ("ui", "__main__"):
            continue
        module = importlib.import_module(f"featviz.{found.name}")
        for name, thing in vars(module).items():
            if getattr(thing, "__module__", None) != module.__name__ or name.startswith("_") or not callable(thing):
                continue
            yield f"{found.name}.{name}", thing
            for part, value in vars(thing).items() if inspect.isclass(thing) else ():
                if not part.startswith(("_", "model_")) and (inspect.isfunction(value) or isinstance(value, property)):
                    yield f"{found.name}.{name}.{part}", getattr(thing, part)


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


def test_everything_public_says_what_it_is():
    found = dict(public())
    assert {"dream.DeepDream.run", "tiles.grid", "streaming.Preview.done", "network.Network.activations"} < found.keys()
    assert [name for name, thing in found.items() if not inspect.getdoc(thing)] == []
