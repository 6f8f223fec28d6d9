"""What a CPU is asked: each operator beside its peers, with the packages that encode run lengths among them.

A job's contenders, ours first, take nothing: they hold their inputs. It is checked before it is timed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from benchmarks import inputs, peers
from yolact import mask, ops
from yolact.ops import reference


@dataclass(frozen=True)
class Job:
    """One question: the same work by several contenders, ours first."""

    name: str
    contenders: dict[str, Callable[[], object]]
    check: Callable[[], None]  # raises AssertionError where they disagree


def detect() -> Iterator[Job]:
    """Beside the original's formulation, and a read of the logits, which nothing can beat."""
    for batch in (1, 8):
        for name, crowd in (
            ("1200 survivors", {"survivors": 1200, "clusters": 60}),
            ("1200 survivors, 36 kept, then filled up", {"survivors": 1200, "clusters": 10}),
            ("40 survivors", {"survivors": 40, "clusters": 4}),
        ):
            given = inputs.clustered_detections(batch, **crowd)
            arguments = (given.box_deltas, given.class_logits, given.priors)

            def check(arguments: tuple[torch.Tensor, ...] = arguments) -> None:
                ours = ops.detect(*arguments)
                for b, (boxes, label, score) in enumerate(peers.eager_detect(*arguments)):
                    assert ours.count[b] == len(label)
                    torch.testing.assert_close(ours.score[b, : len(score)], score)
                    assert torch.equal(ours.label[b, : len(score)], label)
                    # Of two overlapping boxes whose scores differ by a rounding, either may be the one that stays.
                    same = torch.isclose(ours.boxes[b, : len(score)], boxes, atol=1e-5).all(1)
                    assert same.sum() >= len(same) - 2

            yield Job(
                f"detect {batch} x 19248 x 81, {name}",
                {
                    "yolact": lambda arguments=arguments: ops.detect(*arguments),
                    "torch eager, as the original": lambda arguments=arguments: peers.eager_detect(*arguments),
                    "a read of the logits": lambda logits=given.class_logits: logits.sum(),
                },
                check,
            )


def fast_nms() -> Iterator[Job]:
    """What the original does after its threshold, given 1200 boxes that passed it."""
    given = inputs.clustered_detections()
    scores = given.class_logits.softmax(-1)[0, :, 1:]
    keep = scores.amax(-1) > 0.05
    every = ops.detect(given.box_deltas, given.class_logits, given.priors, iou_threshold=1.0, max_detections=None)
    boxes = torch.zeros(len(given.priors), 4)
    boxes[every.prior[0, : every.count[0]]] = every.boxes[0, : every.count[0]]
    boxes, scores = boxes[keep], scores[keep].T.contiguous()

    def check() -> None:
        ours = ops.fast_nms(boxes[None], scores[None])
        _, label, score = peers.eager_fast_nms(boxes, scores)
        assert torch.equal(ours.score[0], score)
        assert torch.equal(ours.label[0], label)

    yield Job(
        f"fast_nms {boxes.shape[0]} boxes x 80",
        {
            "yolact": lambda: ops.fast_nms(boxes[None], scores[None]),
            "torch eager, as the original": lambda: peers.eager_fast_nms(boxes, scores),
        },
        check,
    )


def mask_inputs() -> Iterator[tuple[str, inputs.MaskInputs, tuple[int, int]]]:
    """A hundred objects on 138 x 138 x 32 prototypes: in boxes of usual size, and each as large as the picture."""
    for boxes, coverage in (("boxes of 4 %", 0.04), ("full-frame boxes", 1.0)):
        for size in ((550, 550), (1080, 1920)):
            yield f"100 of {size[0]} x {size[1]}, {boxes}", inputs.smooth_masks(coverage=coverage), size


def assemble_masks() -> Iterator[Job]:
    """To dense masks, beside the original's formulation and the writing of as many bytes."""
    for name, given, size in mask_inputs():
        whole = (given.prototypes, given.coefficients, given.boxes)
        first = (given.prototypes[0], given.coefficients[0], given.boxes[0])

        def check(whole=whole, first=first, size=size) -> None:
            # Another order of a sum in float32 may move a pixel whose value is a half, but for rounding.
            differ = ops.assemble_masks(*whole, size)[0] != peers.eager_masks(*first, size)
            assert differ.float().mean() < 1e-6

        yield Job(
            f"assemble_masks {name}",
            {
                "yolact": lambda w=whole, s=size: ops.assemble_masks(*w, s),
                "yolact, packed": lambda w=whole, s=size: ops.assemble_masks(*w, s, packed=True),
                "torch eager, as the original": lambda f=first, s=size: peers.eager_masks(*f, s),
                "a write of the masks": lambda s=size: torch.ones(100, *s, dtype=torch.bool),
            },
            check,
        )


