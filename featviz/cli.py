"""The command line: one subcommand for each recipe and one option for each field, generated from the recipes alone.

Built on argparse, not on click or typer. Click shows no help for positional arguments, which here explain each picture. Typer
derives options from function signatures and converts their values itself; here the fields of a recipe define the options, and
values stay text until the recipe checks them, so that error messages are the same as in Python and on the page.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from pydantic.fields import FieldInfo
from tqdm import tqdm

from featviz import __version__, aliases
from featviz.errors import DivergedError, FeatvizError, InputError, nearest
from featviz.media.images import open_picture, read_header
from featviz.media.saving import PICTURE_FORMATS, save
from featviz.media.video import VIDEO_FORMATS, Video
from featviz.networks.user_network import add_network
from featviz.recipes import metadata, presets
from featviz.recipes.recipe import Recipe, choices
from featviz.recipes.table import RECIPES
from featviz.runtime import batch
from featviz.runtime.clip import EXTENSION, estimate_clip, film_clip, open_clip, takes_video
from featviz.runtime.cluster import LOCAL, ONE_AFTER_ANOTHER, ray_pool
from featviz.runtime.devices import find_devices, unusable_gpu
from featviz.runtime.estimate import estimate
from featviz.runtime.film import record, record_steps
from featviz.runtime.history import SECONDS
from featviz.runtime.sheet import on_one_sheet, try_out
from featviz.runtime.stream import Preview, Previews, open_pictures, prepare, remarks_on, stream

if TYPE_CHECKING:
    from featviz.networks.hub import DownloadProgress

SUCCESS, FAILURE, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130
"""Exit codes, as shells know them: 2 for a command that cannot be run as typed, 128 + SIGINT for Ctrl-C."""

PLACEHOLDERS: dict[type | None, str] = {int: "N", float: "X", bool: "BOOL"}
"""A field's type → the placeholder for its value in the help; TEXT for any other."""

FURTHER = "further_"
"""Before a role in the name of an argument: the pictures of its list after the first."""

USER_NETWORK = "NAME=ARCHITECTURE:FILE"
"""The form of a user's network after `--network`."""

USER_NETWORK_HELP = (
    f"{USER_NETWORK} adds a network: the weights of a safetensors file for an architecture that featviz knows, as in "
    "mine=resnet50:my.safetensors. May be given more than once."
)

FRAMES_HELP = "Of a video in place of the first picture: write each frame, made alone, as a PNG into this folder, instead of OUT."

SHARD_HELP = (
    "Of a folder or a video in place of the first picture, whose results go into the folder OUT: only every N-th picture, "
    "from the I-th on."
)

RAY_HELP = (
    "Of a folder or a video as for --shard: run each picture as a task of Ray, on all cores or GPUs of this machine, or of the cluster "
    "at ADDRESS."
)

FILM_HELP = (
    f"Also write a film of {SECONDS} s of how the picture came about, with its frames chosen by how much the picture changes: "
    f"{', '.join(VIDEO_FORMATS)}."
)

Arguments = dict[str, Any]
"""Parsed arguments by name. Options that were not typed are missing."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code: 0, 1 for failure, 2 for bad input, 130 after Ctrl-C."""
    _print_any_name()
    try:
        arguments = vars(parser().parse_args(argv))
        find_devices(arguments["device"])  # Refuse an unknown device before any work.
        if remark := unusable_gpu(arguments["device"]):
            print(remark, file=sys.stderr)
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            return arguments["command_function"](arguments)
    except KeyboardInterrupt:  # Before a run begins; a run reports it by itself.
        return INTERRUPTED
    except FeatvizError as error:
        print(error, file=sys.stderr)
        return BAD_INPUT if isinstance(error, InputError) else FAILURE


def _print_any_name() -> None:
    """Escape characters that the encoding of the output lacks, such as those of a file's name, instead of failing after a run."""
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    """Print a warning as one line, without its place in the code."""
    print(message, file=sys.stderr)


