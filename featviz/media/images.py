"""Pictures in, pictures out: the only module that knows uint8, PIL, EXIF and colour profiles.

Everywhere else an image is a float32 RGB tensor (1, 3, H, W) in [0, 1].
"""

import io
import os
import warnings
import zlib
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from itertools import accumulate, chain
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from PIL import ExifTags, Image, ImageChops, ImageCms, ImageDraw, ImageFilter, ImageFont, ImageOps, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from featviz import extras, limits
from featviz.errors import FeatvizError, ImageError, InputError, MissingExtraError, short

SMALLEST_SIDE = 16
"""Pixels. Below this there is nothing for a convolutional network to look at."""

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
"""Format → its extensions: everything that is read, from a file of any name, and all that is picked out of a folder.

Pillow's other formats stay closed: their code is little used, and that of PostScript runs a program."""

EXTENSIONS = tuple(chain.from_iterable(READABLE.values()))

NAMES = f"{', '.join(list(READABLE)[:-1])} and {list(READABLE)[-1]}"
"""The formats, as a sentence lists them."""

ANIMATED = ("GIF", "WEBP", "AVIF", "PNG", "TIFF")
"""Pillow's names of formats whose files may hold a sequence. What a camera puts beside its JPEG or HEIC (a preview, a gain
map) is no sequence."""

Picture = Image.Image | str | os.PathLike | bytes | BinaryIO | np.ndarray | Tensor
"""What people hand in: a PIL image; a path, the bytes or an open binary file of any `READABLE` format; a NumPy array
(H, W), (H, W, 1), (H, W, 3) or (H, W, 4); a tensor (H, W) or (C, H, W) or (1, C, H, W) with C of 1, 3 or 4. Numbers are uint8,
bool, or floats in [0, 1]."""

SMOOTHED = 2
"""How often continued colours are averaged with their neighbours at each size, so that two of them meet in a soft transition."""

ROUNDING = 1e-3
"""By how much floats may be outside [0, 1]: less than an eighth of a step of 8 bits."""

MASK = "mask"
"""The role of pictures that are read as brightness times opacity."""

OVERSAMPLING = 4
"""A picture is decoded at no less than so many times the size that is needed, so that a reduction in whole steps does not show
after the final resize. At 2, as in Pillow's `Image.thumbnail`, shallow activations differ by up to 8 %."""

FAINT = 16
"""Opacity, of 255, below which a pixel's colour is not relied on: programs that multiply colours by opacity leave few of
their bits there."""

DECODED_BYTES, MORE_DECODED_BYTES = 13, 22
"""Bytes that opening takes at its peak for each decoded pixel; the second for WebP, for transparency and for numbers of 32 bits.

Measured on 12 megapixels: GIF 6, JPEG and PNG 8 or with a profile 12, HEIC 9, WebP 16, transparent PNG with a profile 22."""


def open_picture(picture: Picture | None, role: str = "picture", longest: int | None = None) -> Image.Image:
    """Open a picture: upright, sRGB, without metadata. The mode is RGB, or RGBA where there is transparency.

    Under transparent pixels the colours of the opaque ones are continued, so that resizing mixes nothing foreign into an edge.
    The role "mask" gives mode L: brightness times opacity, so transparent means outside.

    `longest` is the longest side in pixels that is needed. A picture that is much larger is reduced, to no less than `OVERSAMPLING`
    times that; a JPEG is decoded at that scale to begin with.

    Raises:
        ImageError: it is not a picture, is damaged or transparent all over, its size is outside the limits, or a mask has one
            value all over. `role` names it in the message.
    """
    with open_header(picture, role) as opened:
        _check_size(opened.size, role)
        try:
            if opened is not picture:  # What people have opened themselves keeps its size.
                _draft(opened, longest)
            opened.load()
            result = _to_srgb(_upright(opened), longest)
        except MemoryError:
            raise
        except Exception as error:  # Decoders raise many kinds.
            raise ImageError(f"The {role} is damaged and cannot be decoded ({error}).") from error
    if result.mode == "RGBA":
        if _range(result.getchannel("A"))[1] == 0:
            raise ImageError(f"The {role} is transparent all over; expected a picture with something to see.")
        result = _continued(result)
    return _brightness(result, role) if role == MASK else result


