"""A recipe is data: frozen fields, each with its meaning and range, and a `run` that yields frames.

Every surface (page, API, MCP, command line, README) is built from these fields and from nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo

from featviz.errors import FieldError, nearest, short

if TYPE_CHECKING:
    from torch import Tensor

    from featviz.network import Network


def param(
    default: Any,
    meaning: str,
    *,
    ge: float | None = None,
    le: float | None = None,
    step: float | None = None,
    group: str = "",
    live: bool = False,
) -> Any:
    """A recipe's field: its default, its one-sentence meaning, its range (`ge`, `le`), the step of its slider.

    The range is written into the sentence, since MCP shows the sentence and not the range. Fields of a `group` are
    folded away together; those of none are what a beginner sees. A `live` field may change while a run goes on.
    """
    if ge is not None and le is not None:
        meaning += f" From {ge:.10g} to {le:.10g}."
    elif ge is not None:
        meaning += f" At least {ge:.10g}."
    return Field(default, description=meaning, ge=ge, le=le, json_schema_extra={"step": step, "group": group, "live": live})


@dataclass(frozen=True)
class Frame:
    """Where a run stands after a step. Nothing here has been read back from the device yet."""

    step: int
    """From 1 to `steps`."""
    steps: int
    stage: str
    """What is being worked on, e.g. "octave 2 of 4"."""
    work: float
    """The share of the whole run's work that is done, in (0, 1]: later steps see more pixels than early ones."""
    loss: Tensor
    """(), what goes down: minus the objective."""
    image: Tensor
    """(1, 3, H, W) in [0, 1], detached."""
    kept: bool = False
    """Whether this is a finished picture of a video, which goes into its file even if nobody is shown it."""
    measures: Mapping[str, Tensor] = field(default_factory=dict)
    """What else is worth watching, () each, by name, e.g. the distance that each layer still sees."""


Frames = Generator[Frame, "Recipe | None", None]
"""A run: frames, and what may be sent back between them."""


@dataclass(frozen=True)
class Demand:
    """What a run takes of a machine."""

    flops: float
    """Floating point operations in all."""
    bytes: float
    """Memory at its peak, beside the network and the program themselves."""


IMAGE_BYTES = 12
"""Of a pixel: three float32 values."""


def handed_in(*sizes: tuple[int, int]) -> float:
    """Bytes while pictures of (height, width) become tensors: all are there, opened and as tensors, before `run` brings them to
    its size, and one of them four times more in 8 bits.
    """
    pixels = [height * width for height, width in sizes]
    return sum(pixels) * (3 + IMAGE_BYTES) + 4 * 3 * max(pixels)


class Recipe(BaseModel):
    """The base of all recipes. A subclass adds its fields and `run`.

    Raises:
        FieldError: on construction, for a field that is unknown or outside what it accepts.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: ClassVar[str]
    """As in the API's address and on the command line."""
    title: ClassVar[str]
    """As people read it."""
    room: ClassVar[str]
    """The part of the page where people find it; recipes of one room stand side by side there."""
    images: ClassVar[dict[str, str]]
    """The pictures it needs: name → meaning, in order; none for a recipe that starts from noise."""
    extras: ClassVar[dict[str, str]] = {}
    """The pictures it can do without: name → meaning, in order."""
    picks: ClassVar[tuple[str, ...]] = ()
    """The fields in which `variants` differ, none where there is nothing to choose among."""
    keeps_alpha: ClassVar[bool] = True
    """Whether the result is the first picture changed, which keeps its transparency."""
    produces: ClassVar[Literal["picture", "video", "numbers"]] = "picture"
    """A picture is the last frame's; a video is the frames that are `kept`, and has a field `fps`; numbers are the last
    frame's measures."""

    def __init__(self, /, **fields: Any):
        try:
            super().__init__(**fields)
        except ValidationError as error:
            raise FieldError(_sentence(type(self), error)) from None

    @property
    def network_name(self) -> str:
        """The network that `run` wants."""
        raise NotImplementedError

    @property
    def changed(self) -> dict[str, Any]:
        """What sets it apart: its fields that are not at their defaults."""
        return {name: value for name, value in self if value != type(self).model_fields[name].default}

    def variants(self) -> list[Recipe]:
        """Small and quick versions of this run that differ in the fields of `picks`: try before you commit."""
        return []

    # Each recipe names the pictures of its own, and says whether there is a size: hence `Any` in what follows.

    def demand(self, network: Network, size: Any, **others: tuple[int, int]) -> Demand:
        """What `run` will take for a first picture of (height, width), None where it needs none; counted and not tried.

        `others`: role → (height, width) of the other pictures. A required one that is missing here is taken to be as large as
        the first; an extra one that is missing is taken to be absent.
        """
        raise NotImplementedError

    def run(self, network: Network, *_: Any, **images: Any) -> Frames:
        """Work, and yield a frame after every step. Images are (1, 3, H, W) in [0, 1] on the network's device.

        Who drives it may send the recipe back with other values of its live fields; they hold from the next step on.
        """
        raise NotImplementedError


