"""Values of a JSON record, checked."""

from __future__ import annotations

from typing import Any, TypeVar

from yolact.errors import UserError

T = TypeVar("T")


class NotValid(UserError):
    """A value that is not as the format wants it."""


def field(record: Any, key: str, kind: type[T]) -> T:
    """The value of a key.

    Raises:
        NotValid: the record is none, or its value is of another type.
    """
    value = record.get(key) if isinstance(record, dict) else None
    if not isinstance(value, kind) or isinstance(value, bool):
        raise NotValid(f"{key} is {brief(value)}, wanted {kind.__name__}")
    return value


def integer(record: Any, key: str) -> int:
    """The value of a key that holds an integer of 64 bits."""
    value = field(record, key, int)
    if not -(2**63) <= value < 2**63:
        raise NotValid(f"{key} is {brief(value)}, wanted an integer of 64 bits")
    return value


def string(record: Any, key: str) -> str:
    """The value of a key that holds text."""
    value = field(record, key, str)
    try:
        value.encode()
    except UnicodeEncodeError:  # half a character, which JSON can escape and no library takes
        raise NotValid(f"{key} is {brief(value)}, which is no Unicode text") from None
    return value


def brief(value: Any) -> str:
    """A value as a message shows it, cut where it is long."""
    try:
        text = repr(value)
    except ValueError:  # an integer of more digits than Python prints
        return "a huge integer"
    return text if len(text) <= 60 else f"{text[:57]}..."


def reason(error: Exception) -> str:
    """What went wrong, as one short line."""
    text = f"it has no {error}" if isinstance(error, KeyError) else " ".join(str(error).split())
    return text if len(text) <= 120 else f"{text[:117]}..."


def printable(text: str) -> str:
    """Text fit for one line of a terminal: quoted and escaped where it holds what cannot be printed."""
    return text if text.isprintable() else repr(text)
