"""What a file tells of itself, and where it may be written."""

from __future__ import annotations

import importlib.util
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from yolact import __version__
from yolact.config import Config
from yolact.errors import UserError
from yolact.options import DetectOptions
from yolact.pictures import make_folder


def metadata(config: Config, options: DetectOptions | None) -> dict[str, str]:
    """All that a file's user needs but its tensors: JSON values by name."""
    how = config.preprocessing
    told: dict[str, Any] = {
        "yolact_version": __version__,
        "config": config.name,
        "class_names": config.class_names,
        "category_ids": config.category_ids,
        "input_size": config.size,
        "mean": how.mean,
        "std": how.std,
        "resize": how.resize,
    }
    if options is not None:
        told["detect"] = options.kwargs()
    return {name: json.dumps(value) for name, value in told.items()}


def detect_options(config: Config, changes: dict[str, Any]) -> DetectOptions:
    """The configuration's options of `detect`, with what the caller wants otherwise.

    Raises:
        TypeError: there is no such option.
    """
    return replace(config.detect, **{name: _plain(value) for name, value in changes.items()})


def _plain(value: Any) -> Any:
    """NumPy's numbers as Python's, which are written into files as text, and sequences as tuples of them."""
    if isinstance(value, (np.generic, np.ndarray)):
        value = value.tolist()
    return tuple(map(_plain, value)) if isinstance(value, (list, tuple)) else value


def check_target(path: str | os.PathLike[str]) -> Path:
    """The file to write, told before the work that it cannot be."""
    path = Path(path)
    make_folder(path.parent)
    if path.is_dir():
        raise UserError(f"{path}: is a folder")
    return path


def need_packages(*names: str) -> None:
    """Raise a UserError that names what is not installed."""
    if missing := [name for name in names if importlib.util.find_spec(name) is None]:
        raise UserError(f"not installed: {', '.join(missing)} (pip install 'yolact[export]')")
