"""Weights in files: the original's, mmdetection's and ours are told apart by their keys."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from yolact.classes import COCO_CATEGORY_IDS, COCO_CLASSES
from yolact.config import CONFIGS, Backbone, Config, get_config
from yolact.errors import UserError
from yolact.files import replacing
from yolact.models.keymaps import BBOX_LAYER, CONF_LAYER, MASK_IOU_LAYER, from_mmdetection, from_original
from yolact.models.weight_files import read_file
from yolact.models.yolact import Yolact

Family = Literal["yolact", "mmdet", "ours"]  # "yolact" is the original
Classes = tuple[tuple[str, ...], tuple[int, ...]]  # their names and category ids

_FORMAT = "yolact checkpoint 1"
_CLASS_DEPENDENT = (f"{CONF_LAYER}.", "semantic_seg_conv.", f"{MASK_IOU_LAYER}.")


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """What a file of weights holds, under our names."""

    path: Path
    family: Family
    state: dict[str, Tensor]
    backbone: str
    num_classes: int  # foreground classes
    classes: Classes | None = None  # None: the file does not say
    config: Config | None = None  # ours only
    training: dict[str, Any] | None = None  # ours only: what the trainer needs to resume


def read_tensors(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """The tensors of a file of weights under its own names, whatever network they are of; nothing is executed.

    Raises:
        UserError: the file is missing, unreadable, truncated, holds no tensors, or is a pickle that would run code.
    """
    return _tensors(Path(path), read_file(Path(path)))


def holds_model(tensors: Mapping[str, Tensor]) -> bool:
    """Whether tensors are a whole model's, of any of the three families, and not a backbone's alone."""
    return any(name.startswith(("prediction_layers.", "bbox_head.")) for name in tensors)


def read_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Read a file of weights of any of the three families; nothing in it is ever executed.

    Raises:
        UserError: the file is missing, unreadable, truncated, no checkpoint, or a pickle that would run code.
    """
    path = Path(path)
    content = read_file(path)
    state = _tensors(path, content)
    family: Family = "yolact"
    if "format" in content:
        if content["format"] != _FORMAT:
            raise UserError(f"{path}: of format {content['format']!r}; this version reads {_FORMAT!r}")
        family = "ours"
    elif "bbox_head.conv_cls.weight" in state:
        family = "mmdet"
    try:
        state = from_mmdetection(state) if family == "mmdet" else from_original(state)
        anchors = state[f"{BBOX_LAYER}.weight"].shape[0] // 4
        num_classes = state[f"{CONF_LAYER}.weight"].shape[0] // anchors - 1
    except (KeyError, RuntimeError, ZeroDivisionError, IndexError):
        raise UserError(f"{path}: holds no YOLACT model; its tensors are {some(list(state))}") from None

    if family == "ours":
        try:
            config = Config.from_dict(content["config"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UserError(f"{path}: its configuration does not read ({error})") from None
        classes: Classes | None = (config.class_names, config.category_ids)
        return Checkpoint(path, family, state, config.backbone, num_classes, classes, config, content.get("training"))
    classes = _mmdetection_classes(content, num_classes) if family == "mmdet" else None
    return Checkpoint(path, family, state, _backbone(path, state), num_classes, classes)


def choose_config(checkpoint: Checkpoint, name: str | None = None, num_classes: int | None = None) -> Config:
    """The configuration to load a checkpoint into.

    Ours carry it. Of the others the keys tell the family, the backbone, whether it is YOLACT++ and the number of
    classes; where several configurations share those (yolact_base, yolact_im400, yolact_im700), one that the file's
    name starts with is taken, as the original does, else the first.

    Args:
        name: takes this one instead.
        num_classes: for this many classes instead of the file's.

    Raises:
        UserError: there is no configuration of that name, or it is for another number of classes and neither the
            file nor `num_classes` says that this is meant.
    """
    wanted = num_classes if num_classes is not None else checkpoint.num_classes
    if name is not None:
        config = get_config(name)
        if num_classes is None and checkpoint.classes is None and config.num_classes != wanted:
            raise UserError(
                f"{checkpoint.path}: holds {wanted} classes, but configuration {config.name} has {config.num_classes}; "
                "pass num_classes to mean that"
            )
    else:
        config = checkpoint.config or _guess(checkpoint)
    if checkpoint.classes is not None and checkpoint.num_classes == wanted:
        return config.with_classes(*checkpoint.classes)
    return config.with_num_classes(wanted)


def load_into(model: Yolact, checkpoint: Checkpoint) -> list[str]:
    """Copy a checkpoint's tensors into a model.

    Returns:
        The names of the tensors that were left as they were: those that depend on the number of classes, where the
        model and the file differ in it; else none.

    Raises:
        UserError: anything else does not fit; says what.
    """
    expected = model.state_dict()
    state = checkpoint.state
    # Files of torch before 0.4.1 do not count batches.
    missing = [n for n in expected if n not in state and not n.endswith(".num_batches_tracked")]
    unexpected = [n for n in state if n not in expected]
    left: list[str] = []
    misshapen: list[str] = []
    for name in expected:
        if name in state and state[name].shape != expected[name].shape:
            class_dependent = name.startswith(_CLASS_DEPENDENT) and model.config.num_classes != checkpoint.num_classes
            (left if class_dependent else misshapen).append(name)
    if missing or unexpected or misshapen:
        faults = []
        if missing:
            faults.append(f"missing {some([f'{n} {list(expected[n].shape)}' for n in missing])}")
        if unexpected:
            faults.append(f"unexpected {some([f'{n} {list(state[n].shape)}' for n in unexpected])}")
        if misshapen:
            shapes = [f"{n} {list(state[n].shape)} for {list(expected[n].shape)}" for n in misshapen]
            faults.append(f"of another shape {some(shapes)}")
        raise UserError(f"{checkpoint.path}: does not fit {model.config.name}: {'; '.join(faults)}")
    spoilt = [n for n in expected if n in state and not state[n].isfinite().all()]
    if spoilt:
        raise UserError(f"{checkpoint.path}: holds NaN or infinite values in {some(spoilt)}")
    model.load_state_dict({n: t for n, t in state.items() if n not in left}, strict=False)
    return left


def save_checkpoint(
    path: str | os.PathLike[str],
    model: Yolact,
    *,
    half: bool = False,
    training: dict[str, Any] | None = None,
) -> None:
    """Write a model, its configuration and classes, whole or not at all.

    Args:
        half: store the convolutions' weights as float16; biases and batch norm stay float32, they weigh little.
        training: what the trainer needs to resume: nested dicts and lists of tensors, numbers and strings.

    Raises:
        UserError: the file cannot be written.
    """
    state = {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}
    if half:
        state = {n: t.half() if t.is_floating_point() and t.ndim > 1 else t for n, t in state.items()}
    content = {"format": _FORMAT, "config": model.config.to_dict(), "state_dict": state, "training": training}
    with replacing(path) as file:
        try:
            torch.save(content, file)
        except RuntimeError as error:
            if isinstance(error.__context__, OSError):  # torch's writer hides the file's own error behind another
                raise error.__context__ from None
            raise
        file.flush()
        os.fsync(file.fileno())  # the name must never point at bytes that a power cut can lose


def _tensors(path: Path, content: Mapping[str, Any]) -> dict[str, Tensor]:
    state = content.get("state_dict", content.get("model", content))  # "model" is what torchvision's scripts write
    if not isinstance(state, Mapping):
        raise UserError(f"{path}: its state_dict is of type {type(state).__name__}, not a dict of tensors")
    tensors = {str(name): value for name, value in state.items() if isinstance(value, Tensor)}
    if not tensors:
        raise UserError(f"{path}: holds no tensors")
    odd = [n for n, t in tensors.items() if t.layout != torch.strided or t.is_meta]
    if odd:
        raise UserError(f"{path}: holds sparse tensors, or such without values: {some(odd)}")
    wrapped = re.compile(r"^(module\.|_orig_mod\.)+")  # by DataParallel, torch.compile
    if all(map(wrapped.match, tensors)):
        tensors = {wrapped.sub("", name): tensor for name, tensor in tensors.items()}
    return tensors


def _backbone(path: Path, state: Mapping[str, Tensor]) -> str:
    signs: tuple[tuple[str, Backbone], ...] = (  # a block that only this backbone has, the deeper first
        ("backbone.layers.2.35.conv1.weight", "resnet152"),
        ("backbone.layers.2.22.conv1.weight", "resnet101"),
        ("backbone.layers.2.5.conv1.weight", "resnet50"),
        ("backbone._preconv.0.weight", "darknet53"),
        ("backbone._conv_stem.weight", "efficientnet_lite0"),
        ("backbone.features.17.conv.2.weight", "mobilenet_v2"),
    )
    for name, backbone in signs:
        if name in state:
            return backbone
    raise UserError(f"{path}: its backbone is none of those known here ({', '.join(b for _, b in signs)})")


def _mmdetection_classes(content: Mapping[str, Any], num_classes: int) -> Classes | None:
    meta = content.get("meta")
    if not isinstance(meta, Mapping):
        return None
    data_set = meta.get("dataset_meta")  # 3.x; 2.x has the names in meta itself
    names = data_set.get("classes") if isinstance(data_set, Mapping) else meta.get("CLASSES")
    if not isinstance(names, (list, tuple)) or len(names) != num_classes or not all(isinstance(n, str) for n in names):
        return None
    return tuple(names), COCO_CATEGORY_IDS if tuple(names) == COCO_CLASSES else tuple(range(1, num_classes + 1))


def _guess(checkpoint: Checkpoint) -> Config:
    p6_from = "C5" if checkpoint.family == "mmdet" else "P5"
    deformable = any(".conv_offset_mask." in name for name in checkpoint.state)
    rescoring = any(name.startswith("maskiou_net.") for name in checkpoint.state)
    wanted = checkpoint.backbone, p6_from, deformable, rescoring
    fitting = [
        config
        for config in CONFIGS.values()
        if (config.backbone, config.fpn.p6_from, config.deformable is not None, config.mask_rescoring) == wanted
    ]
    if not fitting:
        parts = [name for name, has in (("deformable convolutions", deformable), ("mask re-scoring", rescoring)) if has]
        network = " with ".join(filter(None, (checkpoint.backbone, " and ".join(parts))))
        raise UserError(f"{checkpoint.path}: no configuration has {network} in {checkpoint.family}'s topology")
    stem = checkpoint.path.stem
    return max(
        fitting,
        key=lambda c: (c.num_classes == checkpoint.num_classes, len(c.name) if stem.startswith(c.name) else 0),
    )


def some(items: Sequence[str], most: int = 3) -> str:
    """How many names, and the first few of them."""
    shown = ", ".join(items[:most])
    return f"{len(items)} ({shown}{', ...' if len(items) > most else ''})"
