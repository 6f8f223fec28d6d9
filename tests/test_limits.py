"""Every row of docs/limits.md: what is taken up to the limit, and what happens beyond it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from backends import running_on
from conftest import ROOT, skip_or_fail

import yolact
from benchmarks import scale
from yolact import mask, ops
from yolact.instances import Instances
from yolact.ops.run_lengths import exact_rles

ROWS = re.findall(r"^\| (.+?) \| .+ \| .+ \|$", (ROOT / "docs/limits.md").read_text(), re.MULTILINE)[1:]
TESTS: dict[str, Callable[[], None]] = {}
Test = Callable[[], None]

BEYOND = 2**16, 60000, 60000  # more bytes than a processor can address: no setting of the system grants them


def limit(row: str) -> Callable[[Test], Test]:
    def register(test: Test) -> Test:
        TESTS[row] = test
        return test

    return register


def problem(detections: int = 2, channels: int = 4, batch: int = 1) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    prototypes = torch.rand(batch, 12, 9, channels, generator=generator)
    coefficients = torch.rand(batch, detections, channels, generator=generator) - 0.3
    boxes = torch.tensor([0.1, 0.2, 0.6, 0.9]).expand(batch, detections, 4)
    return prototypes, coefficients, boxes


def raw(batch: int = 1, priors: int = 50, classes: int = 3) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    deltas, logits = (torch.randn(batch, priors, n, generator=generator) for n in (4, 1 + classes))
    return deltas, logits, torch.rand(priors, 4, generator=generator)


def resident() -> int:
    return 4096 * int(Path("/proc/self/statm").read_text().split()[1])


@limit("pixels of a mask")
def _() -> None:
    most, more = (65535, 65537), (65536, 65536)
    (large,), (small,) = (ops.prototypes_to_rles(*problem(1), [size])[0] for size in (most, (650, 650)))
    share = mask.area([large])[0] / (most[0] * most[1])
    assert share == pytest.approx(mask.area([small])[0] / 650**2, abs=0.01)
    assert share > 0.1
    told = "65536 x 65536"
    with pytest.raises(ValueError, match=told):
        ops.prototypes_to_rles(*problem(), [more])
    with pytest.raises(ValueError, match=told):
        ops.assemble_masks(*problem(), more)
    with pytest.raises(ValueError, match=told):
        ops.encode_run_lengths(torch.zeros(1, 1, 1, dtype=torch.bool).expand(1, *more))
    with pytest.raises(ValueError, match=r"2\*\*32 pixels, got \[65536, 65536\]"):
        mask.frPyObjects([[0, 0, 5, 5, 5, 0]], *more)


@limit("side of a mask or a picture")
def _() -> None:
    for size in ((2**30, 1), (1, 2**30)):
        with pytest.raises(ValueError, match=r"2\*\*30 a side, got"):
            ops.assemble_masks(*problem(), size)
        with pytest.raises(ValueError, match=r"2\*\*30 a side, got"):
            ops.preprocess(torch.zeros(1, 1, 1, 3, dtype=torch.uint8).expand(1, *size, 3), 8, [0] * 3, [1] * 3)
    wide = torch.zeros(1, 1, 1, 3, dtype=torch.uint8).expand(1, 1, 2**31 // 3 + 1, 3)
    with pytest.raises(RuntimeError, match="rows of fewer than 2\\*\\*31 bytes, got a width of 715827883"):
        ops.preprocess(wide, 8, [0] * 3, [1] * 3)
    (rles,) = ops.prototypes_to_rles(*problem(), [(1, 2**20)])
    assert rles[0]["size"] == [1, 2**20]


@limit("bytes of a tensor")
def _() -> None:
    with pytest.raises(
        RuntimeError, match=r"out of memory: a result of shape \[1, 65536, 60000, 60000\] takes 235930 GB"
    ):
        ops.assemble_masks(*problem(BEYOND[0]), BEYOND[1:])
    # Inputs whose elements lie past 2 ** 32; no memory but what is touched is ever taken.
    far = 2**32 + 64
    memory = torch.empty(far + 8192, dtype=torch.uint8)
    masks = memory.as_strided((2, 16, 16), (far, 16, 1))
    masks[:] = torch.eye(16, dtype=torch.uint8)
    first, last = ops.masks_to_rles(masks)
    assert first == last == ops.masks_to_rles(torch.eye(16, dtype=torch.uint8)[None])[0]
    pictures = memory.as_strided((2, 4, 4, 3), (far, 12, 3, 1))
    pictures[:] = torch.arange(48, dtype=torch.uint8).view(4, 4, 3)
    images = ops.preprocess(pictures, 4, [0] * 3, [1] * 3)
    assert torch.equal(images[0], images[1])
    assert images[1, 2, 3, 3] == 47
    deltas, logits, priors = raw()
    apart = memory.view(torch.float16).as_strided((2, 50, 4), (2**31, 4, 1))
    apart[:] = logits
    found = ops.detect(deltas.expand(2, -1, -1), apart, priors)
    assert torch.equal(found.score[0], found.score[1])
    assert torch.equal(found.score[:1], ops.detect(deltas, logits.half(), priors).score)


@limit("dense masks")
def _() -> None:
    prototypes, coefficients, _ = problem(1000)
    boxes = torch.tensor([0.1, 0.2, 0.15, 0.25]).expand(1, 1000, 4)
    result = Instances(
        boxes=boxes[0] * 6000,
        scores=torch.ones(1000),
        labels=torch.zeros(1000, dtype=torch.int64),
        coefficients=coefficients[0],
        relative_boxes=boxes[0],
        prototypes=prototypes[0],
        picture=np.broadcast_to(np.uint8(0), (6000, 8000, 3)),
        class_names=("a",),
        category_ids=(1,),
    )
    before = resident()
    assert len(result.rles) == 1000
    assert len(result[:12].polygons) == 12
    assert resident() - before < 1e9


@limit("classes × priors of a picture")
def _() -> None:
    deltas, logits, priors = (torch.zeros(1).expand(shape) for shape in ((1, 2**22, 4), (1, 2**22, 1204), (2**22, 4)))
    with pytest.raises(ValueError, match="got 1203 x 4194304"):
        ops.detect(deltas, logits, priors)
    with pytest.raises(ValueError, match="got 1203 x 4194304"):
        ops.fast_nms(deltas, logits[..., :1203].mT)
    deltas, logits, priors = raw()
    used = torch.tensor([5, 600, 1202])
    wide = torch.full((1, 50, 1 + 1203), -torch.inf)
    wide[..., 0], wide[..., 1 + used] = logits[..., 0], logits[..., 1:]
    few, many = (ops.detect(deltas, each, priors, second_threshold=True) for each in (logits, wide))
    assert int(few.count) > 10
    assert torch.equal(few.prior, many.prior)
    assert torch.equal(used[few.label[few.prior >= 0]], many.label[many.prior >= 0])


@limit("`max_detections`")
def _() -> None:
    for rows in (2**46, 2**63 - 1):
        with pytest.raises(RuntimeError, match="out of memory: a result of shape"):
            ops.detect(*raw(), max_detections=rows)
        with pytest.raises(RuntimeError, match="out of memory: a result of shape"):
            ops.fast_nms(torch.zeros(1, 5, 4), torch.zeros(1, 2, 5), max_detections=rows)
    assert ops.detect(*raw(), max_detections=10000).score.shape == (1, 10000)
    assert ops.detect(*raw(), max_detections=None, top_k=2**60).score.shape == (1, 150)
    assert ops.detect(*raw(priors=0), max_detections=None, across_classes=True).score.shape == (1, 1)


@limit("`top_k`")
def _() -> None:
    all_of_them = ops.detect(*raw(priors=3000), top_k=3000, max_detections=9000)
    beyond = ops.detect(*raw(priors=3000), top_k=2**62, max_detections=9000)
    assert torch.equal(all_of_them.prior, beyond.prior)
    assert int(all_of_them.count) > int(ops.detect(*raw(priors=3000), top_k=30, max_detections=9000).count)


@limit("channels of prototypes")
def _() -> None:
    for channels in (1, 16, 64, 1000):
        prototypes, coefficients, boxes = problem(channels=channels)
        masks = ops.assemble_masks(prototypes, coefficients, boxes, (40, 30))
        expected = ops.reference.assemble_masks(prototypes, coefficients, boxes, (40, 30))
        assert (masks != expected).float().mean() < 1e-3  # another order of a sum
        assert ops.masks_to_rles(masks[0]) == ops.prototypes_to_rles(prototypes, coefficients, boxes, [(40, 30)])[0]
    with pytest.raises(ValueError, match="the channels of prototypes must be at least 1, got 0"):
        ops.assemble_masks(*problem(channels=0), (40, 30))


@limit("batch, detections, priors, masks")
def _() -> None:
    for batch, rows in ((0, 2), (1, 0), (0, 0)):
        assert ops.assemble_masks(*problem(rows, batch=batch), (4, 5)).shape == (batch, rows, 4, 5)
        assert ops.prototypes_to_rles(*problem(rows, batch=batch), [(4, 5)] * batch) == [[]] * batch
        found = ops.detect(*raw(batch, rows))
        assert found.score.shape == (batch, 100)
        assert not found.count.any()
        assert not ops.fast_nms(torch.zeros(batch, rows, 4), torch.zeros(batch, 2, rows)).count.any()
        sizes = torch.ones(batch, 2, dtype=torch.int64)
        deltas, logits, priors = raw(batch, rows)
        parts = deltas, logits, torch.zeros(batch, rows, 4), priors, problem(batch=batch)[0], sizes
        assert [len(picture.rles) for picture in ops.postprocess(*parts)] == [0] * batch
    assert ops.masks_to_rles(torch.zeros(0, 4, 5, dtype=torch.bool)) == []
    assert ops.RunLengths.from_coco([]).decode((4, 5)).shape == (0, 4, 5)
    assert ops.preprocess(torch.zeros(0, 4, 5, 3, dtype=torch.uint8), 8, [0] * 3, [1] * 3).shape == (0, 3, 8, 8)
    found = ops.detect(*(part.expand(64, -1, -1) for part in raw()[:2]), raw()[2])
    assert torch.equal(found.prior[0], found.prior[63])


@limit("`capacity` of run lengths")
def _() -> None:
    generator = torch.Generator().manual_seed(0)
    masks = torch.zeros(40, 600, 600, dtype=torch.bool)
    masks[:, ::20, ::5] = True  # a few kB each
    masks[7] = torch.rand(600, 600, generator=generator) < 0.5  # hundreds of kB
    encoded = ops.encode_run_lengths(masks)
    with pytest.raises(
        ValueError, match=rf"row 0 overflowed: it needs {encoded.needed[0]} bytes, the capacity is 4096"
    ):
        encoded.to_coco()
    taken = []

    def encode_again(rows: list[int], capacity: int) -> ops.RunLengths:
        taken.append(len(rows) * capacity)
        return ops.encode_run_lengths(masks[rows], capacity=capacity)

    rles = exact_rles(encoded, encode_again)
    large = torch.zeros(4, 3000, 4000, dtype=torch.bool)
    large[:, 500:2500, 200:3500] = True
    assert ops.encode_run_lengths(large).needed.min() > 4096
    assert scale.peak(lambda: ops.masks_to_rles(large)) < 12e6  # no mask is copied
    assert len(taken) == 2
    assert sum(taken) <= 2 * int(encoded.needed.sum())
    assert torch.equal(ops.RunLengths.from_coco(rles).decode(), masks)


@limit("`RunLengths.from_coco`")
def _() -> None:
    long = ops.masks_to_rles(torch.rand(1, 400, 400) < 0.5)[0]
    short = ops.masks_to_rles(torch.ones(1, 400, 400, dtype=torch.bool))[0]
    before = resident()
    run_lengths = ops.RunLengths.from_coco([long] + [short] * 2000)
    size = 2001 * len(long["counts"])
    assert run_lengths.data.numel() == size > 1e8
    assert resident() - before < 1.2 * size
    assert run_lengths[[0, 2000]].to_coco() == [long, short]


@limit("levels with `pre_nms_top_k`")
def _() -> None:
    deltas, logits, priors = raw(priors=65)
    options = {"level_sizes": [1] * 65, "pre_nms_top_k": 1}
    assert int(ops.detect(deltas, logits, priors, **options).count) > 0
    with running_on("simt", skip_or_fail), pytest.raises(RuntimeError, match="at most 64 levels, got 65"):
        ops.detect(deltas, logits, priors, **options)


@limit("pictures of `predict`")
def _() -> None:
    model = yolact.create("yolact_lite0", num_classes=3).eval()
    for height, width in ((1, 1), (1, 5000)):
        (result,) = model.predict(np.zeros((height, width, 3), np.uint8), score_threshold=0, max_detections=3)
        assert result.size == (height, width)
        assert [rle["size"] for rle in result.rles] == [[height, width]] * len(result)
    with pytest.raises(ValueError, match="65536 x 65536"):
        ops.preprocess(torch.zeros(1, 1, 1, 1, dtype=torch.uint8).expand(1, 2**16, 2**16, 3), 8, [0] * 3, [1] * 3)


@limit("masks of `yolact.mask`")
def _() -> None:
    one = mask.frPyObjects([[0, 0, 60000, 60000, 0, 60000]], *BEYOND[1:])[0]
    with pytest.raises(MemoryError):
        mask.decode([one] * BEYOND[0])
    squares = [mask.frPyObjects([[x, x, x + 5, x, x + 5, x + 5, x, x + 5]], 100, 100)[0] for x in range(90)]
    many = squares * 100
    assert mask.merge(many) == mask.merge(squares)
    assert mask.area(many).tolist() == mask.area(squares).tolist() * 100
    iou = mask.iou(many[:1000], squares, [0] * 90)
    assert iou.shape == (1000, 90)
    assert (iou[:90].diagonal() == 1).all()


@limit("vertices of polygons")
def _() -> None:
    angle = np.linspace(0, 2 * np.pi, 100_000, endpoint=False)
    circle = np.stack([100 + 50 * np.cos(angle), 100 + 50 * np.sin(angle)], 1).ravel().tolist()
    assert abs(mask.area(mask.frPyObjects([circle], 200, 200))[0] - np.pi * 2500) < 100
    (half,) = mask.frPyObjects([[0, 0, 9e13, 9e13, 0, 9e13]], 100, 100)
    assert 4900 < mask.area([half])[0] < 5200
    with pytest.raises(ValueError, match="a vertex lies at 2000000"):
        mask.frPyObjects([[0, 0, 2e14, 0, 0, 5]], 100, 100)


@pytest.mark.parametrize("row", ROWS)
def test_limits(row: str) -> None:
    TESTS[row]()


def test_every_limit_is_told() -> None:
    assert set(TESTS) == set(ROWS)
