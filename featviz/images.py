"""Pictures in, pictures out: the only file that knows uint8, PIL, EXIF and colour profiles.

Everywhere else an image is a float32 RGB tensor (1, 3, H, W) in [0, 1].
"""

import io
import math
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import ExifTags, Image, ImageCms, ImageDraw, ImageFont, ImageOps
from PIL.PngImagePlugin import PngInfo
from torch import Tensor
from torch.nn import functional

from featviz import limits
from featviz.errors import FeatvizError, ImageError, InputError
from featviz.precision import exact

SMALLEST_SIDE = 16
"""Pixels. Below this there is nothing for a convolutional network to look at."""

READABLE = ("PNG", "JPEG", "WEBP", "AVIF", "GIF", "BMP", "TIFF")
"""What is read, by Pillow's names. Its other formats stay closed: their code is little used, and that of PostScript runs a program."""

Picture = Image.Image | str | os.PathLike
"""What people hand in: a PIL image, or the path of a file."""


def open_picture(picture: Picture | None, role: str = "picture") -> Image.Image:
    """Open a picture: upright, sRGB, free of metadata; mode RGB, or RGBA over white where there is transparency.

    Raises:
        ImageError: it is not a picture, is damaged, or its size is outside the limits. `role` names it in the message.
    """
    if isinstance(picture, Image.Image):
        return _checked(picture, role)
    with open_header(picture, role) as opened:
        return _checked(opened, role)


@contextmanager
def open_header(picture: str | os.PathLike | None, role: str = "picture") -> Iterator[Image.Image]:
    """What a file says that it is, its pixels not decoded yet. Raises ImageError where it is no picture, or too large a file."""
    if picture is None:
        raise ImageError(f"There is no {role} yet: choose one, or click an example.")
    if not isinstance(picture, (str, os.PathLike)):
        raise ImageError(f"The {role} is {type(picture).__name__}; expected a PIL image or the path of a picture file.")
    with warnings.catch_warnings():
        # Pillow warns of what is odd in a file. What matters of it is checked, and its limit of pixels is not ours.
        warnings.filterwarnings("ignore", module="PIL")
        with _open(Path(picture), role) as opened:
            yield opened


def _checked(picture: Image.Image, role: str) -> Image.Image:
    width, height = picture.size
    if min(width, height) < SMALLEST_SIDE:
        raise ImageError(f"The {role} is {width}×{height} pixels; each side needs at least {SMALLEST_SIDE}.")
    if width * height > limits.PIXELS.value:
        raise ImageError(f"The {role} is {width}×{height}, {width * height / 1e6:.0f} megapixels; at most {_most_pixels()}.")
    try:
        picture.load()
        return _to_srgb(_upright(picture))
    except MemoryError:
        raise
    except Exception as error:  # Decoders raise whatever they stumble on.
        raise ImageError(f"The {role} is damaged and cannot be decoded ({error}).") from error


def _most_pixels() -> str:
    return f"{limits.PIXELS.value / 1e6:.10g} are accepted"


def _open(path: Path, role: str) -> Image.Image:
    try:
        size = path.stat().st_size / 1e6
        if size > limits.MEGABYTES.value:
            raise ImageError(f"The {role} has {size:.0f} megabytes; at most {limits.MEGABYTES.value} are accepted.")
        return Image.open(path, formats=READABLE)
    except ImageError:
        raise
    except FileNotFoundError:
        raise ImageError(f"The {role} '{path.name}' does not exist.") from None
    except Image.DecompressionBombError:
        raise ImageError(f"The {role} claims too many megapixels; at most {_most_pixels()}.") from None
    except MemoryError:
        raise
    except Exception:
        raise ImageError(f"The {role} is not a picture; PNG, JPEG, WebP, AVIF, GIF, BMP and TIFF files are accepted.") from None


def _upright(picture: Image.Image) -> Image.Image:
    """Turned as its metadata says; as it lies where those make no sense, since the picture may be whole."""
    try:
        return ImageOps.exif_transpose(picture)
    except Exception:
        return picture.copy()


