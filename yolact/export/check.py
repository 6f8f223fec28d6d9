"""What is written is run beside the model that it was made of; how far they are apart is told, too far is an error."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from yolact.errors import UserError

# Another order of summation moves a deep network's outputs by 1e-5 of their size; a wrong layer by all of it.
TOLERANCE = 1e-3


@dataclass(frozen=True)
class Checked:
    """What was run, and the largest absolute difference of each output."""

    by: str
    detections: int  # compared; 0 too where nothing is detected
    differences: dict[str, float]

    def __str__(self) -> str:
        told = ", ".join(f"{name} {value:.1e}" for name, value in self.differences.items())
        found = f", {self.detections} detections" if self.detections else ""
        return f"checked by {self.by}{found}; largest differences: {told}"


def made_up_pictures(batch: int, height: int, width: int) -> Tensor:  # [B, H, W, 3] uint8
    """Patches of random colours: sharp edges and flat regions, the same every time."""
    generator = torch.Generator().manual_seed(0)
    patches = torch.rand(batch, 3, 7, 9, generator=generator)
    pictures = F.interpolate(patches, (height, width), mode="nearest")
    return (pictures.permute(0, 2, 3, 1) * 255).to(torch.uint8).contiguous()


def compare_tensors(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> dict[str, float]:
    """The largest difference of each tensor.

    Raises:
        UserError: one differs by more than the tolerance, of its largest value where that is above 1.
    """
    differences = {name: _largest(found[name] - value) for name, value in expected.items()}
    for name, difference in differences.items():
        if not difference <= TOLERANCE * max(1.0, _largest(expected[name])):  # NaN is none
            raise UserError(f"what was exported differs from the model: {name} by {difference:.3g}")
    return differences


def compare_detections(
    expected: Mapping[str, Tensor],  # boxes [B, D, 4], label, score [B, D], count [B], and more
    found: Mapping[str, Tensor],
    box_tolerance: float,
) -> dict[str, float]:
    """The largest differences of scores, and of boxes to the nearest of their label: close scores change places.

    Raises:
        UserError: the counts differ, or something by more than is tolerated.
    """
    if not torch.equal(expected["count"], found["count"]):
        counts = f"{found['count'].tolist()} detections, not {expected['count'].tolist()}"
        raise UserError(f"what was exported differs from the model: {counts}")
    boxes = (expected["boxes"][:, :, None] - found["boxes"][:, None]).abs().amax(-1)  # [B, D, D]
    same = expected["label"][:, :, None] == found["label"][:, None]
    nearest = boxes.masked_fill(~same, torch.inf).amin(-1)
    differences = {"score": _largest(found["score"] - expected["score"]), "boxes": _largest(nearest)}
    for name, limit in (("score", TOLERANCE), ("boxes", box_tolerance)):
        if not differences[name] <= limit:
            raise UserError(f"what was exported differs from the model: {name} by {differences[name]:.3g}")
    return differences


def _largest(values: Tensor) -> float:
    return values.abs().max().item() if values.numel() else 0.0