# The parser


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands. It leaves values as text: recipes convert and check them."""
    program = "featviz" if Path(sys.argv[0]).stem == "featviz" else "python -m featviz"  # As the user started it.
    root = _Parser(prog=program, description="See what a convolutional network sees.")
    root.add_argument("--version", action="version", version=f"featviz {__version__}")
    commands = root.add_subparsers(dest="command", required=True, metavar="command", parser_class=_Parser)
    for recipe in RECIPES.values():
        _add_recipe(commands, recipe)
    _add_rerun(commands)
    return root


def _add_recipe(commands: Any, recipe: type[Recipe]) -> None:
    command = _add_command(commands, recipe.name, recipe.__doc__ or "", partial(_run_recipe, recipe))
    _add_pictures(command, recipe)
    _add_fields(command, recipe)
    command.add_argument("--recipe", metavar="FILE", help="A recipe to start from: its JSON, or a file that featviz made.")
    if recipe.follows_video:
        command.add_argument("--frames", metavar="FOLDER", help=_escape(FRAMES_HELP))
    if recipe.images and recipe.produces == "picture":
        command.add_argument("--shard", metavar="I/N", help=_escape(SHARD_HELP))
        command.add_argument("--ray", nargs="?", const=LOCAL, metavar="ADDRESS", help=_escape(RAY_HELP))
    if recipe.produces == "picture":
        command.add_argument("--film", metavar="FILE", help=_escape(FILM_HELP))
    command.add_argument("--estimate", action="store_true", help="Say what it would take on this machine, and do nothing.")
    if recipe.sweep_fields:
        fields = " and ".join(map(_option, recipe.sweep_fields))
        command.add_argument(
            "--sheet", action="store_true", help=f"Write small versions that differ in {fields}, on one picture."
        )


def _add_rerun(commands: Any) -> None:
    meaning = "Make a picture or a video again by the recipe inside it, of these pictures."
    command = _add_command(commands, "rerun", meaning, _rerun)
    command.add_argument("made", help="A file that featviz made.")
    command.add_argument("pictures", nargs="*", help="The pictures that its recipe needs, in order.")
    _add_optional_images(command, *RECIPES.values())
    command.add_argument("--network", action="append", metavar=USER_NETWORK, help=_escape(USER_NETWORK_HELP))
    command.add_argument("out", help="The file to write.")


def _add_command(commands: Any, name: str, meaning: str, function: Callable[[Arguments], int]) -> argparse.ArgumentParser:
    command = commands.add_parser(
        name.replace("_", "-"),
        aliases=[alias.replace("_", "-") for alias in aliases.earlier(name, aliases.RECIPES)],
        help=_escape(meaning),
        description=_escape(meaning),
        argument_default=argparse.SUPPRESS,  # Options that are not typed keep the recipe's defaults.
    )
    command.set_defaults(command_function=function)
    command.add_argument(
        "--device",
        default="auto",
        metavar="NAME",
        help="Where to run: auto (a GPU if any), cpu, cuda, cuda:1 (a card by its index) or mps. Default: auto.",
    )
    return command


def _add_pictures(command: argparse.ArgumentParser, recipe: type[Recipe]) -> None:
    for role, meaning in recipe.images.items():
        command.add_argument(role, help=_escape(meaning))
    _add_optional_images(command, recipe)
    if recipe.produces != "numbers":
        video = f", of a video {EXTENSION}" if recipe.follows_video else ""
        meaning = f"The file to write: {', '.join(_extensions(recipe.produces))}{video}."
        command.add_argument("out", nargs="?" if recipe.follows_video else None, help=meaning)


def _add_optional_images(command: argparse.ArgumentParser, *recipes: type[Recipe]) -> None:
    optional = {role: meaning for recipe in recipes for role, meaning in recipe.optional_images.items()}
    for role, meaning in optional.items():
        command.add_argument(_option(role), dest=role, metavar="FILE", help=_escape(meaning))
    for role, names in {role: names for recipe in recipes for role, names in recipe.lists.items()}.items():
        meaning = f"One more {role}, after the first. May be given more than once: up to {len(names)} in all."
        command.add_argument(_option(role), dest=FURTHER + role, action="append", metavar="FILE", help=_escape(meaning))


def _add_fields(command: argparse.ArgumentParser, recipe: type[Recipe]) -> None:
    for name, field in recipe.model_fields.items():
        if name != "network":
            command.add_argument(_option(name), dest=name, metavar=_placeholder(field), help=_escape(_help(field)))
    network = recipe.model_fields.get("network")
    meaning = _help(network, f" {USER_NETWORK_HELP}") if network else USER_NETWORK_HELP
    command.add_argument("--network", action="append", metavar="NAME" if network else USER_NETWORK, help=_escape(meaning))
    if names := _presets(recipe):
        meaning = f"A preset to start from; other options override its fields. One of: {', '.join(names)}."
        command.add_argument("--preset", metavar="NAME", help=_escape(meaning))
        for alias in aliases.earlier("preset", aliases.OPTIONS):
            command.add_argument(_option(alias), dest="preset", help=argparse.SUPPRESS)
    if presets.finishable(recipe):
        meaning = f"A level of finish, which sets size and steps; these options override it. One of: {', '.join(_finishes())}."
        command.add_argument("--finish", metavar="NAME", help=_escape(meaning))


# The commands


def _run_recipe(kind: type[Recipe], arguments: Arguments) -> int:
    """The command of a recipe."""
    if "ray" in arguments and any("=" in network for network in arguments.get("network", [])):
        raise InputError("--ray knows no network of --network; install it as a package with an entry point on every node.")
    recipe, pictures = recipe_from_arguments(kind, arguments), _typed_pictures(kind, arguments)
    if kind.follows_video:
        if "frames" in arguments:
            return _run_batch(recipe, pictures, arguments | {"out": _folder_of_frames(recipe, pictures, arguments)})
        if "out" not in arguments:
            raise InputError("The following arguments are required: out; name the file to write.")
        if takes_video(recipe, pictures) and Path(arguments["out"]).suffix.lower() in VIDEO_FORMATS:
            return _run_on_video(recipe, pictures, arguments)
    if kind.images and batch.is_batch(pictures[next(iter(kind.images))], arguments.get("out")):
        return _run_batch(recipe, pictures, arguments)
    return _run_once(recipe, pictures, arguments)


def _run_once(recipe: Recipe, pictures: dict[str, Any], arguments: Arguments) -> int:
    """The command of a recipe on one picture, or on none."""
    for option in ("shard", "ray"):
        if option in arguments:
            raise InputError(f"--{option} shares out a folder or a video; there is one picture.")
    produces, device = "picture" if "sheet" in arguments else recipe.produces, arguments["device"]
    out = None if produces == "numbers" else _output(arguments["out"], pictures, _extensions(produces))
    if "film" in arguments and "sheet" in arguments:
        raise InputError("--film shows how one picture came about; --sheet makes many.")
    film = _output(arguments["film"], pictures, VIDEO_FORMATS) if "film" in arguments else None
    if "estimate" in arguments:
        open_pictures(recipe, pictures)  # Every error of a run is one of its estimate.
        print(estimate(recipe, {role: read_header(picture, role) for role, picture in pictures.items()}, device=device))
        return SUCCESS
    _print_remarks(remarks_on(pictures))
    downloads = prepare(recipe, device=device, **pictures)
    if film:
        every_step = stream(recipe, device=device, every=0, **pictures)
        return _complete(downloads, record_steps(every_step, film), out, produces)
    if "sheet" in arguments:
        return _complete(downloads, on_one_sheet(recipe, try_out(recipe, device=device, **pictures)), out, produces)
    previews = _recorded(recipe, stream(recipe, device=device, **pictures), out, pictures)
    return _complete(downloads, previews, out, produces, listed=recipe.lists_measures)


def _run_on_video(recipe: Recipe, pictures: dict[str, str], arguments: Arguments) -> int:
    """The command of a recipe that makes a video of a video."""
    for option in ("sheet", "shard", "ray", "film"):
        if option in arguments:
            raise InputError(f"{_option(option)} is for pictures, and '{arguments['out']}' is a video made of a video.")
    out, device = _output(arguments["out"], pictures, (EXTENSION,)), arguments["device"]
    if "estimate" in arguments:
        print(estimate_clip(recipe, pictures, device=device))
        return SUCCESS
    return _follow_video(recipe, pictures, out, device)


def _follow_video(recipe: Recipe, pictures: dict[str, str], out: Path, device: str) -> int:
    """Run a recipe on a video to the end."""
    clip = open_clip(recipe, pictures)
    _print_remarks(remarks_on({role: picture for role, picture in pictures.items() if role != clip.role}))
    downloads = prepare(recipe, device=device, **clip.opened)
    previews = film_clip(recipe, out, device=device, every=0, **pictures)  # type: ignore[arg-type]  # As in `run`.
    return _complete(downloads, previews, out, "video")


def _folder_of_frames(recipe: Recipe, pictures: dict[str, str], arguments: Arguments) -> str:
    """Return the folder of `--frames`. Raises InputError if there is an output besides, or if the first picture is no video."""
    if "out" in arguments:
        raise InputError(f"--frames writes into a folder instead of '{arguments['out']}'; leave one of them out.")
    if not takes_video(recipe, pictures):
        raise InputError("--frames takes a video in place of the first picture.")
    return arguments["frames"]


def _run_batch(recipe: Recipe, pictures: dict[str, str], arguments: Arguments) -> int:
    """The command of a recipe, for a folder or a video in place of its first picture."""
    arguments = {"out": "", **arguments}  # A recipe of numbers has no output; `run_batch` refuses it.
    for option in ("estimate", "sheet", "film"):
        if option in arguments:
            raise InputError(f"{_option(option)} takes one picture, not many.")
    (_, source), *others_given = pictures.items()
    others = dict(others_given)
    for role, picture in others.items():
        open_picture(picture, role)  # An error in it would recur for every picture of the batch.
    shard = batch.Shard.parse(arguments.get("shard", "1/1"))
    _print_remarks([*remarks_on(others), *batch.describe_skipped(source)])
    device, pool = arguments["device"], ONE_AFTER_ANOTHER
    if "ray" in arguments:
        pool = ray_pool(arguments["ray"], gpu=device != "cpu")
    outcomes = batch.run_batch(recipe, source, arguments["out"], shard=shard, device=device, pool=pool, **others)
    counts: Counter[str] = Counter()
    try:
        for outcome in _show_outcomes(outcomes, shard.count(batch.count(source)) or None):
            counts["failed" if outcome.error else "made" if outcome.made else "there already"] += 1
        message, exit_code = "{}", FAILURE if counts["failed"] else SUCCESS
    except KeyboardInterrupt:
        message, exit_code = "Stopped; the same command goes on from here: {}", INTERRUPTED
    summary = ", ".join(f"{number} {kind}" for kind, number in counts.items()) or "nothing to do"
    print(message.format(summary if exit_code == INTERRUPTED else summary.capitalize()), file=sys.stderr)
    return exit_code


def _show_outcomes(outcomes: Generator[batch.Outcome, None, None], total: int | None) -> Iterator[batch.Outcome]:
    """Print each outcome above a progress bar, and pass it on."""
    with closing(outcomes), tqdm(outcomes, total=total, disable=None, leave=False) as bar:
        for outcome in bar:
            if outcome.error:
                bar.write(f"{outcome.out}: {outcome.error}", file=sys.stderr)
            elif outcome.made:
                bar.write(str(outcome.out), file=sys.stdout)
            yield outcome


def _rerun(arguments: Arguments) -> int:
    """The command that makes a file again, from other pictures or the same."""
    _add_networks(arguments.get("network", []))
    made, typed = arguments["made"], arguments.get("pictures", [])
    restored = metadata.read(made, RECIPES)
    recipe, kind = restored.recipe, type(restored.recipe)
    if len(typed) != len(kind.images):
        count, roles = len(kind.images), f" ({', '.join(kind.images)})" if kind.images else ""
        needed = f"{count} picture{'s' * (count != 1)}{roles}"
        raise InputError(f"'{made}' was made by {kind.title}, which takes {needed}, not {len(typed)}.")
    pictures = dict(zip(kind.images, typed, strict=True)) | {
        role: arguments[role] for each in RECIPES.values() for role in each.optional_images if role in arguments
    }
    pictures = recipe.by_role(_with_lists(pictures, arguments))
    recipe.check_roles(pictures)
    is_clip = takes_video(recipe, pictures)
    out = _output(arguments["out"], {"picture": made} | pictures, (EXTENSION,) if is_clip else _extensions(kind.produces))
    missing = [
        f"It was made with a {role} as well; {_option(role)} takes it."
        for role in restored.optional_images
        if role not in pictures
    ]
    _print_remarks([*restored.remarks, *missing])
    device = arguments["device"]
    if is_clip:
        return _follow_video(recipe, pictures, out, device)
    _print_remarks(remarks_on(pictures))
    previews = _recorded(recipe, stream(recipe, device=device, **pictures), out, pictures)
    return _complete(prepare(recipe, device=device, **pictures), previews, out, kind.produces, listed=kind.lists_measures)


# From arguments to recipes and pictures


def recipe_from_arguments(kind: type[Recipe], arguments: Arguments) -> Recipe:
    """Return the recipe of a command. Later ones override: a file, a preset, a finish, options. Also adds the user's networks."""
    arguments = arguments | _add_networks(arguments.get("network", []), choosing="network" in kind.model_fields)
    fields = _recipe_in_file(kind, arguments["recipe"]).changed_fields if "recipe" in arguments else {}
    if name := arguments.get("preset"):
        fields = fields | _find("preset", name, _presets(kind)).changed_fields
    if name := arguments.get("finish"):
        fields = fields | _find("finish", name, _finishes()).of(kind(**fields))
    return kind(**fields | {name: arguments[name] for name in kind.model_fields if name in arguments})


