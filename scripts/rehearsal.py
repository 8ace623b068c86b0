"""Rehearse what a push to a Space does, in empty folders: clone, install, start, one click. Prints the seconds of each step.

It downloads all packages again (about 5 GB on the disk) and needs a browser. What a Space adds is not rehearsed: its own image, its
proxy, the downloads of `preload_from_hub`.
"""

import os
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import sync_playwright

from benchmarks.page import CHROMIUM, LONG
from scripts.visitor import ROOT

LARGEST_FILE = 10e6
"""Bytes from which on the Hub refuses a file that is not in Git LFS."""

SPACE_PACKAGES = ("gradio[oauth,mcp]=={gradio}", "uvicorn>=0.14.0", "websockets>=10.4", "spaces")
"""What a Gradio Space installs together with requirements.txt."""

START_SECONDS = 120
"""The longest wait for the first answer of the server."""


def main() -> None:
    with tempfile.TemporaryDirectory() as place:
        checkout, environment, home = (Path(place, name) for name in ("checkout", "environment", "home"))
        home.mkdir()
        with timed("clone"):
            subprocess.run(["git", "clone", "--quiet", str(ROOT), str(checkout)], check=True)
        too_large = [
            path
            for path in checkout.rglob("*")
            if ".git" not in path.parts and path.is_file() and path.stat().st_size > LARGEST_FILE
        ]
        if too_large:
            sys.exit(f"The Hub refuses files over {LARGEST_FILE / 1e6:.0f} MB: {too_large}.")
        with timed("install"):
            venv.create(environment, with_pip=True)
            install(environment / "bin/python", checkout)
        with timed("start"):
            address, server = start(environment / "bin/python", checkout, home)
        try:
            with timed("first click until the result"):
                click(address)
        finally:
            server.terminate()
            server.wait(timeout=30)


@contextmanager
def timed(step: str) -> Iterator[None]:
    start = time.monotonic()
    yield
    print(f"{step}: {time.monotonic() - start:.1f} s", flush=True)


def install(python: Path, checkout: Path) -> None:
    (version,) = re.findall(r"^sdk_version: (.+)$", (checkout / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    packages = [package.format(gradio=version) for package in SPACE_PACKAGES]
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "--requirement", str(checkout / "requirements.txt"), *packages], check=True)
    subprocess.run([str(python), "-m", "pip", "check", "--disable-pip-version-check"], check=True)


def start(python: Path, checkout: Path, home: Path) -> tuple[str, subprocess.Popen]:
    """Start the app as a Space does: no argument, address and port from the environment, nothing of this user's settings."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = {"GRADIO_SERVER_NAME": "0.0.0.0", "GRADIO_SERVER_PORT": str(port), "HOME": str(home), "PATH": os.defpath}
    server = subprocess.Popen([str(python), "app.py"], cwd=checkout, env=settings)
    address = f"http://127.0.0.1:{port}/"
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(address, timeout=5):
                return address, server
        except (urllib.error.URLError, TimeoutError):
            time.sleep(0.2)
    server.kill()
    sys.exit(f"The app does not answer {START_SECONDS} s after its start.")


def click(address: str) -> None:
    """Click the first example and wait for its result. Ends with the console's errors, if there are any."""
    with sync_playwright() as driver, driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"]) as browser:
        page = browser.new_page()
        errors: list[str] = []
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(address)
        page.locator(".examples .card").locator("visible=true").first.click()
        page.locator("#result").get_by_text("Done in").wait_for(timeout=LONG)
        if errors:
            sys.exit(f"The browser's console says: {errors}")


if __name__ == "__main__":
    main()
