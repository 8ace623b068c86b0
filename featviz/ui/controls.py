"""Controls, API signature and API docstring of a recipe, made from its fields."""

from collections.abc import Iterable, Sequence
from typing import Any

import gradio as gr
from pydantic.fields import FieldInfo

from featviz.networks.table import NETWORKS
from featviz.recipes.recipe import Recipe, Rule, bounds, choices, increment, longest, usual
from featviz.ui import text
from featviz.ui.serving.admission import values_by_name

MAX_SLIDER_STEPS = 10_000
"""A slider with more steps cannot be set by hand, so such a field is a number box."""


def label(name: str) -> str:
    """`octave_scale` → "Octave scale"."""
    return name.replace("_", " ").capitalize()


def lower_first(words: str) -> str:
    """Lower-case the first letter, for a label inside a sentence."""
    return words[:1].lower() + words[1:]


def enumeration(labels: Iterable[str]) -> str:
    """Labels in a sentence: "Style strength, content strength and smoothness"."""
    first, *others = labels
    *middle, last = [first, *(other.lower() for other in others)]
    return f"{', '.join(middle)} and {last}" if middle else last


def spoken(value: str) -> str:
    """The text of a choice: `vgg19/relu4_2` → "VGG-19 · relu4_2". Its value does not change."""
    if not value:
        return "None"
    network, _, layer = value.partition("/")
    if network not in NETWORKS:
        return value
    return " · ".join(filter(None, (NETWORKS[network].title, layer)))


def needs_download(value: str) -> bool:
    """Whether a choice names a network, or a layer of one, that has to be downloaded."""
    spec = NETWORKS.get(value.partition("/")[0])
    return spec is not None and spec.weights.needs_download


def control(name: str, field: FieldInfo) -> gr.components.Component:
    """Build the component that sets a field."""
    low, high = bounds(field)
    shared = {"value": field.default, "label": label(name), "info": field.description}
    if choices(field):
        ordered = sorted(choices(field), key=needs_download)  # Stable: the order of the table within both groups.
        return gr.Dropdown(
            [(f"{spoken(choice)}{' (download)' * needs_download(choice)}", choice) for choice in ordered], **shared
        )
    if field.annotation is bool:
        return gr.Checkbox(**shared)
    if field.annotation is str:
        return gr.Textbox(max_length=longest(field), **shared)
    step, precision = increment(field), 0 if field.annotation is int else None
    if low is None or high is None or (high - low) / step > MAX_SLIDER_STEPS:
        return gr.Number(minimum=low, maximum=high, step=step, precision=precision, **shared)
    # The script reads the greatest value here, since `Page.narrowed` gives the browser's slider a smaller maximum.
    typed = [f"up-to-{high:g}"] if usual(field) else None
    return gr.Slider(low, high, step=step, precision=precision, buttons=["reset"], elem_classes=typed, **shared)


def recipe_of(kind: type[Recipe], values: Sequence[Any]) -> Recipe:
    """Return the recipe of the controls' values, which are in the order of its fields. Values of disabled controls are left out.

    Raises:
        FieldError: a value is not accepted.
    """
    fields = dict(zip(kind.model_fields, values, strict=True))
    return kind(**{name: value for name, value in fields.items() if name not in kind.refused(fields, None)})


def enabled_unless(rule: Rule | None, **texts: str) -> dict:
    """Disable a control or a picture by a rule, or enable it if `rule` is None.

    `texts`: its descriptive properties by name, e.g. `info`; they are translated, and the reason is added to each.
    """
    texts = {name: text.translated(english) for name, english in texts.items()}
    if rule:
        reason = text.say("no_effect", reason=full_reason(rule))
        texts = {name: f"{described.rstrip('.')}. {reason}" for name, described in texts.items()}
    return gr.update(interactive=rule is None, **texts)


def without_disabled(recipe: type[Recipe], sent: Sequence[Any]) -> list[Any]:
    """Reset the values of disabled controls and pictures to their defaults, and tell the visitor about each."""
    values = values_by_name(recipe, sent)
    refused = recipe.refused(values, [role for role in recipe.optional_images if values[role] is not None])
    for name, rule in refused.items():
        gr.Info(text.say("left_out", name=text.translated(label(name)), reason=full_reason(rule)))
        values[name] = recipe.model_fields[name].default if name in recipe.model_fields else None
    return list(values.values())


def full_reason(rule: Rule) -> str:
    """Return when and why a rule holds in the language of the request, e.g. "beside class name: a class is shown"."""
    name = in_sentence(label(rule.beside or rule.without))
    return text.say("beside" if rule.beside else "without", name=name, reason=text.translated(rule.reason))


def in_sentence(name: str, tag: str = "") -> str:
    """Return a label as part of a sentence. English writes it with a small letter; other languages may not."""
    return name.lower() if (tag or text.language()) == "en" else text.translated(name, tag)


def caption(recipe: Recipe, tag: str = "") -> str:
    """Describe a run by its fields that are not at their defaults, by default in the language of the request."""
    table = text.TABLES[tag or text.language()]
    described = (_describe(name, value, tag, table["without_field"]) for name, value in recipe.changed_fields.items())
    return ", ".join(described) or table["default_settings"]


def _describe(name: str, value: Any, tag: str, without: str) -> str:
    if isinstance(value, str):
        return spoken(value)
    name = in_sentence(label(name), tag)
    if isinstance(value, bool):
        return name if value else without.format(name=name)
    return f"{name} {value:g}"
