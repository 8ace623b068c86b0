"""Write docs/video.jpg: frames of videos made alone, and held steady, each with its difference from the moved frame before."""

from collections.abc import Iterator
from pathlib import Path

from PIL import Image, ImageOps

from benchmarks.clips import CLIPS
from benchmarks.video import DREAM, STYLE, results
from featviz.media.images import to_picture
from featviz.media.sheets import contact_sheet
from featviz.recipes.recipe import Recipe

DOCS = Path(__file__).parent.parent / "docs"

COUNT, SCALE, WIDTH = 4, 2.0, 240
"""Frames, the scale of their clip, and their width on the sheet in pixels."""

AMPLIFIED = 3
"""Factor of the differences."""

SHOWN = {"dream": (DREAM, "pan"), "style": (STYLE, "cut-out")}
"""Title → recipe and clip."""


def cells(title: str, recipe: Recipe, name: str) -> Iterator[tuple[str, Image.Image]]:
    """Yield two rows of frames, each followed by a row of differences."""
    clip = CLIPS[name](COUNT, SCALE)
    for steadiness, how in ((0.0, "each frame alone"), (1.0, "held steady")):
        made = [frame.image for frame in results(recipe.replace(steadiness=steadiness, size=round(128 * SCALE)), clip)]
        yield from ((f"{title}, {how}", to_picture(image)) for image in made)
        yield "the video", to_picture(clip.frames[0])
        for number in range(1, COUNT):
            motion = clip.motions[number]
            assert motion is not None  # There is no cut.
            change = (motion(made[number - 1]) - made[number]).abs() * motion.visible
            yield "what changed", ImageOps.invert(to_picture((AMPLIFIED * change).clamp(0, 1)))


def main() -> None:
    sheet = [cell for title, (recipe, name) in SHOWN.items() for cell in cells(title, recipe, name)]
    contact_sheet(sheet, COUNT, WIDTH).save(DOCS / "video.jpg", quality=85)


if __name__ == "__main__":
    main()
