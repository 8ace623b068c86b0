"""Read and write pictures, and convert them to tensors and back. File formats, EXIF and colour profiles are handled here.

Algorithms work on float32 RGB tensors (1, 3, H, W) in [0, 1].
"""

import io
import math
import os
import stat
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache
from itertools import chain
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from PIL import ExifTags, Image, ImageChops, ImageCms, ImageFilter, ImageOps, UnidentifiedImageError
from torch import Tensor

from featviz import extras, limits
from featviz.errors import ImageError, MissingExtraError, reason, short

SMALLEST_SIDE = 16
"""Shortest accepted side, in pixels. Smaller pictures leave a convolutional network too few positions."""

READABLE: dict[str, tuple[str, ...]] = {
    "PNG": (".png",),
    "JPEG": (".jpg", ".jpeg"),
    "WebP": (".webp",),
    "AVIF": (".avif",),
    "HEIC": (".heic", ".heif"),
    "GIF": (".gif",),
    "BMP": (".bmp",),
    "TIFF": (".tif", ".tiff"),
}
"""Format → extensions. A file is recognised by its content; in a folder, files are selected by extension.

Pillow's other formats are disabled for security: their decoders are little used, and PostScript's runs an external program."""

EXTENSIONS = tuple(chain.from_iterable(READABLE.values()))

NAMES = f"{', '.join(list(READABLE)[:-1])} and {list(READABLE)[-1]}"
"""The readable formats, as a list for messages."""

ANIMATED = ("GIF", "WEBP", "AVIF", "PNG", "TIFF")
"""Pillow's names of the formats whose extra frames count. The extra images in a camera's JPEG or HEIC (a preview, a gain map)
do not."""

Picture = Image.Image | str | os.PathLike | bytes | BinaryIO | np.ndarray | Tensor
"""Accepted types of a picture:

- a PIL image
- a path, the bytes or an open binary file of a `READABLE` format
- a NumPy array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4)
- a tensor (H, W), (C, H, W) or (1, C, H, W) with C of 1, 3 or 4

Arrays and tensors hold uint8, bool, or floats in [0, 1]."""

Pictures = Picture | Sequence[Picture]
"""A picture, or the list of pictures that some roles take."""

Reserve = Callable[[int], AbstractContextManager[None]]
"""Takes the peak bytes of decoding a picture, and returns a context that is held while that lasts."""

SMOOTHED = 2
"""Smoothing passes at each size when colours are extended under transparent pixels. They soften borders between colours."""

ROUNDING = 1e-3
"""Accepted excess of floats beyond [0, 1]. About a quarter of an 8-bit step, 1/255."""

MASK = "mask"
"""The role of masks. They are read as brightness times opacity."""

OVERSAMPLING = 4
"""Least ratio of the decoded size to the needed size. It keeps errors of the integer reduction small after the final resize.
With 2, the value in Pillow's `Image.thumbnail`, shallow activations differ by up to 8 %."""

FAINT = 16
"""Opacity, from 0 to 255, below which a pixel's colour is unreliable. Programs that premultiply colours by opacity lose most
of its bits there."""

DECODED_BYTES, MORE_DECODED_BYTES = 13, 22
"""Peak memory of opening a picture, in bytes per decoded pixel. The second applies to WebP, transparency and 32-bit values.

Measured on 12 megapixels: GIF 6; JPEG and PNG 8, with a profile 12; HEIC 9; WebP 16; transparent PNG with a profile 22."""

JPEG, MOST_DRAFTED = ("JPEG", "MPO"), 8
"""Pillow's names of the formats that are decoded at reduced size, and the greatest factor of that."""

TURNED = (5, 6, 7, 8)
"""The EXIF orientations of pictures that are shown with width and height exchanged."""


@dataclass(frozen=True)
class Header:
    """What is known of a picture before it is decoded."""

    size: tuple[int, int]
    """(width, height) in pixels, upright."""
    bytes_per_pixel: int = DECODED_BYTES
    """Peak memory of opening it, in bytes per decoded pixel."""
    drafted: bool = False
    """Whether it is decoded at reduced size, as JPEG is."""

    def opened_size(self, longest: int | None = None) -> tuple[int, int]:
        """Return the (width, height) that `open_picture` gives for the same `longest`."""
        return _divided(self.size, _reduction(self.size, longest))

    def decoding_bytes(self, longest: int | None = None) -> int:
        """Return the peak memory of `open_picture` in bytes."""
        factor = min(_reduction(self.size, longest), MOST_DRAFTED) if self.drafted else 1
        return math.prod(_divided(self.size, factor)) * self.bytes_per_pixel