def _find(thing: str, name: str, table: Mapping[str, Any]) -> Any:
    if name not in table:
        raise InputError(f"There is no {thing} '{name}'; {nearest(name, list(table))}")
    return table[name]


def _presets(kind: type[Recipe]) -> dict[str, Recipe]:
    return {preset.name: preset.recipe for preset in presets.read_presets() if type(preset.recipe) is kind}


def _finishes() -> dict[str, presets.Finish]:
    return {title.lower(): finish for title, finish in presets.FINISHES.items()}


def _recipe_in_file(kind: type[Recipe], file: str) -> Recipe:
    """Read a recipe from its JSON or from a file that featviz made, and print remarks on it.

    Raises:
        InputError: there is none, or it is of another kind.
    """
    restored = metadata.read_json(file, RECIPES) if file.lower().endswith(".json") else metadata.read(file, RECIPES)
    if type(restored.recipe) is not kind:
        raise InputError(f"'{file}' is a recipe of {restored.recipe.title}; expected one of {kind.title}.")
    _print_remarks(restored.remarks)
    return restored.recipe


def _add_networks(typed: Sequence[str], *, choosing: bool = False) -> Arguments:
    """Add the networks that were typed as NAME=ARCHITECTURE:FILE.

    Where a network can be chosen (`choosing`), a plain name is accepted as well, and the last name is returned as `network`.

    Raises:
        InputError: a text is of neither form.
        FieldError, WeightsError: as for `add_network`.
    """
    for text in typed:
        name, equals, source = text.partition("=")
        architecture, _, file = source.partition(":")
        if equals and architecture and file:
            add_network(name, architecture, weights=file)
        elif equals or not choosing:
            raise InputError(f"--network is '{text}'; expected {USER_NETWORK}, as in mine=resnet50:my.safetensors.")
    return {"network": typed[-1].partition("=")[0]} if typed and choosing else {}


