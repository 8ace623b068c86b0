"""Run one recipe on many pictures: a folder, or the frames of a video or an animated picture. Each result is a PNG in a folder.

Existing results are skipped, so an interrupted batch can be continued. Several machines can share a batch: by `Shard`, or as a
cluster of Ray. Folders may be addresses that fsspec understands.
"""

import os
import re
from collections import Counter
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from featviz.errors import FeatvizError, ImageError, InputError
from featviz.media import images, saving, video
from featviz.media.images import EXTENSIONS, Picture, Pictures
from featviz.media.video import count_frames, frames, is_video
from featviz.recipes import metadata
from featviz.recipes.recipe import Recipe
from featviz.recipes.table import RECIPES
from featviz.runtime.cluster import ONE_AFTER_ANOTHER, Pool, Result, compute
from featviz.runtime.devices import Device
from featviz.runtime.remote import RemotePath, place
from featviz.runtime.stream import check, open_pictures


@dataclass(frozen=True)
class Shard:
    """The share of one machine in a batch: every `n`-th picture from the `i`-th on, both counted from 1."""

    i: int = 1
    n: int = 1

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """Parse 'i/n', e.g. '2/8' for the second of eight.

        Raises:
            InputError: the text has another form, or i is not from 1 to n.
        """
        match = re.fullmatch(r"([1-9]\d{0,8})/([1-9]\d{0,8})", text.strip(), re.ASCII)
        if not match or int(match[1]) > int(match[2]):
            raise InputError(f"The shard is '{text}'; expected 'i/n' with i from 1 to n, e.g. '2/8' for the second of eight.")
        return cls(*map(int, match.groups()))

    def includes(self, index: int) -> bool:
        """Whether the picture of this index, counted from 0, belongs to the shard."""
        return index % self.n == self.i - 1

    def count(self, total: int) -> int:
        """Return how many of `total` pictures belong to the shard."""
        return len(range(self.i - 1, total, self.n))


@dataclass(frozen=True)
class Outcome:
    """The outcome of one picture of a batch."""

    out: Path | RemotePath
    """The file of the result."""
    made: bool = False
    """Whether this batch made it; otherwise it existed before, or there is an error."""
    error: FeatvizError | None = None


def is_batch(source: str | os.PathLike, out: str | os.PathLike | None = "") -> bool:
    """Whether a path stands for many pictures: a folder, a video, or an animated picture whose results go into a folder.

    Of an animated picture only the first frame is used where `out` is the name of a picture file, or None for a recipe that
    writes no file.
    """
    if isinstance(place(source), RemotePath) or place(source).is_dir() or is_video(source):
        return True
    return out is not None and place(out).suffix.lower() not in saving.PICTURE_FORMATS and _is_animated(Path(source))


def count(source: str | os.PathLike) -> int:
    """Return the number of pictures. For a video it is the number in its header, 0 where that is missing."""
    where = place(source)
    if isinstance(where, RemotePath) or where.is_dir():
        return len(_result_names(where)) if where.is_dir() else 0
    return count_frames(where) if is_video(where) else images.count_frames(where)


def describe_skipped(source: str | os.PathLike) -> list[str]:
    """Return a sentence each about the files of a folder that cannot be read, by their extension, and about its subfolders.

    Hidden files, whose names begin with a dot, are not mentioned.
    """
    where = place(source)
    if not where.is_dir():
        return []
    pictures = _result_names(where)
    skipped = sorted(path for path in where.iterdir() if not path.name.startswith(".") and path not in pictures)
    files, folders = ([path.name for path in skipped if path.is_dir() == is_dir] for is_dir in (False, True))
    reasons = {f"{images.NAMES} files are read": files, "subfolders are not searched": folders}
    return [f"Skipped in '{source}': {_first_names(names)}; {reason}." for reason, names in reasons.items() if names]


def run_batch(
    recipe: Recipe,
    source: str | os.PathLike,
    folder: str | os.PathLike,
    *,
    shard: Shard = Shard(),
    device: Device = "auto",
    pool: Pool = ONE_AFTER_ANOTHER,
    **pictures: Pictures,
) -> Generator[Outcome, None, None]:
    """Run a recipe on every picture of `source`, with `pictures` for its other roles, and yield the outcome of each.

    `pool` computes them: in this process, one after the other, or elsewhere (`featviz.runtime.cluster.ray_pool`), in the order in
    which they are complete.

    Existing results are never overwritten. One that was made by another recipe or from other pictures is an outcome with an
    error; older files, which do not record their pictures, are compared by recipe only. A picture that cannot be used is an
    outcome with its error, and the batch continues. A result appears under its name only when it is complete.

    Raises:
        InputError: there is no picture in `source`, `folder` cannot be written or is the name of a file, or the recipe takes or
            makes no picture.
        FieldError: as for `featviz.runtime.stream.check`.
    """
    here, there = place(source), place(folder)
    if recipe.produces != "picture" or not recipe.images:
        raise InputError(f"{recipe.title} cannot be run on many pictures; it has to take a picture and to make one.")
    role, pictures = next(iter(recipe.images)), recipe.by_role(pictures)
    check(recipe, {role, *pictures})
    _check_places(here, there)
    settled: list[Outcome] = []
    """Outcomes that need no computation: the result exists, or a picture cannot be read."""

    def missing() -> Iterator[tuple[Path | RemotePath, dict[str, Picture]]]:
        for index, (name, picture) in enumerate(_frames(here) if isinstance(here, Path) and not here.is_dir() else _files(here)):
            if shard.includes(index):
                out = there / f"{name}.png"
                try:
                    opened = {role: picture.read() if isinstance(picture, RemotePath) else picture} | pictures
                    if not out.exists():
                        yield out, opened
                        continue
                    _check_existing(recipe, out, opened)
                    settled.append(Outcome(out))
                except FeatvizError as error:
                    settled.append(Outcome(out, error=error))
                except OSError as error:  # Its name is too long, for example.
                    settled.append(Outcome(out, error=_unwritable(out, error)))

    for out, result in pool(partial(compute, recipe, device), missing()):
        while settled:
            yield settled.pop(0)
        yield _stored(out, result)
    yield from settled


