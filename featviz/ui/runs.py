"""The page's jobs: what each kind of run yields, and where its result is written."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from weakref import WeakKeyDictionary

from PIL import Image

from featviz.media.saving import NOTE
from featviz.media.sheets import contact_sheet, with_detail
from featviz.recipes import metadata
from featviz.recipes.activation_maps import ActivationMaps
from featviz.recipes.recipe import Recipe, differing, live
from featviz.runtime import atlas
from featviz.runtime.clip import Clip
from featviz.runtime.inspection import ChannelResponse, LayerInspection
from featviz.runtime.jobs import Job
from featviz.runtime.result_files import Film, FollowedVideo, Steps, name_of, recorded, write_small, write_source
from featviz.runtime.sheet import on_one_sheet
from featviz.runtime.stream import Preview
from featviz.ui import text
from featviz.ui.controls import spoken
from featviz.ui.serving.admission import Request
from featviz.ui.serving.engine import Engine
from featviz.ui.serving.files import in_cache, keep_file

THUMBNAIL = 192
"""Side in pixels at which a thumbnail of the atlas is shown."""


@dataclass(frozen=True)
class Tile:
    """A picture of a gallery and what a click on it means: a recipe to set, or a channel to show."""

    file: str
    caption: str
    recipe: Recipe | None = None
    fields: tuple[str, ...] = ()
    """The fields that a click sets to those of `recipe`."""
    channel: "Channel | None" = None


@dataclass(frozen=True)
class Channel:
    """A channel and, where there is one, its response to a picture. Pictures are files in Gradio's cache."""

    layer: str
    channel: int
    activation_map: str | None = None
    patches: tuple[str, ...] = ()

    @classmethod
    def of(cls, cell: ChannelResponse) -> "Channel":
        activation_map = cell.picture and in_cache(cell.picture)
        return cls(cell.layer, cell.channel, activation_map, tuple(map(in_cache, cell.patches)))


@dataclass(frozen=True)
class Gallery:
    """The tiles of a job so far."""

    tiles: tuple[Tile, ...] = ()
    strongest: tuple[Tile, ...] = ()
    """The strongest channels of the whole network, beside those of a layer."""
    sentence: str = ""


class Runs:
    """Starts jobs, and keeps their galleries as long as the jobs."""

    def __init__(self, engine: Engine):
        self.engine, self.jobs = engine, engine.jobs
        self._galleries: WeakKeyDictionary[Job, list[Gallery]] = WeakKeyDictionary()

    def gallery(self, job: Job) -> Gallery:
        """Return the tiles of a job so far."""
        return (self._galleries.get(job) or [Gallery()])[-1]

    def start(self, request: Request, source: str | None, owner: str, *, sweep: bool = False) -> Job:
        """Start the job of a request. `source`: the file of its first picture. `sweep`: run the small variants, of a video's first
        frame."""
        recipe, pictures, clip = request
        work, write, options = self._work(recipe, pictures, None if sweep else clip, source, sweep)
        shown: list[Gallery] = []
        job = self.engine.start(request, partial(work, shown.append), sweep=sweep, owner=owner, write=write, **options)
        self._galleries[job] = shown
        return job

    def keep(self, recipe: Recipe, picture: Image.Image, source: str, owner: str) -> Job:
        """Start a job whose result is a picture that is there already. `source`: the file of the picture that it was made of."""

        def run(recipe: Recipe) -> Iterator[Preview]:
            yield Preview(1, 1, "", 1.0, 0.0, 0.0, picture)

        return self.jobs.start(recipe, {}, run=run, owner=owner, write=beside_source(recipe, source))

    def _work(
        self, recipe: Recipe, pictures: Mapping[str, Image.Image], clip: Clip | None, source: str | None, sweep: bool
    ) -> tuple[Callable[..., Iterator[Preview]], Callable[[Image.Image], str], dict[str, bool]]:
        if sweep:
            return self._sweep, beside_source(recipe, None), {}
        if isinstance(recipe, ActivationMaps):
            return self._inspect, beside_source(recipe, None), {}
        here = self.engine.in_process
        options = {"interruptible": here, "steerable": here and bool(live(type(recipe)))}
        run, write = recording(self.engine, Request(recipe, dict(pictures), clip), beside_source(recipe, source))
        return _without_gallery(run), write, options

    def _sweep(self, show: Callable[[Gallery], None], recipe: Recipe, **pictures: Image.Image) -> Iterator[Preview]:
        tiles: dict[Recipe, Tile] = {}
        drawn = with_detail if compares_results(recipe) else Image.Image.copy

        def watched() -> Iterator[tuple[Recipe, Preview]]:
            for variant, preview in self.engine.try_out(recipe, **pictures):
                tiles[variant] = Tile(
                    in_cache(drawn(preview.picture)), tile_caption(variant, preview), variant, recipe.sweep_fields
                )
                show(Gallery(tuple(tiles.values()), sentence=text.translated(recipe.sweep_caption)))
                yield variant, preview

        yield from on_one_sheet(recipe, watched())

    def _inspect(self, show: Callable[[Gallery], None], recipe: Recipe, **pictures: Image.Image) -> Iterator[Preview]:
        """The activation maps of the layer, then the strongest channels of the whole network."""
        found = self.engine.inspect_layer(recipe, **pictures)
        gallery = Gallery(tuple(_tile(cell, f"channel {cell.channel} · {number(cell.strength)}") for cell in found.cells))
        gallery = replace(gallery, sentence=describe_layer(found))
        show(gallery)
        cells = [(tile.caption, cell.picture) for tile, cell in zip(gallery.tiles, found.cells, strict=True)]
        sheet = contact_sheet(cells, columns=4, width=240)
        sheet.info[NOTE] = metadata.note(recipe, pictures)
        peaks = {layer: sheet.peaks for layer, sheet in atlas.sheets().items() if layer.startswith(f"{recipe.network_name}/")}
        steps = 2 if peaks else 1
        preview = Preview(1, steps, spoken(recipe.layer), 0.5, 1.0, 0.0, sheet)
        yield preview
        if peaks:
            cells = self.engine.strongest_channels(recipe, peaks, **pictures)
            show(replace(gallery, strongest=tuple(_tile(cell, channel_caption(cell)) for cell in cells)))
            yield replace(preview, step=2, work=1.0)