def _typed_pictures(kind: type[Recipe], arguments: Arguments) -> dict[str, Any]:
    """Return the files of the pictures by their roles.

    Raises:
        InputError: a name is empty, e.g. a variable of a script without a value. As a path it would be the current folder.
    """
    typed = {role: arguments[role] for role in (*kind.images, *kind.optional_images) if role in arguments}
    pictures = kind.by_role(_with_lists(typed, arguments))
    for role, name in pictures.items():
        if not name:
            raise InputError(f"The name of the {role} is empty; expected a file or a folder.")
    return pictures


def _with_lists(pictures: Mapping[str, Any], arguments: Arguments) -> dict[str, Any]:
    """Return pictures by role, a list where more of a role were typed."""
    further = {name.removeprefix(FURTHER): files for name, files in arguments.items() if name.startswith(FURTHER)}
    return {**pictures, **{role: [pictures.get(role), *files] for role, files in further.items()}}


def _print_remarks(remarks: Collection[str]) -> None:
    for remark in remarks:
        print(remark, file=sys.stderr)


# Running and writing


def _complete(
    downloads: Iterator[DownloadProgress], previews: Previews, out: Path | None, produces: str, *, listed: bool = False
) -> int:
    """Run to the end and write or print the result. After Ctrl-C or divergence, write the latest picture, or the video so far.

    `listed`: whether the measures are printed beside a file as well.
    """
    latest: Preview | None = None  # The latest preview that is worth writing.
    try:
        with closing(_with_progress_bar(downloads, previews)) as watched:
            for preview in watched:
                latest = preview if preview.is_video_frame or produces != "video" else latest
    except (DivergedError, InputError):  # InputError: memory ran out during the run.
        if latest is not None and out is not None:
            _save(latest, out)
            print(f"The {produces} so far is in {out}", file=sys.stderr)
        raise
    except KeyboardInterrupt:
        if latest is None or out is None:
            print(
                f"Stopped before the first {'picture' if produces == 'video' else 'step'}; nothing was written.", file=sys.stderr
            )
        else:
            _save(latest, out)
            print(f"Stopped at step {latest.step} of {latest.steps}; the {produces} so far is in {out}", file=sys.stderr)
        return INTERRUPTED
    assert latest is not None  # Every run yields its last frame.
    if out is not None:
        _save(latest, out)
        print(out)
    if out is None or listed:
        print("\n".join(f"{value:.3f}  {name}" for name, value in latest.measures.items()))
    return SUCCESS


