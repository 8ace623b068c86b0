"""Where a result comes from: its recipe as JSON inside every picture and video, and as a link.

This is the only file that knows either form. Whatever is read is foreign: it is checked as any other input is.
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
from featviz.media import images, video
from featviz.networks.table import NETWORKS
from featviz.recipes.objective_recipe import ObjectiveRecipe
from featviz.recipes.recipe import Recipe, unknown_name
from featviz.version import __version__

Recipes = Mapping[str, type[Recipe]]
"""Those that can be read, by their names: `featviz.RECIPES`."""

NOT_OURS = re.compile(r"_.*|view|utm_.*|\w*clid")
"""What Gradio and social networks append to the links of any page."""


@dataclass(frozen=True)
class Restored:
    """A recipe that was read, and in a sentence each what of it could not be."""

    recipe: Recipe
    remarks: tuple[str, ...] = ()
    extras: tuple[str, ...] = ()
    """The roles of the pictures beside the needed ones that it was made with, e.g. "mask"."""
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    """Of the pictures that it was made of, as `fingerprints` returns them; empty where the file has none."""


# As JSON


def as_json(recipe: Recipe) -> dict[str, Any]:
    """Return a recipe as {"recipe": name, "fields": {name: value}}, the form in which programs and files pass it on.

    An objective is only recorded, as {"objective": its text}.
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
    """The metadata of a result: the recipe, featviz's version, and the network with the sha256 of its weights.

    `pictures` are the roles of the pictures that it was made of, e.g. "image" and "mask". `fingerprints` are those of the same
    pictures, where known. `whole` tells whether the run ended by itself and was not steered; None where that is not known yet.
    """
    origin = {"network": recipe.network_name, "weights": NETWORKS[recipe.network_name].weights.expected_sha256}
    optional = {"whole": whole, "fingerprints": fingerprints or None}
    said = {"featviz": __version__, **as_json(recipe), **origin, "pictures": list(pictures)}
    return json.dumps(said | {name: value for name, value in optional.items() if value is not None})


def salt_of(result: Image.Image) -> str:
    """A salt for the fingerprints in a result: made of its pixels, so the same run gives the same bytes, and any other a new salt."""
    return _digest(result).hex()[:16]


def fingerprints(pictures: Mapping[str, Image.Image], salt: str) -> dict[str, str]:
    """Role → 32 bits by which somebody who has a picture can tell whether a result was made of it; and the salt itself.

    They tell nothing that the result does not tell already, since running its recipe again on a picture answers the same
    question. A picture cannot be computed from 32 bits. scrypt makes guessing slow, and the salt keeps two results of the
    same picture from having the same fingerprint.
    """
    if not pictures:
        return {}
    return {"salt": salt} | {role: _fingerprint(picture, salt) for role, picture in pictures.items()}


def changed(restored: Restored, pictures: Mapping[str, Image.Image]) -> list[str]:
    """The roles in which these pictures are not those that a result was made of; empty where the file does not tell."""
    recorded = restored.fingerprints
    if not recorded:
        return []
    given = fingerprints(pictures, recorded["salt"])
    return [role for role in {**given, **recorded} if given.get(role) != recorded.get(role) and role != "salt"]


def _fingerprint(picture: Image.Image, salt: str) -> str:
    salted = salt.encode("utf-8", "replace")
    return hashlib.scrypt(_digest(picture), salt=salted, n=2**12, r=8, p=1, dklen=4).hex()  # 30 ms and 4 MB.


def _digest(picture: Image.Image) -> bytes:
    """The sha256 of a picture's size and pixels, whichever file they came from."""
    found = hashlib.sha256(repr((picture.mode, picture.size)).encode())
    for top in range(0, picture.height, 256):  # The bytes of a whole picture would be a second copy of it in memory.
        found.update(picture.crop((0, top, picture.width, min(top + 256, picture.height))).tobytes())
    return found.digest()


def read(file: images.Picture, recipes: Recipes) -> Restored:
    """The recipe in a picture or a video that featviz made.

    Raises:
        InputError: there is no such file, or no recipe in it.
    """
    return restore(find(file), recipes)


def read_json(path: str | Path, recipes: Recipes) -> Restored:
    """The recipe in a JSON file, as `as_json` has it.

    Raises:
        InputError: there is no such file, or no recipe in it.
    """
    try:
        with Path(path).open(encoding="utf-8") as file:
            text = file.read(images.LONGEST + 1)
        data = json.loads(text) if len(text) <= images.LONGEST else None
    except OSError as error:
        raise InputError(f"The recipe '{path}' cannot be read: {error.strerror}.") from None
    except (ValueError, RecursionError):
        raise InputError(f"The recipe '{path}' is not JSON.") from None
    return from_json(data, recipes)


def find(file: images.Picture) -> str:
    """The note in a picture or a video, "" where there is none. Raises ImageError where there is no such file."""
    try:
        return images.read_note(file)
    except ImageError:
        if isinstance(file, (str, Path)) and Path(file).is_file():
            return video.read_note(file)
        raise