def _to_srgb(picture: Image.Image) -> Image.Image:
    """Decode, convert by the embedded colour profile where there is a sound one, flatten on white, drop metadata."""
    profile = picture.info.get("icc_profile")
    if picture.mode.startswith("I;16") or picture.mode in ("I", "F"):
        picture = _stretch(picture)
    alpha = None
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        alpha = picture.getchannel("A")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
    if profile and picture.mode in ("RGB", "CMYK", "L"):
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            converted = ImageCms.profileToProfile(picture, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
            picture = converted or picture  # None is for those who convert in place.
        except (ImageCms.PyCMSError, OSError):
            pass  # A broken profile, or one of another colour space: the plain numbers are the best guess there is.
    picture = picture.convert("RGB")
    picture.info.clear()  # EXIF, GPS and comments would otherwise travel into what we return.
    picture.getexif().clear()
    if alpha is not None and alpha.getextrema() != (255, 255):
        picture.putalpha(alpha)
    return picture


def _stretch(picture: Image.Image) -> Image.Image:
    """16-bit, integer and float pictures to 8 bits: by 257 where that is their range, else by their own extremes."""
    values = np.array(picture, dtype=np.float32)
    low, high = 0.0, 65535.0
    if not picture.mode.startswith("I;16"):
        finite = np.isfinite(values)
        high = float(values.max(where=finite, initial=-np.inf)) if finite.any() else 0.0
        low = float(values.min(where=finite, initial=0.0))
        np.nan_to_num(values, copy=False, posinf=high, neginf=low)
    scale = 255 / max(high - low, 1e-12)
    values *= scale  # In place and first, so that neither memory nor range runs out.
    values -= low * scale
    return Image.fromarray(values.round(out=values).astype(np.uint8))


NOTE = "featviz"
"""Under this name a picture carries its note: in `Image.info`, and in a PNG's text."""

LABEL, GAP = 26, 6
"""Pixels of a contact sheet: above a picture, and between two."""

ASCII = b"ASCII\0\0\0"
"""Ahead of an EXIF comment, which encoding it has."""


def _as_text(note: str) -> dict[str, Any]:
    text = PngInfo()
    text.add_text(NOTE, note)
    return {"pnginfo": text}


def exif_of(note: str) -> bytes:
    """EXIF with a note as its comment, and nothing else."""
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] = ASCII + note.encode("ascii", "replace")
    return exif.tobytes()


def _as_exif(note: str) -> dict[str, Any]:
    return {"exif": exif_of(note)}


@dataclass(frozen=True)
class Format:
    """How the files of an extension are written."""

    annotated: Callable[[str], dict[str, Any]]
    """A note → how Pillow is asked to write it."""
    options: Mapping[str, Any] = field(default_factory=dict)
    modes: tuple[str, ...] = ("RGB", "RGBA")


FORMATS: dict[str, Format] = {
    ".png": Format(_as_text),
    ".jpg": Format(_as_exif, {"quality": 95}, ("RGB",)),
    ".jpeg": Format(_as_exif, {"quality": 95}, ("RGB",)),
    ".webp": Format(_as_exif, {"quality": 95}),
}
"""The extension of a picture → how it is written."""


def save(picture: Image.Image, path: str | os.PathLike) -> None:
    """Write a picture, with the recipe that it was made by if featviz made it, and with no other metadata.

    Raises:
        InputError: the extension of `path` is none of `FORMATS`.
        FeatvizError: the file cannot be written.
    """
    path = Path(path)
    if (extension := path.suffix.lower()) not in FORMATS:
        raise InputError(f"'{path}' has no extension of a picture; accepted: {', '.join(FORMATS)}.")
    form, note = FORMATS[extension], picture.info.get(NOTE)
    bare = picture.convert(picture.mode if picture.mode in form.modes else "RGB")
    bare.info.clear()
    try:
        bare.save(path, **form.options, **(form.annotated(note) if note else {}))
    except OSError as error:
        raise FeatvizError(f"The output '{path}' could not be written: {error.strerror or error}.") from error


def contact_sheet(cells: Sequence[tuple[str, Image.Image]], columns: int, width: int) -> Image.Image:
    """Pictures in rows, each `width` pixels wide under its label."""
    scaled = [(label, picture.resize((width, round(width * picture.height / picture.width)))) for label, picture in cells]
    rows = [scaled[start : start + columns] for start in range(0, len(scaled), columns)]
    tops = list(accumulate((LABEL + max(picture.height for _, picture in row) for row in rows), initial=0))
    result = Image.new("RGB", (len(rows[0]) * (width + GAP) - GAP, tops[-1]), "white")
    draw, font = ImageDraw.Draw(result), ImageFont.load_default(15)
    for row, top in zip(rows, tops, strict=False):
        for i, (label, picture) in enumerate(row):
            draw.text((i * (width + GAP) + 2, top + 4), label, fill="black", font=font)
            result.paste(picture, (i * (width + GAP), top + LABEL))
    return result


def read_note(picture: Picture) -> str:
    """The note in a picture that featviz made or an animation that it wrote, "" where there is none. No pixel is decoded.

    Raises:
        ImageError: it is not a picture.
    """
    if isinstance(picture, Image.Image):
        return _note(picture)
    with open_header(picture) as opened:
        return _note(opened)


