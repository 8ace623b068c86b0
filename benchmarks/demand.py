"""### Does a run take the memory that its estimate says?

Each run in a process of its own, from opened pictures to the result. The figure is what the process takes at its peak, beyond what
it takes after a small run of the same recipe and after its heap has been trimmed, over `estimate(…).bytes`: over 1 is more
than estimated. Heap and threads are as on a server. Aim: 0.5 to 1.3.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from benchmarks.measure import Row, apart, grown

LOW, HIGH = 0.5, 1.3

Sizes = Mapping[str, tuple[int, int]]
Case = tuple[str, Mapping[str, Any], Sizes]
"""Recipe, its fields, and the (width, height) of each picture."""

PHOTO = (640, 480)


def dream(layer: str, image: tuple[int, int] = PHOTO, *, guide: Any = None, mask: Any = None, **fields: Any) -> Case:
    optional = {role: size for role, size in (("guide", guide), ("mask", mask)) if size}
    return "deepdream", {"layer": layer, "octaves": 2, "steps": 1} | fields, {"image": image} | optional


def style(network: str, style: tuple[int, int] = PHOTO, *, styles: int = 1, mask: Any = None, **fields: Any) -> Case:
    pictures = {"content": PHOTO, "style": style} | {f"style{number}": PHOTO for number in range(2, styles + 1)}
    optional = {"mask": mask} if mask else {}
    return "style_transfer", {"network": network, "scales": 1, "steps": 2} | fields, pictures | optional


VGG, LITE = "vgg19", "efficientnet_lite0"

VGG_FLOAT32 = "vgg19_float32"
"""VGG-19 as on a CPU without bfloat16; `measured` adds it to the table."""

SMALL: tuple[Case, ...] = (
    dream(f"{VGG}/relu4_4", size=256),
    dream(f"{VGG}/relu1_1", size=256, guide=(1024, 1024), guide_by="channels"),
    ("deepdream_zoom", {"layer": f"{LITE}/block9", "size": 256, "octaves": 2, "steps": 1, "seconds": 0.1}, {"image": PHOTO}),
    ("layer_time_lapse", {"network": LITE, "size": 192, "octaves": 1, "steps": 1}, {"image": PHOTO}),
    style(LITE, size=320, styles=2, mask=PHOTO),
    ("activation_maps", {"layer": f"{VGG}/relu1_1", "size": 384, "count": 64}, {"image": PHOTO}),
    ("classification", {"size": 512}, {"image": PHOTO}),
    ("evidence", {"size": 512}, {"image": PHOTO}),
    ("ablation", {"layer": f"{LITE}/stem", "size": 512, "most": 2}, {"image": PHOTO}),
    ("feature_accentuation", {"layer": f"{LITE}/block9", "size": 512, "steps": 2}, {"image": PHOTO}),
    ("caricature", {"layer": f"{LITE}/block9", "size": 512, "steps": 2}, {"image": PHOTO}),
    ("reconstruct_content", {"layer": f"{VGG}/relu4_1", "size": 160, "steps": 1}, {"image": PHOTO}),
    ("reconstruct_style", {"network": LITE, "size": 192, "steps": 1}, {"style": PHOTO}),
    ("feature_visualization", {"layer": f"{LITE}/block9", "pictures": 2, "size": 224, "steps": 2}, {}),
)  # fmt: skip
"""The cases that a test runs as well."""

GRID: tuple[Case, ...] = (
    *SMALL,
    dream(f"{VGG_FLOAT32}/relu4_4", size=256),
    dream(f"{VGG}/relu2_1", size=256, guide=PHOTO),
    dream(f"{LITE}/block9", size=384, mask=PHOTO),
    style(LITE, (3000, 2000), size=192),
    *(dream(f"{VGG}/{layer}", size=512) for layer in ("relu1_1", "relu2_2", "relu5_4")),
    *(dream(f"{VGG}/relu4_4", size=size, octaves=1) for size in (512, 1024)),
    *(dream(f"{LITE}/{layer}", size=512) for layer in ("stem", "block2", "head")),
    *(dream(f"{LITE}/block9", size=size, octaves=1) for size in (1024, 2048, 3072)),
    dream(f"{LITE}/block9", size=512, octaves_above=2),
    dream(f"{LITE}/block9", size=1024, gradient="laplacian", keep_colours=True),
    dream(f"{LITE}/block9", size=768, gradient="gaussian", outside=f"{LITE}/block2", mask=PHOTO),
    dream(f"{VGG}/relu3_1", size=384, more_layers="relu4_1: 0.5, relu1_1"),
    dream(f"{LITE}/block9", size=384, class_name="hummingbird"),
    dream(f"{LITE}/block2", size=512, guide=(1024, 1024), more_layers="block9"),
    *(style(VGG, size=size) for size in (192, 384, 640)),
    style(VGG, size=384, styles=2, mask=PHOTO),
    *(style(VGG, size=size, styles=4) for size in (384, 1024)),
    style(VGG, (1600, 1200), size=256, style_scale=3),
    style(VGG, size=2048, repaint="colours"),
    *(style(LITE, size=size) for size in (512, 1024, 2048)),
    style(LITE, (3000, 2000), size=384, steps=12),
    style(LITE, size=512, optimiser="adam", colours="matched", statistic="gram"),
    *(("activation_maps", {"layer": layer, "size": size}, {"image": PHOTO}) for layer in (f"{VGG}/relu3_1", f"{LITE}/block9")
      for size in (320, 1024)),
    ("classification", {"size": 224}, {"image": PHOTO}),
    ("reconstruct_content", {"layer": f"{LITE}/block9", "size": 512, "steps": 5}, {"image": PHOTO}),
    ("reconstruct_style", {"network": VGG, "size": 160, "steps": 2}, {"style": PHOTO}),
    ("reconstruct_style", {"network": VGG, "size": 400, "steps": 1, "layers": 5}, {"style": PHOTO}),
    ("feature_visualization", {"layer": f"{VGG}/relu3_1", "pictures": 4, "size": 256, "steps": 2}, {}),
    ("feature_visualization", {"class_name": "hummingbird", "size": 320, "steps": 2}, {}),
)  # fmt: skip


def measured(name: str, fields: Mapping[str, Any], sizes: Sizes) -> tuple[float, float]:
    """Bytes at the peak of a run, and those of its estimate."""
    from PIL import Image

    from featviz.media.images import read_header
    from featviz.networks.cache import load
    from featviz.networks.table import NETWORKS
    from featviz.recipes.table import RECIPES
    from featviz.runtime.estimate import estimate
    from featviz.runtime.stream import run

    if VGG_FLOAT32 not in NETWORKS:
        NETWORKS[VGG_FLOAT32] = replace(NETWORKS[VGG], title="VGG-19 in float32", supports_bfloat16=False)
    recipe = RECIPES[name](**fields)
    load(recipe.network_name)

    def noise(sizes: Sizes) -> dict[str, Image.Image]:
        return {role: Image.effect_noise(size, 60).convert("RGB") for role, size in sizes.items()}

    run(RECIPES[name](**{**fields, "size": 96}), device="cpu", **noise(dict.fromkeys(sizes, (96, 96))))
    pictures = noise(sizes)
    peak = grown(lambda: run(recipe, device="cpu", **pictures))
    headers = {role: read_header(picture, role) for role, picture in pictures.items()}
    return peak, estimate(recipe, headers, device="cpu").bytes


def several(cases: tuple[Case, ...]) -> list[tuple[float, float]]:
    """`measured`, one after the other in the same process."""
    return [measured(*case) for case in cases]


def rows() -> Iterator[Row]:
    ratios = []
    for name, fields, sizes in GRID:
        peak, estimate = apart(measured, name, fields, sizes)
        ratios.append(peak / estimate)
        case = ", ".join(f"{field} {value}" for field, value in fields.items() if field not in ("steps", "seconds"))
        pictures = ", ".join(f"{role} {width}×{height}" for role, (width, height) in sizes.items())
        yield Row(f"{name}: {case}; {pictures}", "peak/estimate", [ratios[-1]], f"{peak / 1e6:.0f} of {estimate / 1e6:.0f} MB")
    yield Row("all: the least", "peak/estimate", [min(ratios)], f"aim: at least {LOW}")
    yield Row("all: the most", "peak/estimate", [max(ratios)], f"aim: at most {HIGH}")
