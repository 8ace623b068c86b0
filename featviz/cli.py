"""The command line: one subcommand a recipe, one option a field, made from the recipes and from nothing else."""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from pydantic.fields import FieldInfo
from tqdm import tqdm

from featviz import __version__, aliases
from featviz.errors import DivergedError, FeatvizError, InputError, nearest
from featviz.media.images import PICTURE_FORMATS, open_picture, save
from featviz.media.video import VIDEO_FORMATS, Video
from featviz.networks.user_network import add_network
from featviz.recipes import metadata, presets
from featviz.recipes.recipe import Recipe, choices
from featviz.recipes.table import RECIPES
from featviz.runtime import batch
from featviz.runtime.devices import find_devices, unused
from featviz.runtime.estimate import estimate
from featviz.runtime.film import record
from featviz.runtime.sheet import on_one_sheet, try_out
from featviz.runtime.stream import Preview, Previews, open_pictures, prepare, remarks_on, stream

if TYPE_CHECKING:
    from featviz.networks.hub import DownloadProgress

FINE, FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130
"""Exit codes, as shells know them: 2 for a command that cannot be run as typed, 128 + SIGINT for Ctrl-C."""

PLACEHOLDERS: dict[type | None, str] = {int: "N", float: "X", bool: "BOOL"}
"""A field's type → what stands for its value in the help; TEXT for any other."""

ADDED = "NAME=ARCHITECTURE:FILE"
"""A network of the user's, as `--network` takes it."""

ADDING = (
    f"{ADDED} adds a network: the weights of a safetensors file for an architecture that featviz knows, as in "
    "mine=resnet50:my.safetensors. May be given more than once."
)

