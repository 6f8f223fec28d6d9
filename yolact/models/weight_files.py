"""Files of tensors, read without executing anything that they hold."""

from __future__ import annotations

import os
import pickle
import re
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from yolact.errors import UserError

# What trainers write beside the weights: mmdetection 3 the buffers of its log, whose methods pickle as calls of
# getattr, and many a one NumPy's numbers.
_BESIDE = re.compile(r"(mmengine|mmdet|numpy)\..+|builtins\.getattr")
_LOCK = threading.Lock()  # torch keeps what may be read for the whole process


def read_file(path: Path) -> dict[str, Any]:
    """What a file of weights holds: tensors and plain values; what else trainers write beside them is left out.

    Raises:
        UserError: the file is missing, unreadable, truncated, holds no dict, or is a pickle that would run code.
    """
    if not os.path.isfile(path):  # Path.is_file raises where a folder on the way may not be entered
        raise UserError(f"{path}: {'not a file' if os.path.exists(path) else 'no such file'}")
    try:
        content = _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickle(path)
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
    except pickle.UnpicklingError as error:
        forbidden = re.search(r"GLOBAL (\S+)", str(error))
        if forbidden is None:
            raise UserError(f"{path}: not a checkpoint, or a truncated one") from error
        raise UserError(
            f"{path}: refused, for it is a pickle that calls for {forbidden[1]}; only tensors and plain values are read"
        ) from error
    except Exception as error:  # whatever torch's readers raise on bytes that are not theirs
        raise UserError(f"{path}: not a checkpoint, or a truncated one") from error
    if not isinstance(content, Mapping):
        raise UserError(f"{path}: holds an object of type {type(content).__name__}, not a dict of tensors")
    return dict(content)


class _Inert:
    """Stands for an object that is not read: made of whatever a pickle gives it, and keeps none of it."""

    def __new__(cls, *given: object) -> _Inert:
        return super().__new__(cls)

    def __setstate__(self, state: object) -> None:
        pass


def _read_pickle(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        with _LOCK:  # before the names are asked for: those that another thread allows at the time are not told
            try:
                names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
            except (ValueError, EOFError, pickle.UnpicklingError):  # the format of torch before 1.6, or damaged
                raise error from None
            # The names are looked up here and nowhere else: whatever they mean elsewhere, this class alone is called.
            inert: list[Any] = [(_Inert, name) for name in names if _BESIDE.fullmatch(name)]
            with torch.serialization.safe_globals(inert):
                return torch.load(path, map_location="cpu", weights_only=True)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        from safetensors.torch import load_file
    except ImportError:
        raise UserError(f"{path}: reading it needs safetensors: pip install safetensors") from None
    return load_file(path)
