"""Clips whose motion is known exactly, made from the example pictures: what a video recipe is measured on."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from benchmarks.measure import EXAMPLES
from featviz.media.images import open_picture, to_tensor
from featviz.optimise.flow import Motion
from featviz.optimise.scaling import resize
from featviz.optimise.transforms import sample

HEIGHT, WIDTH = 96, 128
"""The size of a clip at scale 1."""

Positions = tuple[Tensor, Tensor]
"""Rows and columns (H, W) of a picture at which a frame shows it."""


@dataclass(frozen=True)
class Clip:
    """Frames (1, 3, H, W) in [0, 1], and the true motion to each from the one before; None at the first and at a cut."""

    frames: list[Tensor]
    motions: list[Motion | None]


@dataclass(frozen=True)
class Camera:
    """An affine view of a picture (1, 3, H, W): from pixels about the centre of a frame to pixels of the picture."""

    picture: Tensor
    centre: tuple[float, float]
    factor: float = 1.0
    degrees: float = 0.0

    def positions(self, rows: Tensor, columns: Tensor) -> Positions:
        """Return where in the picture these pixels of the frame are, relative to the frame's centre."""
        turn = math.radians(self.degrees)
        cosine, sine = math.cos(turn) / self.factor, math.sin(turn) / self.factor
        return cosine * rows - sine * columns + self.centre[0], sine * rows + cosine * columns + self.centre[1]

    def pixels(self, rows: Tensor, columns: Tensor) -> Positions:
        """Return the inverse: which pixels of the frame show these places of the picture."""
        rows, columns = rows - self.centre[0], columns - self.centre[1]
        turn = math.radians(self.degrees)
        cosine, sine = math.cos(turn) * self.factor, math.sin(turn) * self.factor
        return cosine * rows + sine * columns, cosine * columns - sine * rows

    def view(self, rows: Tensor, columns: Tensor) -> Tensor:
        return sample(self.picture, *self.positions(rows, columns)).clamp(0, 1)


def grid(height: int, width: int) -> Positions:
    """Return the rows and columns of a frame's pixels, relative to its centre."""
    rows = torch.arange(height).view(-1, 1).expand(height, width) - (height - 1) / 2
    return rows, torch.arange(width).expand(height, width) - (width - 1) / 2


def picture(name: str, width: int) -> Tensor:
    """Return an example picture of a width."""
    image = to_tensor(open_picture(EXAMPLES / f"{name}.jpg"))
    return resize(image, (round(image.shape[-2] * width / image.shape[-1]), width)).clamp(0, 1)


def moved(name: str, path: Callable[[Tensor, int], Camera], count: int, scale: float) -> Clip:
    """Return a clip by a camera that moves over a picture twice as wide as the clip."""
    height, width = round(HEIGHT * scale), round(WIDTH * scale)
    image, (rows, columns) = picture(name, 2 * width), grid(height, width)
    cameras = [path(image, i) for i in range(count)]
    motions: list[Motion | None] = [None]
    for before, after in pairwise(cameras):
        motions.append(_motion(*before.pixels(*after.positions(rows, columns))))
    return Clip([camera.view(rows, columns) for camera in cameras], motions)


def _motion(rows: Tensor, columns: Tensor) -> Motion:
    """Return the motion to pixels that were at these ones of the frame before, relative to its centre."""
    height, width = rows.shape
    rows, columns = rows + (height - 1) / 2, columns + (width - 1) / 2
    inside = (rows >= 0) & (rows <= height - 1) & (columns >= 0) & (columns <= width - 1)
    return Motion(rows, columns, inside.float()[None, None])


def _centre(image: Tensor, down: float = 0.0, right: float = 0.0) -> tuple[float, float]:
    height, width = image.shape[-2:]
    return (height - 1) / 2 + down, (width - 1) / 2 + right


def pan(count: int = 6, scale: float = 1.0) -> Clip:
    """The camera moves to the right and a little down."""
    return moved(
        "mountain", lambda image, i: Camera(image, _centre(image, 0.7 * scale * i, (2.4 * i - 20) * scale)), count, scale
    )


def zoom(count: int = 6, scale: float = 1.0) -> Clip:
    """The camera comes closer."""
    return moved("church_at_auvers", lambda image, i: Camera(image, _centre(image), 1.03**i), count, scale)


def turn(count: int = 6, scale: float = 1.0) -> Clip:
    """The camera turns."""
    return moved("cat", lambda image, i: Camera(image, _centre(image), 1.0, 2.0 * i), count, scale)


def noise(count: int = 6, scale: float = 1.0) -> Clip:
    """The camera stands still, with the noise of a dark room: σ = 8 of 255."""
    clip = moved("cat", lambda image, i: Camera(image, _centre(image)), count, scale)
    generator = torch.Generator().manual_seed(0)
    noisy = [(frame + 8 / 255 * torch.randn(frame.shape, generator=generator)).clamp(0, 1) for frame in clip.frames]
    return Clip(noisy, clip.motions)


def cut_out(count: int = 6, scale: float = 1.0) -> Clip:
    """An ellipse of one picture moves before another that stands still."""
    height, width = round(HEIGHT * scale), round(WIDTH * scale)
    rows, columns = grid(height, width)
    behind, front = picture("mountain", 2 * width), picture("astronaut", width)
    background = Camera(behind, _centre(behind)).view(rows, columns)
    frames, motions, covered_before = [], [], torch.zeros(())
    speed = 3.2 * scale
    for i in range(count):
        right = speed * i - 16 * scale
        covered = ((rows / (0.3 * height)) ** 2 + ((columns - right) / (0.2 * width)) ** 2 <= 1).float()
        face = Camera(front, _centre(front, -0.2 * height, -right)).view(rows, columns)
        frames.append(torch.lerp(background, face, covered))
        true = _motion(rows, columns - speed * covered)
        hidden = covered_before * (1 - covered)  # Background that the ellipse has just uncovered.
        motions.append(Motion(true.rows, true.columns, true.visible * (1 - hidden)) if i else None)
        covered_before = covered
    return Clip(frames, motions)


def cut(count: int = 6, scale: float = 1.0) -> Clip:
    """A pan that is cut to another one in the middle."""
    first = pan(count // 2, scale)
    second = moved(
        "astronaut", lambda image, i: Camera(image, _centre(image, 0, (2.4 * i - 20) * scale)), count - count // 2, scale
    )
    return Clip(first.frames + second.frames, first.motions + second.motions)


CLIPS: dict[str, Callable[[int, float], Clip]] = {
    "pan": pan,
    "zoom": zoom,
    "turn": turn,
    "cut-out": cut_out,
    "noise": noise,
    "cut": cut,
}


def write_mjpeg(path: Path, frames: Iterable[Image.Image]) -> Path:
    """Write frames as a video that Chromium plays, again and again, instead of a camera."""
    with path.open("wb") as file:
        for frame in frames:
            frame.save(file, "JPEG", quality=90)
    return path


def fake_camera(video: Path) -> list[str]:
    """Return the options of Chromium for a camera that shows a video of `write_mjpeg`."""
    return ["--use-fake-device-for-media-stream", f"--use-file-for-fake-video-capture={video}"]