def remarks(picture: Picture, role: str = "picture") -> list[str]:
    """What is not obvious about how a picture is read, in a sentence each. Raises ImageError as `open_picture` does."""
    found = []
    if (count := count_frames(picture, role)) > 1:
        found.append(f"The {role} has {count} frames; the first one is used.")
    if role == MASK and _colourful(picture):
        found.append("The mask has colours; their brightness is used, so white is inside and black is outside.")
    return found


def count_frames(picture: Picture | None, role: str = "picture") -> int:
    """Frames of a GIF, WebP, AVIF, PNG or TIFF; 1 for anything else. Raises ImageError where it is not a picture."""
    with open_header(picture, role) as opened:
        try:
            return getattr(opened, "n_frames", 1) if opened.format in ANIMATED else 1
        except Exception:  # A damaged file; the first frame may be sound.
            return 1


def frames(file: str | os.PathLike, role: str = "picture") -> Iterator[Image.Image]:
    """Every frame of a file, each as `open_picture` has it. One frame is decoded at a time.

    Raises:
        ImageError: it is not a picture, or a frame is damaged; those before it have been yielded.
    """
    count = count_frames(file, role)
    with _open(_file(file, role), role) as opened:
        for number in range(count):
            with _quiet():
                try:
                    opened.seek(number)
                except Exception as error:
                    raise ImageError(f"Frame {number + 1} of the {role} is damaged and cannot be decoded ({error}).") from error
                frame = open_picture(opened, role)
            yield frame


def decoding_bytes(picture: Picture | None, role: str = "picture", longest: int | None = None) -> int:
    """Bytes of memory that `open_picture` takes at its peak, from the header alone. Raises ImageError as `open_picture` does."""
    with open_header(picture, role) as opened:
        _check_size(opened.size, role)
        if opened is not picture:
            _draft(opened, longest)
        more = opened.format == "WEBP" or opened.mode in ("I", "F") or opened.has_transparency_data
        return opened.width * opened.height * (MORE_DECODED_BYTES if more else DECODED_BYTES)


@contextmanager
def open_header(picture: Picture | None, role: str = "picture") -> Iterator[Image.Image]:
    """A picture whose header has been read and whose pixels may not be decoded yet.

    Raises:
        ImageError: it is missing, no picture, too large a file, or an array that cannot be one.
    """
    if picture is None:
        raise ImageError(f"There is no {role} yet: choose one, or click an example.")
    if isinstance(picture, Image.Image):
        yield picture
    elif isinstance(picture, (np.ndarray, Tensor)):
        yield _from_array(picture, role)
    else:
        with _quiet(), _open(_file(picture, role), role) as opened:
            yield opened


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Pillow's warnings of oddities in a file: those that matter are checked, and its limit of pixels is not ours."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="PIL")
        yield


def _file(picture: object, role: str) -> Path | io.BytesIO:
    """The file to read, known to be within the limit of megabytes."""
    most = int(limits.MEGABYTES.value * 1e6)
    if isinstance(picture, (str, os.PathLike)):
        path = Path(picture)
        try:
            size = path.stat().st_size
        except FileNotFoundError:
            raise ImageError(f"The {role} '{short(path.name)}' does not exist.") from None
        except PermissionError:
            raise _unreadable(role) from None
        except (OSError, ValueError):
            raise _not_a_picture(role) from None
        content: Path | io.BytesIO = path
    else:
        data = picture
        if callable(read := getattr(picture, "read", None)):
            seek = getattr(picture, "seek", None) if _seekable(picture) else None
            if seek:
                seek(0)
            data = read(most + 1)
            if seek:
                seek(0)  # It may be read again.
        if not isinstance(data, (bytes, bytearray, memoryview)):
            kind = "a file of text" if data is not picture else type(picture).__name__
            raise ImageError(
                f"The {role} is {kind}; expected a path, a PIL image, an array, a tensor, bytes or an open binary file."
            )
        size, content = len(data), io.BytesIO(data)
    if size > most:
        raise ImageError(f"The {role} has {size / 1e6:.0f} megabytes; at most {limits.MEGABYTES.value} are accepted.")
    return content


