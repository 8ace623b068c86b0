"""The errors a user of featviz can meet, and only those.

    FeatvizError
    ├── InputError          something that was handed in; the message says what would be accepted
    │   ├── ImageError      a picture that cannot be used
    │   └── FieldError      a recipe's field outside what it accepts
    ├── WeightsError        a network's weights that cannot be had
    ├── MissingExtraError   an optional package that is not installed; the message has the command that installs it
    ├── DivergedError       a run that met NaN or infinity
    └── LimitError          what a server grants is used up; the message says how much that is

Every message is one sentence for the person who reads it: the value, what would be accepted, the nearest match.
"""

from difflib import get_close_matches
from reprlib import Repr


class FeatvizError(Exception):
    """The root: catch this to catch everything featviz raises on purpose."""


class InputError(FeatvizError, ValueError):
    """Something that was handed in cannot be used."""


class ImageError(InputError):
    """A picture cannot be used: not a picture, too large, too small."""


class FieldError(InputError):
    """A field of a recipe is unknown or outside what it accepts."""


class WeightsError(FeatvizError):
    """The weights of a network cannot be had, or are not the ones expected."""


class MissingExtraError(FeatvizError, ImportError):
    """An optional package is not installed."""


class DivergedError(FeatvizError):
    """A run met NaN or infinity and cannot go on."""


class LimitError(FeatvizError):
    """What a server grants is used up."""


class _Brief(Repr):
    """`repr` of a value of any size and depth, at a bounded cost."""

    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxlong = self.maxother = 200

    def repr_int(self, value: int, level: int) -> str:
        # Python refuses to write integers of more than 4300 digits.
        return super().repr_int(value, level) if value.bit_length() < 10_000 else f"a number of {value.bit_length()} bits"


def short(value: object, longest: int = 60) -> str:
    """A value as a sentence can hold it, whoever sent it: not too long, and text that can be written."""
    text = value[: longest + 1] if isinstance(value, str) else _Brief().repr(value)
    text = text.encode("utf-8", "replace").decode()
    return text if len(text) <= longest else f"{text[:longest]}…"


def nearest(value: object, accepted: list[str] | tuple[str, ...]) -> str:
    """A hint for a misspelt name: the closest of the accepted ones, or all of them where they are few."""
    close = get_close_matches(short(value), accepted, n=1, cutoff=0.5)
    if close:
        return f"did you mean '{close[0]}'?"
    shown = ", ".join(f"'{name}'" for name in accepted[:6])
    return f"accepted: {shown}{' …' if len(accepted) > 6 else ''}"
