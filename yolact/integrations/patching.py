"""Puts functions into an installed library, and back: all or none, nested in any order."""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from types import TracebackType
from typing import Any

from yolact.errors import UserError


@dataclass(frozen=True)
class Patch:
    """A function of a module or class, and what takes its place."""

    owner: Any
    name: str
    replacement: Any

    @property
    def current(self) -> Any:
        return vars(self.owner)[self.name]


@dataclass
class _Active:
    """What was replaced where, and by how many accelerations that are not restored yet."""

    patch: Patch
    original: Any
    uses: int = 0


_LOCK = threading.RLock()
_ACTIVE: dict[tuple[int, str], _Active] = {}  # by owner's identity and name


class Acceleration:
    """An installed library with functions of ours in it, until `restore()` or the end of a `with`."""

    def __init__(self, patches: Sequence[Patch]) -> None:
        self._keys = [(id(patch.owner), patch.name) for patch in patches]
        self._restored = False
        with _LOCK:
            originals = [patch.current for patch in patches]  # a KeyError before anything has changed
            for key, patch, original in zip(self._keys, patches, originals, strict=True):
                if key not in _ACTIVE:
                    _ACTIVE[key] = _Active(patch, original)
                    _rebind(patch, original, patch.replacement)
                _ACTIVE[key].uses += 1

    def restore(self) -> None:
        """Put the library's own functions back, unless another acceleration still wants ours; again does nothing."""
        with _LOCK:
            if self._restored:
                return
            self._restored = True
            for key in self._keys:
                active = _ACTIVE[key]
                active.uses -= 1
                if not active.uses:
                    del _ACTIVE[key]
                    _rebind(active.patch, active.patch.replacement, active.original)

    def __enter__(self) -> Acceleration:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.restore()


def original_of(owner: Any, name: str) -> Any:
    """The library's own function, whether or not ours is in its place."""
    active = _ACTIVE.get((id(owner), name))
    return vars(owner)[name] if active is None else active.original


def _rebind(patch: Patch, old: Any, new: Any) -> None:
    """Put `new` where `old` is: in its owner, and in the modules of the library that imported it from there.

    What somebody else has put there stays.
    """
    if vars(patch.owner)[patch.name] is old:
        setattr(patch.owner, patch.name, new)
    if not isinstance(patch.owner, type):
        package = patch.owner.__name__.partition(".")[0]
        for module_name, module in list(sys.modules.items()):
            if module is not None and module_name.partition(".")[0] == package:
                for name, value in list(vars(module).items()):  # other threads may import meanwhile
                    if value is old:
                        setattr(module, name, new)


def find_module(name: str) -> Any:
    """Import a module of an installed library.

    Raises:
        UserError: it is not there, or fails to import.
    """
    library = name.partition(".")[0]
    try:
        return importlib.import_module(name)
    except Exception as error:  # a broken installation may raise anything
        raise UserError(f"{library} cannot be accelerated: {name} does not import ({error})") from error


def version_of(distribution: str) -> str:
    """The version that is installed, or a word that none is known."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "of unknown version"
