"""The base class of recipes: frozen fields, each with its meaning and range, and a method `run` that yields frames.

Every surface (page, API, MCP, command line, README) is generated from these fields alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar, get_args, get_origin

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.fields import FieldInfo

from featviz import aliases
from featviz.errors import FieldError, InputError, nearest, short
from featviz.networks.table import OneOf

if TYPE_CHECKING:
    from torch import Tensor

    from featviz.networks.network import Network
    from featviz.recipes.following import Follower


R = TypeVar("R", bound="Recipe")
T = TypeVar("T")


def param(
    default: Any,
    meaning: str,
    *,
    ge: float | None = None,
    le: float | None = None,
    step: float | None = None,
    usual: float | None = None,
    longest: int | None = None,
    group: str = "",
    live: bool = False,
) -> Any:
    """Return a field of a recipe.

    The range is appended to the meaning, since MCP clients show the meaning but not the range.

    Args:
        default: the default value.
        meaning: one sentence for users.
        ge: the least value that is accepted.
        le: the greatest value that is accepted.
        step: the increment of the slider; by default 1 for integers and 0.01 for floats.
        usual: the greatest value of the slider; greater ones are typed. By default `le`.
        longest: the most characters that a text field accepts.
        group: the collapsible section of the page that has the field; "" for a field that is always visible.
        live: whether the field may change during a run.
    """
    if ge is not None and le is not None:
        meaning += f" From {ge:.10g} to {le:.10g}."
    elif ge is not None:
        meaning += f" At least {ge:.10g}."
    extra: dict[str, Any] = {"step": step, "usual": usual, "group": group, "live": live}
    return Field(default, description=meaning, ge=ge, le=le, max_length=longest, json_schema_extra=extra)


class Frame:
    """The state of a run after a step. Its tensors are on the device: nothing has been read back.

    The loss, the image, the measures and the gradient may be given as functions, which are called when they are first read: a frame
    that is not shown costs nothing. Such a function must depend on tensors alone that later steps do not change in place.
    """

    def __init__(
        self,
        step: int,
        steps: int,
        stage: str,
        work: float,
        loss: Tensor | Callable[[], Tensor],
        image: Tensor | Callable[[], Tensor],
        is_video_frame: bool = False,
        measures: Mapping[str, Tensor] | Callable[[], Mapping[str, Tensor]] = MappingProxyType({}),
        gradient: Tensor | Callable[[], Tensor] | None = None,
    ):
        self.step = step
        """From 1 to `steps`."""
        self.steps = steps
        self.stage = stage
        """The part of the run that is being computed, e.g. "octave 2 of 4"."""
        self.work = work
        """The share of the run's work that is done, in (0, 1]. Not `step / steps`, since later steps may process more pixels."""
        self.is_video_frame = is_video_frame
        """Whether this is a finished picture of a video. It is written to the file even if it is not shown as a preview."""
        self._loss, self._image, self._measures, self._gradient = loss, image, measures, gradient

    @cached_property
    def loss(self) -> Tensor:
        """(), lower is better: minus the objective, or a distance."""
        return _value(self._loss)

    @cached_property
    def image(self) -> Tensor:
        """(1, 3, H, W) in [0, 1], detached; (B, 3, H, W) from `maximise`."""
        return _value(self._image)

    @cached_property
    def measures(self) -> Mapping[str, Tensor]:
        """Name → other number worth watching, (), e.g. the distance at each layer."""
        return _value(self._measures)

    @cached_property
    def gradient(self) -> Tensor | None:
        """The gradient of the objective with respect to the image, of the shape of the image; None for a run without one.

        For DeepDream it is what is added to the image: shaped, and inside the mask.
        """
        return _value(self._gradient)

    def replace(self, **changes: Any) -> Frame:
        """Return the frame with some arguments changed. The other ones are not computed by this."""
        known = {
            "step": self.step,
            "steps": self.steps,
            "stage": self.stage,
            "work": self.work,
            "is_video_frame": self.is_video_frame,
            "loss": lambda: self.loss,
            "image": lambda: self.image,
            "measures": lambda: self.measures,
            "gradient": lambda: self.gradient,
        }
        return Frame(**{**known, **changes})


def _value(given: T | Callable[[], T]) -> T:
    """Return a value, or what a function returns without recording gradients."""
    if not callable(given):
        return given
    with torch.no_grad():
        return given()


Frames = Generator[Frame, "Recipe | None", None]
"""A run: yields frames. Between two frames it accepts the recipe with new values of its live fields, by `send`."""


