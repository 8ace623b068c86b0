"""Generate docs/python.md, the reference of the Python API, from the signatures and docstrings in the source: `make readme`.

The source is parsed, so annotations and defaults appear as written and the page is the same on every version of Python.
"""

import ast
import inspect
import math
import re
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from types import ModuleType

import featviz
from featviz import errors
from featviz.recipes.recipe import Recipe

DOCUMENT = Path(__file__).parent.parent / "docs" / "python.md"
PARAMETERS = DOCUMENT.with_name("parameters.md")

HEAD = """# Python

`pip install .` in the folder of the repository installs the library and the command `featviz`. `pip install ".[video]"` adds videos,
`".[heif]"` HEIC pictures, `".[ray]"` the option `--ray`, and `".[app]"` the page with videos and HEIC; `python -m featviz.ui` serves it.

```python
from featviz import DeepDreamZoom, film

for preview in film(DeepDreamZoom(size=96, seconds=0.5), "journey.mp4", image="examples/cat.jpg"):
    print(preview.stage)
```

A *recipe* such as `DeepDreamZoom(…)` is an algorithm with its parameters. It is data, and is checked when it is made. `run` returns the
last picture. `stream` yields previews; closing it stops the run. `film` does the same and writes a video: the one that the recipe
produces, or how its picture came about. It is playable wherever the run is stopped. `save` writes the recipe into the file, and `recipe_of` reads it.

A *picture* is a path, a PIL image, a NumPy array, a torch tensor, bytes or an open file. Functions take the pictures of a recipe by
name, as in `run(StyleTransfer(), content="cat.jpg", style="wave.jpg")`. Several styles are a list: `style=["wave.jpg", "terrace.jpg"]`.

All deliberate errors are `FeatvizError`s with one sentence for people.

`DeepDream` and `FeatureVisualization` also accept an objective, such as
`objective=channel("vgg19/relu4_1", 12) - 0.5 * channel("vgg19/relu4_1", 40)` with `channel` of `featviz.objectives`.

All public names follow. `make readme` writes this page from the source.
"""

WIDTH = 100
"""Longest line of code, in characters. A longer signature has one parameter a line."""

SECTION = re.compile(r"(Args|Returns|Yields|Raises):")

ARTICLES = {"picture": "a picture", "video": "a video", "numbers": "numbers"}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def reference() -> str:
    """Return the whole page."""
    things = {name: getattr(featviz, name) for name in featviz.__all__ if name != "__version__"}
    recipes = [
        name for name, thing in things.items() if inspect.isclass(thing) and issubclass(thing, Recipe) and thing is not Recipe
    ]
    exceptions = [name for name, thing in things.items() if inspect.isclass(thing) and issubclass(thing, Exception)]
    functions = [name for name, thing in things.items() if inspect.isfunction(thing)]
    submodules = [name for name, thing in things.items() if inspect.ismodule(thing)]
    rest = [name for name in things if name not in {*recipes, *exceptions, *functions, *submodules, "Recipe"}]
    parts = [
        HEAD,
        "## Functions\n",
        *(_function(name, things[name]) for name in functions),
        *(part for name in submodules for part in _submodule(name, things[name])),
        "## Recipes\n",
        _class("Recipe", Recipe),
        *(_recipe(name, things[name]) for name in recipes),
        "## Other classes and tables\n",
        *(_class(name, things[name]) if inspect.isclass(things[name]) else _value(name) for name in rest),
        "## Errors\n",
        _docstring(inspect.getdoc(errors)),
    ]
    return "\n".join(parts)


# One name


def _function(name: str, function: object) -> str:
    node = _definition(sys.modules[function.__module__], name)
    return f"### {name}\n\n{_code(_signature(node))}\n{_docstring(ast.get_docstring(node))}"


def _submodule(name: str, module: ModuleType) -> Iterator[str]:
    """A public module: what it says of itself, and its public functions."""
    yield f"### {name}\n\n{_docstring(inspect.getdoc(module))}"
    for member in module.__all__:
        if inspect.isfunction(getattr(module, member)):
            node = _definition(module, member)
            yield f"#### {name}.{member}\n\n{_code(_signature(node))}\n{_docstring(ast.get_docstring(node))}"


def _class(name: str, kind: type) -> str:
    """Return the section of a class: fields, properties, methods."""
    node = _definition(sys.modules[kind.__module__], name)
    methods = [member for member in node.body if isinstance(member, Function) and not member.name.startswith("_")]
    members = [*_fields(node), *map(_member, methods)]
    items = "".join(f"- `{member}`{f': {meaning}' if meaning else ''}\n" for member, meaning in members)
    listed = f"\nAttributes and methods:\n\n{items}" if items else ""
    return f"### {name}\n\n{_docstring(ast.get_docstring(node))}{listed}"


def _recipe(name: str, recipe: type[Recipe]) -> str:
    """Return the section of a recipe: what it does, a link to its parameters, what it produces, the pictures that it takes."""
    node = _definition(sys.modules[recipe.__module__], name)
    pictures = [f"- `{role}`: {meaning}\n" for role, meaning in recipe.images.items()]
    pictures += [f"- `{role}`, optional: {meaning}\n" for role, meaning in recipe.optional_images.items()]
    takes = f"Pictures:\n\n{''.join(pictures)}" if pictures else "It takes no picture.\n"
    facts = f"[Parameters]({PARAMETERS.name}#{_anchor(recipe)}). It produces {ARTICLES[recipe.produces]}. {takes}"
    return f"### {name}\n\n{_docstring(ast.get_docstring(node))}\n{facts}"