def _stored(out: Path | RemotePath, result: Result) -> Outcome:
    """Write a result, if there is one. Its file appears under its name only when it is complete."""
    if isinstance(result, FeatvizError):
        return Outcome(out, error=result)
    try:
        if isinstance(out, RemotePath):
            out.write(result)
            return Outcome(out, made=True)
        with saving.complete_file(out) as partial_file:
            partial_file.write_bytes(result)
    except OSError as error:
        return Outcome(out, error=_unwritable(out, error))
    except FeatvizError as error:
        return Outcome(out, error=error)
    return Outcome(out, made=True)


def _unwritable(out: Path | RemotePath, error: OSError) -> FeatvizError:
    return FeatvizError(f"The output '{out}' could not be written: {error.strerror or error}.")


def _check_places(source: Path | RemotePath, folder: Path | RemotePath) -> None:
    """Check the source and the output folder of a batch, and create the folder. Raises InputError as `run_batch` does."""
    if isinstance(source, RemotePath) and not source.is_dir():
        raise InputError(f"There is no folder '{source}'; of addresses, only folders of pictures are taken.")
    if source.is_dir() and not _result_names(source):
        raise InputError(f"There is no picture in '{source}'; {', '.join(EXTENSIONS)} are looked for.")
    if not folder.is_dir() and folder.suffix.lower() in (*EXTENSIONS, *video.READ):
        raise InputError(f"'{folder}' is the name of a file; many pictures are written into a folder, so name a folder.")
    if source.is_dir() and (folder == source or _is_same(folder, source)):
        raise InputError(f"'{folder}' is where the pictures are; choose another folder for the results.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"The output's folder '{folder}' cannot be made: {error.strerror}.") from None
    if isinstance(folder, Path) and not os.access(folder, os.W_OK):
        raise InputError(f"The output's folder '{folder}' cannot be written; check its permissions.")


def _is_same(one: Path | RemotePath, other: Path | RemotePath) -> bool:
    return isinstance(one, Path) and isinstance(other, Path) and one.exists() and one.samefile(other)


def _check_existing(recipe: Recipe, out: Path | RemotePath, pictures: Mapping[str, Picture]) -> None:
    """Raises InputError where a file is not the result of this recipe on these pictures."""
    existing = metadata.read(out.read() if isinstance(out, RemotePath) else out, RECIPES)
    if existing.recipe != recipe:
        raise InputError("it was made by another recipe; remove it, or choose another folder for the results.")
    if roles := metadata.changed_pictures(existing, open_pictures(recipe, pictures)):
        raise InputError(
            f"it was made of another {' and another '.join(roles)}; remove it, or choose another folder for the results."
        )


def _is_animated(source: Path) -> bool:
    try:
        return images.count_frames(source) > 1
    except ImageError:
        return False  # The error is reported when the picture is opened.


def _result_names(folder: Path | RemotePath) -> dict[Any, str]:
    """Return the pictures of a folder in alphabetical order, and the name of each result without extension."""
    paths = sorted(
        path for path in folder.iterdir()
        if path.suffix.lower() in EXTENSIONS and not path.name.startswith(".") and path.is_file()
    )  # fmt: skip
    stems, names = Counter(path.stem for path in paths), {path.name for path in paths}
    return {path: path.stem if stems[path.stem] == 1 and path.stem not in names else path.name for path in paths}


def _files(folder: Path | RemotePath) -> Iterator[tuple[str, Any]]:
    """Yield the name of each result, and its picture."""
    return ((name, path) for path, name in _result_names(folder).items())


def _frames(source: Path) -> Iterator[tuple[str, Picture]]:
    """The same for the frames of a video or of an animated picture."""
    pictures = frames(source) if is_video(source) else images.frames(source, "picture")
    return ((f"{number:06d}", picture) for number, picture in enumerate(pictures, start=1))


def _first_names(names: list[str]) -> str:
    """Join the first three names, and count the others."""
    most = 3
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
