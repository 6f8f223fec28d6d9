"""The kinds of pictures that `predict` takes, as tensors."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from yolact.pictures import read_picture

Picture = str | os.PathLike[str] | np.ndarray | Tensor  # a file; [H, W, 3] uint8 RGB; a tensor alike, or [3, H, W]


def batches(pictures: Iterator[Picture], size: int, device: torch.device) -> Iterator[list[Tensor]]:
    """Pictures as `own` gives them, so many at a time, each taken only when its batch is."""
    while batch := [own(picture, device) for picture in islice(pictures, size)]:
        yield batch


def own(picture: Picture, device: torch.device) -> Tensor:  # [H, W, 3] uint8 RGB
    """Read a file, or copy an array or a tensor: what an `Instances` keeps is its own. What is on the device stays."""
    if isinstance(picture, (str, os.PathLike)):
        return torch.from_numpy(read_picture(picture))
    if not isinstance(picture, (np.ndarray, Tensor)):
        raise TypeError(f"pictures must be paths, [H, W, 3] uint8 arrays or tensors, got {type(picture).__name__}")
    if picture.dtype not in (np.uint8, torch.uint8):
        raise TypeError(f"pictures must be of dtype uint8, got {str(picture.dtype).removeprefix('torch.')}")
    shape = list(picture.shape)
    if isinstance(picture, Tensor):
        picture = picture.detach() if picture.device == device else picture.detach().cpu()
        if picture.ndim == 3 and shape[0] == 3 and shape[2] != 3:
            picture = picture.permute(1, 2, 0)
    if picture.ndim != 3 or picture.shape[2] != 3 or 0 in shape:
        raise ValueError(f"pictures must be of shape [H, W, 3] (tensors also [3, H, W]), got {shape}")
    if isinstance(picture, Tensor):
        return picture.clone(memory_format=torch.contiguous_format)
    return torch.from_numpy(np.array(picture, order="C"))
