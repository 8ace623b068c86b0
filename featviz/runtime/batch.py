"""Many pictures by one recipe: a folder of them, or the frames of a video or an animated picture, each a PNG of its name in another folder.

Whoever is interrupted starts again and finds what is done; several machines can share the work (`Shard`).
"""

import os
import re
from collections import Counter
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from featviz.errors import FeatvizError, ImageError, InputError
from featviz.media import images
from featviz.media.images import EXTENSIONS, Picture, save
from featviz.media.video import count_frames, frames
from featviz.recipes import metadata
from featviz.recipes.recipe import Recipe
from featviz.recipes.table import RECIPES
from featviz.runtime.devices import Device
from featviz.runtime.stream import check, open_pictures, run

VIDEOS = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi")


@dataclass(frozen=True)
class Shard:
    """Every n-th picture, from the i-th on, both from 1: what one of n machines does."""

    i: int = 1
    n: int = 1

    @classmethod
    def read(cls, text: str) -> "Shard":
        """'2/8' → the second of eight.

        Raises:
            InputError: it is nothing of the kind.
        """
        found = re.fullmatch(r"([1-9]\d{0,8})/([1-9]\d{0,8})", text.strip(), re.ASCII)
        if not found or int(found[1]) > int(found[2]):
            raise InputError(f"The shard is '{text}'; expected 'i/n' with i from 1 to n, e.g. '2/8' for the second of eight.")
        return cls(*map(int, found.groups()))

    def has(self, number: int) -> bool:
        """Whether the picture of that number, counted from 0, is one of this shard's."""
        return number % self.n == self.i - 1

    def share(self, count: int) -> int:
        """How many of so many pictures are this shard's."""
        return len(range(self.i - 1, count, self.n))


@dataclass(frozen=True)
class Outcome:
    """What became of one picture."""

    out: Path
    made: bool = False
    """Now, by this run; else it was there already, or could not be made."""
    error: FeatvizError | None = None


def is_batch(source: str | os.PathLike, out: str | os.PathLike | None = "") -> bool:
    """Whether a path stands for many pictures: a folder, a video, or an animated picture whose results go into a folder.

    Of an animated picture, the first frame is taken where `out` is a picture's file, or None for a recipe that writes none.
    """
    if Path(source).is_dir() or Path(source).suffix.lower() in VIDEOS:
        return True
    return out is not None and Path(out).suffix.lower() not in images.PICTURE_FORMATS and _is_animated(Path(source))


def _is_animated(source: Path) -> bool:
    try:
        return images.count_frames(source) > 1
    except ImageError:
        return False  # What is wrong with it is said when it is opened.


def count(source: str | os.PathLike) -> int:
    """How many pictures there are; of a video, what it says of itself, 0 where it says nothing."""
    source = Path(source)
    if source.is_dir():
        return len(_names(source))
    return count_frames(source) if source.suffix.lower() in VIDEOS else images.count_frames(source)


def skipped(source: str | os.PathLike) -> list[str]:
    """What of a folder is not taken, in a sentence each: files that cannot be read by their extension, and subfolders.

    Hidden files, whose name begins with a dot, are not mentioned.
    """
    source = Path(source)
    if not source.is_dir():
        return []
    taken = _names(source)
    left = sorted(path for path in source.iterdir() if not path.name.startswith(".") and path not in taken)
    files, folders = ([path.name for path in left if path.is_dir() == is_dir] for is_dir in (False, True))
    said = {f"{images.NAMES} files are read": files, "subfolders are not searched": folders}
    return [f"Skipped in '{source}': {_listed(names)}; {why}." for why, names in said.items() if names]


def make_all(
    recipe: Recipe,
    source: str | os.PathLike,
    folder: str | os.PathLike,
    *,
    shard: Shard = Shard(),
    device: Device = "auto",
    **pictures: Picture,
) -> Generator[Outcome, None, None]:
    """Run a recipe on every picture of `source`, one after the other, with `pictures` for its other roles.

    Existing results are never overwritten. One that was made by another recipe or of other pictures is an outcome with an
    error; older files, which do not record their pictures, are compared by recipe only. A picture that cannot be used is an
    outcome with its error, and the next one follows. A result appears under its name only when it is whole.

    Raises:
        InputError: there is no picture in `source`, `folder` cannot be written or is the name of a file, or the recipe takes or
            makes no picture.
        FieldError: as `featviz.streaming.check` raises it.
    """
    source, folder = Path(source), Path(folder)
    if recipe.produces != "picture" or not recipe.images:
        raise InputError(f"{recipe.title} cannot be run on many pictures; it has to take a picture and to make one.")
    if source.is_dir() and not _names(source):
        raise InputError(f"There is no picture in '{source}'; {', '.join(EXTENSIONS)} are looked for.")
    if not folder.is_dir() and folder.suffix.lower() in (*EXTENSIONS, *VIDEOS):
        raise InputError(f"'{folder}' is the name of a file; many pictures are written into a folder, so name a folder.")
    if folder.exists() and source.is_dir() and folder.samefile(source):
        raise InputError(f"'{folder}' is where the pictures are; choose another folder for the results.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"The output's folder '{folder}' cannot be made: {error.strerror}.") from None
    if not os.access(folder, os.W_OK):
        raise InputError(f"The output's folder '{folder}' cannot be written; check its permissions.")
    role = next(iter(recipe.images))
    check(recipe, {role, *pictures})
    each = _files(source) if source.is_dir() else _stills(source)
    for number, (name, picture) in enumerate(each):
        if shard.has(number):
            yield _made(recipe, folder / f"{name}.png", device, {role: picture} | pictures)


def _made(recipe: Recipe, out: Path, device: Device, pictures: Mapping[str, Picture]) -> Outcome:
    try:
        if out.exists():
            there = metadata.read(out, RECIPES)
            if there.recipe != recipe:
                raise InputError("it was made by another recipe; remove it, or choose another folder for the results.")
            if others := metadata.changed(there, open_pictures(recipe, pictures)):
                raise InputError(
                    f"it was made of another {' and another '.join(others)}; remove it, or choose another folder for the results."
                )
            return Outcome(out)
        whole = run(recipe, device=device, **pictures)
        part = out.with_name(f".{os.getpid()}_{out.name}")  # Hidden, and nobody else's.
        try:
            save(whole, part)
            part.replace(out)
        finally:
            part.unlink(missing_ok=True)
    except FeatvizError as error:
        return Outcome(out, error=error)
    return Outcome(out, made=True)


def _names(folder: Path) -> dict[Path, str]:
    """The pictures of a folder in the order of their names, and what the result of each is called."""
    found = sorted(
        path for path in folder.iterdir()
        if path.suffix.lower() in EXTENSIONS and not path.name.startswith(".") and path.is_file()
    )  # fmt: skip
    alike = Counter(path.stem for path in found)
    return {path: path.stem if alike[path.stem] == 1 else path.name for path in found}


def _files(folder: Path) -> Iterator[tuple[str, Picture]]:
    return ((name, path) for path, name in _names(folder).items())


def _stills(source: Path) -> Iterator[tuple[str, Picture]]:
    """The frames of a video or of an animated picture, and the name of each result."""
    stills = frames(source) if source.suffix.lower() in VIDEOS else images.frames(source, "picture")
    return ((f"{number:06d}", picture) for number, picture in enumerate(stills, start=1))


def _listed(names: list[str], most: int = 3) -> str:
    """The first of some names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
