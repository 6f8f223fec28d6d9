"""Models by the names of their weights or of their configurations."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import torch

from yolact.config import get_config
from yolact.devices import find_device
from yolact.errors import UserError
from yolact.models.backbones import with_backbone
from yolact.models.checkpoint import choose_config, load_into, read_checkpoint
from yolact.predictor import Model

BUNDLED = Path(__file__).resolve().parent / "weights"


def load(
    path_or_name: str | os.PathLike[str],
    device: str | torch.device | None = None,
    config: str | None = None,
    *,
    freeze_batch_norm: bool = False,
    num_classes: int | None = None,
) -> Model:
    """A model with trained weights, ready to predict.

    Args:
        path_or_name: a file of the original's, of mmdetection's or of ours, told apart by its keys; or the name of a
            bundled model, "yolact_lite0_dogcat".
        device: "cpu", "cuda", "cuda:1" or "auto", a GPU where there is one; None is the CPU.
        config: the configuration's name, where the keys cannot tell it.
        freeze_batch_norm: batch norm keeps its statistics and parameters, even when training.
        num_classes: another number of classes than the file's: all else is taken over, a warning lists what was left.

    Raises:
        UserError: the file is no checkpoint or does not fit, the configuration is unknown, or the device is not there.
    """
    place = find_device(device)
    checkpoint = read_checkpoint(_find_weights(path_or_name))
    model = Model(choose_config(checkpoint, config, num_classes), freeze_batch_norm=freeze_batch_norm)
    left = load_into(model, checkpoint)
    if left:
        warnings.warn(
            f"{checkpoint.path}: of another number of classes, so not taken over: {', '.join(left)}", stacklevel=2
        )
    return model.to(place).eval()


def create(
    config: str,
    num_classes: int | None = None,
    *,
    backbone: str | None = None,
    device: str | torch.device | None = None,
    freeze_batch_norm: bool = False,
) -> Model:
    """A model of a named configuration with random weights, ready to train; `load` describes the other arguments.

    Args:
        backbone: in place of the configuration's: another's, or "timm/" and a network of timm's.

    Raises:
        UserError: the configuration or the backbone is unknown, or the device is not there.
    """
    place = find_device(device)
    chosen = with_backbone(get_config(config), backbone).with_num_classes(num_classes)
    return Model(chosen, freeze_batch_norm=freeze_batch_norm).to(place)


def _find_weights(path_or_name: str | os.PathLike[str]) -> Path:
    path = Path(path_or_name)
    if os.path.exists(path) or path.suffix or path.name != str(path_or_name):
        return path
    bundled = {file.stem: file for file in BUNDLED.glob("*.pth")}
    if path.name not in bundled:
        raise UserError(f"{path}: no such file, nor a bundled model ({', '.join(bundled) or 'none is installed'})")
    return bundled[path.name]