def restore(text: str, recipes: Recipes) -> Restored:
    """The recipe in a note.

    Raises:
        InputError: it holds none, or the network that it was made with is not here.
    """
    if not text:
        raise InputError("There is no recipe in this file; the PNG, JPEG, WebP, MP4 and GIF files that featviz writes have one.")
    data: Any = None
    with suppress(ValueError, RecursionError):
        data = json.loads(text) if len(text) <= images.LONGEST else None
    if isinstance(data, dict) and isinstance(name := data.get("network"), str) and name not in NETWORKS:
        raise InputError(f"It was made with the network '{short(name)}', which is not here; featviz.add_network adds a network.")
    pictures = data.get("pictures") if isinstance(data, dict) else None
    pictures = pictures if isinstance(pictures, list) and pictures else None  # A note without any tells nothing of them.
    restored = from_json(data, recipes, pictures)
    extras = tuple(role for role in restored.recipe.extras if role in (pictures or ()))
    recorded = data.get("fingerprints") if isinstance(data, dict) else None
    if not (isinstance(recorded, dict) and isinstance(recorded.get("salt"), str)):
        recorded = {}
    remarks = (*restored.remarks, *_differences(restored.recipe, data))
    return replace(restored, remarks=remarks, extras=extras, fingerprints=recorded)


def from_json(data: object, recipes: Recipes, pictures: Collection[Any] | None = None) -> Restored:
    """The recipe out of its JSON; a field that cannot be used keeps its default, with a remark.

    `pictures` are the roles of those it was made of, None where they are not known.

    Raises:
        InputError: it is nothing of the kind, there is no recipe of that name, or it was made with an objective.
    """
    if not isinstance(data, dict) or "recipe" not in data or not isinstance(data.get("fields", {}), dict):
        raise InputError('This is no recipe; expected {"recipe": name, "fields": {name: value}}.')
    kind = _kind(data["recipe"], recipes)
    if objective := data.get("objective"):
        raise InputError(
            f"It was made with the objective {short(objective, 200)}, which was given in Python; "
            f"it can be run again as {kind.__name__}(objective=…), but not from this file alone."
        )
    return _accepted(kind, data.get("fields", {}), pictures)


def _differences(recipe: Recipe, data: Mapping[str, Any]) -> Iterator[str]:
    """What is known to keep a run of this recipe from giving the same picture here."""
    here, theirs = NETWORKS[recipe.network_name].weights.expected_sha256, data.get("weights")
    if data.get("featviz", __version__) != __version__:
        yield f"It was made by featviz {short(data['featviz'])}; this is {__version__}, whose results may differ."
    elif here and theirs and theirs != here:
        yield f"It was made with other weights of {NETWORKS[recipe.network_name].title}; the result will differ."
    if data.get("whole") is False:
        yield "It is not what a whole run with these settings comes to."


# As a link


def link(recipe: Recipe) -> str:
    """A recipe as the query of a link, e.g. `?recipe=deepdream&steps=8`: its name, and what differs from the defaults."""
    return "?" + urlencode({"recipe": recipe.name, **recipe.changed}, quote_via=quote, safe="/:,")


def follow(query: Mapping[str, str], recipes: Recipes) -> Restored | None:
    """The recipe of a link that was followed; None for one that says nothing to us.

    Raises:
        InputError: it is none of ours, or of a recipe that is not there.
    """
    said = {name: value for name, value in query.items() if not NOT_OURS.fullmatch(name)}
    if not said:
        return None
    if "recipe" not in said:
        raise InputError("This link names no recipe, so everything is as usual.")
    kind = _kind(said.pop("recipe"), recipes)
    return _accepted(kind, said)


def _kind(name: object, recipes: Recipes) -> type[Recipe]:
    """Return the recipe class of a current or earlier name. Raises InputError where there is none."""
    current = aliases.RECIPES.get(name, name) if isinstance(name, str) else ""
    if current not in recipes:
        raise InputError(f"There is no recipe '{short(name)}'; {nearest(name, list(recipes))}")
    return recipes[current]


def _accepted(kind: type[Recipe], fields: Mapping[str, Any], pictures: Collection[Any] | None = None) -> Restored:
    """As many of the fields as can be used, and remarks on the others. What had no effect in an earlier version is left out.

    Names are looked at first, so that no number of unknown ones costs more than one remark. Where the rest cannot be used
    together, fields are taken one by one, since each has to go with those before it.
    """
    known = {name: fields[name] for name in kind.model_fields if name in fields}
    remarks = []
    if unknown := [name for name in fields if name not in kind.model_fields]:
        more = f" {len(unknown) - 1} more are unknown." if len(unknown) > 1 else ""
        remarks.append(short(unknown_name(kind, unknown[0]), 300) + more)
    unused = kind.refused(known, None if pictures is None else [role for role in kind.extras if role in pictures])
    remarks += [rule.refusal(name) for name, rule in unused.items() if name in known]
    good: dict[str, Any] = {name: value for name, value in known.items() if name not in unused}
    if _refusal(kind, good):
        candidates, good = good, {}
        for name, value in candidates.items():
            if said := _refusal(kind, {**good, name: value}):
                remarks.append(said)
            else:
                good[name] = value
    return Restored(kind(**good), tuple(remarks))


def _refusal(kind: type[Recipe], fields: Mapping[str, Any]) -> str:
    """Why a recipe cannot have these fields, in a sentence; "" where it can."""
    try:
        kind(**fields)
    except FieldError as error:
        return short(str(error), 300)
    return ""