def read_header(picture: Picture | None, role: str = "picture") -> Header:
    """Return the header of a picture. Raises ImageError if it is missing, unreadable or outside the limits of size."""
    with open_header(picture, role) as opened:
        return _header(opened, role, is_file=opened is not picture)


def open_picture(
    picture: Picture | None,
    role: str = "picture",
    longest: int | None = None,
    *,
    reserve: Reserve = lambda needed: nullcontext(),
) -> Image.Image:
    """Return a picture upright, in sRGB and without metadata. Its mode is RGB, or RGBA if it has transparency.

    Colours of opaque pixels are extended under the transparent ones, so that resizing does not mix hidden colours into edges.
    The role "mask" gives mode L: brightness times opacity, so transparent means outside.

    `longest` is the needed longest side in pixels, None for full size. A much larger picture is reduced by a power of two, to at
    least `OVERSAMPLING` times `longest`. A JPEG is decoded at reduced size, which is faster. `reserve` is called with the peak
    bytes of decoding, and its context is held while that lasts.

    Raises:
        ImageError: the picture is missing, unreadable, damaged, fully transparent or outside the limits of size, or a mask has
            the same value everywhere. The message names the picture by `role`.
        MissingExtraError: it is HEIC and pillow-heif is not installed.
    """
    with open_header(picture, role) as opened:
        header = _header(opened, role, is_file=opened is not picture)
        with reserve(header.decoding_bytes(longest)):
            result = _decoded(opened, header, role, longest)
            if opened is not picture:
                opened.close()  # Releases its pixels, which the file's context would not.
            if result.mode == "RGBA":
                if _range(result.getchannel("A"))[1] == 0:
                    raise ImageError(f"The {role} is fully transparent; expected at least one visible pixel.")
                result = _continued(result)
            return _brightness(result, role) if role == MASK else result


