"""Instruments that scripts draw, and the functions that these call: limited for each visitor, and every error as a sentence."""

from collections.abc import Callable, Mapping
from html import unescape
from typing import Any

import gradio as gr
from gradio.utils import get_upload_folder, is_in_or_equal

from featviz.errors import InputError
from featviz.recipes import presets
from featviz.ui.serving.admission import count_pass
from featviz.ui.serving.errors import error_sentences


def instead(name: str, *functions: Callable[[Any], dict], **properties: Any) -> gr.HTML:
    """Build an instrument that stands in place of the result, drawn by `featviz.NAME` of the script `NAME.js`.

    `functions`: what the script calls. `properties`: what it reads.
    """
    return gr.HTML(
        html_template="", js_on_load=f"featviz.{name}(element, props, server, watch)", server_functions=list(map(answered, functions)),
        apply_default_css=False, visible="hidden", elem_id=name, elem_classes="instead", render=False, **properties,
    )  # fmt: skip


def answered(function: Callable[[Any], dict]) -> Callable[[Any], dict]:
    """Return the function with every error as {"error": a sentence}. It counts as a pass of its visitor."""

    def answer(sent: Any) -> dict:
        try:
            with error_sentences():
                count_pass()
                if not isinstance(sent, dict):
                    raise InputError("The request is not an object.")
                return function(sent)
        except gr.Error as error:
            return {"error": unescape(error.message)}

    answer.__name__ = function.__name__
    return answer


def picture_of(sent: Mapping[str, Any]) -> str:
    """Return the file of the picture in a request. Raises InputError for a file that is no upload, no result and no example."""
    picture = sent.get("picture")
    path = picture.get("path") if isinstance(picture, dict) else None
    # The examples are served where they are.
    if not isinstance(path, str) or not any(is_in_or_equal(path, folder) for folder in (get_upload_folder(), presets.FOLDER)):
        raise InputError("Only files that were uploaded here can be used; upload it first.")
    return path