def _with_progress_bar(downloads: Iterator[DownloadProgress], previews: Previews) -> Previews:
    """Show the download and then the run on a progress bar, and pass previews on."""
    with (
        closing(previews),
        tqdm(total=1, bar_format="{percentage:3.0f}%|{bar}| {elapsed}{postfix}", disable=None, leave=False) as bar,
    ):
        for download in downloads:
            bar.n = download.share
            bar.set_postfix_str(str(download))
        for preview in previews:
            bar.n = preview.work
            bar.set_postfix_str(f"{preview.stage}, loss {preview.loss:.4g}")
            yield preview


def _recorded(recipe: Recipe, previews: Previews, out: Path | None, roles: Collection[str]) -> Previews:
    """Return the previews of a run; those of a video are also written to its file."""
    if out is None or recipe.produces != "video":
        return previews
    return record(previews, Video(out, dict(recipe)["fps"], metadata.note(recipe, roles)), every=0)


def _save(preview: Preview, out: Path) -> None:
    if not preview.is_video_frame:  # `record` has written it to the video.
        save(preview.picture, out)
    if preview.gradient is not None:
        save(preview.gradient, out.with_name(f"{out.stem}_gradient.png"))


def _extensions(produces: str) -> Collection[str]:
    """Return the accepted extensions of the output."""
    return (VIDEO_FORMATS if produces == "video" else PICTURE_FORMATS).keys()


