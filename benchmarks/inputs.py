"""Seeded inputs for benchmarks: shaped like what the network and its users produce, the same on every machine."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

LEVELS = (69, 35, 18, 9, 5)  # cells a side of P3 to P7 at 550 x 550: 19248 priors, three a cell
SCALES = (24, 48, 96, 192, 384)
SIDE = 550


def ellipses(
    count: int = 100,
    height: int = 550,
    width: int = 550,
    *,
    coverage: float = 0.04,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> Tensor:  # [count, height, width] bool
    """Filled ellipses, each covering about `coverage` of the picture: what a mask usually looks like."""
    return elliptic_distance(count, height, width, coverage, torch.Generator().manual_seed(seed), device) < 1


def mask_logits(count: int, side: int, *, coverage: float = 0.04, seed: int = 0) -> Tensor:  # [count, side, side]
    """Masks as most networks end with them: of low resolution, positive in an ellipse with a wavy border."""
    generator = torch.Generator().manual_seed(seed)
    distance = elliptic_distance(count, side, side, coverage, generator).sqrt()
    waves = F.interpolate(torch.randn(1, count, 12, 12, generator=generator), (side, side), mode="bicubic")[0]
    return 8 * (1 - distance) + waves


def elliptic_distance(
    count: int,
    height: int,
    width: int,
    coverage: float,
    generator: torch.Generator,
    device: torch.device | str = "cpu",
) -> Tensor:  # [count, height, width]
    """The square of how far a pixel is from the centre of its ellipse, whose border is at 1."""
    aspect = torch.exp(torch.empty(count, 1, 1).uniform_(-0.7, 0.7, generator=generator)).to(device)
    radius = (coverage / torch.pi) ** 0.5
    radius_x, radius_y = radius * aspect.sqrt(), radius / aspect.sqrt()
    centre_x, centre_y = torch.rand(2, count, 1, 1, generator=generator).to(device)
    x = (torch.arange(width, device=device) + 0.5).view(1, 1, -1) / width
    y = (torch.arange(height, device=device) + 0.5).view(1, -1, 1) / height
    return ((x - centre_x) / radius_x) ** 2 + ((y - centre_y) / radius_y) ** 2


def noise(count: int = 100, height: int = 550, width: int = 550, *, seed: int = 0) -> Tensor:
    """[count, height, width] bool, every pixel a coin toss: the worst case of a run-length code."""
    return torch.rand(count, height, width, generator=torch.Generator().manual_seed(seed)) < 0.5


@dataclass(frozen=True, eq=False)
class MaskInputs:
    """What `assemble_masks` takes."""

    prototypes: Tensor  # [B, h, w, K] float32, after ReLU
    coefficients: Tensor  # [B, D, K] float32, within -1..1
    boxes: Tensor  # [B, D, 4] float32 xyxy, fractions of the picture


def smooth_masks(
    batch: int = 1,
    detections: int = 100,
    side: int = 138,  # of the prototypes
    channels: int = 32,
    *,
    coverage: float = 0.04,  # of the picture, a box; 1: boxes as large as the picture
    seed: int = 0,
) -> MaskInputs:
    """Prototypes as smooth as real ones, and for each detection coefficients that light its object up."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(batch, channels, 12, 12, generator=generator)
    prototypes = F.interpolate(coarse, (side, side), mode="bicubic").relu().permute(0, 2, 3, 1).contiguous()

    aspect = torch.exp(torch.empty(batch, detections).uniform_(-0.7, 0.7, generator=generator))
    size = torch.stack([(coverage * aspect).sqrt(), (coverage / aspect).sqrt()], -1).clamp(max=1.0)
    corner = torch.rand(batch, detections, 2, generator=generator) * (1 - size)
    boxes = torch.cat([corner, corner + size], -1)

    # A prototype counts for a detection as far as it is brighter at the box's centre than on the whole.
    centre = ((corner + size / 2) * (side - 1)).long()
    there = torch.stack([p[c[:, 1], c[:, 0]] for p, c in zip(prototypes, centre, strict=True)])  # [B, D, K]
    mean = prototypes.mean((1, 2))[:, None]
    wobble = 0.2 * torch.randn(batch, detections, channels, generator=generator)
    return MaskInputs(prototypes, torch.tanh(there - mean + wobble), boxes)


@dataclass(frozen=True, eq=False)
class DetectInputs:
    """What `detect` takes."""

    box_deltas: Tensor  # [B, P, 4] float32
    class_logits: Tensor  # [B, P, 1 + C] float32, background first
    priors: Tensor  # [P, 4] cx cy w h


def base_priors() -> Tensor:  # [19248, 4]
    """The priors of yolact_base: cells row by row, three squares a cell."""
    levels = []
    for cells, scale in zip(LEVELS, SCALES, strict=True):
        centre = (torch.arange(cells) + 0.5) / cells
        y, x = torch.meshgrid(centre, centre, indexing="ij")
        xy = torch.stack([x, y], -1).view(-1, 1, 2).expand(-1, 3, 2)
        side = (scale / SIDE * torch.tensor([1.0, 0.5**0.5, 2.0**0.5])).view(1, 3, 1).expand(xy.shape[0], 3, 2)
        levels.append(torch.cat([xy, side], -1).reshape(-1, 4))
    return torch.cat(levels)


def clustered_detections(
    batch: int = 1,
    classes: int = 80,
    *,
    survivors: int = 1200,  # priors above the threshold of 0.05, a picture
    clusters: int = 60,  # objects that they crowd around
    seed: int = 0,
) -> DetectInputs:
    """Logits as a trained network gives them: sure of background but for a crowd of priors around each object."""
    generator = torch.Generator().manual_seed(seed)
    priors = base_priors()
    count = len(priors)
    logits = torch.randn(batch, count, 1 + classes, generator=generator)
    logits[..., 0] += 11.0
    deltas = torch.randn(batch, count, 4, generator=generator)
    each = survivors // clusters
    for b in range(batch):
        taken = torch.zeros(count, dtype=torch.bool)
        for _ in range(clusters):
            anchor = priors[torch.randint(count, (1,), generator=generator)]
            distance = ((priors - anchor) / anchor[:, [2, 3, 2, 3]]).abs().sum(-1)
            crowd = distance.masked_fill(taken, torch.inf).topk(each, largest=False).indices
            taken[crowd] = True
            label = torch.randint(classes, (1,), generator=generator)
            logits[b, crowd, 0] = 5.0 + torch.randn(each, generator=generator).clamp(-1, 1)
            logits[b, crowd, 1 + label] = torch.empty(each).uniform_(4.0, 10.0, generator=generator)
            # The deltas that bring each prior of the crowd to the object's box, give or take a twentieth.
            offset = (anchor[:, :2] - priors[crowd, :2]) / priors[crowd, 2:] / 0.1
            growth = torch.log(anchor[:, 2:] / priors[crowd, 2:]) / 0.2
            wobble = 0.05 * torch.randn(each, 4, generator=generator)
            deltas[b, crowd] = torch.cat([offset, growth], -1) + wobble / torch.tensor([0.1, 0.1, 0.2, 0.2])
    return DetectInputs(deltas, logits, priors)
