"""Runs in a Python of its own, whatever torch that has: tells, as JSON, how the package on its path fares there.

python tests/one_binary.py PICTURE
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from yolact import mask

MASK_WITHOUT_TORCH = mask.area([mask.encode(np.eye(3, dtype=np.uint8, order="F"))]) == 3 and "torch" not in sys.modules

import torch  # noqa: E402

import yolact  # noqa: E402
from yolact import doctor, ops  # noqa: E402
from yolact.devices import find_device  # noqa: E402
from yolact.errors import UserError  # noqa: E402
from yolact.ops import reference  # noqa: E402


def error_of(call: Callable[[], object]) -> str:
    try:
        call()
    except (RuntimeError, UserError) as error:
        return str(error)
    return ""


def agree(ours: object, expected: object, **tolerance: float) -> bool:
    """Whether two results of an operator hold the same tensors."""
    pairs = zip(vars(ours).values(), vars(expected).values(), strict=True)
    return all(torch.allclose(a.double(), b.double(), **tolerance) for a, b in pairs)


def right_operators() -> dict[str, bool]:
    """Whether each operator's results on the CPU are the reference's; tests/ops look closer, on one torch."""
    random = torch.Generator().manual_seed(0)
    corners = torch.rand(2, 40, 2, 2, generator=random)
    boxes = torch.cat([corners.amin(2), corners.amax(2)], -1)
    scores = torch.rand(2, 3, 40, generator=random)
    head = (
        torch.randn(2, 40, 4, generator=random),
        torch.randn(2, 40, 4, generator=random),
        torch.rand(40, 4, generator=random),
    )
    masks_from = (torch.randn(2, 17, 19, 8, generator=random), torch.randn(2, 40, 8, generator=random), boxes)
    masks = ops.assemble_masks(*masks_from, (40, 50))
    run_lengths = reference.encode_run_lengths(masks.flatten(0, 1))
    pictures = torch.randint(0, 256, (2, 31, 17, 3), dtype=torch.uint8, generator=random)
    resized = (pictures, 33, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    rows = torch.arange(80)
    truths = (rows // 40, rows, boxes.flatten(0, 1), torch.rand(80, 17, 19, generator=random) < 0.5)
    inputs = [masks_from[0].requires_grad_(), masks_from[1].flatten(0, 1).requires_grad_()]
    loss, expected_loss = ops.mask_loss(*inputs, *truths), reference.mask_loss(*inputs, *truths)
    gradients, expected_gradients = (torch.autograd.grad(one.sum(), inputs) for one in (loss, expected_loss))
    sampled = [torch.randn(2, n, 9, 11, generator=random, requires_grad=True) for n in (8, 18, 9)]
    filters = torch.randn(4, 8, 3, 3, generator=random, requires_grad=True)
    convolved, expected_convolved = (
        module.deform_conv2d(sampled[0], sampled[1], filters, padding=1, mask=sampled[2]) for module in (ops, reference)
    )
    leaves = (*sampled, filters)
    of_leaves, expected_of_leaves = (torch.autograd.grad(one.sum(), leaves) for one in (convolved, expected_convolved))
    coco = [mask.encode(np.asfortranarray(one.numpy())) for one in masks.flatten(0, 1)]
    return {
        "fast_nms": agree(ops.fast_nms(boxes, scores), reference.fast_nms(boxes, scores), rtol=0, atol=0),
        "detect": agree(ops.detect(*head), reference.detect(*head), rtol=1e-5),
        # A pixel within rounding error of the threshold may fall to either side.
        "assemble_masks": float((masks != reference.assemble_masks(*masks_from, (40, 50))).double().mean()) < 1e-4,
        "assemble_run_lengths": agree(
            ops.assemble_run_lengths(*masks_from, torch.tensor([[40, 50], [40, 50]])), run_lengths
        ),
        "encode_run_lengths": agree(ops.encode_run_lengths(masks.flatten(0, 1)), run_lengths),
        "decode_run_lengths": torch.equal(ops.decode_run_lengths(run_lengths), masks.flatten(0, 1)),
        "gather_run_lengths": [one["counts"].encode() for one in run_lengths.to_coco()] == [c["counts"] for c in coco],
        "mask_loss": torch.allclose(loss, expected_loss, rtol=1e-5),
        "mask_loss_backward": all(map(torch.allclose, gradients, expected_gradients, (1e-4, 1e-4), (1e-4, 1e-4))),
        "deform_conv2d": torch.allclose(convolved, expected_convolved, rtol=1e-4, atol=1e-4),
        "deform_conv2d_backward": all(
            torch.allclose(ours, theirs, rtol=1e-4, atol=1e-3)
            for ours, theirs in zip(of_leaves, expected_of_leaves, strict=True)
        ),
        "preprocess": torch.allclose(ops.preprocess(*resized), reference.preprocess(*resized), atol=1e-2),
    }


def found(picture: str) -> list[str]:
    """What the bundled model sees."""
    weights = Path(yolact.__file__).parent / "weights/yolact_lite0_dogcat.pth"
    return yolact.load(weights).predict(picture, score_threshold=0.5)[0].names


def main() -> None:
    names = [name for name in torch._C._dispatch_get_all_op_names() if name.startswith("yolact::")]
    print(
        json.dumps(
            {
                "package": ops.__file__,
                "torch": torch.__version__,
                "cuda": torch.version.cuda,
                "gpus": torch.cuda.device_count(),
                "operators": sorted(name.removeprefix("yolact::") for name in names),
                "cuda_operators": sorted(
                    name.removeprefix("yolact::")
                    for name in names
                    if torch._C._dispatch_has_kernel_for_dispatch_key(name, "CUDA")
                ),
                "right": right_operators(),
                "mask_without_torch": bool(MASK_WITHOUT_TORCH),
                "found": found(sys.argv[1]),
                "doctor": {finding.subject: f"{finding.state}: {finding.detail}" for finding in doctor.examine()},
                "stream_error": error_of(lambda: torch.ops.yolact.current_stream(0)),
                "device_error": error_of(lambda: find_device("cuda")),
            }
        )
    )


if __name__ == "__main__":
    main()