def assemble_run_lengths() -> Iterator[Job]:
    """Prototypes to COCO's strings, beside the original's formulation with pycocotools after it."""
    coco = peers.mask_packages().get("pycocotools")
    for name, given, size in mask_inputs():
        whole = (given.prototypes, given.coefficients, given.boxes, [size])
        first = (given.prototypes[0], given.coefficients[0], given.boxes[0])

        def eager(first=first, size=size) -> object:
            masks = peers.eager_masks(*first, size)
            return coco.encode(np.asfortranarray(masks.permute(1, 2, 0).numpy().view(np.uint8)))

        def check(whole=whole, size=size) -> None:
            masks = ops.assemble_masks(*whole[:3], size)[0]
            assert ops.prototypes_to_rles(*whole)[0] == ops.masks_to_rles(masks)

        contenders: dict[str, Callable[[], object]] = {
            "yolact, to dictionaries": lambda w=whole: ops.prototypes_to_rles(*w),
            "yolact, to tensors": lambda w=whole: ops.assemble_run_lengths(*w),
            "yolact, dense in between": lambda w=whole, s=size: ops.masks_to_rles(ops.assemble_masks(*w[:3], s)[0]),
        }
        if coco:
            contenders["torch eager, then pycocotools"] = eager
        yield Job(f"prototypes_to_rles {name}", contenders, check)


def resize_masks() -> Iterator[Job]:
    """Logits of low resolution to the picture, dense and as strings, as RF-DETR, SAM and others end."""
    coco = peers.mask_packages().get("pycocotools")
    for count, side, size, coverage in (
        (100, 108, (1080, 1920), 0.04),
        (300, 78, (480, 640), 0.04),
        (3, 256, (1500, 2250), 0.2),
    ):
        call = (inputs.mask_logits(count, side, coverage=coverage), size)

        def check(call=call) -> None:
            masks = ops.resize_masks(*call)
            assert (masks != peers.eager_resize(*call)).float().mean() < 1e-6  # a logit that is 0 but for rounding
            assert ops.logits_to_rles(*call) == ops.masks_to_rles(masks)

        def eager(call=call) -> object:
            masks = peers.eager_resize(*call)
            return coco.encode(np.asfortranarray(masks.permute(1, 2, 0).numpy().view(np.uint8)))

        name = f"{count} of {side} x {side} to {size[0]} x {size[1]}"
        dense: dict[str, Callable[[], object]] = {
            "yolact": lambda call=call: ops.resize_masks(*call),
            "torch eager": lambda call=call: peers.eager_resize(*call),
            "a write of the masks": lambda n=count, size=size: torch.ones(n, *size, dtype=torch.bool),
        }
        strings: dict[str, Callable[[], object]] = {
            "yolact, to dictionaries": lambda call=call: ops.logits_to_rles(*call),
            "yolact, to tensors": lambda call=call: ops.resize_run_lengths(*call),
        }
        if coco:
            strings["torch eager, then pycocotools"] = eager
        yield Job(f"resize_masks {name}", dense, check)
        yield Job(f"logits_to_rles {name}", strings, check)


def preprocess() -> Iterator[Job]:
    """A picture to the network's input, beside the same in eager torch."""
    for height, width in ((480, 640), (1080, 1920)):
        picture = torch.randint(0, 256, (1, height, width, 3), dtype=torch.uint8)
        arguments = (picture, (550, 550), (123.68, 116.78, 103.94), (58.40, 57.12, 57.38))

        def check(arguments=arguments) -> None:
            expected = reference.preprocess(*arguments)
            torch.testing.assert_close(ops.preprocess(*arguments), expected, rtol=0, atol=1e-3)

        yield Job(
            f"preprocess {height} x {width} to 550 x 550",
            {
                "yolact": lambda a=arguments: ops.preprocess(*a),
                "torch eager": lambda a=arguments: reference.preprocess(*a),
            },
            check,
        )


