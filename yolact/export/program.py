"""A model as a torch.export program or an AOTInductor package: the whole way from pictures, with our operators."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from yolact.errors import UserError
from yolact.export.check import Checked, compare_detections, made_up_pictures
from yolact.export.description import check_target, detect_options, metadata
from yolact.export.modules import MASKS, Masks, Pictures
from yolact.files import replacing, replacing_by_name
from yolact.ops._checks import check_choice, check_count
from yolact.predictor import Model


def export_program(
    model: Model,
    path: str | os.PathLike[str],
    *,
    masks: Masks = "run-lengths",
    capacity: int | None = None,
    check: bool = True,
    **options: Any,
) -> Checked | None:
    """Write a program for `torch.export.load`: uint8 pictures in, detections and masks out.

    It takes pictures [B, H, W, 3] uint8 RGB of any B, H and W on the model's device, and gives a dictionary of tensors:
    boxes [B, D, 4] float32 xyxy in pixels of the picture, label [B, D] int64 (-1 past the count), score [B, D], count
    [B] int64, and with masks "run-lengths" run_lengths [B * D, capacity] uint8, length and needed [B * D] int64, the
    fields of `RunLengths`; with "dense" masks [B, D, H, W] bool. Whoever runs it imports `yolact.ops`, or loads _C.so.

    Args:
        model: its weights are read now. Batch norm is folded.
        path: the file, which should end in .pt2.
        masks: "run-lengths", "dense" or "none".
        capacity: bytes of a mask's string, 4096 by default; a mask that needs more has none, and `needed` tells.
        check: whether the file, read again, runs beside the model.
        options: of `ops.detect` other than the configuration's.

    Returns:
        How far the file's results are from the model's; None where nothing was checked.

    Raises:
        UserError: the file cannot be written, or what it computes differs from the model.
        TypeError, ValueError: an option is unknown or out of range.
    """
    target = check_target(path)
    whole = _module(model, masks, capacity, options)
    program = _program(whole, model.priors.device)
    file = io.BytesIO()
    with _silence():
        torch.export.save(program, file, extra_files=metadata(model.config, whole.options))
    checked = None
    if check:
        file.seek(0)
        with _silence():
            loaded = torch.export.load(file).module()
        checked = _check(f"torch.export of {torch.__version__}", loaded, whole, model.priors.device)
    with replacing(target) as out:
        out.write(file.getbuffer())
    return checked


def export_package(
    model: Model,
    path: str | os.PathLike[str],
    *,
    masks: Masks = "run-lengths",
    capacity: int | None = None,
    check: bool = True,
    **options: Any,
) -> Checked | None:
    """Compile the same into an AOTInductor package, for this kind of machine: it runs from C++, without Python.

    `torch._inductor.aoti_load_package` reads it, and in C++ `AOTIModelPackageLoader`, whose outputs are the
    dictionary's values in its order. It needs the torch that compiled it, a C++ compiler now, and nvcc's parts of torch
    for a GPU. `export_program` describes arguments, results and errors; a missing compiler is a UserError, too.
    """
    target = check_target(path)
    whole = _module(model, masks, capacity, options)
    _need_compiler()
    program = _program(whole, model.priors.device)
    config = {"aot_inductor.metadata": metadata(model.config, whole.options)}
    with replacing_by_name(target, suffix=".pt2") as part:
        with torch.no_grad(), _silence():
            torch._inductor.aoti_compile_and_package(program, package_path=str(part), inductor_configs=config)
        if not check:
            return None
        loaded = torch._inductor.aoti_load_package(str(part))
        return _check(f"AOTInductor of {torch.__version__}", loaded, whole, model.priors.device)


def _module(model: Model, masks: Masks, capacity: int | None, options: dict[str, Any]) -> Pictures:
    check_choice(masks, "masks", MASKS)
    if capacity is not None:
        check_count(capacity, "capacity")
    return Pictures(model, detect_options(model.config, options), masks, capacity)


def _program(whole: Pictures, device: torch.device) -> torch.export.ExportedProgram:
    sizes = {axis: torch.export.Dim(name) for axis, name in enumerate(("batch", "height", "width"))}
    with torch.no_grad(), _silence():
        pictures = made_up_pictures(2, 48, 64).to(device)
        return torch.export.export(whole, (pictures,), dynamic_shapes={"pictures": sizes})


def _need_compiler() -> None:
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler as error:
        raise UserError("no C++ compiler is here, which AOTInductor needs (g++ on the PATH, or CXX)") from error


@contextmanager
def _silence() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's own affairs
        yield


def _check(by: str, loaded: Callable[[Tensor], dict[str, Tensor]], whole: Pictures, device: torch.device) -> Checked:
    """Pictures of another number and size than the exporter saw."""
    pictures = made_up_pictures(3, 90, 120).to(device)
    with torch.no_grad():
        expected, found = whole(pictures), loaded(pictures)
    # Truncated to whole pixels, or next to them, a box moves by one where a sum rounds otherwise.
    differences = compare_detections(expected, found, box_tolerance=1.01)
    return Checked(by, int(expected["count"].sum()), differences)
