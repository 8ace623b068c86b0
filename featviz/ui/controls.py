"""A recipe's fields as people and programs meet them: controls on the page, a signature and a docstring for API and MCP."""

import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import gradio as gr
from pydantic.fields import FieldInfo

from featviz.networks.table import NETWORKS
from featviz.recipes.recipe import Recipe, Rule, bounds, choices, increment, longest

MOST_STOPS = 10_000
"""A slider with more stops than this cannot be set by hand, so such a field is a box to type in."""


RETURNS = {
    "picture": "The picture: previews while it works, then the final one as a full-quality PNG.",
    "video": "The video as an MP4, when it is done.",
    "numbers": "The names and their probabilities, likeliest first.",
}


def label(name: str) -> str:
    """`octave_scale` → "Octave scale"."""
    return name.replace("_", " ").capitalize()


def enumeration(labels: Iterable[str]) -> str:
    """Labels in a sentence: "Style strength, content strength and smoothness"."""
    first, *others = labels
    *middle, last = [first, *(other.lower() for other in others)]
    return f"{', '.join(middle)} and {last}" if middle else last


def spoken(value: str) -> str:
    """A choice in people's words: `vgg19/relu4_2` → "VGG-19 · relu4_2". The value itself stays what programs send."""
    if not value:
        return "None"
    network, _, layer = value.partition("/")
    if network not in NETWORKS:
        return value
    return " · ".join(filter(None, (NETWORKS[network].title, layer)))


def control(name: str, field: FieldInfo) -> gr.components.Component:
    """The component that sets a field."""
    low, high = bounds(field)
    shared = {"value": field.default, "label": label(name), "info": field.description}
    if choices(field):
        return gr.Dropdown([(spoken(choice), choice) for choice in choices(field)], **shared)
    if field.annotation is bool:
        return gr.Checkbox(**shared)
    if field.annotation is str:
        return gr.Textbox(max_length=longest(field), **shared)
    step, precision = increment(field), 0 if field.annotation is int else None
    if low is None or high is None or (high - low) / step > MOST_STOPS:
        return gr.Number(minimum=low, maximum=high, step=step, precision=precision, **shared)
    return gr.Slider(low, high, step=step, precision=precision, buttons=["reset"], **shared)


def recipe_of(kind: type[Recipe], values: Sequence[Any]) -> Recipe:
    """The recipe that a page's controls set, in the order of its fields. What a disabled control holds is left out.

    Raises:
        FieldError: a value cannot be used.
    """
    fields = dict(zip(kind.model_fields, values, strict=True))
    return kind(**{name: value for name, value in fields.items() if name not in kind.refused(fields, None)})


def enabled_unless(rule: Rule | None, **texts: str) -> dict:
    """The update of a control or a picture that has no effect by a rule, or has one again where there is none.

    `texts` are the properties that say what it is for; the reason is added to each.
    """
    if rule:
        reason = rule.words(lambda name: label(name).lower())
        texts = {name: f"{text.removesuffix('.')}. No effect {reason}." for name, text in texts.items()}
    return gr.update(interactive=rule is None, **texts)


def caption(recipe: Recipe) -> str:
    """What sets a run apart: its fields that are not at their defaults."""
    return ", ".join(_said(name, value) for name, value in recipe.changed.items()) or "default settings"


def _said(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return label(name).lower() if value else f"no {label(name).lower()}"
    return spoken(value) if isinstance(value, str) else f"{label(name).lower()} {value:g}"


def named_after(
    recipe: type[Recipe], call: Callable[[Sequence[Any]], Iterator[Any]], name: str = "", meaning: str = ""
) -> Callable[..., Iterator[Any]]:
    """`call` as a generator function with the signature and docstring of a recipe, for Gradio to read and to publish.

    `name` and `meaning` are the recipe's own where none are given.
    """

    def endpoint(*values: Any) -> Iterator[Any]:
        yield from call(values)

    parameters = [inspect.Parameter(role, inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=str) for role in recipe.images] + [
        inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=field.default, annotation=field.annotation)
        for name, field in recipe.model_fields.items()
    ]
    parameters += [
        inspect.Parameter(role, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=None, annotation=str | None)
        for role in recipe.extras
    ]
    endpoint.__name__ = endpoint.__qualname__ = name or recipe.name
    endpoint.__signature__ = inspect.Signature(parameters)
    endpoint.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    endpoint.__doc__ = "\n".join(
        [
            meaning or inspect.getdoc(recipe),
            "",
            "Args:",
            *(f"    {role}: {meaning}" for role, meaning in recipe.images.items()),
            *(f"    {name}: {field.description}" for name, field in recipe.model_fields.items()),
            *(f"    {role}: {meaning}" for role, meaning in recipe.extras.items()),
            "",
            "Returns:",
            f"    {RETURNS[recipe.produces]}",
        ]
    )
    return endpoint
