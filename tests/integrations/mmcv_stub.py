"""Lets mmdet import with mmcv-lite, which lacks `mmcv.ops`, the compiled operators: YOLACT uses none of them.

Every module below it is found, and every name in one is a class without anything, so that nothing is computed by a
stand-in.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType


class _Ops(ModuleType):
    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


class _Finder(MetaPathFinder, Loader):
    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name != "mmcv.ops" and not name.startswith("mmcv.ops."):
            return None
        return ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _Ops(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        return None


def install() -> None:
    """From now on, `mmcv.ops` imports."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())  # mmcv-lite has the folder, without what it loads
