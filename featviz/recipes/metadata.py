"""Provenance of results: the recipe as JSON in the metadata of every picture and video, and as a link.

Only this module reads and writes these two formats. Everything read is untrusted input, and is validated.
"""

import hashlib
import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from PIL import Image

from featviz import aliases
from featviz.errors import FieldError, ImageError, InputError, nearest, short
from featviz.media import images, saving, video
from featviz.networks.table import NETWORKS
from featviz.recipes.objective_recipe import ObjectiveRecipe
from featviz.recipes.recipe import Recipe, unknown_name
from featviz.version import __version__

Recipes = Mapping[str, type[Recipe]]
"""Name → recipe class, for all recipes that can be read: `featviz.RECIPES`."""

IGNORED_PARAMETERS = re.compile(r"_.*|view|utm_.*|\w*clid|lesson")
"""Parameters of links that say nothing about a recipe: those of Gradio and of social networks, and the step of the lesson."""


@dataclass(frozen=True)
class Restored:
    """A recipe that was read, and what was noticed while reading."""

    recipe: Recipe
    remarks: tuple[str, ...] = ()
    """Sentences for users: fields that could not be used, and reasons why a new run may give another result."""
    optional_images: tuple[str, ...] = ()
    """The roles of the optional pictures that it was made with, e.g. "mask"."""
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    """The fingerprints of the pictures that it was made with, as `fingerprints` returns them; empty if the file has none."""
    whole: bool | None = field(default=None, compare=False)
    """Whether the run ended by itself and no field changed during it; None if unknown."""


# As JSON


def as_json(recipe: Recipe) -> dict[str, Any]:
    """Return a recipe as {"recipe": name, "fields": {name: value}}, the format of files and of the API.

    An objective is added as {"objective": text}, for information: it cannot be read back.
    """
    objective = recipe.objective if isinstance(recipe, ObjectiveRecipe) else None
    recorded = {} if objective is None else {"objective": str(objective)}
    return {"recipe": recipe.name, "fields": recipe.model_dump(), **recorded}


def note(
    recipe: Recipe,
    pictures: Iterable[str] = (),
    *,
    whole: bool | None = None,
    fingerprints: Mapping[str, str] | None = None,
) -> str:
    """Return the metadata of a result as JSON: the recipe, featviz's version, the network and the sha256 of its weights.

    Args:
        recipe: the recipe of the run.
        pictures: the roles of the pictures that the result was made with, e.g. "image" and "mask".
        whole: whether the run ended by itself and no field changed during it; None if unknown, then it is left out.
        fingerprints: the fingerprints of these pictures, as `fingerprints` returns them; left out if None or empty.
    """
    origin = {"network": recipe.network_name, "weights": NETWORKS[recipe.network_name].weights.expected_sha256}
    optional = {"whole": whole, "fingerprints": fingerprints or None}
    contents = {"featviz": __version__, **as_json(recipe), **origin, "pictures": list(pictures)}
    return json.dumps(contents | {name: value for name, value in optional.items() if value is not None})


def salt_of(result: Image.Image) -> str:
    """Return the salt for the fingerprints in a result: 16 hexadecimal digits of the sha256 of its pixels.

    It is not random, so that the same run writes the same bytes. Different results get different salts.
    """
    return _digest(result).hex()[:16]


def fingerprints(pictures: Mapping[str, Image.Image], salt: str) -> dict[str, str]:
    """Return {role: fingerprint} and {"salt": salt}; {} without pictures. A fingerprint is 32 bits, as 8 hexadecimal digits.

    With a fingerprint and a picture one can check whether a result was made with that picture. This reveals nothing new, since
    running the recipe on the picture answers the same question. A picture cannot be recovered from 32 bits. scrypt makes
    guessing slow, and the salt gives two results of the same picture different fingerprints.
    """
    if not pictures:
        return {}
    return {"salt": salt} | {role: _fingerprint(picture, salt) for role, picture in pictures.items()}


def changed_pictures(restored: Restored, pictures: Mapping[str, Image.Image]) -> list[str]:
    """Return the roles whose picture is not the one that a result was made with, missing and additional ones included.

    Empty if the file has no fingerprints.
    """
    recorded = restored.fingerprints
    if not recorded:
        return []
    given = fingerprints(pictures, recorded["salt"])
    return [role for role in {**given, **recorded} if given.get(role) != recorded.get(role) and role != "salt"]


