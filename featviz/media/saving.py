"""Write pictures with the recipe that made them, and read such recipes. In a file, a recipe is a note: a text of JSON."""

import os
import warnings
import zlib
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from PIL import ExifTags, Image
from PIL.PngImagePlugin import PngInfo

from featviz.errors import FeatvizError, InputError
from featviz.media.images import Picture, open_header, srgb_profile

NOTE = "featviz"
"""Key of the note in `Image.info` and in the text of a PNG. The note is the recipe that made the picture, as JSON."""

ASCII = b"ASCII\0\0\0"
"""Prefix of an EXIF comment that declares its encoding."""

LONGEST = 100_000
"""Maximum length of a note, in characters. A typical note has about 1000."""

PACKED, PLAIN = "featviz-zlib-base64:", 8_000
"""Prefix of a compressed note, and the maximum length of an uncompressed one, in characters."""


def _as_text(note: str) -> dict[str, Any]:
    chunks = PngInfo()
    chunks.add(b"sRGB", b"\0")  # Colour space sRGB, rendering intent 0: perceptual.
    if note:
        chunks.add_text(NOTE, note)
    return {"pnginfo": chunks}


def exif_of(note: str) -> bytes:
    """Return EXIF data with a note as its comment, and nothing else. Characters outside ASCII become "?".

    A note of more than `PLAIN` characters is compressed, since EXIF in a JPEG holds at most 64 kB.
    """
    exif = Image.Exif()
    text = note.encode("ascii", "replace")
    if len(text) > PLAIN:
        text = PACKED.encode() + b64encode(zlib.compress(text, 9))
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] = ASCII + text
    return exif.tobytes()


def _unpacked(text: str) -> str:
    """Return the note that `exif_of` compressed, "" if the data are damaged or the note is too long."""
    with suppress(ValueError, zlib.error):
        unpacker = zlib.decompressobj()
        note = unpacker.decompress(b64decode(text.removeprefix(PACKED), validate=True), LONGEST + 1)
        return note.decode("ascii") if unpacker.eof and len(note) <= LONGEST else ""
    return ""


def _as_exif(note: str) -> dict[str, Any]:
    return {"icc_profile": srgb_profile(), **({"exif": exif_of(note)} if note else {})}


@dataclass(frozen=True)
class Format:
    """How files of one extension are written."""

    annotated: Callable[[str], dict[str, Any]]
    """Note, "" for none → options of `Image.save` that write the note and the colour space."""
    options: Mapping[str, Any] = field(default_factory=dict)
    modes: tuple[str, ...] = ("RGB", "RGBA")
    longest_note: int = 2**31
    """Maximum size of the EXIF data in bytes."""


_JPEG = Format(_as_exif, {"quality": 95, "subsampling": 0}, ("RGB",), 65_533)

PICTURE_FORMATS: dict[str, Format] = {
    ".png": Format(_as_text),
    ".jpg": _JPEG,
    ".jpeg": _JPEG,
    ".webp": Format(_as_exif, {"quality": 95}),
}
"""Extension → how it is written. All files are tagged as sRGB. JPEG keeps full chroma resolution (4:4:4)."""


def save(picture: Image.Image, path: str | os.PathLike) -> None:
    """Write a picture as PNG, JPEG or WebP. The recipe is included if featviz made the picture; other metadata are left out.

    The file appears, or replaces an existing one, when it is complete. JPEG drops transparency. If the recipe is too long for the
    file, the picture is written without it, with the warning `RecipeLeftOut`.

    Raises:
        InputError: `picture` is no PIL image, or the extension of `path` is not one of `PICTURE_FORMATS`.
        FeatvizError: the file cannot be written.
    """
    path = Path(path)
    if not isinstance(picture, Image.Image):
        raise InputError(f"The picture to save is {type(picture).__name__}; expected a PIL image, as run returns it.")
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
        with complete_file(path) as partial:
            bare.save(partial, **form.options, **options)
    except (OSError, ValueError) as error:
        raise FeatvizError(f"The output '{path}' could not be written: {getattr(error, 'strerror', None) or error}.") from error
    if left_out:
        warnings.warn(f"The recipe is not in '{path}': {len(note)} characters are too long for it.", RecipeLeftOut, stacklevel=2)


@contextmanager
def complete_file(path: Path) -> Iterator[Path]:
    """Yield the path of a file beside `path`, of the same extension, which replaces it when the context ends without an error."""
    target = Path(os.path.realpath(path))  # A link stays a link.
    partial = target.with_name(f".{uuid4().hex}{path.suffix}")  # Hidden, short, and not shared with another process.
    try:
        yield partial
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


class RecipeLeftOut(UserWarning):
    """A picture was written without its recipe, which is too long for the file."""


def read_note(picture: Picture) -> str:
    """Return the note in a picture or animation that featviz wrote, "" if there is none. No pixels are decoded.

    Raises:
        ImageError: it is not a picture.
        MissingExtraError: it is HEIC and pillow-heif is not installed.
    """
    with open_header(picture) as opened:
        return _note(opened)


def _note(picture: Image.Image) -> str:
    try:
        comment = picture.getexif().get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.UserComment)
    except Exception:
        comment = None  # The EXIF is damaged, but the note may be stored elsewhere.
    for stored in (picture.info.get(NOTE), comment, picture.info.get("comment")):
        text = stored.removeprefix(ASCII).decode("ascii", "replace") if isinstance(stored, bytes) else stored
        if isinstance(text, str) and text.startswith(PACKED):
            text = _unpacked(text)
        if isinstance(text, str) and text.startswith("{"):  # Notes are JSON; comments by other programs are not.
            return text
    return ""
