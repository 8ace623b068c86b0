"""A recipe is data: frozen fields, each with its meaning and range, and a `run` that yields frames.

Every surface (page, API, MCP, command line, README) is built from these fields and from nothing else.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Collection, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.fields import FieldInfo

from featviz.errors import FieldError, nearest, short
from featviz.networks.table import OneOf

if TYPE_CHECKING:
    from torch import Tensor

    from featviz.networks.network import Network


R = TypeVar("R", bound="Recipe")


def param(
    default: Any,
    meaning: str,
    *,
    ge: float | None = None,
    le: float | None = None,
    step: float | None = None,
    longest: int | None = None,
    group: str = "",
    live: bool = False,
) -> Any:
    """A recipe's field: its default, its one-sentence meaning, its range (`ge`, `le`), the step of its slider; for text, the
    most characters it accepts (`longest`).

    The range is written into the sentence, since MCP shows the sentence and not the range. Fields of a `group` are
    folded away together; those of none are what a beginner sees. A `live` field may change while a run goes on.
    """
    if ge is not None and le is not None:
        meaning += f" From {ge:.10g} to {le:.10g}."
    elif ge is not None:
        meaning += f" At least {ge:.10g}."
    extra: dict[str, Any] = {"step": step, "group": group, "live": live}
    return Field(default, description=meaning, ge=ge, le=le, max_length=longest, json_schema_extra=extra)


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
    is_video_frame: bool = False
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
    eigen: float = 0.0
    """Eigenvalues in all, in C³ for each matrix (C, C): a convolution's operations are many times as fast."""


@dataclass(frozen=True)
class Rule:
    """Fields and pictures that have no effect beside another one, or without it: name exactly one of the two.

    One table of these per recipe gives the errors of every surface and the controls that the page disables.
    """

    unused: tuple[str, ...]
    """Names of fields and of pictures."""
    reason: str
    """The second half of a sentence."""
    beside: str = ""
    """The field or picture in whose presence they have no effect. A field is present if it is not at its default."""
    without: str = ""
    """The picture in whose absence they have no effect."""
    refused: bool = True
    """Whether setting them is an error; else they merely tune what is absent, and are ignored."""

    def holds(self, given: Collection[str]) -> bool:
        """Whether the rule applies where the fields and pictures of these names are given."""
        return self.beside in given or bool(self.without and self.without not in given)

    def words(self, named: Callable[[str], str] = str) -> str:
        """When and why they have no effect, e.g. "beside class_name: a class is shown". `named`: how a name is written."""
        return f"{f'beside {named(self.beside)}' if self.beside else f'without {named(self.without)}'}: {self.reason}"

    def refusal(self, name: str) -> str:
        """Why `name` is refused."""
        return f"{name} has no effect {self.words()}; leave {name} out."