@dataclass(frozen=True)
class Demand:
    """The compute and memory that a run needs."""

    flops: float
    """Floating point operations of the whole run, without those of eigenvalues."""
    bytes: float
    """Peak memory in bytes, without that of the network and of the program."""
    fixed_work: float = 0.0
    """Sum of `Cost.fixed_work` over all passes of the network, forward and backward. A tile is a pass."""
    eigen: float = 0.0
    """Cost of all eigenvalues: the sum of C³ over matrices (C, C). Separate from `flops`, since convolutions are far faster."""


@dataclass(frozen=True)
class Rule:
    """Fields and pictures that have no effect if another one is present (`beside`), or if it is absent (`without`).

    Exactly one of `beside` and `without` is set. From the rules of a recipe follow the errors on every surface and the
    controls that the page disables.
    """

    unused: tuple[str, ...]
    """The names of the fields and pictures that have no effect."""
    reason: str
    """Why they have no effect: the second half of a sentence for users."""
    beside: str = ""
    """The field or picture whose presence makes them ineffective. A field is present if it is not at its default."""
    without: str = ""
    """The picture whose absence makes them ineffective."""
    refused: bool = True
    """Whether setting them is an error. Otherwise they are ignored: they only tune something that is absent."""

    def holds(self, given: Collection[str]) -> bool:
        """Return whether the rule applies if the fields and pictures of these names are set."""
        return self.beside in given or bool(self.without and self.without not in given)

    def full_reason(self) -> str:
        """Return when and why they have no effect, e.g. "beside class_name: a class is shown"."""
        relation, name = ("beside", self.beside) if self.beside else ("without", self.without)
        return f"{relation} {name}: {self.reason}"

    def refusal(self, name: str) -> str:
        """Return the message of the error for setting `name`."""
        return f"{name} has no effect {self.full_reason()}; leave {name} out."


MAX_FEATHER = 256
"""The greatest softness of a mask's edge, in pixels."""

IMAGE_BYTES = 12
"""Bytes per pixel of an image tensor: three float32 values."""


def opening_bytes(*sizes: tuple[int, int]) -> float:
    """Return the peak bytes while pictures of (height, width) are converted to tensors.

    All pictures are held decoded (3 bytes per pixel) and as tensors before `run` scales them. The conversion holds four more
    8-bit copies of one picture; the largest is assumed.
    """
    return held_bytes(*sizes) + 4 * 3 * max(height * width for height, width in sizes)


def held_bytes(*sizes: tuple[int, int]) -> float:
    """Return the bytes of pictures of (height, width) during a run: decoded, and as tensors."""
    return (3 + IMAGE_BYTES) * sum(height * width for height, width in sizes)


