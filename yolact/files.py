"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from yolact.errors import UserError


@contextmanager
def telling(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn what the system says against writing a file into a UserError that names it."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror or error})") from error


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A file open to be written: a neighbour of `path`, which takes its name when all is written, else goes.

    Raises:
        UserError: It cannot be written.
    """
    path = Path(path)
    with telling(path):
        if path.exists() and not path.is_file():  # a pipe, a terminal: nothing to replace
            with open(path, "wb") as file:
                yield file
            return
        with replacing_by_name(path) as part, open(part, "wb") as file:
            yield file


@contextmanager
def replacing_by_name(path: str | os.PathLike[str], suffix: str = "") -> Iterator[Path]:
    """The same for what opens files itself: the neighbour's name, which ends in `suffix`."""
    with telling(path):
        target = Path(os.path.realpath(path))  # replace what a link points to, not the link
        part = target.with_name(f".{secrets.token_hex(8)}.part{suffix}")
        os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))  # a name of nobody else's
        try:
            yield part
            if target.exists():
                part.chmod(stat.S_IMODE(target.stat().st_mode))
            os.replace(part, target)
        finally:
            part.unlink(missing_ok=True)


@contextmanager
def writing_list(path: str | os.PathLike[str]) -> Iterator[Callable[[bytes], None]]:
    """A JSON list written as its elements come, a line a call: one element, or several with commas between."""
    before = b"[\n"
    with replacing(path) as file:

        def add(elements: bytes) -> None:
            nonlocal before
            with telling(path):  # here: between this call and `replacing` other files may be open
                file.write(before + elements)
            before = b",\n"

        yield add
        file.write(b"[]\n" if before == b"[\n" else b"\n]\n")