def _decoded(opened: Image.Image, header: Header, role: str, longest: int | None) -> Image.Image:
    """Return an opened picture as RGB or RGBA, upright and reduced. Raises ImageError if it is damaged."""
    factor, whole = _reduction(header.size, longest), opened.size
    try:
        if header.drafted and factor > 1:
            opened.draft(None, (max(1, opened.width // factor), max(1, opened.height // factor)))
            factor //= round(max(whole) / max(opened.size))
        opened.load()
        return _to_srgb(_upright(opened), factor)
    except MemoryError:
        raise
    except Exception as error:  # Decoders raise errors of many types.
        raise ImageError(f"The {role} is damaged and cannot be decoded: {reason(error)}.") from error


def _header(opened: Image.Image, role: str, *, is_file: bool) -> Header:
    """Return the header of an opened picture. `is_file`: it is not the caller's own image, which must not be changed."""
    check_size(opened.size, role)
    more = opened.format == "WEBP" or opened.mode in ("I", "F") or opened.has_transparency_data
    size = opened.size[::-1] if _orientation(opened) in TURNED else opened.size
    return Header(size, MORE_DECODED_BYTES if more else DECODED_BYTES, is_file and opened.format in JPEG)


def _orientation(opened: Image.Image) -> int:
    """Return the orientation by EXIF; 1, which is upright, without one or if EXIF is damaged. No pixels are decoded."""
    try:
        if opened.format == "PNG":  # Its `getexif` decodes the whole picture, in search of EXIF behind the pixels.
            exif = Image.Exif()
            exif.load(opened.info.get("exif", b""))
            return exif.get(ExifTags.Base.Orientation, 1)
        return opened.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:
        return 1


def remarks(picture: Picture, role: str = "picture", *, reserve: Reserve = lambda needed: nullcontext()) -> list[str]:
    """Return remarks for the user about how a picture is read, one sentence each. Raises ImageError as `open_picture` does."""
    sentences = []
    if (count := count_frames(picture, role)) > 1:
        sentences.append(f"The {role} has {count} frames; the first one is used.")
    if role == MASK and _colourful(picture, reserve):
        sentences.append("The mask has colours; their brightness is used, so white is inside and black is outside.")
    return sentences


def count_frames(picture: Picture | None, role: str = "picture") -> int:
    """Return the number of frames of a GIF, WebP, AVIF, PNG or TIFF, and 1 for other formats. Raises as `open_header` does."""
    with open_header(picture, role) as opened:
        try:
            return getattr(opened, "n_frames", 1) if opened.format in ANIMATED else 1
        except Exception:  # The file is damaged, but its first frame may be intact.
            return 1


def frames(file: str | os.PathLike, role: str = "picture") -> Iterator[Image.Image]:
    """Yield every frame of a file, converted as by `open_picture`. One frame is decoded at a time.

    Raises:
        ImageError: the file is not a picture, or the next frame is damaged. Frames before it have been yielded.
    """
    count = count_frames(file, role)
    with _open(_file(file, role), role) as opened:
        for number in range(count):
            with _quiet():
                try:
                    opened.seek(number)
                except Exception as error:
                    raise ImageError(
                        f"Frame {number + 1} of the {role} is damaged and cannot be decoded: {reason(error)}."
                    ) from error
                frame = open_picture(opened, role)
            yield frame


@contextmanager
def open_header(picture: Picture | None, role: str = "picture") -> Iterator[Image.Image]:
    """Yield a picture with its header read. Its pixels are not decoded yet if it is a file. The file is closed on exit.

    Raises:
        ImageError: the picture is missing, not a picture, or too large a file; or an array has a wrong shape, type or range.
        MissingExtraError: it is HEIC and pillow-heif is not installed.
    """
    if picture is None:
        raise ImageError(f"The {role} is missing: choose a picture, or click an example.")
    if isinstance(picture, Image.Image):
        yield picture
    elif isinstance(picture, (np.ndarray, Tensor)):
        yield _from_array(picture, role)
    else:
        with _quiet(), _open(_file(picture, role), role) as opened:
            yield opened


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence Pillow's warnings. Relevant problems are checked here, and `limits.PIXELS` replaces Pillow's limit."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="PIL")
        yield


def _file(picture: object, role: str) -> Path | io.BytesIO:
    """Return the file to read, as a path or as bytes in memory.

    Raises:
        ImageError: it does not exist, cannot be read, is larger than `limits.MEGABYTES`, or has an unsupported type.
    """
    most = int(limits.MEGABYTES.value * 1e6)
    content: Path | io.BytesIO
    if isinstance(picture, (str, os.PathLike)):
        path = Path(picture)
        try:
            status = path.stat()
        except FileNotFoundError:
            raise ImageError(f"The {role} '{short(path.name)}' does not exist.") from None
        except PermissionError:
            raise _unreadable(role) from None
        except (OSError, ValueError):
            raise _not_a_picture(role) from None
        if not stat.S_ISREG(status.st_mode):  # To open a pipe would wait for a writer.
            raise _not_a_picture(role)
        size, content = status.st_size, path
    else:
        try:
            data = _content(picture, most + 1)
        except (OSError, ValueError) as error:
            raise ImageError(f"The {role} cannot be read from its open file ({error}).") from None
        if not isinstance(data, (bytes, bytearray, memoryview)):
            kind = "a file of text" if data is not picture else type(picture).__name__
            raise ImageError(
                f"The {role} is {kind}; expected a path, a PIL image, an array, a tensor, bytes or an open binary file."
            )
        size, content = len(data), io.BytesIO(data)
    if size > most:
        raise ImageError(f"The {role} has {size / 1e6:.0f} megabytes; at most {limits.MEGABYTES.value} are accepted.")
    return content


def _content(picture: object, most: int) -> object:
    """Return what an open file holds, at most `most` bytes, and go back to its start; anything else is returned as it is."""
    if not callable(read := getattr(picture, "read", None)):
        return picture
    seekable = callable(asked := getattr(picture, "seekable", None)) and asked()
    seek = getattr(picture, "seek", None) if seekable else None
    if seek:
        seek(0)
    data = read(most)
    if seek:
        seek(0)  # So that the caller can read it again.
    return data


def _open(file: Path | io.BytesIO, role: str) -> Image.Image:
    try:
        try:
            return Image.open(file, formats=[name.upper() for name in READABLE if name != "HEIC"])
        except UnidentifiedImageError:
            return _open_heif(file)
    except Image.DecompressionBombError:
        raise ImageError(f"The {role} has too many megapixels by its header; at most {_most_pixels()}.") from None
    except (MemoryError, MissingExtraError):
        raise
    except PermissionError:
        raise _unreadable(role) from None
    except Exception:
        raise _not_a_picture(role) from None


def _open_heif(file: Path | io.BytesIO) -> Image.Image:
    """Open HEIC or HEIF without registering a plugin, which would change Pillow for the whole process.

    Raises:
        UnidentifiedImageError: the file has another format.
        MissingExtraError: pillow-heif is not installed.
    """
    if isinstance(file, io.BytesIO):
        file.seek(0)  # Pillow has read the header.
        start = bytes(file.getbuffer()[:12])
    else:
        with file.open("rb") as opened:
            start = opened.read(12)
    if start[4:8] != b"ftyp":  # Not an ISO base media file, so not HEIF. Detected without pillow-heif, which may be missing.
        raise UnidentifiedImageError
    if not extras.load("pillow_heif").is_supported(file):
        raise UnidentifiedImageError
    return extras.load("pillow_heif.as_plugin").HeifImageFile(file)


def _unreadable(role: str) -> ImageError:
    return ImageError(f"The {role} cannot be read; check the permissions of its file.")


def _not_a_picture(role: str) -> ImageError:
    return ImageError(f"The {role} is not a picture; {NAMES} files are accepted.")


def check_size(size: tuple[int, int], role: str) -> None:
    """Raise ImageError if a size (width, height) in pixels is outside the limits."""
    width, height = size
    if min(width, height) < SMALLEST_SIDE:
        raise ImageError(f"The {role} is {short(width)}×{short(height)} pixels; each side needs at least {SMALLEST_SIDE}.")
    if width * height > limits.PIXELS.value:
        megapixels = short(round(width * height, -6) // 10**6)  # Whole numbers: a size that was sent may be beyond all floats.
        raise ImageError(f"The {role} is {short(width)}×{short(height)}, {megapixels} megapixels; at most {_most_pixels()}.")


def _most_pixels() -> str:
    return f"{limits.PIXELS.value / 1e6:.10g} are accepted"


def _from_array(values: np.ndarray | Tensor, role: str) -> Image.Image:
    """Return an array or a tensor as a PIL image. `Picture` lists the accepted shapes, types and ranges.

    Raises:
        ImageError: the shape, type or range is not accepted, or the size is outside the limits.
    """
    if isinstance(values, np.ndarray):
        values = np.asarray(values)  # A subclass such as np.matrix may not keep the dimensions.
    shape, expected = tuple(values.shape), "(H, W), (H, W, 1), (H, W, 3) or (H, W, 4)"
    if isinstance(values, Tensor):
        expected = "(H, W), (C, H, W) or (1, C, H, W) with C of 1, 3 or 4"
        values = values.detach()
        values = values[0] if values.ndim == 4 and len(values) == 1 else values
        values = values.permute(1, 2, 0) if values.ndim == 3 else values
    values = values[..., None] if values.ndim == 2 else values
    if values.ndim != 3 or values.shape[2] not in (1, 3, 4):
        raise ImageError(f"The {role} has the shape {shape}; expected {expected}.")
    check_size((values.shape[1], values.shape[0]), role)
    if isinstance(values, Tensor):
        try:
            values = (values.float() if values.is_floating_point() else values).cpu().numpy()
        except (TypeError, RuntimeError):  # A sparse or quantised one, or one without values, on the device "meta".
            raise ImageError(
                f"The {role} is a tensor that NumPy cannot read; expected a dense one of uint8, bool or floats."
            ) from None
    if np.issubdtype(values.dtype, np.floating):
        low, high = values.min(), values.max()
        if not (np.isfinite(low) and np.isfinite(high)):
            raise ImageError(f"The {role} has values that are NaN or infinite; expected floats in [0, 1].")
        if low < -ROUNDING or high > 1 + ROUNDING:
            raise ImageError(f"The {role} has values from {low:.4g} to {high:.4g}; expected floats in [0, 1], or uint8.")
        values = (values.clip(0, 1) * 255).round().astype(np.uint8)
    elif values.dtype == bool:
        values = values.astype(np.uint8) * 255
    elif values.dtype != np.uint8:
        raise ImageError(f"The {role} has values of type {values.dtype}; expected uint8, bool, or floats in [0, 1].")
    return Image.fromarray(np.ascontiguousarray(values[..., 0] if values.shape[2] == 1 else values))


def _reduction(size: tuple[int, int], longest: int | None) -> int:
    """Return the largest power of two that reduces the longest side to at least `OVERSAMPLING` × `longest`; at least 1.

    A power of two, since JPEG decoders reduce by no other factor: the size of the opened picture does not depend on its format.
    """
    factor = max(size) // (OVERSAMPLING * longest) if longest else 1
    return 1 << max(0, factor.bit_length() - 1)


def _divided(size: tuple[int, int], factor: int) -> tuple[int, int]:
    """Return (width, height) divided by a factor, rounded up as decoders and `Image.reduce` do."""
    width, height = size
    return -(-width // factor), -(-height // factor)


def _upright(picture: Image.Image) -> Image.Image:
    """Return a picture rotated by its EXIF orientation, or unrotated if its EXIF is damaged: the pixels may be intact."""
    try:
        return ImageOps.exif_transpose(picture)
    except Exception:
        return picture.copy()


def _to_srgb(picture: Image.Image, factor: int) -> Image.Image:
    """Return a picture as RGB or RGBA in sRGB, reduced by a factor, without metadata. A damaged profile is ignored."""
    profile = picture.info.get("icc_profile")
    if picture.mode.startswith("I;16") or picture.mode in ("I", "F"):
        picture = _stretch(picture)
    alpha = None
    if picture.has_transparency_data:
        picture = _as(picture, "RGBA")
        alpha = picture.getchannel("A")
        picture = picture.convert("RGB")
    if profile and profile != srgb_profile() and picture.mode in ("RGB", "CMYK", "L"):
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            converted = ImageCms.profileToProfile(picture, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
            picture = converted or picture  # None only for in-place conversions.
        except (ImageCms.PyCMSError, OSError):
            pass  # The profile is damaged or for another colour space. The values are taken as sRGB.
    picture = _as(picture, "RGB")
    picture.info.clear()  # Otherwise EXIF, GPS and comments would be copied to the result.
    picture.getexif().clear()
    if alpha is not None and _range(alpha) != (255, 255):
        picture.putalpha(alpha)
    return picture.reduce(factor) if factor > 1 else picture


@cache
def srgb_profile() -> bytes:
    """Return the ICC profile of sRGB. Its date, bytes 24 to 35, is cleared, so that files are reproducible."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return profile[:24] + bytes(12) + profile[36:]


def _as(picture: Image.Image, mode: str) -> Image.Image:
    """Return a picture in a mode: itself if it has that mode (Pillow would copy it), else a converted copy."""
    return picture if picture.mode == mode else picture.convert(mode)


def _continued(picture: Image.Image) -> Image.Image:
    """Return an RGBA picture with the colours of opaque pixels extended under transparent ones. The alpha channel is unchanged.

    Push-pull interpolation (Gortler et al., The Lumigraph, 1996): average the known pixels into smaller and smaller pictures
    until every pixel is known. Then fill the unknown pixels of each picture from the next smaller one, and smooth them.
    """
    alpha = picture.getchannel("A")
    least = min(FAINT, _range(alpha)[1])
    levels = [_known(picture, alpha, least)]
    while _range(levels[-1].getchannel("A"))[0] == 0:
        smaller = levels[-1].reduce(2)  # Pillow weights colours by opacity, so unknown pixels have weight 0.
        levels.append(_known(smaller, smaller.getchannel("A"), 1))
    colours = levels.pop().convert("RGB")
    for level in reversed(levels):
        colours = colours.resize(level.size, Image.Resampling.BILINEAR)
        for _ in range(SMOOTHED if level is not levels[0] else 0):  # At full size, smoothing is slow and has no visible effect.
            colours.paste(level, mask=level.getchannel("A"))
            colours = colours.filter(ImageFilter.BoxBlur(1))
        colours.paste(level, mask=level.getchannel("A"))
    colours.putalpha(alpha)
    return colours


def _known(picture: Image.Image, alpha: Image.Image, least: int) -> Image.Image:
    """Return a picture as RGBA that is opaque where `alpha` is at least `least`, and transparent elsewhere."""
    known = picture.copy()
    known.putalpha(alpha.point(lambda opacity: 255 * (opacity >= least)))
    return known


def _brightness(picture: Image.Image, role: str) -> Image.Image:
    """Return a mask in mode L: brightness times opacity.

    Raises:
        ImageError: the mask has the same value everywhere.
    """
    mask = picture.convert("L")
    if picture.mode == "RGBA":
        mask = ImageChops.multiply(mask, picture.getchannel("A"))
    low, high = _range(mask)
    if low == high:
        raise ImageError(
            f"The {role} has the value {low} of 255 everywhere; expected white for inside, and black or transparent for outside."
        )
    return mask


def _range(band: Image.Image) -> tuple[int, int]:
    """Return the (minimum, maximum) of a picture of mode L."""
    low, high = band.getextrema()
    assert isinstance(low, int)
    assert isinstance(high, int)
    return low, high


def _colourful(picture: Picture, reserve: Reserve) -> bool:
    """Return whether any pixel is clearly not grey: red and green, or green and blue, differ by more than 32 of 255."""
    red, green, blue, *_ = open_picture(picture, "picture", 256, reserve=reserve).split()
    return any(_range(ImageChops.difference(*pair))[1] > 32 for pair in ((red, green), (green, blue)))


def _stretch(picture: Image.Image) -> Image.Image:
    """Return a 16-bit, integer or float picture as 8 bits.

    16-bit values are divided by 257. Other ranges are mapped linearly to 0 to 255, from min(0, minimum) to the maximum. Values
    that are not finite are ignored in the range, and NaN becomes 0.
    """
    values = np.array(picture, dtype=np.float32)
    low, high = 0.0, 65535.0
    if not picture.mode.startswith("I;16"):
        finite = np.isfinite(values)
        high = float(values.max(where=finite, initial=-np.inf)) if finite.any() else 0.0
        low = float(values.min(where=finite, initial=0.0))
        np.nan_to_num(values, copy=False, nan=low, posinf=high, neginf=low)
    scale = 255 / max(high - low, 1e-12)
    values *= scale  # In place to save memory, and before the subtraction to avoid overflow.
    values -= low * scale
    return Image.fromarray(values.round(out=values).astype(np.uint8))


def to_tensor(picture: Image.Image, device: torch.device | str = "cpu") -> Tensor:
    """Return a picture as a tensor (1, 3, H, W), float32 in [0, 1], on `device`. Transparency is ignored."""
    pixels = torch.from_numpy(np.array(picture.convert("RGB"))).to(device)
    return pixels.permute(2, 0, 1).unsqueeze(0).contiguous().float().div_(255)  # Float last, to save memory.


def to_picture(image: Tensor) -> Image.Image:
    """Return an image (1, 3, H, W) in [0, 1] as an 8-bit picture. Values outside are clipped. Blocks until the device is done."""
    return Image.fromarray(to_pixels(image).cpu().numpy())


def to_pixels(image: Tensor) -> Tensor:
    """Return an image (1, 3, H, W) in [0, 1] as 8-bit pixels (H, W, 3) on its device. Values outside are clipped."""
    return image[0].detach().clamp(0, 1).mul_(255).round_().to(torch.uint8).permute(1, 2, 0).contiguous()


def with_alpha(picture: Image.Image, source: Image.Image) -> Image.Image:
    """Return `picture` with the alpha channel of `source` added in place, resized to fit. Unchanged if `source` has none."""
    if source.mode == "RGBA":
        picture.putalpha(source.getchannel("A").resize(picture.size, Image.Resampling.LANCZOS))
    return picture


def on_white(picture: Image.Image) -> Image.Image:
    """Return a picture as RGB, composited on white if its mode is RGBA. Other modes are returned unchanged."""
    if picture.mode != "RGBA":
        return picture
    return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")


def opacity_of(picture: Image.Image, device: torch.device | str = "cpu") -> Tensor | None:
    """Return the opacity of a picture as (1, 1, H, W), float32 in [0, 1], on `device`; None if its mode is not RGBA."""
    if picture.mode != "RGBA":
        return None
    return torch.from_numpy(np.array(picture.getchannel("A"))).to(device)[None, None].float().div_(255)
