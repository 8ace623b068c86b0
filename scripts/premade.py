"""Make the result anew that the page shows on the first visit: the first example of DeepDream, by its recipe."""

from PIL import Image

from featviz import run, save
from featviz.media.images import open_picture
from featviz.recipes import presets
from featviz.recipes.deepdream import DeepDream

if __name__ == "__main__":
    example = next(example for example in presets.read_examples() if isinstance(example.recipe, DeepDream))
    folder = presets.FOLDER / "premade"
    folder.mkdir(exist_ok=True)
    result = run(example.recipe, **example.pictures)
    save(result, folder / "after.jpg")
    source = open_picture(example.pictures["image"]).convert("RGB")
    source.resize(result.size, Image.Resampling.LANCZOS).save(folder / "before.jpg", quality=88)
