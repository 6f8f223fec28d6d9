"""Files that appear whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from yolact.errors import UserError


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A file open to be written: a neighbour of `path`, which takes its name when all is written, else goes.

    Raises:
        UserError: It cannot be written.
    """
    path = Path(path)
    try:
        if path.exists() and not path.is_file():  # a pipe, a terminal: nothing to replace
            with open(path, "wb") as file:
                yield file
            return
        target = Path(os.path.realpath(path))  # replace what a link points to, not the link
        part = target.with_name(f".{target.name}.{os.getpid()}.part")
        try:
            with open(part, "wb") as file:
                yield file
            os.replace(part, target)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror or error})") from error