KINDS: dict[type | None, str] = {int: "a whole number", float: "a number", bool: "true or false"}
"""A field's type → what people are to type; text for any other."""


def parse_weights(text: str) -> dict[str, float]:
    """'relu3_3: 0.5, relu5_1' → {"relu3_3": 0.5, "relu5_1": 1.0}.

    Raises:
        FieldError: a weight is not a finite number.
    """
    weights: dict[str, float] = {}
    for item in filter(None, (item.strip() for item in text.split(","))):
        layer, _, weight = item.partition(":")
        try:
            number = float(weight or 1)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise FieldError(f"The weight of '{layer.strip()}' is '{weight.strip()}'; expected a number, as in 'relu3_3: 0.5'.")
        weights[layer.strip()] = number
    return weights


def differing(variant: Recipe) -> str:
    """What sets a variant apart from the others, in few words: a layer without its network, `style_scale` as "scale"."""
    values = {name: getattr(variant, name) for name in variant.picks}
    return ", ".join(
        value.rpartition("/")[2] if isinstance(value, str) else f"{name.rpartition('_')[2]} {value:g}"
        for name, value in values.items()
    )


def bounds(field: FieldInfo) -> tuple[float | None, float | None]:
    """The least and the greatest value a field accepts, None where there is no limit."""
    low = next((limit.ge for limit in field.metadata if hasattr(limit, "ge")), None)
    high = next((limit.le for limit in field.metadata if hasattr(limit, "le")), None)
    return low, high


def choices(field: FieldInfo) -> tuple[str, ...]:
    """The names a field accepts, empty where it is not a choice."""
    return get_args(field.annotation) if get_origin(field.annotation) is Literal else ()


def increment(field: FieldInfo) -> float:
    """The step of a field's slider."""
    return _noted(field)["step"] or (1 if field.annotation is int else 0.01)


def group(field: FieldInfo) -> str:
    """What a field is folded away under, "" for those in sight."""
    return _noted(field)["group"]


def live(recipe: type[Recipe]) -> list[str]:
    """The names of the fields that may change while a run goes on."""
    return [name for name, field in recipe.model_fields.items() if _noted(field)["live"]]


def _noted(field: FieldInfo) -> dict[str, Any]:
    """What `param` has noted of a field."""
    assert isinstance(field.json_schema_extra, dict)
    return field.json_schema_extra


def _sentence(recipe: type[Recipe], error: ValidationError) -> str:
    """The first complaint of pydantic, as one sentence with the value and what would be accepted."""
    first = error.errors()[0]
    if first["type"] == "value_error":  # A validator of the recipe's own, which has said it all.
        return str(first["ctx"]["error"])
    name, value = str(first["loc"][0]), first["input"]
    field = recipe.model_fields.get(name)
    if field is None:
        return f"{recipe.title} has no parameter '{short(name)}'; {nearest(name, list(recipe.model_fields))}"
    if choices(field):
        return f"There is no {name} '{short(value)}'; {nearest(value, choices(field))}"
    low, high = bounds(field)
    kind = KINDS.get(field.annotation, "text")
    span = "" if low is None else f" of at least {low:.10g}" if high is None else f" from {low:.10g} to {high:.10g}"
    shown = value if isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)) else repr(value)
    return f"{name} is {short(shown)}; expected {kind}{span}."
