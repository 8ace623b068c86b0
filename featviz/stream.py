"""Recipes become pictures here: device, lock, pacing. Tensors below, pictures above."""

import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from PIL import Image

from featviz.dream import DeepDream
from featviz.images import Picture, open_picture, to_picture, to_tensor
from featviz.networks import load
from featviz.recipe import Recipe
from featviz.style import StyleTransfer

RECIPES: dict[str, type[Recipe]] = {recipe.name: recipe for recipe in (DeepDream, StyleTransfer)}


@dataclass(frozen=True)
class Preview:
    """A frame that is shown: a picture and numbers."""

    step: int
    steps: int
    stage: str
    loss: float
    seconds_left: float
    picture: Image.Image


_locks: dict[str, threading.Lock] = defaultdict(threading.Lock)


def pick_device(device: str = "auto") -> torch.device:
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(device)


def stream(recipe: Recipe, *, device: str = "auto", every: float = 0.25, **pictures: Picture) -> Iterator[Preview]:
    where = pick_device(device)
    lock = _locks[str(where)]
    loaded = {role: open_picture(pictures.get(role), role) for role in recipe.images}
    network = load(recipe.network_name, where)
    frames = recipe.run(network, **{role: to_tensor(picture, where) for role, picture in loaded.items()})
    spent, due = 0.0, 0.0
    try:
        while True:
            with lock:
                start = time.monotonic()
                frame = next(frames, None)
                if frame is None:
                    return
                preview = None
                if start >= due or frame.step == frame.steps:
                    picture, loss = to_picture(frame.image), float(frame.loss)
                    preview = True
                now = time.monotonic()
                spent += now - start
            if preview:
                due = now + every
                yield Preview(frame.step, frame.steps, frame.stage, loss, spent * (1 - frame.work) / frame.work, picture)
    finally:
        frames.close()


def run(recipe: Recipe, *, device: str = "auto", **pictures: Picture) -> Image.Image:
    for preview in stream(recipe, device=device, every=float("inf"), **pictures):
        pass
    return preview.picture