def _fingerprint(picture: Image.Image, salt: str) -> str:
    salted = salt.encode("utf-8", "replace")
    return hashlib.scrypt(_digest(picture), salt=salted, n=2**12, r=8, p=1, dklen=4).hex()  # Takes 30 ms and 4 MB.


def _digest(picture: Image.Image) -> bytes:
    """Return the sha256 of a picture's mode, size and pixels, 32 bytes. It does not depend on the file format."""
    digest = hashlib.sha256(repr((picture.mode, picture.size)).encode())
    for top in range(0, picture.height, 256):  # In strips, since all bytes at once would be a second copy in memory.
        digest.update(picture.crop((0, top, picture.width, min(top + 256, picture.height))).tobytes())
    return digest.digest()


def read(file: images.Picture, recipes: Recipes) -> Restored:
    """Return the recipe in a picture or video that featviz made.

    Raises:
        InputError: the file does not exist or contains no recipe, or the recipe's network or objective is not available.
        MissingExtraError: the file is not a picture, and PyAV, which reads videos, is not installed.
    """
    return restore(find(file), recipes)


def read_json(path: str | Path, recipes: Recipes) -> Restored:
    """Return the recipe in a JSON file of the format of `as_json`, in UTF-8 or UTF-16, with or without a byte order mark.

    Raises:
        InputError: the file cannot be read, is not JSON, or contains no recipe; or the recipe has an objective.
    """
    try:
        with Path(path).open("rb") as file:
            text = file.read(saving.LONGEST + 1)
        data = json.loads(text) if len(text) <= saving.LONGEST else None  # Of bytes, it detects the encoding.
    except OSError as error:
        raise InputError(f"The recipe '{path}' cannot be read: {error.strerror}.") from None
    except (ValueError, RecursionError):
        raise InputError(f"The recipe '{path}' is not JSON.") from None
    return from_json(data, recipes)


def find(file: images.Picture) -> str:
    """Return the metadata in a picture or video, the text that `note` returned; "" if there is none.

    Raises:
        ImageError: the file does not exist; or it is not given by its path, and is not a picture.
        MissingExtraError: the file is not a picture, and PyAV, which reads videos, is not installed.
    """
    try:
        return saving.read_note(file)
    except ImageError:
        if isinstance(file, (str, Path)) and Path(file).is_file():
            return video.read_note(file)
        raise


def restore(text: str, recipes: Recipes) -> Restored:
    """Return the recipe in the metadata of a result, the text that `find` returns.

    Raises:
        InputError: the text contains no recipe, or the recipe's network or objective is not available.
    """
    if not text:
        raise InputError("There is no recipe in this file; the PNG, JPEG, WebP, MP4 and GIF files that featviz writes have one.")
    data: Any = None
    with suppress(ValueError, RecursionError):
        data = json.loads(text) if len(text) <= saving.LONGEST else None
    if isinstance(data, dict) and isinstance(name := data.get("network"), str) and name not in NETWORKS:
        raise InputError(
            f"It was made with the network '{short(name)}', which is not available here; featviz.add_network adds it."
        )
    pictures = data.get("pictures") if isinstance(data, dict) else None
    pictures = pictures if isinstance(pictures, list) and pictures else None  # An empty list means unknown.
    restored = from_json(data, recipes, pictures)
    optional = tuple(role for role in restored.recipe.optional_images if role in (pictures or ()))
    recorded = data.get("fingerprints") if isinstance(data, dict) else None
    if not (isinstance(recorded, dict) and isinstance(recorded.get("salt"), str)):
        recorded = {}
    remarks = (*restored.remarks, *_differences(restored.recipe, data))
    whole = data.get("whole") if isinstance(data, dict) and isinstance(data.get("whole"), bool) else None
    return replace(restored, remarks=remarks, optional_images=optional, fingerprints=recorded, whole=whole)


