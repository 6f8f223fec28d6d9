"""More bytes than 31 bits count."""

from __future__ import annotations

import torch

from yolact import ops

SIZE = (1080, 1920)
DETECTIONS = 1036  # of which the masks have 2.148e9 bytes, and 2 ** 31 is 2.147e9


def test_masks_past_two_to_the_31_bytes(gpu):
    generator = torch.Generator().manual_seed(0)
    prototypes = torch.randn(1, 34, 60, 16, generator=generator).to(gpu)
    coefficients = torch.randn(1, DETECTIONS, 16, generator=generator).to(gpu)
    boxes = torch.tensor([0.1, 0.2, 0.9, 0.7], device=gpu).expand(1, DETECTIONS, 4)
    masks = ops.assemble_masks(prototypes, coefficients, boxes, SIZE)
    for row in (0, DETECTIONS - 1):
        one = slice(row, row + 1)
        alone = ops.assemble_masks(prototypes, coefficients[:, one], boxes[:, one], SIZE)
        assert alone.any()
        assert torch.equal(masks[:, one], alone)