class Recipe(BaseModel):
    """The base of all recipes. A subclass adds its fields and `run`.

    Raises:
        FieldError: on construction, for a field that is unknown or outside what it accepts.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: ClassVar[str]
    """The name in the API and on the command line, e.g. "style_transfer"."""
    title: ClassVar[str]
    """The name that users read."""
    tab_group: ClassVar[str]
    """The tab of the page that has the recipe. Recipes of one group have tabs side by side in it."""
    has_tab: ClassVar[bool] = True
    """Whether the page has a tab with its controls."""
    action: ClassVar[str]
    """The text of the button that starts a run."""
    explanation: ClassVar[str]
    """How the recipe works, for beginners, in Markdown."""
    images: ClassVar[dict[str, str]]
    """The required pictures: role → meaning, in order. Empty for a recipe that starts from noise."""
    optional_images: ClassVar[dict[str, str]] = {}
    """The optional pictures: role → meaning, in order."""
    lists: ClassVar[dict[str, tuple[str, ...]]] = {}
    """Role that also takes a list of pictures → the roles of these pictures, in order."""
    sweep_fields: ClassVar[tuple[str, ...]] = ()
    """The fields in which `variants` differ; empty if there are no variants."""
    sweep_action: ClassVar[str] = ""
    """The text of the button that shows the variants; "" if there are none."""
    sweep_caption: ClassVar[str] = ""
    """The explanation of the variants for users; "" if there are none."""
    mask_action: ClassVar[str] = ""
    """The text of the button that opens the first picture to paint a mask on; "" if the recipe takes no mask."""
    measure_label: ClassVar[str] = ""
    """The format of a variant's measure, one number, e.g. "{:.1f} dB"; "" if none is shown."""
    measure_sentence: ClassVar[str] = ""
    """A sentence with the measure of a result, a format of the first measure; "" if measures are shown as bars."""
    lists_measures: ClassVar[bool] = False
    """Whether the measures are a part of the result beside the picture. The command line prints them."""
    rules: ClassVar[tuple[Rule, ...]] = ()
    """The fields and pictures that have no effect in some cases. If two rules hold for a name, the first one counts."""
    keeps_alpha: ClassVar[bool] = True
    """Whether the result gets the transparency of the first picture, since it is that picture, changed."""
    opacity_roles: ClassVar[tuple[str, ...]] = ()
    """The roles whose opacity is passed to `run`, so that transparent pixels do not enter statistics."""
    produces: ClassVar[Literal["picture", "video", "numbers"]] = "picture"
    """The kind of result. "picture": the image of the last frame. "video": the images of the frames with `is_video_frame`; the
    recipe has a field `fps`. "numbers": the measures of the last frame."""

    follows_video: ClassVar[bool] = False
    """Whether the first picture may be a video, whose frames follow one another (`featviz.recipes.following`). The recipe then has
    a field `steadiness`."""
    roles_of_stills: ClassVar[tuple[str, ...]] = ()
    """The optional pictures that have no effect where the first picture is a video."""

    def __init__(self, /, **fields: Any):
        _check_names(type(self), fields)
        with _field_errors(type(self)):
            super().__init__(**fields)

    @model_validator(mode="after")
    def _check_fields(self: R) -> R:
        self.check_unused(None)
        return self

    def replace(self: R, **changes: Any) -> R:
        """Return the recipe with new values for some fields, validated as on construction.

        Raises:
            FieldError: as on construction.
        """
        return type(self)(**{**dict(self), **changes})

    # The other constructors of pydantic. They validate like `__init__`. For invalid fields they raise FieldError and nothing else.

    def model_copy(self: R, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> R:
        return self.replace(**(update or {}))

    def copy(self: R, *, update: Mapping[str, Any] | None = None, **_: Any) -> R:
        return self.replace(**(update or {}))

    @classmethod
    def model_construct(cls: type[R], _fields_set: set[str] | None = None, **values: Any) -> R:
        return cls(**values)

    @classmethod
    def model_validate(cls: type[R], obj: Any, **options: Any) -> R:
        if isinstance(obj, Mapping):
            _check_names(cls, obj)
        with _field_errors(cls):
            return super().model_validate(obj, **options)

    @classmethod
    def model_validate_json(cls: type[R], json_data: str | bytes | bytearray, **options: Any) -> R:
        with _field_errors(cls):
            return super().model_validate_json(json_data, **options)

    @classmethod
    def model_validate_strings(cls: type[R], obj: Any, **options: Any) -> R:
        if isinstance(obj, Mapping):
            _check_names(cls, obj)
        with _field_errors(cls):
            return super().model_validate_strings(obj, **options)

    @classmethod
    def unused(cls, fields: Mapping[str, Any], pictures: Collection[str] | None) -> dict[str, Rule]:
        """Return {name: rule} for each field and picture that has no effect; the rule says why.

        Args:
            fields: {name: value}. Values need not be valid.
            pictures: the roles of the pictures that are given. None if unknown: rules that depend on a picture do not hold.
        """
        given = cls._given(fields, pictures or ())
        rules = [rule for rule in cls.rules if pictures is not None or rule.beside in cls.model_fields]
        return {name: rule for rule in reversed(rules) if rule.holds(given) for name in rule.unused}

    @classmethod
    def refused(cls, fields: Mapping[str, Any], pictures: Collection[str] | None) -> dict[str, Rule]:
        """Return {name: rule} for what is set although it has no effect, which is an error. Arguments as for `unused`."""
        given = cls._given(fields, pictures or ())
        return {name: rule for name, rule in cls.unused(fields, pictures).items() if name in given and rule.refused}

    @classmethod
    def _given(cls, fields: Mapping[str, Any], pictures: Collection[str]) -> set[str]:
        """Return the names of everything that is set: pictures, and fields that are not at their defaults."""
        return {
            *pictures,
            *(name for name, field in cls.model_fields.items() if fields.get(name, field.default) != field.default),
        }

    def check_unused(self, pictures: Collection[str] | None) -> None:
        """Raise FieldError if a field or picture is set that has no effect. `pictures`: as for `unused`."""
        for name, rule in self.refused(dict(self), pictures).items():
            raise FieldError(rule.refusal(name))

    def check_network(self, network: Network) -> None:
        """Raise FieldError if the network lacks something that the recipe needs, e.g. a channel. Needs no weights."""

    def check_roles(self, roles: Iterable[str]) -> None:
        """Raise InputError if the recipe takes no picture of one of these roles."""
        accepted = [*self.images, *self.optional_images]
        for role in roles:
            if role not in accepted:
                raise InputError(f"{self.title} takes no picture '{short(role)}'; it takes {', '.join(accepted) or 'none'}.")

    @classmethod
    def by_role(cls, pictures: Mapping[str, Any]) -> dict[str, Any]:
        """Return pictures by role, where a role may have a list of pictures: each of these gets a role of its own, as in `lists`.

        Raises:
            InputError: a list is empty or too long, or a picture of it is given by its own role as well.
        """
        spread = dict(pictures)
        for role, names in cls.lists.items():
            listed = spread.get(role)
            if not isinstance(listed, (list, tuple)):
                continue
            if not 1 <= len(listed) <= len(names):
                raise InputError(f"{role} is a list of {len(listed)} pictures; {cls.title} takes 1 to {len(names)}.")
            for name in names[1 : len(listed)]:
                if spread.get(name) is not None:
                    raise InputError(f"{name} is also in the list of {role}; give it once.")
            spread |= dict(zip(names, listed, strict=False))
        return spread

    @property
    def network_name(self) -> str:
        """The name of the network that `run` needs, a key of `NETWORKS`."""
        raise NotImplementedError

    @property
    def changed_fields(self) -> dict[str, Any]:
        """The fields that are not at their defaults, {name: value}."""
        return {name: value for name, value in self if value != type(self).model_fields[name].default}

    def scaled_side(self, role: str) -> int | None:
        """Return the longest side, in pixels, to which `run` scales the picture of a role; None if it does not scale it."""
        return getattr(self, "size", None)

    def variants(self) -> list[Recipe]:
        """Return small, quick versions of this run that differ in the fields of `sweep_fields`, to compare before a full run."""
        return []

    # `Any` below: each recipe declares its own pictures, and one without required pictures takes no size.

    def demand(self, network: Network, size: Any, **others: tuple[int, int]) -> Demand:
        """Return the compute and memory that `run` needs, by counting operations, without running it.

        Args:
            network: the network of the run. Needs no weights.
            size: (height, width) of the first picture in pixels; None if the recipe requires no picture.
            others: role → (height, width) of the other pictures. A required picture that is missing is assumed to be as large
                as the first, an optional one to be absent.

        Raises:
            FieldError: the network has no such layer.
        """
        raise NotImplementedError

    def run(self, network: Network, *_: Any, **images: Any) -> Frames:
        """Run the recipe and yield a frame after every step.

        The caller may `send` the recipe with new values of its live fields; they take effect from the next step on.

        Args:
            network: the network named by `network_name`, with its weights.
            images: role → image (1, 3, H, W) in [0, 1] on the network's device. A recipe with `opacity_roles` also takes
                `opacity`, role → (1, 1, H, W) in [0, 1], only for those roles whose picture has transparent pixels.

        Raises:
            FieldError: the network lacks something that the recipe needs.
            InputError: a picture cannot be used, e.g. is too small for the network.
        """
        raise NotImplementedError

    def follower(self, network: Network, *_: Any, **images: Any) -> Follower:
        """Return a function that computes the frames of a video. It keeps what all frames share, such as the statistics of a style.

        Args:
            network: as for `run`.
            images: as for `run`; the first picture is that of the first frame.

        Raises:
            InputError: as for `run`.
        """
        raise NotImplementedError

    @property
    def following(self) -> Recipe:
        """The recipe that takes as much compute and memory as a frame of a video that follows another one."""
        return self


for _earlier, _current in aliases.ATTRIBUTES.items():
    setattr(Recipe, _earlier, aliases.Renamed(_current))

KINDS: dict[type | None, str] = {int: "a whole number", float: "a number", bool: "true or false"}
"""Type of a field → the expected value, for error messages. Any other type is "text"."""


def parse_weights(text: str) -> dict[str, float]:
    """Parse layers with weights: 'relu3_3: 0.5, relu5_1' → {"relu3_3": 0.5, "relu5_1": 1.0}. The default weight is 1.

    Raises:
        FieldError: a weight is not a finite number, or a layer is named twice.
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
        if layer.strip() in weights:
            raise FieldError(f"The layer '{layer.strip()}' is named twice; expected each layer once.")
        weights[layer.strip()] = number
    return weights


def differing(variant: Recipe) -> str:
    """Return a short label of a variant: the values of its `sweep_fields`.

    A layer is written without its network, and a number with the last word of its field: `style_scale` as "scale 0.5".
    """
    values = {name: getattr(variant, name) for name in variant.sweep_fields}
    return ", ".join(
        value.rpartition("/")[2] if isinstance(value, str) else f"{name.rpartition('_')[2]} {value:g}"
        for name, value in values.items()
    )


def bounds(field: FieldInfo) -> tuple[float | None, float | None]:
    """Return the least and the greatest value that a field accepts; None for no limit."""
    low = next((limit.ge for limit in field.metadata if hasattr(limit, "ge")), None)
    high = next((limit.le for limit in field.metadata if hasattr(limit, "le")), None)
    return low, high


def longest(field: FieldInfo) -> int | None:
    """Return the most characters that a text field accepts; None for no limit."""
    return next((limit.max_length for limit in field.metadata if hasattr(limit, "max_length")), None)


def choices(field: FieldInfo) -> tuple[str, ...]:
    """Return the names that a field accepts; empty if it is not a choice.

    Networks can be added, so the names of a table are read at each call.
    """
    if table := next((mark for mark in field.metadata if isinstance(mark, OneOf)), None):
        return tuple(table.names())
    return get_args(field.annotation) if get_origin(field.annotation) is Literal else ()


def increment(field: FieldInfo) -> float:
    """Return the step of a field's slider: by default 1 for integers, 0.01 for floats."""
    return _noted(field)["step"] or (1 if field.annotation is int else 0.01)


def usual(field: FieldInfo) -> float | None:
    """Return the greatest value of a field's slider, if it is less than the field accepts."""
    return _noted(field)["usual"]


def group(field: FieldInfo) -> str:
    """Return the collapsible section of the page that has a field; "" for a field that is always visible."""
    return _noted(field)["group"]


def live(recipe: type[Recipe]) -> list[str]:
    """Return the names of the fields that may change during a run."""
    return [name for name, field in recipe.model_fields.items() if _noted(field)["live"]]


def _noted(field: FieldInfo) -> dict[str, Any]:
    """Return the `step`, `usual`, `group` and `live` that `param` stored in a field."""
    assert isinstance(field.json_schema_extra, dict)
    return field.json_schema_extra


def _check_names(recipe: type[Recipe], fields: Collection[Any]) -> None:
    """Raise FieldError for the first name that is not a field of the recipe. No value is parsed before."""
    for name in fields:
        if name not in recipe.model_fields:
            raise FieldError(unknown_name(recipe, name))


def unknown_name(recipe: type[Recipe], name: Any) -> str:
    """Return the message for a name that is no field of a recipe."""
    return f"{recipe.title} has no parameter '{short(name)}'; {nearest(name, list(recipe.model_fields))}"


@contextmanager
def _field_errors(recipe: type[Recipe]) -> Iterator[None]:
    """Convert pydantic's ValidationError to FieldError."""
    try:
        yield
    except ValidationError as error:
        raise FieldError(_sentence(recipe, error)) from None


def _sentence(recipe: type[Recipe], error: ValidationError) -> str:
    """Return the first error of pydantic as one sentence, with the value and the accepted values."""
    first = error.errors(include_url=False)[0]
    value = first["input"]
    if first["type"] == "value_error":  # Raised by a validator of the recipe: the message is complete.
        return str(first["ctx"]["error"])
    if not first["loc"]:
        return f"{_shown(value)} is no {recipe.title}; expected an object of its fields."
    name = str(first["loc"][0])
    field = recipe.model_fields.get(name)
    if field is None:  # From JSON: `_check_names` has not seen the names.
        return unknown_name(recipe, name)
    if first["type"] == "string_too_long":
        return f"{name} has {len(value)} characters; expected at most {longest(field)}."
    if choices(field):
        return f"There is no {name} '{short(value)}'; {nearest(value, choices(field))}"
    low, high = bounds(field)
    kind = KINDS.get(field.annotation, "text")
    span = "" if low is None else f" of at least {low:.10g}" if high is None else f" from {low:.10g} to {high:.10g}"
    return f"{name} is {_shown(value)}; expected {kind}{span}."


def _shown(value: object) -> str:
    """Return a value of any type and size as short text for a message; strings are quoted."""
    return short(repr(value[:100]) if isinstance(value, str) else value)
