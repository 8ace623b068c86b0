"""Compute the thumbnails of the presets that are named, or of all: the result of each preset for one example picture."""

import sys

from PIL import Image, ImageOps

from featviz import run
from featviz.recipes import presets

SIZE = (240, 160)

if __name__ == "__main__":
    for preset in presets.read_presets():
        if preset.name in sys.argv[1:] or not sys.argv[1:]:
            picture = run(preset.recipe, image=presets.FOLDER / "mountain.jpg")
            ImageOps.fit(picture, SIZE, Image.Resampling.LANCZOS).save(preset.thumbnail, quality=88)
            print(preset.thumbnail.name)
