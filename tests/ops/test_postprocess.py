"""The network's raw outputs to results."""

from __future__ import annotations

import pytest
import torch

from yolact import ops


def raw_outputs(batch: int = 2, priors: int = 60, classes: int = 4, channels: int = 8):
    generator = torch.Generator().manual_seed(0)
    cells = torch.rand(priors, 4, generator=generator) * 0.4 + 0.3
    logits = torch.randn(batch, priors, 1 + classes, generator=generator) * 3
    deltas = torch.randn(batch, priors, 4, generator=generator)
    coefficients = torch.randn(batch, priors, channels, generator=generator).tanh()
    prototypes = torch.randn(batch, 20, 25, channels, generator=generator).relu()
    return deltas, logits, coefficients, cells, prototypes


def test_postprocess_is_its_parts():
    deltas, logits, coefficients, priors, prototypes = raw_outputs()
    sizes = [(60, 80), (31, 47)]
    options = {"score_threshold": 0.3, "max_detections": 7}
    results = ops.postprocess(deltas, logits, coefficients, priors, prototypes, sizes, crop="after", **options)
    found = ops.detect(deltas, logits, priors, **options)
    for b, (result, (height, width)) in enumerate(zip(results, sizes, strict=True)):
        count = int(found.count[b])
        assert 0 < count == len(result.rles) == len(result.boxes)
        boxes, labels, scores, rles = result
        assert torch.equal(labels, found.label[b, :count])
        assert torch.equal(scores, found.score[b, :count])
        pixels = found.boxes[b, :count] * torch.tensor([width, height, width, height])
        limit = torch.tensor([width, height, width, height], dtype=torch.float32)
        assert torch.equal(boxes, pixels.clamp(min=0).minimum(limit))
        chosen = coefficients[b, found.prior[b, :count]]
        masks = ops.assemble_masks(
            prototypes[b : b + 1], chosen[None], found.boxes[b : b + 1, :count], (height, width), crop="after"
        )
        assert rles == ops.masks_to_rles(masks[0])


def test_postprocess_takes_both_layouts_and_half_types():
    deltas, logits, coefficients, priors, prototypes = raw_outputs()
    sizes = torch.tensor([[60, 80], [31, 47]])
    expected = ops.postprocess(deltas, logits, coefficients.half(), priors, prototypes.half(), sizes)
    planes = prototypes.half().permute(0, 3, 1, 2).contiguous()
    results = ops.postprocess(deltas, logits, coefficients.half(), priors, planes, sizes, layout="khw")
    assert [result.rles for result in results] == [result.rles for result in expected]


def test_postprocess_of_a_letterbox_tells_boxes_in_the_pictures_pixels():
    deltas, logits, coefficients, priors, prototypes = raw_outputs(batch=1)
    region = torch.tensor([[0, 5, 25, 15]])  # the picture lies in the middle rows of a square input
    whole = ops.postprocess(deltas, logits, coefficients, priors, prototypes, [(20, 25)])[0]
    part = ops.postprocess(deltas, logits, coefficients, priors, prototypes, [(100, 250)], source_region=region)[0]
    expected = (whole.boxes - torch.tensor([0.0, 5, 0, 5])) * 10
    limit = torch.tensor([250.0, 100, 250, 100])
    torch.testing.assert_close(part.boxes, expected.clamp(min=0).minimum(limit), rtol=0, atol=1e-3)
    assert part.rles[0]["size"] == [100, 250]


def test_postprocess_passes_no_gradient():
    arguments = [tensor.requires_grad_() for tensor in raw_outputs()]
    boxes, _, scores, _ = ops.postprocess(*arguments, [(5, 5)] * 2)[0]
    assert not boxes.requires_grad
    assert not scores.requires_grad


def test_postprocess_on_empty():
    deltas, logits, coefficients, priors, prototypes = raw_outputs()
    results = ops.postprocess(deltas, logits, coefficients, priors, prototypes, [(5, 5)] * 2, score_threshold=1.0)
    assert [len(result.boxes) for result in results] == [0, 0]
    assert [result.rles for result in results] == [[], []]
    none = [deltas[:0], logits[:0], coefficients[:0], priors, prototypes[:0]]
    assert ops.postprocess(*none, []) == []
    no_priors = [deltas[:, :0], logits[:, :0], coefficients[:, :0], priors[:0], prototypes]
    assert [result.rles for result in ops.postprocess(*no_priors, [(5, 5)] * 2)] == [[], []]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"class_logits": [0.0]}, TypeError, "class_logits must be a tensor, got list"),
        ({"prototypes": None}, TypeError, "prototypes must be a tensor, got NoneType"),
        ({"mask_coefficients": torch.zeros(2, 59, 8)}, ValueError, "mask_coefficients must be of shape"),
        ({"mask_coefficients": torch.zeros(2, 60, 7)}, ValueError, "coefficients must be of shape"),
        ({"sizes": [(5, 5)]}, ValueError, "sizes must be of shape"),
        ({"colour": 3}, TypeError, "colour"),
        ({"crop": "late"}, ValueError, "crop must be one of"),
    ],
)
def test_postprocess_rejects(change, error, message):
    names = ("box_deltas", "class_logits", "mask_coefficients", "priors", "prototypes")
    arguments = dict(zip(names, raw_outputs(), strict=True)) | {"sizes": [(5, 5), (6, 6)]}
    with pytest.raises(error, match=message):
        ops.postprocess(**arguments | change)
