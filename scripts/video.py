"""Write docs/video.jpg: frames of long videos, and what changes from frame to frame when each is made alone and when held steady.

`python -m scripts.video FOLDER` keeps the videos in a folder. Finished ones are not made again; an unfinished one is continued.
"""

import argparse
import math
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import torch
from PIL import Image, ImageOps

from benchmarks.clips import CLIPS, Camera, moved
from benchmarks.measure import EXAMPLES
from benchmarks.video import DREAM, STYLE, results
from featviz.media.images import to_picture
from featviz.media.sheets import contact_sheet
from featviz.media.video import Video, timed_frames
from featviz.recipes import metadata
from featviz.recipes.deepdream_zoom import DeepDreamZoom
from featviz.recipes.recipe import Recipe
from featviz.recipes.table import RECIPES
from featviz.runtime.film import film

DOCS = Path(__file__).parent.parent / "docs"

SIZE, FPS, SECONDS = 320, 2, 31
"""Longest side of the videos in pixels; frames a second and length of the video that is followed."""

LONG = {
    "dream": (DREAM.replace(size=SIZE), {}, (1, 10, 30)),
    "style": (STYLE.replace(size=SIZE), {"style": EXAMPLES / "great_wave.jpg"}, (1, 10, 30)),
    "zoom": (DeepDreamZoom(size=SIZE, seconds=60, fps=10), {"image": EXAMPLES / "mountain.jpg"}, (1, 30, 59)),
}
"""Title → recipe, its pictures beside the video, and the seconds whose frames are shown."""

COUNT, SCALE, AMPLIFIED = 2, 2.5, 3
"""Frames of a short clip, its scale, and the factor of its differences. The last frame is shown."""

WIDTH = 240
"""Of a picture on the sheet, in pixels."""


def walk(image: torch.Tensor, number: int) -> Camera:
    """A camera that wanders over a picture for a minute, closer and farther."""
    turn, (height, width) = 2 * math.pi * number / FPS, image.shape[-2:]
    centre = height * (0.5 + 0.15 * math.sin(turn / 17)), width * (0.5 + 0.15 * math.sin(turn / 11))
    return Camera(image, centre, 1 + 0.2 * math.sin(turn / 23), 8 * math.sin(turn / 19))


def source(folder: Path) -> Path:
    """Write the video that is followed."""
    path = folder / "video.mp4"
    if not path.exists():
        with Video(path, FPS) as video:
            for frame in moved("mountain", walk, FPS * SECONDS, SIZE / 128).frames:
                video.write(to_picture(frame))
    return path


def made(folder: Path, title: str) -> Path:
    """Make a video of `LONG`."""
    path, (recipe, pictures, _) = folder / f"{title}.mp4", LONG[title]
    if not (path.exists() and metadata.read(path, RECIPES).whole is not False):
        first, *_ = recipe.images
        for _ in film(recipe, path, **{first: source(folder)} | pictures):
            pass
    return path


def shown(path: Path, seconds: tuple[int, ...]) -> Iterator[tuple[str, Image.Image]]:
    """Yield the frames of a video at these times, with labels."""
    for frame in timed_frames(path):
        if frame.time in map(Fraction, seconds):
            yield f"{path.stem}, at {frame.time} s", frame.picture


def steady(recipe: Recipe, name: str, steadiness: float) -> tuple[Image.Image, Image.Image]:
    """Return the last frame of a short clip, and its difference from the moved frame before."""
    clip = CLIPS[name](COUNT, SCALE)
    *_, before, after = (frame.image for frame in results(recipe.replace(steadiness=steadiness), clip))
    motion = clip.motions[-1]
    assert motion is not None  # There is no cut.
    change = AMPLIFIED * (motion(before) - after).abs() * motion.visible
    return to_picture(after), ImageOps.invert(to_picture(change.clamp(0, 1)))


def main() -> None:
    parser = argparse.ArgumentParser(description="Write docs/video.jpg from videos that are kept in a folder.")
    parser.add_argument("folder", type=Path, help="where the videos are")
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    cells = [*shown(source(folder), (1, 10, 30))]
    for title, (_, _, seconds) in LONG.items():
        cells += shown(made(folder, title), seconds)
    for steadiness, how in ((0.0, "alone"), (1.0, "steady")):
        picture, of_style = steady(STYLE.replace(size=SIZE), "cut-out", steadiness)
        _, of_dream = steady(DREAM.replace(size=SIZE), "pan", steadiness)
        cells += [(f"style, {how}", picture), (f"change, {how}", of_style), (f"change of a dream, {how}", of_dream)]
    contact_sheet(cells, 3, WIDTH).save(DOCS / "video.jpg", quality=85)


if __name__ == "__main__":
    main()