def encode_run_lengths() -> Iterator[Job]:
    """From masks as torch makes them, row by row, and as the packages want them; strings included."""
    kinds = {
        "100 ellipses 550 x 550": inputs.ellipses(),
        "100 ellipses 720 x 1280": inputs.ellipses(height=720, width=1280),
        "100 ellipses of half the picture": inputs.ellipses(coverage=0.5),
        "10 of noise 550 x 550": inputs.noise(10),
    }
    for name, masks in kinds.items():
        turned = masks.mT.contiguous().mT  # column-major
        stack, packages = np.asfortranarray(masks.permute(1, 2, 0).numpy().astype(np.uint8)), peers.mask_packages()
        capacity = max(ops.run_lengths.DEFAULT_CAPACITY, int(ops.encode_run_lengths(masks).needed.max()))

        def check(masks: torch.Tensor = masks, turned: torch.Tensor = turned, stack: np.ndarray = stack) -> None:
            ours = ops.masks_to_rles(masks)
            assert ours == ops.masks_to_rles(turned)
            for package in peers.mask_packages().values():
                for mine, theirs in zip(ours, package.encode(stack), strict=True):
                    assert mine == {"size": list(theirs["size"]), "counts": theirs["counts"].decode()}

        contenders: dict[str, Callable[[], object]] = {
            "yolact, row-major": lambda m=masks, c=capacity: ops.encode_run_lengths(m, capacity=c),
            "yolact, column-major": lambda m=turned, c=capacity: ops.encode_run_lengths(m, capacity=c),
            "yolact, to dictionaries": lambda m=masks: ops.masks_to_rles(m),
            "a read of the masks": lambda m=masks: m.view(torch.uint8).max(),
        }
        if "hotcoco" in packages:
            contenders["hotcoco, column-major"] = lambda s=stack, p=packages["hotcoco"]: p.encode(s)
        if "pycocotools" in packages:
            coco = packages["pycocotools"]
            contenders["pycocotools, column-major"] = lambda s=stack, p=coco: p.encode(s)
            contenders["pycocotools, asfortranarray"] = lambda m=masks, p=coco: p.encode(
                np.asfortranarray(m.permute(1, 2, 0).numpy().view(np.uint8))
            )
        yield Job(f"encode_run_lengths {name}", contenders, check)


def decode_run_lengths() -> Iterator[Job]:
    """To dense masks; the packages give them column-major."""
    masks = inputs.ellipses()
    encoded, rles = ops.encode_run_lengths(masks), ops.masks_to_rles(masks)

    def check() -> None:
        assert torch.equal(encoded.decode(), masks)
        assert np.array_equal(mask.decode(rles), masks.permute(1, 2, 0).numpy())

    contenders: dict[str, Callable[[], object]] = {
        "yolact": lambda: ops.decode_run_lengths(encoded, (550, 550)),
        "yolact.mask": lambda: mask.decode(rles),
    }
    for name, package in peers.mask_packages().items():
        contenders[name] = lambda package=package: package.decode(rles)
    yield Job("decode_run_lengths 100 ellipses 550 x 550", contenders, check)


def mask_functions() -> Iterator[Job]:
    """yolact.mask beside the packages whose functions it has."""
    dense = inputs.ellipses(200)
    rles = ops.masks_to_rles(dense)
    stack = np.asfortranarray(dense[:100].permute(1, 2, 0).numpy().astype(np.uint8))
    angle = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    outline = np.stack([200 + 90 * np.cos(angle) + 9 * np.cos(7 * angle), 200 + 80 * np.sin(angle)], 1)
    polygons = [(outline + shift).ravel().tolist() for shift in range(100)]
    work: dict[str, Callable[[Any], Any]] = {
        "encode": lambda package: package.encode(stack),
        "decode": lambda package: package.decode(rles[:100]),
        "area": lambda package: package.area(rles),
        "toBbox": lambda package: package.toBbox(rles),
        "merge": lambda package: package.merge(rles[:100]),
        "merge of two": lambda package: package.merge(rles[:2]),
        "iou": lambda package: package.iou(rles[:100], rles[100:], [0] * 100),
        "frPyObjects": lambda package: package.frPyObjects(polygons, 480, 640),
    }
    for name, call in work.items():
        contenders: dict[str, Callable[[], object]] = {"yolact.mask": lambda call=call: call(mask)}
        for package_name, package in peers.mask_packages().items():
            contenders[package_name] = lambda call=call, package=package: call(package)

        def check(call: Callable[[Any], Any] = call) -> None:
            for package in peers.mask_packages().values():
                np.testing.assert_equal(call(mask), call(package))

        yield Job(f"mask.{name}", contenders, check)


JOBS: dict[str, Callable[[], Iterator[Job]]] = {
    "detect": detect,
    "fast_nms": fast_nms,
    "assemble_masks": assemble_masks,
    "assemble_run_lengths": assemble_run_lengths,
    "resize_masks": resize_masks,
    "preprocess": preprocess,
    "encode_run_lengths": encode_run_lengths,
    "decode_run_lengths": decode_run_lengths,
    "mask": mask_functions,
}