def _note(picture: Image.Image) -> str:
    try:
        comment = picture.getexif().get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.UserComment)
    except Exception:
        comment = None  # The metadata is damaged; the picture may be whole.
    for found in (picture.info.get(NOTE), comment, picture.info.get("comment")):
        text = found.removeprefix(ASCII).decode("ascii", "replace") if isinstance(found, bytes) else found
        if isinstance(text, str) and text.startswith("{"):  # What others write there is not JSON.
            return text
    return ""


def to_tensor(picture: Image.Image, device: torch.device | str = "cpu") -> Tensor:
    """A picture as (1, 3, H, W) float32 in [0, 1]; what transparency it has is left aside."""
    pixels = torch.from_numpy(np.array(picture.convert("RGB"))).to(device)
    return pixels.permute(2, 0, 1).unsqueeze(0).contiguous().float().div_(255)  # Four bytes a value only once.


def to_picture(image: Tensor) -> Image.Image:
    """(1, 3, H, W) in [0, 1], rounded to 8 bits. Waits for the device."""
    pixels = image[0].detach().clamp(0, 1).mul_(255).round_().to(torch.uint8)
    return Image.fromarray(pixels.permute(1, 2, 0).cpu().numpy())


def with_alpha(picture: Image.Image, source: Image.Image) -> Image.Image:
    """A result with the transparency of the picture it was made of, if that has any."""
    if source.mode == "RGBA":
        picture.putalpha(source.getchannel("A").resize(picture.size, Image.Resampling.LANCZOS))
    return picture


def size_of(image: Tensor) -> tuple[int, int]:
    """(height, width) of (…, H, W)."""
    height, width = image.shape[-2:]
    return height, width


def resize(image: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, C, H, W) to (height, width), bicubic with antialiasing; may overshoot the range of its input by a little."""
    if size_of(image) == tuple(size):
        return image
    return functional.interpolate(image, size, mode="bicubic", antialias=True, align_corners=False)


def fit(image: Tensor, longest: int, smallest: int) -> Tensor:
    """Scale an image (1, 3, H, W) so that its longest side is `longest` pixels, whatever its size was.

    Raises:
        ImageError: the other side would fall under `smallest`, the least that the network can see.
    """
    height, width = fitted_size(size_of(image), longest)
    if min(height, width) < smallest:
        raise ImageError(
            f"At size {longest} this picture would be {width}×{height} pixels; the network needs at least {smallest} "
            f"on each side, so choose a larger size or a less narrow picture."
        )
    return resize(image, (height, width)).clamp(0, 1)


def fitted_size(size: tuple[int, int], longest: int) -> tuple[int, int]:
    """(height, width) scaled so that the larger is `longest`, rounded, aspect kept."""
    factor = longest / max(size)
    height, width = (max(1, math.floor(side * factor + 0.5)) for side in size)
    return height, width


def match_colours(image: Tensor, like: Tensor) -> Tensor:
    """An image (1, 3, H, W) with the colours of another: their mean and covariance, by the least change of each colour.

    Linear, after Gatys et al. (Preserving Color in Neural Artistic Style Transfer, 2016), by the map of optimal transport
    between Gaussians, which unlike a Cholesky factor treats red, green and blue alike. Grey pictures are no exception.
    """

    def colours(picture: Tensor) -> tuple[Tensor, Tensor]:
        pixels = exact(picture[0].flatten(1))
        centred = pixels - pixels.mean(1, keepdim=True)
        return pixels.mean(1), centred @ centred.T / pixels.shape[1]

    def power(matrix: Tensor, exponent: float) -> Tensor:
        values, vectors = torch.linalg.eigh(matrix)
        return vectors * values.clamp_min(1e-6) ** exponent @ vectors.T  # A variance of (1/4 of 1/255)² counts as none.

    (old_mean, old), (new_mean, new) = colours(image), colours(like)
    root, inverse = power(old, 0.5), power(old, -0.5)
    change = inverse @ power(root @ new @ root, 0.5) @ inverse
    pixels = change @ (exact(image[0].flatten(1)) - old_mean[:, None]) + new_mean[:, None]
    return pixels.to(image).clamp(0, 1).view_as(image)


def mirrored(image: Tensor, smallest: int) -> Tensor:
    """(B, C, H, W), continued by its mirror images until no side is under `smallest`; of an image that is large enough, itself."""
    for side in (-2, -1):
        while image.shape[side] < smallest:
            image = torch.cat([image, image.flip(side)], side)
    return image