def compares_results(recipe: Recipe) -> bool:
    """Return whether the tiles of a recipe's variants are as large as its result: what differs between them is then shown magnified."""
    return not isinstance(recipe, ActivationMaps) and all(variant.size == recipe.size for variant in recipe.variants()[:1])


def _without_gallery(run: Callable[..., Iterator[Preview]]) -> Callable[..., Iterator[Preview]]:
    """Return the run as one that shows no tiles."""
    return lambda _, recipe, **given: run(recipe, **given)


def _tile(cell: ChannelResponse, caption: str) -> Tile:
    channel = Channel.of(cell)
    file = channel.activation_map or in_cache(thumbnail(cell.layer, cell.channel))
    return Tile(file, caption, channel=channel)


def thumbnail(layer: str, channel: int) -> Image.Image | None:
    """Return the picture that a channel responds to most, from the atlas; None if the atlas lacks the layer."""
    sheet = atlas.sheets().get(layer)
    return sheet and enlarged(sheet.thumbnail(channel))


def enlarged(picture: Image.Image) -> Image.Image:
    """Return a square of the atlas at the size at which it is shown."""
    return picture.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BICUBIC)


def beside_source(recipe: Recipe, source: str | None) -> Callable[[Image.Image], str]:
    """Return a function that writes a result and returns its path. It writes the source at the size of the result beside it."""

    def write(picture: Image.Image) -> str:
        file = in_cache(picture, name=name_of(recipe))
        if source and Path(source).is_file():
            write_source(source, picture, file)
        write_small(picture, file)
        return file

    return write


def recording(
    engine: Engine, request: Request, write: Callable[[Image.Image], str]
) -> tuple[Callable[..., Iterator[Preview]], Callable[[Image.Image], str]]:
    """Return the run of a request, and what writes its result and returns the path. `write` writes a picture."""
    recipe, pictures, clip = request
    if clip:
        followed = FollowedVideo(recipe, clip, engine.follow, keep_file)
        return followed.run, followed.finish
    if recipe.produces == "numbers":
        return engine.run, write
    film = Film(recipe, pictures, keep_file) if recipe.produces == "video" else Steps(write)
    return recorded(engine.run, film), film.finish


def tile_caption(variant: Recipe, preview: Preview) -> str:
    """Caption of a variant: the fields it differs in, and its measures."""
    measured = [variant.measure_label.format(*preview.measures.values())] if variant.measure_label else []
    return " · ".join([differing(variant), *measured])


def describe_layer(inspection: LayerInspection) -> str:
    """Describe a layer in one line: its shape, its receptive field and its mean activation."""
    channels, height, width = inspection.shape
    rows, columns = inspection.field
    field = "the whole picture" if rows == float("inf") else f"{columns:.0f}×{rows:.0f} pixels"
    shape = f"{channels} channels of {width}×{height}"
    return f"{spoken(inspection.layer)}: {shape} · each unit sees {field} · mean activation {number(inspection.mean)}"


def number(value: float) -> str:
    """Format a number with three significant digits, or as a whole number from 100 on."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def channel_caption(cell: ChannelResponse) -> str:
    """Return the caption of an atlas thumbnail: layer, channel and strength of its response."""
    return f"{cell.layer.rpartition('/')[2]} · {cell.channel} · {cell.strength:.0%}"