SHARD = (
    "Of a folder or a video in place of the first picture, whose results go into the folder OUT: only every N-th picture, "
    "from the I-th on."
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0, or 2 for bad input, 1 for what else can fail, 130 after Ctrl-C."""
    try:
        arguments = vars(parser().parse_args(argv))
        find_devices(arguments["device"])  # Before any work: a device that is not there.
        if remark := unused(arguments["device"]):
            print(remark, file=sys.stderr)
        with warnings.catch_warnings():
            warnings.showwarning = _shown
            return arguments["do"](arguments)
    except FeatvizError as error:
        print(error, file=sys.stderr)
        return BAD_INPUT if isinstance(error, InputError) else FAILED


def _shown(message: Warning | str, *_: Any, **__: Any) -> None:
    """Print a warning as one line, as every other message."""
    print(message, file=sys.stderr)


def parser() -> argparse.ArgumentParser:
    """The parser of everything. Values stay text: the recipe reads and checks them, so that it alone words its errors."""
    program = "featviz" if Path(sys.argv[0]).stem == "featviz" else "python -m featviz"  # So that what is shown can be typed.
    root = _Parser(prog=program, description="See what a convolutional network sees.")
    root.add_argument("--version", action="version", version=f"featviz {__version__}")
    commands = root.add_subparsers(dest="command", required=True, metavar="command", parser_class=_Parser)
    for recipe in RECIPES.values():
        command = _command(commands, recipe.name, recipe.__doc__ or "", partial(_make, recipe))
        _add_pictures_and_fields(command, recipe)
        command.add_argument("--recipe", metavar="FILE", help="A recipe to start from: its JSON, or a file that featviz made.")
        if recipe.images and recipe.produces == "picture":
            command.add_argument("--shard", metavar="I/N", help=_escaped(SHARD))
        command.add_argument("--estimate", action="store_true", help="Say what it would take on this machine, and do nothing.")
        if recipe.sweep_fields:
            differ = " and ".join(_option(name) for name in recipe.sweep_fields)
            command.add_argument(
                "--sheet", action="store_true", help=f"Write small versions that differ in {differ}, on one picture."
            )

    again = _command(commands, "rerun", "Make a picture or a video again by the recipe inside it, of these pictures.", _rerun)
    again.add_argument("made", help="A file that featviz made.")
    again.add_argument("pictures", nargs="*", help="The pictures that its recipe needs, in order.")
    _add_extras(again, {role: meaning for recipe in RECIPES.values() for role, meaning in recipe.extras.items()})
    again.add_argument("--network", action="append", metavar=ADDED, help=_escaped(ADDING))
    again.add_argument("out", help="The file to write.")
    return root


def _command(commands: Any, name: str, meaning: str, do: Callable[[dict[str, Any]], int]) -> argparse.ArgumentParser:
    command = commands.add_parser(
        name.replace("_", "-"),
        aliases=[alias.replace("_", "-") for alias in aliases.earlier(name, aliases.RECIPES)],
        help=_escaped(meaning),
        description=_escaped(meaning),
        argument_default=argparse.SUPPRESS,  # What is not typed is left to the recipe's defaults.
    )
    command.set_defaults(do=do)
    command.add_argument(
        "--device",
        default="auto",
        metavar="NAME",
        help="Where to run: auto (a GPU if any), cpu, cuda, cuda:1 (a card by its index) or mps. Default: auto.",
    )
    return command


def _add_extras(command: argparse.ArgumentParser, extras: Mapping[str, str]) -> None:
    for role, meaning in extras.items():
        command.add_argument(_option(role), dest=role, metavar="FILE", help=_escaped(meaning))


def _add_pictures_and_fields(command: argparse.ArgumentParser, recipe: type[Recipe]) -> None:
    for role, meaning in recipe.images.items():
        command.add_argument(role, help=_escaped(meaning))
    _add_extras(command, recipe.extras)
    if recipe.produces != "numbers":
        command.add_argument("out", help=f"The file to write: {', '.join(_extensions(recipe.produces))}.")
    for name, field in recipe.model_fields.items():
        if name != "network":
            command.add_argument(_option(name), dest=name, metavar=_placeholder(field), help=_escaped(_help(field)))
    chosen = recipe.model_fields.get("network")
    meaning = ADDING if chosen is None else _help(chosen, f" {ADDING}")
    command.add_argument("--network", action="append", metavar="NAME" if chosen else ADDED, help=_escaped(meaning))
    if named := _presets(recipe):
        meaning = f"A preset to start from; options beside it go first. One of: {', '.join(named)}."
        command.add_argument("--preset", metavar="NAME", help=_escaped(meaning))
        for alias in aliases.earlier("preset", aliases.OPTIONS):
            command.add_argument(_option(alias), dest="preset", help=argparse.SUPPRESS)
    if presets.finishable(recipe):
        meaning = f"How finely to work it out; options beside it go first. One of: {', '.join(_finishes())}."
        command.add_argument("--finish", metavar="NAME", help=_escaped(meaning))


def _make(recipe: type[Recipe], arguments: dict[str, Any]) -> int:
    """A recipe's own command."""
    settings, pictures = _settings(recipe, arguments), _given(recipe, arguments)
    if recipe.images and batch.is_batch(pictures[next(iter(recipe.images))], arguments.get("out")):
        return _make_all(settings, pictures, arguments)
    if "shard" in arguments:
        raise InputError("--shard shares out a folder or a video; there is one picture.")
    produces, device = "picture" if "sheet" in arguments else recipe.produces, arguments["device"]
    out = None if produces == "numbers" else _output(arguments["out"], pictures, _extensions(produces))
    if "estimate" in arguments:
        first = next(iter(open_pictures(settings, pictures).values()), None)
        print(estimate(settings, first.size if first else None, device=device))
        return FINE
    for remark in remarks_on(pictures):
        print(remark, file=sys.stderr)
    downloads = prepare(settings, device=device, **pictures)
    if "sheet" in arguments:
        return _run(downloads, on_one_sheet(settings, try_out(settings, device=device, **pictures)), out, produces)
    return _run(downloads, _recorded(settings, stream(settings, device=device, **pictures), out, pictures), out, produces)


def _make_all(recipe: Recipe, pictures: dict[str, str], arguments: dict[str, Any]) -> int:
    """A recipe's own command, for a folder or a video in place of its first picture."""
    for option in ("estimate", "sheet"):
        if option in arguments:
            raise InputError(f"{_option(option)} takes one picture, not many.")
    source, *_ = pictures.values()
    others = {role: picture for role, picture in pictures.items() if picture is not source}
    for role, picture in others.items():
        open_picture(picture, role)  # What is wrong with it is wrong with every result.
    shard = batch.Shard.read(arguments.get("shard", "1/1"))
    for remark in (*remarks_on(others), *batch.skipped(source)):
        print(remark, file=sys.stderr)
    outcomes = batch.make_all(recipe, source, arguments["out"], shard=shard, device=arguments["device"], **others)
    said: Counter[str] = Counter()
    interrupted = False
    try:
        with closing(outcomes), tqdm(outcomes, total=shard.share(batch.count(source)) or None, disable=None, leave=False) as bar:
            for outcome in bar:
                said["failed" if outcome.error else "made" if outcome.made else "there already"] += 1
                if outcome.error:
                    bar.write(f"{outcome.out}: {outcome.error}", file=sys.stderr)
                elif outcome.made:
                    bar.write(str(outcome.out), file=sys.stdout)
    except KeyboardInterrupt:
        interrupted = True
    summary = ", ".join(f"{number} {what}" for what, number in said.items()) or "nothing to do"
    print(f"Stopped; the same command goes on from here: {summary}" if interrupted else summary.capitalize(), file=sys.stderr)
    return INTERRUPTED if interrupted else FAILED if said["failed"] else FINE


def _rerun(arguments: dict[str, Any]) -> int:
    """What another file was made by, on these pictures."""
    _add_networks(arguments.get("network", []))
    made, given = arguments["made"], arguments.get("pictures", [])
    restored = metadata.read(made, RECIPES)
    settings, recipe = restored.recipe, type(restored.recipe)
    if len(given) != len(recipe.images):
        needed = ", ".join(recipe.images) or "no picture"
        raise InputError(f"'{made}' was made by {recipe.title}, which takes {needed}; {len(given)} given.")
    pictures = dict(zip(recipe.images, given, strict=True)) | _given(recipe, arguments)
    out = _output(arguments["out"], {"picture": made} | pictures, _extensions(recipe.produces))
    missing = [
        f"It was made with a {role} as well; {_option(role)} takes it." for role in restored.extras if role not in pictures
    ]
    for remark in (*restored.remarks, *missing, *remarks_on(pictures)):
        print(remark, file=sys.stderr)
    given = {"device": arguments["device"], **pictures}
    previews = _recorded(settings, stream(settings, **given), out, pictures)
    return _run(prepare(settings, **given), previews, out, recipe.produces)


def _add_networks(typed: Sequence[str], *, choosing: bool = False) -> dict[str, str]:
    """Add the networks that were typed as NAME=ARCHITECTURE:FILE; return what the last of them says of a field `network`.

    Raises:
        InputError: one is not of this form, nor, where a network is to be chosen, a plain name.
        FieldError, WeightsError: as `add_network` raises them.
    """
    for text in typed:
        name, defines, source = text.partition("=")
        architecture, _, file = source.partition(":")
        if defines and architecture and file:
            add_network(name, architecture, weights=file)
        elif defines or not choosing:
            raise InputError(f"--network is '{text}'; expected {ADDED}, as in mine=resnet50:my.safetensors.")
    return {"network": typed[-1].partition("=")[0]} if typed and choosing else {}


def _settings(recipe: type[Recipe], arguments: dict[str, Any]) -> Recipe:
    """The recipe that was typed, on top of a preset and a finish where those were named; networks that were typed are added."""
    arguments = arguments | _add_networks(arguments.get("network", []), choosing="network" in recipe.model_fields)
    base = _read(recipe, arguments["recipe"]).changed if "recipe" in arguments else {}
    if name := arguments.get("preset"):
        named = _presets(recipe)
        if name not in named:
            raise InputError(f"There is no preset '{name}'; {nearest(name, list(named))}")
        base = base | named[name].changed
    if name := arguments.get("finish"):
        if name not in _finishes():
            raise InputError(f"There is no finish '{name}'; {nearest(name, list(_finishes()))}")
        base = base | _finishes()[name].of(recipe(**base))
    return recipe(**base | {name: arguments[name] for name in recipe.model_fields if name in arguments})


def _read(recipe: type[Recipe], file: str) -> Recipe:
    """The recipe in a file: JSON, or what featviz has made.

    Raises:
        InputError: there is none, or one of another kind, or one with a field that cannot be used.
    """
    restored = metadata.read_json(file, RECIPES) if file.lower().endswith(".json") else metadata.read(file, RECIPES)
    if type(restored.recipe) is not recipe:
        raise InputError(f"'{file}' is a recipe of {restored.recipe.title}; expected one of {recipe.title}.")
    for remark in restored.remarks:
        print(remark, file=sys.stderr)
    return restored.recipe


def _presets(recipe: type[Recipe]) -> dict[str, Recipe]:
    return {preset.name: preset.recipe for preset in presets.read_presets() if type(preset.recipe) is recipe}


def _finishes() -> dict[str, presets.Finish]:
    return {title.lower(): finish for title, finish in presets.FINISHES.items()}


def _given(recipe: type[Recipe], arguments: dict[str, Any]) -> dict[str, Any]:
    """The pictures that were named."""
    return {role: arguments[role] for role in (*recipe.images, *recipe.extras) if role in arguments}


def _recorded(settings: Recipe, previews: Previews, out: Path | None, pictures: Collection[str]) -> Previews:
    """The previews of a run; those of a video go into its file on the way."""
    if out is None or settings.produces != "video":
        return previews
    return record(previews, Video(out, dict(settings)["fps"], metadata.note(settings, pictures)), every=0)


def _run(downloads: Iterator[DownloadProgress], previews: Previews, out: Path | None, produces: str) -> int:
    """Everything is checked; get what is needed, and work. Ctrl-C keeps the latest picture, or a video of all there are.
    Numbers are printed."""
    moving = produces == "video"
    latest: Preview | None = None  # What is worth keeping.
    try:
        with (
            closing(previews),
            tqdm(total=1, bar_format="{percentage:3.0f}%|{bar}| {elapsed}{postfix}", disable=None, leave=False) as bar,
        ):
            for download in downloads:
                bar.n = download.share
                bar.set_postfix_str(str(download))
            for preview in previews:
                latest = preview if preview.is_video_frame or not moving else latest
                bar.n = preview.work
                bar.set_postfix_str(f"{preview.stage}, loss {preview.loss:.4g}")
    except DivergedError:
        if latest is not None and out is not None:
            _save(latest, out)
        raise
    except KeyboardInterrupt:
        if latest is None or out is None:
            print(f"Stopped before the first {'picture' if moving else 'step'}; nothing was written.", file=sys.stderr)
        else:
            _save(latest, out)
            print(f"Stopped at step {latest.step} of {latest.steps}; the {produces} so far is in {out}", file=sys.stderr)
        return INTERRUPTED
    assert latest is not None  # Every run has a last frame, which is worth keeping.
    if out is None:
        print("\n".join(f"{value:.3f}  {name}" for name, value in latest.measures.items()))
        return FINE
    _save(latest, out)
    print(out)
    return FINE


def _extensions(produces: str) -> Collection[str]:
    """What an output may be called."""
    return (VIDEO_FORMATS if produces == "video" else PICTURE_FORMATS).keys()


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
    if not preview.is_video_frame:  # A video's pictures are in its file already.
        save(preview.picture, out)


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


def _placeholder(field: FieldInfo) -> str:
    return "NAME" if choices(field) else PLACEHOLDERS.get(field.annotation, "TEXT")


def _help(field: FieldInfo, more: str = "") -> str:
    """Meaning with range, names to choose from, what else there is to say, default."""
    accepted = f" One of: {', '.join(filter(None, choices(field)))}." if choices(field) else ""
    return f"{field.description}{accepted}{more} Default: {'none' if field.default == '' else field.default}."


def _escaped(text: str) -> str:
    """For argparse, which formats help with %."""
    return text.replace("%", "%%")


class _Parser(argparse.ArgumentParser):
    """Argparse, but a mistake is one sentence with the nearest match, raised like every other mistake of the user's."""

    def __init__(self, **settings: Any):
        wide = partial(argparse.HelpFormatter, max_help_position=32)  # Or a long name would break its line.
        super().__init__(**settings, formatter_class=wide, allow_abbrev=False)

    def parse_known_args(self, *given: Any, **named: Any) -> Any:
        namespace, unknown = super().parse_known_args(*given, **named)
        if unknown:
            option = unknown[0].partition("=")[0]
            known = list(self._option_string_actions)
            hint = nearest(option, known) if option.startswith("-") else f"'{self.prog} --help' shows what it takes."
            raise InputError(f"{self.prog} does not know '{option}'; {hint}")
        return namespace, unknown

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message[0].upper()}{message[1:]}; '{self.prog} --help' shows what it takes.")
