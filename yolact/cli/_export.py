"""`yolact export`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import click

from yolact.cli import _options as options
from yolact.errors import UserError

FORMATS = ("onnx", "onnx-network", "program", "package")
FRACTION = click.FloatRange(0, 1)


@click.command()
@click.argument("output", type=Path)
@click.option(
    "--format",
    "form",
    type=click.Choice(FORMATS),
    help="By default onnx for a name that ends in .onnx, program for .pt2.",
)
@options.weights
@options.config
@click.option(
    "--device", default="cpu", show_default=True, metavar="D", help="That a program or package is for: cpu or cuda:N."
)
@click.option("--score-threshold", type=FRACTION, metavar="S", help="Leave only what scores above this.")
@click.option("--iou-threshold", type=FRACTION, metavar="T", help="Boxes that overlap more are one object.")
@options.number("--top-k", None, "Candidates that Fast NMS ranks, a class.")
@options.number("--max-detections", None, "Rows of the result.", high=10_000)
@click.option("--across-classes", is_flag=True, help="Objects of different classes suppress each other.")
@click.option(
    "--masks",
    type=click.Choice(["run-lengths", "dense", "none"]),
    help="Of a program or package; run-lengths by default.",
)
@options.number("--capacity", None, "Bytes of a mask's run lengths; 4096 by default.", high=1 << 24)
@click.option(
    "--opset",
    type=click.Choice(["18", "19"]),
    help="Of ONNX. Deformable convolutions are one operator in 19, their default, and many and slower in 18.",
)
@click.option("--check/--no-check", default=None, help="Run what was written beside the model. Where it can be, it is.")
def export(
    output: Path,
    form: str | None,
    weights: str,
    config: str | None,
    device: str,
    score_threshold: float | None,
    iou_threshold: float | None,
    top_k: int | None,
    max_detections: int | None,
    across_classes: bool,
    masks: str | None,
    capacity: int | None,
    opset: str | None,
    check: bool | None,
) -> None:
    """Write a model to OUTPUT, to run without this package or without Python.

    \b
    onnx          network and detections in standard ONNX operators:
                  preprocessed images [B, 3, S, S] to boxes, labels, scores, coefficients, prototypes
    onnx-network  the network alone
    program       torch.export: pictures [B, H, W, 3] uint8 to detections and masks, by our operators
    package       the same compiled by AOTInductor for this machine; runs from C++

    Any batch size; programs and packages take pictures of any size. What says nothing else detects as the
    configuration does; with --score-threshold, it gives what `yolact predict` gives with it.
    """
    from yolact.export import export_onnx, export_package, export_program
    from yolact.loading import load

    form = form or {".onnx": "onnx", ".pt2": "program"}.get(output.suffix)
    if form is None:
        raise UserError(f"{output}: ends in neither .onnx nor .pt2; --format tells what it is to be")
    for name, value in (("--score-threshold", score_threshold), ("--iou-threshold", iou_threshold)):
        if value is not None and math.isnan(value):  # which click takes for a number within the range
            raise UserError(f"{name} must be within [0, 1], got nan")
    detection: dict[str, Any] = {
        "score_threshold": score_threshold,
        "second_threshold": None if score_threshold is None else True,
        "iou_threshold": iou_threshold,
        "top_k": top_k,
        "max_detections": max_detections,
        "across_classes": across_classes or None,
    }
    detection = {name: value for name, value in detection.items() if value is not None}
    way: dict[str, Any] = {
        name: value for name, value in (("masks", masks), ("capacity", capacity)) if value is not None
    }
    _refuse(form, detection if form == "onnx-network" else {})
    _refuse(form, way if form.startswith("onnx") else {"opset": opset} if opset else {})
    if masks in ("dense", "none") and capacity is not None:
        raise UserError(f"--capacity is of run lengths, and --masks is {masks}")

    model = load(weights, device, config)
    if form.startswith("onnx"):
        checked = export_onnx(
            model, output, detections=form == "onnx", opset=int(opset) if opset else None, check=check, **detection
        )
    else:
        write = export_package if form == "package" else export_program
        checked = write(model, output, check=check is not False, **way, **detection)
    told = checked or ("not checked" if check is False else "not checked: onnxruntime is not installed")
    click.echo(f"{output}: {output.stat().st_size / 1e6:.1f} MB, {told}")


def _refuse(form: str, given: dict[str, Any]) -> None:
    """Stop where options were given that the format has no use for."""
    if names := [f"--{name.replace('_', '-')}" for name in given if name != "second_threshold"]:
        raise UserError(f"{', '.join(names)}: the format {form} has no use for it")
