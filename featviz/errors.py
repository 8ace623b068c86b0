"""All errors that featviz raises on purpose.

    FeatvizError
    ├── InputError          an argument that cannot be used; the message says what is accepted
    │   ├── ImageError      an image that cannot be used
    │   └── FieldError      a field or a name outside the accepted values
    ├── WeightsError        weights that cannot be downloaded or read
    ├── MissingExtraError   an optional package that is not installed; the message has the command that installs it
    ├── DivergedError       a run whose values became NaN or infinite
    ├── LimitError          a limit of the server is reached; the message states the limit
    └── JobError            a run, or its result, that the server does not have any more

Every message is one sentence for users: the value, the accepted values, the nearest match.
"""

from difflib import get_close_matches
from reprlib import Repr


class FeatvizError(Exception):
    """The base class of all errors that featviz raises on purpose."""


class InputError(FeatvizError, ValueError):
    """An argument cannot be used."""


class ImageError(InputError):
    """An image cannot be used: it is not an image, too large or too small."""


class FieldError(InputError):
    """A field of a recipe, or a name in it, is unknown or outside the accepted values."""


class WeightsError(FeatvizError):
    """The weights of a network cannot be downloaded or read, or are not those expected."""


class MissingExtraError(FeatvizError, ImportError):
    """An optional package is not installed."""


class DivergedError(FeatvizError):
    """A run has produced NaN or infinity and cannot continue."""


class LimitError(FeatvizError):
    """A limit of the server is reached."""


class JobError(FeatvizError):
    """The server does not have this run, or its result, any more."""


class _BoundedRepr(Repr):
    """`repr` of a value of any size and depth, at bounded cost."""

    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxlong = self.maxother = 200

    def repr_int(self, value: int, level: int) -> str:
        # Python does not convert integers of more than 4300 digits to text.
        return super().repr_int(value, level) if value.bit_length() < 10_000 else f"a number of {value.bit_length()} bits"


def short(value: object, longest: int = 60) -> str:
    """Return a value as text for a message: at most `longest` characters and an ellipsis, and valid UTF-8."""
    text = value[: longest + 1] if isinstance(value, str) else _BoundedRepr().repr(value)
    text = text.encode("utf-8", "replace").decode()
    return text if len(text) <= longest else f"{text[:longest]}…"


def nearest(value: object, accepted: list[str] | tuple[str, ...]) -> str:
    """Return a hint for a misspelt name: the closest accepted one, or the first six if none is close."""
    close = get_close_matches(short(value), accepted, n=1, cutoff=0.5)
    if close:
        return f"did you mean '{close[0]}'?"
    shown = ", ".join(f"'{name}'" for name in accepted[:6])
    return f"accepted: {shown}{' …' if len(accepted) > 6 else ''}"


def reason(error: BaseException) -> str:
    """Return the message of an error from other code as a part of a sentence; the name of its class if it has none."""
    return short(" ".join(str(error).split()).rstrip(".") or type(error).__name__, longest=160)
