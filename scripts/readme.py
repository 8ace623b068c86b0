"""Write the tables of our documents, and the whole of docs/python.md, anew from the source: `make readme`.

A table stands between `<!-- table: name -->` and `<!-- end -->`. A test fails when one is stale.
"""

import re
from pathlib import Path

from pydantic.fields import FieldInfo

from featviz.limits import LIMITS
from featviz.networks.table import NETWORKS
from featviz.recipes.recipe import Recipe, choices
from featviz.recipes.table import RECIPES
from scripts import reference

ROOT = Path(__file__).parent.parent
DOCUMENTS = (ROOT / "README.md", ROOT / "docs" / "parameters.md")

TABLE = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def fresh(text: str) -> str:
    """A document's text with every table made anew."""
    tables = {"networks": networks(), "variables": variables(), **{name: parameters(recipe) for name, recipe in RECIPES.items()}}
    return TABLE.sub(lambda found: f"{found[1]}{tables[found[2]]}{found[3]}", text)


def parameters(recipe: type[Recipe]) -> str:
    """A recipe's fields: name, default, meaning with range."""
    rows = [(f"`{name}`", f"`{field.default}`", _meaning(field)) for name, field in recipe.model_fields.items()]
    return _table(("parameter", "default", "meaning"), rows)


def networks() -> str:
    """The rows of `NETWORKS`."""
    rows = [
        (f"`{name}`", spec.title, _names(tuple(spec.layers)), spec.good_for, spec.licence, spec.weights.source)
        for name, spec in NETWORKS.items()
    ]
    return _table(("name", "network", "layers, shallow to deep", "good for", "licence of the weights", "source"), rows)


VARIABLES = (
    (
        "FEATVIZ_REVISIONS",
        "",
        "Revisions of networks on the Hub, as in `timm/resnet50.tv_in1k@main lucid-dl/googlenet@main`: branches, tags or commits. "
        "A file of a revision named here is checked against the Hub's own hash, not against ours.",
    ),
    (
        "HF_HOME",
        "~/.cache/huggingface",
        "Where downloads are kept. On a Space, a folder of persistent storage, such as `/data`, saves downloading them anew.",
    ),
    ("HF_ENDPOINT", "https://huggingface.co", "Another Hub to download from, such as a mirror."),
    ("HF_HUB_OFFLINE", "", "`1` for no downloads: the bundled networks, and those downloaded before, still work."),
    (
        "HF_HUB_DISABLE_XET",
        "",
        "`1` to download by plain HTTP from the start. Without it, a download by Xet that hangs is begun anew by plain HTTP.",
    ),
    ("HF_TOKEN", "", "A token for repositories that are private or gated; none is needed for ours. Make it a *secret*."),
)
"""Name, default and meaning of the variables that are no limits."""


def variables() -> str:
    """Everything that can be set by environment."""
    rows = [(limit.variable, str(limit.default), limit.meaning) for limit in LIMITS] + list(VARIABLES)
    return _table(
        ("variable", "default", "meaning"), [(f"`{name}`", default and f"`{default}`", said) for name, default, said in rows]
    )


def _meaning(field: FieldInfo) -> str:
    return f"{field.description} {_names(choices(field))}." if choices(field) else field.description


def _names(names: tuple[str, ...]) -> str:
    """All where they are few, else the ends and how many."""
    if len(names) <= 4:
        return ", ".join(f"`{name}`" for name in names)
    return f"`{names[0]}` to `{names[-1]}`, {len(names)} in all"


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


if __name__ == "__main__":
    for document in DOCUMENTS:
        document.write_text(fresh(document.read_text(encoding="utf-8")), encoding="utf-8")
    reference.DOCUMENT.write_text(reference.reference(), encoding="utf-8")
