"""Pictures as a public page meets them: every kind that Pillow writes, and what people and machines break them into.

`corpus()` makes them anew, the same each time. Nothing here is downloaded, and no file is larger than a few megabytes.
"""

import io
import random
import struct
import time
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import chain
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
from PIL import Image, ImageCms, features

from featviz.errors import ImageError
from featviz.media.images import open_picture

SIZE = (40, 24)
SECRET = b"Rue de la Paix 7"
"""Stands in the metadata of what comes with metadata, and may never come out again."""

PICTURE, SENTENCE, EITHER = "a picture", "a sentence", "either"

PUBLIC = "pictures.example"
"""The name of a server on loopback that a test takes for a public one."""

PATIENCE = 5.0
"""Seconds of the processor, for one file."""


@dataclass(frozen=True)
class Hostile:
    """A file, and what has to become of it."""

    name: str
    content: bytes
    expected: str = EITHER

    def write(self, folder: Path, stem: str = "file") -> Path:
        """It as a file of a plain name."""
        path = folder / f"{stem}{Path(self.name).suffix.strip('>')}"
        path.write_bytes(self.content)
        return path


@cache
def corpus() -> tuple[Hostile, ...]:
    """More than 300 files."""
    return tuple(chain.from_iterable(_kinds()))


def _kinds() -> Iterator[Iterable[Hostile]]:
    valid = list(_valid())
    yield from (valid, _metadata(), _ranges(), _odd_sizes())
    yield from (chain.from_iterable(map(broken, valid)) for broken in (_truncated, _scrambled))
    yield from (_bombs(), _impostors())


