"""Make the thumbnails of the looks anew: what each makes of the castle, by the code and the recipe beside it."""

from PIL import Image, ImageOps

from featviz import examples, run

SIZE = (240, 160)

if __name__ == "__main__":
    for look in examples.looks():
        picture = run(look.recipe, image=examples.FOLDER / "mountain.jpg")
        ImageOps.fit(picture, SIZE, Image.Resampling.LANCZOS).save(look.thumbnail, quality=88)
        print(look.thumbnail.name)