MAX_FEATHER = 256
"""Greatest softness of a mask's edge, in pixels."""

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
    tab_group: ClassVar[str]
    """The tab of the page that it is in; recipes of one group have tabs side by side there."""
    action: ClassVar[str]
    """The text of the button that starts a run."""
    explanation: ClassVar[str]
    """How it works, for people who have never heard of it, in Markdown."""
    images: ClassVar[dict[str, str]]
    """The pictures it needs: name → meaning, in order; none for a recipe that starts from noise."""
    extras: ClassVar[dict[str, str]] = {}
    """The pictures it can do without: name → meaning, in order."""
    sweep_fields: ClassVar[tuple[str, ...]] = ()
    """The fields in which `variants` differ, none where there is nothing to choose among."""
    sweep_action: ClassVar[str] = ""
    """The text of the button that shows the variants, where there are any."""
    sweep_caption: ClassVar[str] = ""
    """What the variants show, where there are any."""
    mask_action: ClassVar[str] = ""
    """The text of the button that opens the first picture for painting, where the recipe takes a mask."""
    measure_label: ClassVar[str] = ""
    """The measure of a variant, as a format of one number, e.g. "{:.1f} dB"; empty where none is shown."""
    measure_sentence: ClassVar[str] = ""
    """The measure of a result in a sentence, as a format of one number; empty where measures are shown as bars."""
    rules: ClassVar[tuple[Rule, ...]] = ()
    """What has no effect beside what; of two rules that hold for a name, the first one counts."""
    keeps_alpha: ClassVar[bool] = True
    """Whether the result is the first picture changed, which keeps its transparency."""
    opacity_roles: ClassVar[tuple[str, ...]] = ()
    """The pictures whose opacity `run` takes as well, so that transparent pixels enter no statistics."""
    produces: ClassVar[Literal["picture", "video", "numbers"]] = "picture"
    """A picture is the last frame's; a video is the frames with `is_video_frame`, and has a field `fps`; numbers are the last
    frame's measures."""

    def __init__(self, /, **fields: Any):
        _check_names(type(self), fields)
        with _field_errors(type(self)):
            super().__init__(**fields)

    @model_validator(mode="after")
    def _check_fields(self: R) -> R:
        self.check_unused(None)
        return self

    def replace(self: R, **changes: Any) -> R:
        """The recipe with other values for some fields, validated as on construction. Raises FieldError."""
        return type(self)(**{**dict(self), **changes})

    # Pydantic's other ways to make a recipe: they validate as the constructor does, and raise FieldError and nothing else.

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
        """Each field and picture that has no effect, and the rule by which it has none.

        `fields` are values by name, which need not be valid. `pictures` are the names of those that are given, None where
        that is not known: then no rule holds that depends on one.
        """
        given = cls._given(fields, pictures or ())
        rules = [rule for rule in cls.rules if pictures is not None or rule.beside in cls.model_fields]
        return {name: rule for rule in reversed(rules) if rule.holds(given) for name in rule.unused}

    @classmethod
    def refused(cls, fields: Mapping[str, Any], pictures: Collection[str] | None) -> dict[str, Rule]:
        """What is set and must not be, since it has no effect, and the rule. Arguments as for `unused`."""
        given = cls._given(fields, pictures or ())
        return {name: rule for name, rule in cls.unused(fields, pictures).items() if name in given and rule.refused}

    @classmethod
    def _given(cls, fields: Mapping[str, Any], pictures: Collection[str]) -> set[str]:
        """The names of all that is set: pictures, and fields that are not at their defaults."""
        return {
            *pictures,
            *(name for name, field in cls.model_fields.items() if fields.get(name, field.default) != field.default),
        }

    def check_unused(self, pictures: Collection[str] | None) -> None:
        """Raises FieldError for a field or picture that has no effect, where `pictures` of these names are given."""
        for name, rule in self.refused(dict(self), pictures).items():
            raise FieldError(rule.refusal(name))

    def check_network(self, network: Network) -> None:
        """Raises FieldError for what the recipe asks of its network and the network does not have. Needs no weights."""

    @property
    def network_name(self) -> str:
        """The network that `run` wants."""
        raise NotImplementedError

    @property
    def changed(self) -> dict[str, Any]:
        """What sets it apart: its fields that are not at their defaults."""
        return {name: value for name, value in self if value != type(self).model_fields[name].default}

    def needed(self, role: str) -> int | None:
        """The longest side in pixels at which `run` looks at a picture, None where it takes the picture as it is."""
        return getattr(self, "size", None)

    def variants(self) -> list[Recipe]:
        """Return small, quick versions of this run that differ in the fields of `sweep_fields`, to compare before a full run."""
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

        A recipe with `opacity_roles` also takes `opacity`, role → (1, 1, H, W) in [0, 1] on the same device, which has
        only the roles whose picture is transparent somewhere.

        Who drives it may send the recipe back with other values of its live fields; they hold from the next step on.
        """
        raise NotImplementedError


KINDS: dict[type | None, str] = {int: "a whole number", float: "a number", bool: "true or false"}
"""A field's type → what people are to type; text for any other."""