@cache
def _parts() -> list[tuple[Hostile, ...]]:
    """Two files of each kind, then a third of all files in nine parts."""
    kinds = list(map(tuple, _kinds()))
    return [tuple(kind[len(kind) * i // 3] for kind in kinds for i in (1, 2)), *(corpus()[3 * i :: 27] for i in range(9))]


in_parts = pytest.mark.parametrize("part", [0, *(pytest.param(part, marks=pytest.mark.whole) for part in range(1, 10))])
"""Of what is sent the longest ways, `make test` sends two files of each kind, and `make trust` over 300 files."""


def sent(part: int) -> tuple[Hostile, ...]:
    """The files of a part."""
    return _parts()[part]


def outcome(path: Path) -> tuple[str, str]:
    """What becomes of a file in the loader: what it is, and the sentence if it is one."""
    before = time.process_time()
    try:
        picture = open_picture(path, "picture")
    except ImageError as error:
        result = SENTENCE, str(error)
    else:
        assert picture.mode in ("RGB", "RGBA")
        assert picture.info == {}
        assert min(picture.size) >= 16
        result = PICTURE, ""
    assert time.process_time() - before < PATIENCE
    return result


def is_a_sentence(said: str) -> bool:
    return said.startswith("The ") and said.endswith(".") and len(said) < 300 and "Traceback" not in said and "\n" not in said


def gradient(size: tuple[int, int] = SIZE) -> Image.Image:
    """Colours that differ everywhere, so that a wrong turn shows."""
    width, height = size
    across, down = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([across, down, 255 - across], -1).round().astype(np.uint8))


def written(picture: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    if kind == "heic":  # Pillow itself does not write it, and the tests leave its table of formats alone.
        pillow_heif.from_pillow(picture).save(file, **options)
    else:
        picture.save(file, kind, **options)
    return file.getvalue()


def _valid() -> Iterator[Hostile]:
    """Every mode in every format that takes it, progressive, animated, of many pages."""
    rgb = gradient()
    lab = ImageCms.profileToProfile(rgb, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB")
    modes = {mode: rgb.convert(mode) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I", "F")} | {"LAB": lab}
    modes["I;16"] = Image.fromarray(np.asarray(rgb.convert("L")).astype(np.uint16) * 257)
    see_through = modes["P"].copy()
    see_through.info["transparency"] = 3
    formats = {
        "png": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"),
        "jpeg": ("1", "L", "RGB", "CMYK", "YCbCr"),
        "gif": ("1", "L", "P", "RGB", "RGBA"),
        "webp": ("RGB", "RGBA"),
        "tiff": tuple(modes),
        "bmp": ("1", "L", "P", "RGB", "RGBA"),
        "avif": ("RGB", "RGBA") if features.check("avif") else (),
        "heic": ("L", "RGB", "RGBA"),
    }
    for kind, taken in formats.items():
        for mode in taken:
            unreadable = (mode, kind) == ("YCbCr", "tiff")  # Pillow writes it and cannot read it back.
            yield Hostile(f"{mode.replace(';', '_')}.{kind}", written(modes[mode], kind), EITHER if unreadable else PICTURE)
    for kind in ("png", "gif"):
        yield Hostile(f"palette_transparent.{kind}", written(see_through, kind, transparency=3), PICTURE)
    yield Hostile("progressive.jpeg", written(rgb, "jpeg", progressive=True), PICTURE)
    yield Hostile("progressive_cmyk.jpeg", written(modes["CMYK"], "jpeg", progressive=True), PICTURE)
    more = {"save_all": True, "append_images": [rgb.rotate(90 * turn) for turn in (1, 2, 3)]}
    for kind in ("gif", "webp", "tiff", "png", *(["avif"] if features.check("avif") else [])):
        yield Hostile(f"several.{kind}", written(rgb, kind, **more), PICTURE)
    for compression in ("tiff_lzw", "tiff_deflate", "jpeg", "packbits"):
        yield Hostile(f"{compression}.tiff", written(rgb, "tiff", compression=compression), PICTURE)
    for kind in ("ico", "ppm", "tga", "eps", "pdf", "icns", "jpeg2000", "dds", "pcx", "sgi"):
        if kind.upper() in Image.SAVE:
            picture = gradient((64, 64)) if kind == "icns" else rgb
            yield Hostile(f"not_accepted.{kind}", written(picture, kind), SENTENCE)


def _metadata() -> Iterator[Hostile]:
    """Turned in every way, with a place and a name in it, with sound and broken colour profiles."""
    for orientation in range(10):  # 0 and 9 are none.
        exif = Image.Exif()
        exif[0x0112] = orientation
        exif[0x010E] = SECRET.decode()
        exif.get_ifd(0x8825)[1] = "N"
        exif.get_ifd(0x8825)[2] = (59.0, 20.0, 30.0)
        for kind in ("jpeg", "png", "webp"):
            yield Hostile(f"orientation_{orientation}.{kind}", written(gradient(), kind, exif=exif), PICTURE)
    yield Hostile("comment.jpeg", written(gradient(), "jpeg", comment=SECRET), PICTURE)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for i, broken in enumerate(
        [profile, profile[:60], profile[:128], b"", b"\0" * 500, profile[:-40] + bytes(40), b"\xff" * 4000]
    ):
        for kind in ("png", "jpeg", "webp", "tiff"):
            yield Hostile(f"profile_{i}.{kind}", written(gradient(), kind, icc_profile=broken), PICTURE)
    for i, exif in enumerate(
        [b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + bytes(30), bytes(60)]
    ):
        for kind in ("jpeg", "png", "webp"):
            yield Hostile(f"exif_{i}.{kind}", written(gradient(), kind, exif=exif))


def _ranges() -> Iterator[Hostile]:
    """Numbers beyond 8 bits."""
    ramp = np.linspace(0, 1, SIZE[0] * SIZE[1], dtype=np.float32).reshape(SIZE[::-1])
    ranges = {"hdr": ramp * 1e6, "tiny": ramp * 1e-6, "negative": ramp - 1, "even": ramp * 0, "huge": ramp * 3e38}
    ranges |= {"infinite": np.where(ramp > 0.9, np.inf, ramp), "nothing": np.full_like(ramp, np.nan)}
    for name, values in ranges.items():
        yield Hostile(f"range_{name}.tiff", written(Image.fromarray(values.astype(np.float32)), "tiff"), PICTURE)
    for most in (255, 4095, 65535):
        yield Hostile(f"bits_{most}.png", written(Image.fromarray((ramp * most).astype(np.uint16)), "png"), PICTURE)
    yield Hostile("bits_32.tiff", written(Image.fromarray((ramp * 2**30).astype(np.int32)), "tiff"), PICTURE)


def _odd_sizes() -> Iterator[Hostile]:
    """From nothing to very thin."""
    for size in ((1, 1), (2, 2), (15, 400), (400, 15), (1, 10_000), (10_000, 1), (20_000, 2)):
        for kind in ("png", "jpeg", "gif", "bmp", "tiff"):
            yield Hostile(f"{size[0]}x{size[1]}.{kind}", written(Image.new("RGB", size), kind), SENTENCE)
    yield Hostile("no_pixels.png", _png(0, 0), SENTENCE)
    yield Hostile("no_rows.png", _png(40, 0), SENTENCE)
    for size in ((16, 16), (16, 6000), (6000, 16)):
        yield Hostile(f"{size[0]}x{size[1]}.png", written(Image.new("RGB", size), "png"), PICTURE)


def _truncated(one: Hostile) -> Iterator[Hostile]:
    """Cut at every tenth."""
    stem, kind = one.name.rsplit(".", 1)
    for tenth in range(1, 10):
        yield Hostile(f"{stem}_{tenth}0_percent.{kind}", one.content[: len(one.content) * tenth // 10])


def _scrambled(one: Hostile) -> Iterator[Hostile]:
    """Random bytes after a sound header, and single bytes changed anywhere."""
    rng = random.Random(one.name)
    stem, kind = one.name.rsplit(".", 1)
    for kept in (16, 64):
        yield Hostile(f"{stem}_noise_after_{kept}.{kind}", one.content[:kept] + rng.randbytes(max(0, len(one.content) - kept)))
    for i in range(2):
        yield Hostile(f"{stem}_flipped_{i}.{kind}", flipped(one.content, rng))


def flipped(content: bytes, rng: random.Random, share: float = 0.01) -> bytes:
    """A few bytes of a file changed."""
    changed = bytearray(content)
    for _ in range(max(1, round(len(changed) * share))):
        changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed)


def _png(width: int, height: int, data: bytes = b"", *chunks: tuple[bytes, bytes], bits: int = 8, colour: int = 2) -> bytes:
    """A PNG that says what it likes."""
    head = (b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
    parts = [head, *chunks, (b"IDAT", data or zlib.compress(b"")), (b"IEND", b"")]
    body = b"".join(
        struct.pack(">I", len(part)) + kind + part + struct.pack(">I", zlib.crc32(kind + part)) for kind, part in parts
    )
    return b"\x89PNG\r\n\x1a\n" + body


def _black(side: int) -> bytes:
    """A sound PNG of one bit a pixel, a thousandth of what it unpacks to."""
    return _png(side, side, zlib.compress(bytes(side * (side // 8 + 1)), 9), bits=1, colour=0)


def _bombs() -> Iterator[Hostile]:
    """Little files that claim much, or unpack to much."""
    for side in (7_072, 20_000, 65_535, 2**31 - 1):
        yield Hostile(f"claims_{side}.png", _png(side, side), SENTENCE)
    yield Hostile("bomb.png", _black(20_000), SENTENCE)
    large, plain = struct.pack("<HH", 30_000, 30_000), gradient()
    gif, bmp, jpeg = (written(plain, kind) for kind in ("gif", "bmp", "jpeg"))
    yield Hostile("claims_30000.gif", gif[:6] + large + gif[10:], SENTENCE)
    yield Hostile("claims_30000.bmp", bmp[:18] + struct.pack("<ii", 30_000, 30_000) + bmp[26:], SENTENCE)
    at = jpeg.index(b"\xff\xc0") + 5
    yield Hostile("claims_30000.jpeg", jpeg[:at] + struct.pack(">HH", 30_000, 30_000) + jpeg[at + 4 :], SENTENCE)
    heic = written(plain, "heic")
    at = heic.index(b"ispe") + 8
    yield Hostile("claims_30000.heic", heic[:at] + struct.pack(">II", 30_000, 30_000) + heic[at + 8 :], SENTENCE)
    tiff = written(plain, "tiff")
    for tag, value in ((256, SIZE[0]), (257, SIZE[1])):
        small, claimed = (struct.pack("<HHII", tag, 4, 1, number) for number in (value, 30_000))
        tiff = tiff.replace(small, claimed).replace(struct.pack("<HHIHH", tag, 3, 1, value, 0), claimed)
    yield Hostile("claims_30000.tiff", tiff, SENTENCE)
    zeros, pixels = zlib.compress(bytes(80_000_000), 9), zlib.compress(bytes(24 * 121))
    yield Hostile("text_bomb.png", _png(40, 24, pixels, (b"zTXt", b"a\0\0" + zeros)))
    yield Hostile("profile_bomb.png", _png(40, 24, pixels, (b"iCCP", b"a\0\0" + zeros)))
    yield Hostile("data_bomb.png", _png(40, 24, zeros))
    # A small icon by its directory, with a large picture inside.
    inside = _black(12_000)
    yield Hostile("bomb.ico", struct.pack("<HHHBBBBHHII", 0, 1, 1, 32, 32, 0, 0, 1, 32, len(inside), 22) + inside, SENTENCE)


def _impostors() -> Iterator[Hostile]:
    """What is something else, whatever it is called."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("picture.png", written(gradient(), "png"))
    others = {
        "empty": b"",
        "space": b" \n" * 40,
        "zeros": bytes(5000),
        "svg": b'<svg xmlns="http://www.w3.org/2000/svg" width="40" height="40"><script>alert(1)</script></svg>',
        "html": b"<!doctype html><img src=x onerror=alert(1)>",
        "zip": archive.getvalue(),
        "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 40 40\n%%EndComments\n(/etc/passwd) (r) file\n%%EOF\n",
        "elf": b"\x7fELF" + bytes(200),
        "json": b'{"path": "/etc/passwd"}',
        "noise": random.Random(0).randbytes(5000),
        "pickle": b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00\x8c\x02os\x94\x8c\x06system\x94\x93\x94.",
        "utf-16": "A picture, in words".encode("utf-16"),
    }
    for name, content in others.items():
        for kind in ("png", "jpeg"):
            yield Hostile(f"{name}.{kind}", content, SENTENCE)
    for says, kind in (("jpeg", "png"), ("png", "webp"), ("gif", "bmp"), ("txt", "png"), ("html", "jpeg")):
        yield Hostile(f"{kind}_named.{says}", written(gradient(), kind), PICTURE)
    yield Hostile("png_and_more.png", written(gradient(), "png") + archive.getvalue(), PICTURE)
    yield Hostile("<img src=x onerror=alert(1)>.png", b"not a picture", SENTENCE)
