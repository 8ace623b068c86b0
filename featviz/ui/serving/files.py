"""Files in Gradio's cache, which is swept regularly: uploads, and what is shown."""

import base64
import io
from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

import gradio as gr
from gradio.data_classes import FileData
from gradio.processing_utils import save_base64_to_cache, save_file_to_cache, save_pil_to_cache
from gradio.utils import get_upload_folder
from PIL import Image

from featviz import limits
from featviz.errors import ImageError, LimitError
from featviz.media.images import open_header
from featviz.runtime.memory import open_reserved

LOSSLESS = 96
"""Longest side of the pictures that `data_url` holds without loss, in pixels."""

SHOWN_BY_BROWSERS = ("PNG", "JPEG", "MPO", "WEBP", "AVIF", "GIF", "BMP")
"""Formats by Pillow's names. MPO is a JPEG file with several pictures."""


def in_cache(picture: Image.Image, kind: str = "png", name: str = "image") -> str:
    """Save a picture in Gradio's cache, which is swept regularly, and return its path."""
    return save_pil_to_cache(picture, get_upload_folder(), name=name, format=kind)


def address(file: str) -> str:
    """Return the address of a file in Gradio's cache, relative to the page."""
    return f"gradio_api/file={quote(file)}"


def data_url(picture: Image.Image | None) -> str:
    """Return a picture as a data URL; "" for none. Small ones are lossless, so that a browser can compute with their pixels."""
    if picture is None:
        return ""
    kind = "png" if max(picture.size) <= LOSSLESS else "jpeg"
    return encoded(picture, kind, quality=85)


def encoded(picture: Image.Image, kind: str, **options: Any) -> str:
    """Return a picture as a data URL of a kind of file. `options`: those of Pillow for it."""
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return data_url_of(file.getvalue(), kind)


def data_url_of(content: bytes, kind: str) -> str:
    """Return the content of a picture's file as a data URL."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def keep_file(path: Path) -> str:
    """Copy a file into Gradio's cache, and return its path there."""
    return save_file_to_cache(path, get_upload_folder())


def file_of(sent: Mapping[str, Any] | None) -> str | None:
    """Return the path of a file that the page or a program sent. The library checks its content later.

    Raises:
        ImageError: the file is inside the request as base64, and too large or damaged.
    """
    if sent is None:
        return None
    if (url := sent.get("url") or "").startswith("data:"):
        if len(url) * 3 / 4 > limits.MEGABYTES.value * 1e6:
            raise ImageError(
                f"The picture has {len(url) * 3 / 4e6:.0f} megabytes; at most {limits.MEGABYTES.value} are accepted."
            )
        try:
            return save_base64_to_cache(url, get_upload_folder())
        except (ValueError, IndexError):
            raise ImageError("The picture is damaged: it is not valid base64.") from None
    return sent["path"]


def displayable(*sent: Mapping[str, Any] | None) -> Iterator[dict[str, Any]]:
    """Yield {path of an upload: what its box is to show instead}. Uploads that stay as they are have no entry.

    TIFF or HEIC, which browsers cannot show, becomes PNG. What is no picture becomes None, which empties the box.

    Raises:
        gr.Error: an upload is not a picture.
    """
    shown: dict[str, Any] = {}
    refusal = None
    for upload in filter(None, sent):
        file = file_of(upload)
        try:
            with open_header(file, "file") as picture:
                known = picture.format in SHOWN_BY_BROWSERS
            if not known:
                made = in_cache(open_reserved(file))
                shown[file] = FileData(path=made, url=address(made)).model_dump()
        except LimitError:
            pass  # The run reports it.
        except ImageError as error:
            shown[file], refusal = None, error
    yield shown
    if refusal:
        raise gr.Error(escape(str(refusal), quote=False), print_exception=False)
