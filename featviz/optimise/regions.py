"""Regions of pictures, named by the colours of an image that is painted over them."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from featviz.errors import InputError
from featviz.optimise.scaling import size_of
from featviz.optimise.style_statistics import BLACK

LEVELS = 3
"""Values of red, green and blue that are told apart: 0, 128 and 255. The 27 colours are far enough apart to survive JPEG compression."""

LEAST_SHARE = 0.005
"""Least share of the pixels that a colour must have, without borders. A rarer colour is taken for a mixture of two along a border."""

MOST_REGIONS = 8
"""Most regions of a picture. An image with more colours is a photograph, or has soft borders everywhere."""

NAMES = {
    "#000000": "black", "#808080": "grey", "#ffffff": "white", "#ff0000": "red", "#00ff00": "green", "#0000ff": "blue",
    "#ffff00": "yellow", "#00ffff": "cyan", "#ff00ff": "magenta", "#ff8000": "orange", "#8000ff": "violet", "#0080ff": "azure",
}  # fmt: skip
"""Colours that have a common name. The others are called by their hexadecimal code."""

Style = tuple[Tensor, Tensor | None]
"""An image of a style (1, 3, H, W), and its opacity (1, 1, H, W), None if it is opaque."""


def colour_regions(image: Tensor, size: tuple[int, int]) -> dict[str, Tensor]:
    """Return {colour, such as "orange" or "#80ff80": its region (1, 1, height, width), 1 inside and 0 outside} for an image (1, 3, H, W).

    `size`: (height, width) of the picture that the image is painted over; the image is stretched to it. The brightest colour comes
    first. Each pixel belongs to one region: a pixel of a rare colour to the region of the nearest colour.

    Raises:
        InputError: there are more than `MOST_REGIONS` colours.
    """
    pixels = functional.interpolate(image, size, mode="nearest")[0].flatten(1).T  # No mixtures of colours.
    levels = (pixels * (LEVELS - 1)).round()
    codes = (levels @ levels.new_tensor([LEVELS**2, LEVELS, 1])).view(1, 1, *size)
    inside = functional.max_pool2d(codes, 3, 1, 1) == -functional.max_pool2d(
        -codes, 3, 1, 1
    )  # All neighbours have the same colour.
    counts = torch.bincount(codes[inside].long(), minlength=LEVELS**3)
    palette = torch.cartesian_prod(*3 * (torch.linspace(0, 1, LEVELS, device=image.device),))
    palette = palette[counts >= max(1, LEAST_SHARE * len(pixels))]
    if not 1 <= len(palette) <= MOST_REGIONS:
        raise InputError(f"An image of regions has {len(palette)} areas of even colour; expected 2 to {MOST_REGIONS} colours.")
    palette = palette[palette.sum(1).argsort(descending=True, stable=True)]
    nearest = torch.cdist(pixels, palette).argmin(1).view(size)
    names = ["#" + "".join(f"{round(value * 255 + 0.1):02x}" for value in colour) for colour in palette.tolist()]
    return {NAMES.get(name, name): (nearest == index).to(image)[None, None] for index, name in enumerate(names)}


def matched(
    regions: Tensor, style_regions: Tensor | None, styles: Sequence[Style], size: tuple[int, int]
) -> tuple[Tensor, list[Style]]:
    """Return the regions (1, N, height, width) of a content of (height, width), each 1 inside and 0 outside, and the style of each.

    `regions` and `style_regions`, (1, 3, H, W), have their colours. Without `style_regions`, the brightest region has the first
    style, the next one the second, and so on. With them, each has the part of the first style that has its colour, and the others,
    the brightest first, have the styles after the first.

    Black is what is not painted. If one of the two images has black and the other has none, that one area without a counterpart goes
    with all that the other regions leave.

    Raises:
        InputError: there is only one region or too many, or a region has no style or a black one, or a style has no region.
    """
    areas = colour_regions(regions, size)
    if len(areas) == 1:
        raise InputError(f"The image of regions is all {next(iter(areas))}; expected an area of another colour too.")
    where = torch.cat([*areas.values()], 1)
    if style_regions is None:
        if len(areas) != len(styles):
            raise InputError(
                f"There are {len(areas)} regions, {', '.join(areas)}, and {len(styles)} style{'s' * (len(styles) > 1)}; expected a "
                f"style for each{', or style_regions' * (len(areas) > len(styles))}."
            )
        return where, [*styles]
    (style, opacity), *others = styles
    parts = colour_regions(style_regions, size_of(style))
    missing = [colour for colour in areas if colour not in parts]
    if len(missing) == 1 and not others and ("black" in areas) != ("black" in parts):
        rest = 1 - torch.cat([parts[colour] for colour in areas if colour in parts], 1).sum(1, keepdim=True)
        parts, missing = parts | {missing[0]: rest}, missing * (not rest.any())
    if missing and not others:
        raise InputError(f"The style has no {', '.join(missing)} region; its regions are {', '.join(parts)}.")
    if others and not missing:
        raise InputError("The first style has all regions of the content; expected no further style.")
    if len(missing) != len(others):
        raise InputError(
            f"The first style has no {', '.join(missing)} region; expected a further style for each of these, not {len(others)}."
        )
    chosen = dict(zip(missing, others, strict=True))
    for colour in areas:
        if colour in chosen:
            continue
        part = parts[colour] if opacity is None else parts[colour] * opacity
        if (style * part).max() < BLACK:
            raise InputError(f"The style is black or transparent in its {colour} region; expected something visible there.")
        chosen[colour] = style, part
    return where, [chosen[colour] for colour in areas]