def _seekable(file: object) -> bool:
    return callable(seekable := getattr(file, "seekable", None)) and seekable()


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
    """Open HEIC or HEIF. Pillow's table of formats stays as it is, since it belongs to the whole process.

    Raises:
        UnidentifiedImageError: it is another kind of file.
        MissingExtraError: pillow-heif is not installed.
    """
    if isinstance(file, io.BytesIO):
        file.seek(0)  # Pillow has read its beginning.
        start = bytes(file.getbuffer()[:12])
    else:
        with file.open("rb") as opened:
            start = opened.read(12)
    if start[4:8] != b"ftyp":  # Not of the family of HEIF, so that pillow-heif need not be there to tell.
        raise UnidentifiedImageError
    if not extras.load("pillow_heif").is_supported(file):
        raise UnidentifiedImageError
    return extras.load("pillow_heif.as_plugin").HeifImageFile(file)


def _unreadable(role: str) -> ImageError:
    return ImageError(f"The {role} cannot be read; check the permissions of its file.")


def _not_a_picture(role: str) -> ImageError:
    return ImageError(f"The {role} is not a picture; {NAMES} files are accepted.")


def _check_size(size: tuple[int, int], role: str) -> None:
    """Raises ImageError where (width, height) is outside the limits."""
    width, height = size
    if min(width, height) < SMALLEST_SIDE:
        raise ImageError(f"The {role} is {width}×{height} pixels; each side needs at least {SMALLEST_SIDE}.")
    if width * height > limits.PIXELS.value:
        raise ImageError(f"The {role} is {width}×{height}, {width * height / 1e6:.0f} megapixels; at most {_most_pixels()}.")


def _most_pixels() -> str:
    return f"{limits.PIXELS.value / 1e6:.10g} are accepted"


