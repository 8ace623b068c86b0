"""The command line: one subcommand a recipe, one option a field, made from the recipes and from nothing else."""

import argparse
import os
import sys
from collections.abc import Collection, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NoReturn, get_args

from pydantic.fields import FieldInfo
from tqdm import tqdm

from featviz import __version__
from featviz.errors import DivergedError, FeatvizError, InputError, nearest
from featviz.recipe import Recipe, choices
from featviz.stream import RECIPES, Device, Preview, prepare, record, stream
from featviz.video import FORMATS as VIDEO_FORMATS
from featviz.video import Video

FORMATS: dict[str, dict[str, Any]] = {
    ".png": {},
    ".jpg": {"quality": 95},
    ".jpeg": {"quality": 95},
    ".webp": {"quality": 95},
}
"""The extension of a picture → how Pillow is asked to save it."""

FINE, FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130
"""Exit codes, as shells know them: 2 for a command that cannot be run as typed, 128 + SIGINT for Ctrl-C."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0, or 2 for bad input, 1 for what else can fail, 130 after Ctrl-C."""
    try:
        arguments = parser().parse_args(argv)
        return _run(RECIPES[arguments.recipe], vars(arguments))
    except FeatvizError as error:
        print(error, file=sys.stderr)
        return BAD_INPUT if isinstance(error, InputError) else FAILED


def parser() -> argparse.ArgumentParser:
    """The parser of everything. Values stay text: the recipe reads and checks them, so that it alone words its errors."""
    root = _Parser(prog="python -m featviz", description="See what a convolutional network sees.")
    root.add_argument("--version", action="version", version=f"featviz {__version__}")
    commands = root.add_subparsers(dest="recipe", required=True, metavar="recipe", parser_class=_Parser)
    for recipe in RECIPES.values():
        command = commands.add_parser(
            recipe.name.replace("_", "-"),
            help=recipe.__doc__,
            description=recipe.__doc__,
            argument_default=argparse.SUPPRESS,  # What is not typed is left to the recipe's defaults.
        )
        command.set_defaults(recipe=recipe.name)
        for role, meaning in recipe.images.items():
            command.add_argument(role, help=_escaped(meaning))
        for role, meaning in recipe.extras.items():
            command.add_argument(_option(role), dest=role, metavar="FILE", help=_escaped(meaning))
        command.add_argument("out", help=f"The file to write: {', '.join(_extensions(recipe))}.")
        for name, field in recipe.model_fields.items():
            command.add_argument(_option(name), dest=name, metavar=_placeholder(field), help=_escaped(_help(field)))
        command.add_argument(
            "--device", choices=get_args(Device), default="auto", help="Where to run: auto takes a GPU if any. Default: auto."
        )
    return root


def _run(recipe: type[Recipe], arguments: dict[str, Any]) -> int:
    """Check everything, then work. Ctrl-C keeps the latest picture, or a video of all there are."""
    settings = recipe(**{name: arguments[name] for name in recipe.model_fields if name in arguments})
    pictures = {role: arguments[role] for role in (*recipe.images, *recipe.extras) if role in arguments}
    out = _output(arguments["out"], pictures, _extensions(recipe))
    previews, moving = stream(settings, device=arguments["device"], **pictures), recipe.produces == "video"
    if moving:
        previews = record(previews, Video(out, settings.fps), every=0)
    latest: Preview | None = None  # What is worth keeping.
    try:
        with (
            closing(previews),
            tqdm(total=1, bar_format="{percentage:3.0f}%|{bar}| {elapsed}{postfix}", disable=None, leave=False) as bar,
        ):
            for download in prepare(settings, device=arguments["device"], **pictures):
                bar.n = download.share
                bar.set_postfix_str(str(download))
            for preview in previews:
                latest = preview if preview.kept or not moving else latest
                bar.n = preview.work
                bar.set_postfix_str(f"{preview.stage}, loss {preview.loss:.4g}")
    except DivergedError:
        if latest is not None:
            _save(latest, out)
        raise
    except KeyboardInterrupt:
        if latest is None:
            print(f"Stopped before the first {'picture' if moving else 'step'}; nothing was written.", file=sys.stderr)
        else:
            _save(latest, out)
            print(f"Stopped at step {latest.step} of {latest.steps}; the {recipe.produces} so far is in {out}", file=sys.stderr)
        return INTERRUPTED
    _save(latest, out)
    print(out)
    return FINE


def _extensions(recipe: type[Recipe]) -> Collection[str]:
    """What the output of a recipe may be called."""
    return (VIDEO_FORMATS if recipe.produces == "video" else FORMATS).keys()


def _output(path: str, pictures: dict[str, str], extensions: Collection[str]) -> Path:
    """The file to write, known to be writable before any work is done.

    Raises:
        InputError: it cannot be written, or writing it would destroy a picture that is read.
    """
    out = Path(path)
    if out.suffix.lower() not in extensions:
        raise InputError(f"The output '{out}' has no extension that can be written; accepted: {', '.join(extensions)}.")
    if not out.parent.is_dir():
        raise InputError(f"The output's folder '{out.parent}' does not exist.")
    if out.is_dir():
        raise InputError(f"The output '{out}' is a folder; expected a file.")
    if not os.access(out if out.exists() else out.parent, os.W_OK):
        raise InputError(f"The output '{out}' cannot be written; check its permissions.")
    for role, picture in pictures.items():
        if out.exists() and Path(picture).exists() and out.samefile(picture):
            raise InputError(f"The output '{out}' is the {role} itself; choose another name.")
    return out


def _save(preview: Preview, out: Path) -> None:
    if preview.kept:  # A video's pictures are in its file already.
        return
    try:
        picture = preview.picture.convert("RGB") if out.suffix.lower() in (".jpg", ".jpeg") else preview.picture
        picture.save(out, **FORMATS[out.suffix.lower()])
    except OSError as error:
        raise FeatvizError(f"The output '{out}' could not be written: {error.strerror or error}.") from error


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


def _placeholder(field: FieldInfo) -> str:
    return "NAME" if choices(field) else {int: "N", float: "X", bool: "BOOL"}.get(field.annotation, "TEXT")


def _help(field: FieldInfo) -> str:
    """Meaning with range, names to choose from, default."""
    accepted = f" One of: {', '.join(filter(None, choices(field)))}." if choices(field) else ""
    return f"{field.description}{accepted} Default: {'none' if field.default == '' else field.default}."


def _escaped(text: str) -> str:
    """For argparse, which formats help with %."""
    return text.replace("%", "%%")


class _Parser(argparse.ArgumentParser):
    """Argparse, but a mistake is one sentence with the nearest match, raised like every other mistake of the user's."""

    def __init__(self, **settings: Any):
        super().__init__(**settings, allow_abbrev=False)

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None) -> Any:
        namespace, unknown = super().parse_known_args(args, namespace)
        if unknown:
            option = unknown[0].partition("=")[0]
            known = list(self._option_string_actions)
            hint = nearest(option, known) if option.startswith("-") else f"'{self.prog} --help' shows what it takes."
            raise InputError(f"{self.prog} does not know '{option}'; {hint}")
        return namespace, unknown

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message[0].upper()}{message[1:]}; '{self.prog} --help' shows what it takes.")