def parse_weights(text: str) -> dict[str, float]:
    """'relu3_3: 0.5, relu5_1' → {"relu3_3": 0.5, "relu5_1": 1.0}.

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
    """What sets a variant apart from the others, in few words: a layer without its network, `style_scale` as "scale"."""
    values = {name: getattr(variant, name) for name in variant.sweep_fields}
    return ", ".join(
        value.rpartition("/")[2] if isinstance(value, str) else f"{name.rpartition('_')[2]} {value:g}"
        for name, value in values.items()
    )


def bounds(field: FieldInfo) -> tuple[float | None, float | None]:
    """The least and the greatest value a field accepts, None where there is no limit."""
    low = next((limit.ge for limit in field.metadata if hasattr(limit, "ge")), None)
    high = next((limit.le for limit in field.metadata if hasattr(limit, "le")), None)
    return low, high


def longest(field: FieldInfo) -> int | None:
    """The most characters that a field of text accepts."""
    return next((limit.max_length for limit in field.metadata if hasattr(limit, "max_length")), None)


def choices(field: FieldInfo) -> tuple[str, ...]:
    """The names a field accepts by now, empty where it is not a choice."""
    if table := next((mark for mark in field.metadata if isinstance(mark, OneOf)), None):
        return tuple(table.names())
    return get_args(field.annotation) if get_origin(field.annotation) is Literal else ()


def increment(field: FieldInfo) -> float:
    """The step of a field's slider."""
    return _noted(field)["step"] or (1 if field.annotation is int else 0.01)


def largest_size(recipe: Recipe, possible: Callable[[Recipe], bool]) -> int | None:
    """The largest value of the field `size` with which a recipe is possible; None if none is, or the field has no range.

    `possible`: whatever is possible at a size is possible at every smaller one. `full_size` is switched off.
    """
    fields = type(recipe).model_fields
    low, high = bounds(fields["size"]) if "size" in fields else (None, None)
    if low is None or high is None:
        return None
    sizes = range(int(low), int(high) + 1, int(increment(fields["size"])))
    change = {"full_size": False} if "full_size" in fields else {}
    count = bisect_right(sizes, False, key=lambda size: not possible(recipe.replace(**change, size=size)))
    return sizes[count - 1] if count else None


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


def _check_names(recipe: type[Recipe], fields: Collection[Any]) -> None:
    """Raises FieldError for the first name that is no field of the recipe: before any value is parsed."""
    for name in fields:
        if name not in recipe.model_fields:
            raise FieldError(unknown_name(recipe, name))


def unknown_name(recipe: type[Recipe], name: Any) -> str:
    """Return the message for a name that is no field of a recipe."""
    return f"{recipe.title} has no parameter '{short(name)}'; {nearest(name, list(recipe.model_fields))}"


@contextmanager
def _field_errors(recipe: type[Recipe]) -> Iterator[None]:
    """Turn pydantic's errors into FieldError."""
    try:
        yield
    except ValidationError as error:
        raise FieldError(_sentence(recipe, error)) from None


def _sentence(recipe: type[Recipe], error: ValidationError) -> str:
    """The first complaint of pydantic, as one sentence with the value and what would be accepted."""
    first = error.errors(include_url=False)[0]
    value = first["input"]
    if first["type"] == "value_error":  # A validator of the recipe's own, which has said it all.
        return str(first["ctx"]["error"])
    if not first["loc"]:
        return f"{_shown(value)} is no {recipe.title}; expected an object of its fields."
    name = str(first["loc"][0])
    field = recipe.model_fields.get(name)
    if field is None:  # Out of JSON, whose names are read with its values.
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
    """A value of any type and size in a sentence; text in quotes."""
    return short(repr(value[:100]) if isinstance(value, str) else value)