def _value(name: str) -> str:
    """Return the section of a table or a type, from its assignment in the module that `featviz` imports it from."""
    module, original = _origin(name)
    for target, annotation, meaning in _assignments(_tree(module).body):
        if target == original:
            return f"### {name}\n\n{_code(f'{name}: {annotation}' if annotation else name)}\n{_docstring(meaning)}"
    raise LookupError(f"{name} has no assignment in {module.__name__}.")


def _member(node: Function) -> tuple[str, str]:
    """Return (signature, first paragraph of the docstring) of a method. A property looks like a field."""
    meaning = " ".join((ast.get_docstring(node) or "").partition("\n\n")[0].split())
    if {"property", "cached_property"} & {ast.unparse(decorator) for decorator in node.decorator_list}:
        return f"{node.name}: {ast.unparse(node.returns)}" if node.returns else node.name, meaning
    return _signature(node, math.inf).removeprefix("def "), meaning


# Parsing


@cache
def _tree(module: ModuleType) -> ast.Module:
    return ast.parse(Path(module.__file__ or "").read_text(encoding="utf-8"))


def _definition(module: ModuleType, name: str) -> ast.ClassDef | Function:
    (definition,) = [node for node in _tree(module).body if isinstance(node, (ast.ClassDef, Function)) and node.name == name]
    return definition


def _origin(name: str) -> tuple[ModuleType, str]:
    """Return the module that `featviz/__init__.py` imports a name from, and its name there."""
    for node in _tree(featviz).body:
        for alias in node.names if isinstance(node, ast.ImportFrom) else ():
            if name == (alias.asname or alias.name):
                return sys.modules[node.module or ""], alias.name
    raise LookupError(f"featviz does not import {name}.")


def _assignments(body: Sequence[ast.stmt]) -> Iterator[tuple[str, str, str]]:
    """Yield (name, annotation, docstring) of each assignment. The docstring is the string below it, "" if there is none."""
    for node, after in zip(body, [*body[1:], None], strict=True):
        target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0] if isinstance(node, ast.Assign) else None
        if isinstance(target, ast.Name):
            text = after.value.value if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) else ""
            yield target.id, ast.unparse(node.annotation) if isinstance(node, ast.AnnAssign) else "", inspect.cleandoc(text)


def _fields(node: ast.ClassDef) -> Iterator[tuple[str, str]]:
    """Yield (name with type, meaning in one line) of the annotated attributes of a class."""
    for name, annotation, meaning in _assignments(node.body):
        if annotation and not name.startswith("_"):
            inner = annotation.removeprefix("ClassVar[").removesuffix("]") if annotation.startswith("ClassVar[") else annotation
            yield f"{name}: {inner}", " ".join(meaning.split())


def _signature(node: Function, width: float = WIDTH) -> str:
    """Return `def name(…) -> …`, on one line if it has at most `width` characters."""
    arguments = node.args
    plain = [*arguments.posonlyargs, *arguments.args]
    defaults = [None] * (len(plain) - len(arguments.defaults)) + arguments.defaults
    parts = [_parameter(*pair) for pair in zip(plain, defaults, strict=True)]
    if arguments.posonlyargs:
        parts.insert(len(arguments.posonlyargs), "/")
    if arguments.vararg or arguments.kwonlyargs:
        parts.append(f"*{_parameter(arguments.vararg) if arguments.vararg else ''}")
    parts += [_parameter(*pair) for pair in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)]
    if arguments.kwarg:
        parts.append(f"**{_parameter(arguments.kwarg)}")
    parts = parts[1:] if plain and plain[0].arg in ("self", "cls") else parts
    returned = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    line = f"def {node.name}({', '.join(parts)}){returned}"
    if len(line) <= width:
        return line
    return f"def {node.name}(\n" + "".join(f"    {part},\n" for part in parts) + f"){returned}"


def _parameter(argument: ast.arg, default: ast.expr | None = None) -> str:
    typed = f"{argument.arg}: {ast.unparse(argument.annotation)}" if argument.annotation else argument.arg
    return typed if default is None else f"{typed}{' = ' if argument.annotation else '='}{ast.unparse(default)}"


# Markdown


def _docstring(text: str | None) -> str:
    """Return a docstring as Markdown: sections become lists, indented paragraphs become code blocks."""
    if not text:
        raise ValueError("A public name has no docstring.")
    return "\n\n".join(map(_paragraph, text.split("\n\n"))) + "\n"


def _paragraph(text: str) -> str:
    head, _, items = text.partition("\n")
    if SECTION.fullmatch(head):
        return f"{head[:-1]}:\n\n" + "\n".join(_items(items))
    return f"```text\n{inspect.cleandoc(text)}\n```" if text.startswith("    ") else text


def _items(text: str) -> Iterator[str]:
    """Yield the items of a section. An item begins at the least indentation."""
    for item in re.split(r"\n(?! )", inspect.cleandoc(text)):
        name, colon, meaning = " ".join(item.split()).partition(": ")
        yield f"- `{name}`: {meaning}" if colon and " " not in name else f"- {name}{colon}{meaning}"


def _code(text: str) -> str:
    return f"```python\n{text}\n```\n"


def _anchor(recipe: type[Recipe]) -> str:
    """Return the anchor of the heading above a recipe's table of parameters."""
    return recipe.title.lower().replace(" ", "-")
