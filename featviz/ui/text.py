"""The words of the page and of the recipes' fields: a table of each for each language. The browser chooses the language."""

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.context import LocalContext

from featviz import limits

TITLE = "featviz"

TABLES: dict[str, dict[str, str]] = {
    path.stem.replace("_", "-"): json.loads(path.read_text(encoding="utf-8"))
    for path in sorted(Path(__file__).with_name("languages").glob("*.json"))
}
"""Language tag → {key: text}. All tables have the same keys."""

TRANSLATIONS: dict[str, dict[str, str]] = {
    path.stem.replace("_", "-"): json.loads(path.read_text(encoding="utf-8"))
    for path in sorted(Path(__file__).with_name("languages").joinpath("fields").glob("*.json"))
}
"""Language tag → {English: translation} of the texts of recipes and examples: titles, actions, explanations, stages and estimates;
and the labels, meanings, groups, ranges and reasons of rules of their fields."""

RANGE = re.compile(r"(?P<meaning>.+) (?:From (?P<low>\S+) to (?P<high>\S+)|At least (?P<least>\S+))\.")
"""The meaning of a field and its range, as `param` writes it."""

VALUE = re.compile(r"(?<=out of ).+|\S*\d\S*(?: (?:s|min|h|GB)\b)?")
"""What differs between two sentences of one pattern: numbers with their unit, and the names of layers."""

IN_SCRIPT = re.compile(
    "tagline|skip|premade|copied|copy_from|no_sharing|refused.*|explore_.*|atlas_.*|lesson_.*|game_.*|mirror.*|camera_.*"
)
"""The keys of the texts that scripts use."""


@cache
def labels() -> gr.I18n:
    """Return the texts that do not change, by key. The browser translates them, but inserts no values: those are inserted here."""
    hours = limits.HOURS_KEPT.value  # Read when the page is built: importing reads no settings.
    return gr.I18n(**{tag: table | {"privacy": table["privacy"].format(hours=hours)} for tag, table in TABLES.items()})


def label(key: str) -> Any:
    """Return a text that does not change, which the browser translates."""
    return labels()(key)


def say(key: str, **values: Any) -> str:
    """Return a text of a response in the language of the request, with its values inserted."""
    return TABLES[language()][key].format(**values)


def language() -> str:
    """Return the first language of the browser's list that has a table, e.g. "de" for "de-AT"; English by default."""
    request = LocalContext.request.get(None)
    headers = getattr(request, "headers", None) or {}
    for tag in headers.get("accept-language", "").split(","):
        spoken = tag.partition(";")[0].strip().partition("-")[0].lower()
        for known in TABLES:
            if spoken and known.partition("-")[0] == spoken:
                return known
    return "en"


def translated(english: str, tag: str = "") -> str:
    """Translate a text of a recipe, by default into the language of the request. What has no translation stays English."""
    table = TRANSLATIONS.get(tag or language(), {})
    if found := RANGE.fullmatch(english):
        meaning, low, high, least = found.groups()
        bounds = "From {low} to {high}." if high else "At least {low}."
        return f"{table.get(meaning, meaning)} {table.get(bounds, bounds).format(low=low or least, high=high)}"
    return table.get(english, english)


def translated_pattern(english: str) -> str:
    """Translate a text with values, such as "octave 2 of 4", by its pattern "octave {} of {}"; else each part of it between commas."""
    pattern = VALUE.sub("{}", english)
    known = translated(pattern)
    if known != pattern:
        return known.format(*VALUE.findall(english))
    first, comma, others = english.partition(", ")
    return f"{translated_pattern(first)}{comma}{translated_pattern(others)}" if comma else english


def words() -> dict[str, dict[str, str]]:
    """Return the texts of the scripts by language."""
    return {tag: {key: table[key] for key in table if IN_SCRIPT.fullmatch(key)} for tag, table in TABLES.items()}
