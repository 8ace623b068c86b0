"""The theme, and `launch`, which serves the app for the Space, the command line and the tests."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr

from featviz import limits
from featviz.recipes import presets
from featviz.runtime.jobs import AT_ONCE
from featviz.ui import text
from featviz.ui.first_screen import FirstScreen
from featviz.ui.serving import gradio_internals, request_limits, shutdown

FOLDER = Path(__file__).parent
PARTS = ("page", *(f"instruments/{name}" for name in ("atlas", "explorer", "mirror", "lesson", "game")))
"""The scripts and the styles of the page, without their suffixes."""

THEME = gr.themes.Base(
    primary_hue="violet",
    secondary_hue="violet",
    neutral_hue="zinc",
    radius_size="lg",
    font=[gr.themes.LocalFont("IBM Plex Sans", weights=(400, 700)), "system-ui", "sans-serif"],
    font_mono=[gr.themes.LocalFont("IBM Plex Mono", weights=(400, 700)), "ui-monospace", "monospace"],
).set(
    body_background_fill="*neutral_50",
    block_info_text_color="*neutral_500",
    block_info_text_color_dark="*neutral_400",
    block_title_text_color="*neutral_800",
    block_title_text_color_dark="*neutral_100",
    block_label_text_color="*neutral_600",
    block_label_text_color_dark="*neutral_300",
    body_text_color_subdued="*neutral_500",
    body_text_color_subdued_dark="*neutral_400",
    button_primary_background_fill="*primary_600",
    button_primary_background_fill_hover="*primary_700",
    button_primary_background_fill_dark="*primary_600",
    button_primary_background_fill_hover_dark="*primary_500",
    button_cancel_background_fill="*neutral_800",
    button_cancel_background_fill_hover="*neutral_700",
    button_cancel_text_color="white",
    button_cancel_background_fill_dark="*neutral_200",
    button_cancel_background_fill_hover_dark="white",
    button_cancel_text_color_dark="*neutral_900",
    button_large_text_weight="700",
)
"""The fonts come with Gradio, so the page loads nothing from other servers. In these weights Plex has the whole Latin alphabet;
most other fonts, and weight 600, contain only a few letters."""


def launch(demo: gr.Blocks, then: Callable[[], object] | None = None, **options: Any) -> None:
    """Serve the app of `ui.build` until it is interrupted. `options` go to Gradio's `launch`.

    `then` is called after the page answers, because work beside the start can exceed Gradio's limit of three seconds.

    Raises:
        InputError: a limit in the environment is not a number.
    """
    limits.check()
    ending = shutdown.Shutdown(demo.instrument.jobs)
    ending.handle_signals()
    gradio_internals.install()
    gr.set_static_paths([presets.FOLDER])  # Works from any working directory. Nothing else outside the cache is served.
    demo.queue(max_size=limits.QUEUE.value, api_open=False).launch(
        theme=THEME,
        css_paths=[FOLDER / f"{name}.css" for name in PARTS],
        head=f"<script>{demo.instrument.script}{''.join((FOLDER / f'{name}.js').read_text(encoding='utf-8') for name in PARTS)}</script>",
        i18n=text.labels(),
        footer_links=["api"],
        mcp_server=True,
        max_threads=2 * AT_ONCE,  # Half of them are left for all other events.
        run_history=False,
        enable_monitoring=False,
        show_error=False,
        ssr_mode=False,
        state_session_capacity=limits.SESSIONS.value,  # Each API call makes a session of a megabyte or so, and Gradio keeps 10 000.
        max_file_size=limits.MEGABYTES.value * 10**6,
        app_kwargs=request_limits.server_options((FirstScreen, (demo.instrument.first_screen,), {})) | shutdown.sweeping(demo),
        prevent_thread_lock=True,
        **options,
    )
    if then:
        then()
    demo.block_thread()
    ending.exit()  # After SIGTERM.