def _output(path: str, pictures: Mapping[str, str], extensions: Collection[str]) -> Path:
    """Return the path of the output, once it is known to be writable.

    Raises:
        InputError: it cannot be written, or it is one of the input pictures.
    """
    out = Path(path)
    if out.suffix.lower() not in extensions:
        raise InputError(f"The output '{out}' has no extension that can be written; accepted: {', '.join(extensions)}.")
    if not out.parent.is_dir():
        raise InputError(f"The output's folder '{out.parent}' does not exist.")
    if out.is_dir():
        raise InputError(f"The output '{out}' is a folder; expected a file.")
    if not all(os.access(place, os.W_OK) for place in (out.resolve().parent, out) if place.exists()):
        raise InputError(f"The output '{out}' cannot be written; check its permissions.")
    for role, picture in pictures.items():
        if out.exists() and Path(picture).exists() and out.samefile(picture):
            raise InputError(f"The output '{out}' is the {role} itself; choose another name.")
    return out


# Help and errors


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


def _placeholder(field: FieldInfo) -> str:
    return "NAME" if choices(field) else PLACEHOLDERS.get(field.annotation, "TEXT")


def _help(field: FieldInfo, remark: str = "") -> str:
    """Return the help of an option: meaning and range, accepted names, a remark, the default."""
    accepted = f" One of: {', '.join(filter(None, choices(field)))}." if choices(field) else ""
    return f"{field.description}{accepted}{remark} Default: {'none' if field.default == '' else field.default}."


def _escape(text: str) -> str:
    """Escape text for argparse, which formats help with %."""
    return text.replace("%", "%%")


class _Parser(argparse.ArgumentParser):
    """An argument parser whose errors are an InputError of one sentence, with the nearest match of an unknown option."""

    def __init__(self, **settings: Any):
        formatter = partial(argparse.HelpFormatter, max_help_position=32)  # Wide enough for long names of options.
        super().__init__(**settings, formatter_class=formatter, allow_abbrev=False)

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