def _from_array(values: np.ndarray | Tensor, role: str) -> Image.Image:
    """An array or a tensor, as `Picture` describes them, as a PIL image.

    Raises:
        ImageError: its shape, type or range is none of those, or its size is outside the limits.
    """
    shape, expected = tuple(values.shape), "(H, W), (H, W, 1), (H, W, 3) or (H, W, 4)"
    if isinstance(values, Tensor):
        expected = "(H, W), (C, H, W) or (1, C, H, W) with C of 1, 3 or 4"
        values = values.detach()
        values = values[0] if values.ndim == 4 and len(values) == 1 else values
        values = values.permute(1, 2, 0) if values.ndim == 3 else values
    values = values[..., None] if values.ndim == 2 else values
    if values.ndim != 3 or values.shape[2] not in (1, 3, 4):
        raise ImageError(f"The {role} has the shape {shape}; expected {expected}.")
    _check_size((values.shape[1], values.shape[0]), role)
    if isinstance(values, Tensor):
        values = (values.float() if values.is_floating_point() else values).cpu().numpy()
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
    """By how much a picture may be reduced, as a whole number, and still have `OVERSAMPLING` times the pixels that are needed."""
    return max(1, max(size) // (OVERSAMPLING * longest)) if longest else 1


def _draft(picture: Image.Image, longest: int | None) -> None:
    """Have a JPEG decoded at 1/2, 1/4 or 1/8 of its size where that is enough. Of any other format, nothing changes."""
    if picture.format in ("JPEG", "MPO") and (factor := _reduction(picture.size, longest)) > 1:
        picture.draft(None, (-(-picture.width // factor), -(-picture.height // factor)))


def _upright(picture: Image.Image) -> Image.Image:
    """Turned as its metadata says; as it lies where those make no sense, since the picture may be whole."""
    try:
        return ImageOps.exif_transpose(picture)
    except Exception:
        return picture.copy()


def _to_srgb(picture: Image.Image, longest: int | None) -> Image.Image:
    """RGB or RGBA, converted by the embedded colour profile where it is sound, reduced towards `longest`, without metadata."""
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
            picture = converted or picture  # It is None only for conversions in place.
        except (ImageCms.PyCMSError, OSError):
            pass  # A broken profile, or one of another colour space: the plain numbers are the best guess there is.
    picture = _as(picture, "RGB")
    picture.info.clear()  # EXIF, GPS and comments would otherwise travel into what we return.
    picture.getexif().clear()
    if alpha is not None and _range(alpha) != (255, 255):
        picture.putalpha(alpha)
    factor = _reduction(picture.size, longest)
    return picture.reduce(factor) if factor > 1 else picture


def _as(picture: Image.Image, mode: str) -> Image.Image:
    """A picture in a mode; itself where it is in that mode already, since Pillow would copy it."""
    return picture if picture.mode == mode else picture.convert(mode)


def _continued(picture: Image.Image) -> Image.Image:
    """RGBA with the colours of its opaque pixels continued under the transparent ones, near ones counting most.

    By push and pull (Gortler et al., The Lumigraph, 1996): average the known pixels into ever smaller pictures until every
    pixel is known, then fill the unknown pixels of each from the next smaller one and smooth them.
    """
    alpha = picture.getchannel("A")
    least = min(FAINT, _range(alpha)[1])
    levels = [_known(picture, alpha, least)]
    while _range(levels[-1].getchannel("A"))[0] == 0:
        smaller = levels[-1].reduce(2)  # Pillow weighs colours by opacity, so unknown ones count nothing.
        levels.append(_known(smaller, smaller.getchannel("A"), 1))
    colours = levels.pop().convert("RGB")
    for level in reversed(levels):
        colours = colours.resize(level.size, Image.Resampling.BILINEAR)
        for _ in range(SMOOTHED if level is not levels[0] else 0):  # At full size it is slow and would not be seen.
            colours.paste(level, mask=level.getchannel("A"))
            colours = colours.filter(ImageFilter.BoxBlur(1))
        colours.paste(level, mask=level.getchannel("A"))
    colours.putalpha(alpha)
    return colours


def _known(picture: Image.Image, alpha: Image.Image, least: int) -> Image.Image:
    """RGBA that is opaque where `alpha` is at least `least`, and transparent elsewhere."""
    known = picture.copy()
    known.putalpha(alpha.point(lambda opacity: 255 * (opacity >= least)))
    return known


def _brightness(picture: Image.Image, role: str) -> Image.Image:
    """A mask as mode L: brightness times opacity.

    Raises:
        ImageError: it has one value all over.
    """
    mask = picture.convert("L")
    if picture.mode == "RGBA":
        mask = ImageChops.multiply(mask, picture.getchannel("A"))
    low, high = _range(mask)
    if low == high:
        raise ImageError(
            f"The {role} has the value {low} of 255 all over; expected white for inside, and black or transparent for outside."
        )
    return mask


def _range(band: Image.Image) -> tuple[int, int]:
    """The least and the greatest value of a picture of mode L."""
    low, high = band.getextrema()
    assert isinstance(low, int)
    assert isinstance(high, int)
    return low, high


def _colourful(picture: Picture) -> bool:
    """Whether anything in a picture is clearly of a colour other than grey."""
    red, green, blue, *_ = open_picture(picture, "picture", 256).split()
    return any(_range(ImageChops.difference(*pair))[1] > 32 for pair in ((red, green), (green, blue)))


def _stretch(picture: Image.Image) -> Image.Image:
    """16-bit, integer and float pictures to 8 bits: by 257 where that is their range, else from the least value, or 0 if that is less, to the greatest."""
    values = np.array(picture, dtype=np.float32)
    low, high = 0.0, 65535.0
    if not picture.mode.startswith("I;16"):
        finite = np.isfinite(values)
        high = float(values.max(where=finite, initial=-np.inf)) if finite.any() else 0.0
        low = float(values.min(where=finite, initial=0.0))
        np.nan_to_num(values, copy=False, nan=low, posinf=high, neginf=low)
    scale = 255 / max(high - low, 1e-12)
    values *= scale  # In place and first, so that neither memory nor range runs out.
    values -= low * scale
    return Image.fromarray(values.round(out=values).astype(np.uint8))


NOTE = "featviz"
"""Under this name a picture carries its note: in `Image.info`, and in a PNG's text."""

LABEL, GAP = 26, 6
"""Pixels of a contact sheet: above a picture, and between two."""

ASCII = b"ASCII\0\0\0"
"""The encoding of an EXIF comment, which stands before its text."""

LONGEST = 100_000
"""Characters of a note that are written and read; ours have about a thousand."""

PACKED, PLAIN = "featviz-zlib-base64:", 8_000
"""What a compressed note begins with, and the characters up to which a note is stored as it is."""


def _as_text(note: str) -> dict[str, Any]:
    chunks = PngInfo()
    chunks.add(b"sRGB", b"\0")  # The colour space, rendered perceptually.
    if note:
        chunks.add_text(NOTE, note)
    return {"pnginfo": chunks}


def exif_of(note: str) -> bytes:
    """EXIF with a note as its comment, and nothing else. A long note is compressed: EXIF in a JPEG holds 64 kB."""
    exif = Image.Exif()
    text = note.encode("ascii", "replace")
    if len(text) > PLAIN:
        text = PACKED.encode() + b64encode(zlib.compress(text, 9))
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] = ASCII + text
    return exif.tobytes()


def _unpacked(text: str) -> str:
    """A note as it was before `exif_of` compressed it, "" where it is damaged or too long."""
    with suppress(ValueError, zlib.error):
        unpacker = zlib.decompressobj()
        note = unpacker.decompress(b64decode(text.removeprefix(PACKED), validate=True), LONGEST + 1)
        return note.decode("ascii") if unpacker.eof and len(note) <= LONGEST else ""
    return ""


@cache
def srgb_profile() -> bytes:
    """The ICC profile of sRGB, the same bytes each time: its date, which is in bytes 24 to 35, is cleared."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return profile[:24] + bytes(12) + profile[36:]


def _as_exif(note: str) -> dict[str, Any]:
    return {"icc_profile": srgb_profile(), **({"exif": exif_of(note)} if note else {})}


@dataclass(frozen=True)
class Format:
    """How the files of an extension are written."""

    annotated: Callable[[str], dict[str, Any]]
    """A note, "" for none → options of Pillow that write it and the colour space."""
    options: Mapping[str, Any] = field(default_factory=dict)
    modes: tuple[str, ...] = ("RGB", "RGBA")
    longest_note: int = 2**31
    """Bytes of EXIF that a file holds."""


_JPEG = Format(_as_exif, {"quality": 95, "subsampling": 0}, ("RGB",), 65_533)

PICTURE_FORMATS: dict[str, Format] = {
    ".png": Format(_as_text),
    ".jpg": _JPEG,
    ".jpeg": _JPEG,
    ".webp": Format(_as_exif, {"quality": 95}),
}
"""The extension of a picture → how it is written. All are tagged sRGB; JPEG keeps colour at full resolution (4:4:4)."""


def save(picture: Image.Image, path: str | os.PathLike) -> None:
    """Write a picture, with the recipe that it was made by if featviz made it, and with no other metadata.

    Warns with `RecipeLeftOut` where the recipe is too long for the file; the picture is written all the same.

    Raises:
        InputError: the extension of `path` is none of `PICTURE_FORMATS`.
        FeatvizError: the file cannot be written.
    """
    path = Path(path)
    if (extension := path.suffix.lower()) not in PICTURE_FORMATS:
        raise InputError(f"'{path}' has no extension of a picture; accepted: {', '.join(PICTURE_FORMATS)}.")
    form, note = PICTURE_FORMATS[extension], picture.info.get(NOTE, "")
    options = form.annotated(note)
    left_out = len(note) > LONGEST or len(options.get("exif", b"")) > form.longest_note
    if left_out:
        options = form.annotated("")
    bare = picture.convert(picture.mode if picture.mode in form.modes else "RGB")
    bare.info.clear()
    try:
        bare.save(path, **form.options, **options)
    except (OSError, ValueError) as error:
        raise FeatvizError(f"The output '{path}' could not be written: {getattr(error, 'strerror', None) or error}.") from error
    if left_out:
        warnings.warn(f"The recipe is not in '{path}': {len(note)} characters are too long for it.", RecipeLeftOut, stacklevel=2)


class RecipeLeftOut(UserWarning):
    """A picture was written without the recipe that it was made by."""


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
    with open_header(picture) as opened:
        return _note(opened)


def _note(picture: Image.Image) -> str:
    try:
        comment = picture.getexif().get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.UserComment)
    except Exception:
        comment = None  # The metadata is damaged; the picture may be whole.
    for found in (picture.info.get(NOTE), comment, picture.info.get("comment")):
        text = found.removeprefix(ASCII).decode("ascii", "replace") if isinstance(found, bytes) else found
        if isinstance(text, str) and text.startswith(PACKED):
            text = _unpacked(text)
        if isinstance(text, str) and text.startswith("{"):  # Comments of other programs are not JSON.
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


def on_white(picture: Image.Image) -> Image.Image:
    """A picture as RGB, laid on white where it is transparent."""
    if picture.mode != "RGBA":
        return picture
    return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")


def opacity_of(picture: Image.Image, device: torch.device | str = "cpu") -> Tensor | None:
    """The opacity of a picture as (1, 1, H, W) float32 in [0, 1]; None where all of it is opaque."""
    if picture.mode != "RGBA":
        return None
    return torch.from_numpy(np.array(picture.getchannel("A"))).to(device)[None, None].float().div_(255)