def from_json(data: object, recipes: Recipes, pictures: Collection[Any] | None = None) -> Restored:
    """Return the recipe in decoded JSON of the format of `as_json`. A field that cannot be used keeps its default, with a remark.

    `pictures` are the roles of the pictures that it was made with; None if unknown.

    Raises:
        InputError: the data has another format, no recipe has that name, or it was made with an objective.
    """
    if not isinstance(data, dict) or "recipe" not in data or not isinstance(data.get("fields", {}), dict):
        raise InputError('This is not a recipe; expected {"recipe": name, "fields": {name: value}}.')
    kind = _kind(data["recipe"], recipes)
    if objective := data.get("objective"):
        raise InputError(
            f"It was made with the objective {short(objective, 200)}, which was given in Python; "
            f"it can be run again as {kind.__name__}(objective=…), but not from this file alone."
        )
    return _accepted(kind, data.get("fields", {}), pictures)


def _differences(recipe: Recipe, data: Mapping[str, Any]) -> Iterator[str]:
    """Yield sentences on why a new run would give another picture: another version, other weights, an incomplete run."""
    ours, theirs = NETWORKS[recipe.network_name].weights.expected_sha256, data.get("weights")
    if data.get("featviz", __version__) != __version__:
        yield f"It was made by featviz {short(data['featviz'])}; this is {__version__}, whose results may differ."
    elif ours and theirs and theirs != ours:
        yield f"It was made with other weights of {NETWORKS[recipe.network_name].title}; the result will differ."
    if data.get("whole") is False:
        yield "It was made by a run that was stopped, or whose settings were changed during it; a new run gives another picture."


# As a link


def link(recipe: Recipe) -> str:
    """Return a recipe as the query of a link, e.g. `?recipe=deepdream&steps=8`: its name, and fields not at their defaults."""
    return "?" + urlencode({"recipe": recipe.name, **recipe.changed_fields}, quote_via=quote, safe="/:,")


def follow(query: Mapping[str, str], recipes: Recipes) -> Restored | None:
    """Return the recipe in the query of a link; None if the query has no parameters, apart from those in `IGNORED_PARAMETERS`.

    A field that cannot be used keeps its default, with a remark.

    Raises:
        InputError: the query names no recipe, or an unknown one.
    """
    parameters = {name: value for name, value in query.items() if not IGNORED_PARAMETERS.fullmatch(name)}
    if not parameters:
        return None
    if "recipe" not in parameters:
        raise InputError("This link names no recipe, so the default settings are used.")
    kind = _kind(parameters.pop("recipe"), recipes)
    return _accepted(kind, parameters)


def _kind(name: object, recipes: Recipes) -> type[Recipe]:
    """Return the recipe class of a current or former name. Raises InputError if there is none."""
    current = aliases.RECIPES.get(name, name) if isinstance(name, str) else ""
    if current not in recipes:
        raise InputError(f"There is no recipe '{short(name)}'; {nearest(name, list(recipes))}")
    return recipes[current]


def _accepted(kind: type[Recipe], fields: Mapping[str, Any], pictures: Collection[Any] | None = None) -> Restored:
    """Return the recipe with those fields that can be used, and a remark on each other one.

    Fields that have no effect are left out: earlier versions accepted them. All unknown names share one remark, so that a
    file cannot cause many. If the remaining fields are not valid together, they are tried one by one, in order, each with
    those accepted before it.
    """
    known = {name: fields[name] for name in kind.model_fields if name in fields}
    remarks = []
    if unknown := [name for name in fields if name not in kind.model_fields]:
        more = f" {len(unknown) - 1} more are unknown." if len(unknown) > 1 else ""
        remarks.append(short(unknown_name(kind, unknown[0]), 300) + more)
    unused = kind.refused(known, None if pictures is None else [role for role in kind.optional_images if role in pictures])
    remarks += [rule.refusal(name) for name, rule in unused.items() if name in known]
    good: dict[str, Any] = {name: value for name, value in known.items() if name not in unused}
    if _refusal(kind, good):
        candidates, good = good, {}
        for name, value in candidates.items():
            if message := _refusal(kind, {**good, name: value}):
                remarks.append(message)
            else:
                good[name] = value
    return Restored(kind(**good), tuple(remarks))


def _refusal(kind: type[Recipe], fields: Mapping[str, Any]) -> str:
    """Return the error of a recipe with these fields, in one sentence; "" if they are valid."""
    try:
        kind(**fields)
    except FieldError as error:
        return short(str(error), 300)
    return ""
