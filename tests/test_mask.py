"""yolact.mask against pycocotools.mask, byte for byte."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from conftest import shared_path
from masks import adversarial_masks, random_mask, real_rles
from pycocotools import mask as coco

from yolact import mask

# pycocotools' own, about how NumPy 2 asks for copies.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def same(actual, expected) -> bool:
    """Equal in type, dtype, shape and every byte."""
    if isinstance(expected, (np.ndarray, np.generic)):
        return (
            type(actual) is type(expected)
            and actual.dtype == expected.dtype
            and actual.shape == expected.shape
            and actual.tobytes() == expected.tobytes()
        )
    return type(actual) is type(expected) and actual == expected


def fortran(masks: np.ndarray) -> np.ndarray:
    return np.asfortranarray(masks.astype(np.uint8))


def random_stack(rng: np.random.Generator, height: int, width: int, count: int) -> np.ndarray:
    return fortran(rng.random((height, width, count)) < rng.choice([0, 0.02, 0.5, 0.98, 1], count))


def test_encode_and_decode_match_on_adversarial_masks():
    for dense in adversarial_masks():
        expected = coco.encode(fortran(dense))
        for array in (fortran(dense), dense, dense[::-1, ::-1].copy()[::-1, ::-1], fortran(dense) * 255):
            assert same(mask.encode(array), expected)
        assert same(mask.decode(expected), coco.decode(expected))


def test_encode_takes_stacks_in_any_layout():
    rng = np.random.default_rng(0)
    stack = random_stack(rng, 40, 30, 5)
    expected = coco.encode(stack)
    spread = np.zeros((80, 90, 5), np.uint8)
    spread[::2, ::3] = stack
    for array in (stack, np.ascontiguousarray(stack), stack.astype(bool), spread[::2, ::3], stack[::-1][::-1]):
        assert same(mask.encode(array), expected)
    assert same(mask.encode(stack[:, :, :0]), [])


def test_encode_of_noise_outgrows_every_buffer():
    noise = fortran(np.random.default_rng(0).random((300, 200, 3)) < 0.5)
    noise[:, :, 1] = 0
    assert same(mask.encode(noise), coco.encode(noise))


@pytest.mark.parametrize("seed", range(5))
def test_every_function_matches_on_random_masks(seed):
    rng = np.random.default_rng(seed)
    for _ in range(200):
        height, width = (int(n) for n in rng.integers(1, 60, 2))
        rles = coco.encode(random_stack(rng, height, width, int(rng.integers(1, 6))))
        truths = coco.encode(random_stack(rng, height, width, int(rng.integers(1, 4))))
        crowd = rng.integers(0, 2, len(truths))
        assert same(mask.decode(rles), coco.decode(rles))
        assert mask.decode(rles).flags.f_contiguous
        for function in ("area", "toBbox", "decode"):
            assert same(getattr(mask, function)(rles), getattr(coco, function)(rles))
            assert same(getattr(mask, function)(rles[0]), getattr(coco, function)(rles[0]))
        for intersect in (0, 1, False, True):
            assert same(mask.merge(rles, intersect), coco.merge(rles, intersect))
        assert same(mask.merge(rles, intersect=True), coco.merge(rles, intersect=True))
        for flags in (crowd, crowd.tolist(), crowd.astype(bool)):
            assert same(mask.iou(rles, truths, flags), coco.iou(rles, truths, flags))
        strings = [{"size": rle["size"], "counts": rle["counts"].decode()} for rle in rles]
        assert same(mask.decode(strings), coco.decode(strings))


def test_every_function_matches_on_real_strings():
    rles = real_rles("yolact_resnet50")[:2000]
    for start in range(0, len(rles), 200):  # pycocotools counts at most 255 areas with NumPy 2
        some = rles[start : start + 200]
        assert same(mask.area(some), coco.area(some))
        assert same(mask.toBbox(some), coco.toBbox(some))
        flags = [place % 3 == 0 for place in range(40)]
        assert same(mask.iou(some, some[:40], flags), coco.iou(some, some[:40], flags))  # of different sizes too
        alike = [rle for rle in some if rle["size"] == some[0]["size"]]
        for intersect in (False, True):
            assert same(mask.merge(alike, intersect), coco.merge(alike, intersect))


def test_box_iou_matches():
    rng = np.random.default_rng(0)
    for _ in range(200):
        dt, gt = (rng.random((int(n), 4)) * 30 - 5 for n in rng.integers(1, 8, 2))
        crowd = rng.integers(0, 2, len(gt))
        if rng.random() < 0.5:
            dt, gt = dt.round(), gt.round()
        expected = coco.iou(dt, gt, crowd)
        assert same(mask.iou(dt, gt, crowd), expected)
        assert same(mask.iou(dt.tolist(), gt.tolist(), crowd), expected)
        assert same(mask.iou(dt.astype(np.float32).astype(np.float64), gt, crowd).shape, expected.shape)


def polygon(rng: np.random.Generator) -> list[float]:
    """A polygon that may be coarse, degenerate, outside the picture or far larger than it."""
    count = int(rng.integers(3, 14))
    vertices = rng.random(2 * count) * rng.choice([1, 20, 120, 3000]) - rng.choice([0, 0, 50])
    kind = rng.integers(6)
    if kind == 0:
        vertices = np.round(vertices * rng.choice([1, 2, 10])) / rng.choice([1, 2, 10])
    elif kind == 1:
        vertices[2:4] = vertices[-2:] = vertices[:2]  # the same vertex more than once
    elif kind == 2:
        vertices[::2] = vertices[0]  # a vertical line
    elif kind == 3:
        vertices[1::2] = vertices[1]
    return vertices.tolist()


@pytest.mark.parametrize("seed", range(5))
def test_polygons_match(seed):
    rng = np.random.default_rng(seed)
    for _ in range(1000):
        height, width = (int(n) for n in rng.integers(1, 120, 2))
        polygons = [polygon(rng) for _ in range(int(rng.integers(1, 4)))]
        assert same(mask.frPyObjects(polygons, height, width), coco.frPyObjects(polygons, height, width))


def test_later_polygons_may_be_mere_lines():
    parts = [[2.0, 2.0, 30.0, 5.0, 9.0, 28.0], [3.0, 4.0, 10.0, 12.0], [3.0, 4.0, 10.0, 12.0, 7.0]]
    assert same(mask.frPyObjects(parts, 40, 50), coco.frPyObjects(parts, 40, 50))


def test_real_like_polygons_match_after_merging():
    angle = np.linspace(0, 2 * np.pi, 70, endpoint=False)
    parts = []
    for cx, cy, lobes in [(120.3, 90.7, 5), (260.1, 140.2, 3), (50.5, 200.5, 8)]:
        radius = 60 + 15 * np.sin(lobes * angle)
        outline = np.stack([cx + radius * np.cos(angle), cy + radius * np.sin(angle)], axis=1)
        parts.append(outline.ravel().round(2).tolist())
    ours, theirs = mask.frPyObjects(parts, 240, 320), coco.frPyObjects(parts, 240, 320)
    assert same(ours, theirs)
    assert same(mask.merge(ours), coco.merge(theirs))


def test_frPyObjects_takes_what_pycocotools_takes():
    rng = np.random.default_rng(0)
    boxes = rng.random((6, 4)) * 60 - 10
    assert same(mask.frPyObjects(boxes, 40, 50), coco.frPyObjects(boxes, 40, 50))
    for _ in range(100):
        height, width = (int(n) for n in rng.integers(1, 50, 2))
        lists = [
            {"size": [height, width], "counts": rng.multinomial(height * width, np.ones(n) / n).tolist()}
            for n in (1, 2, 5, 9)
        ]
        assert same(mask.frPyObjects(lists, height, width), coco.frPyObjects(lists, height, width))
        assert same(mask.frPyObjects(lists[2], height, width), coco.frPyObjects(lists[2], height, width))
        arrays = [rle | {"counts": np.array(rle["counts"])} for rle in lists]
        assert same(mask.frPyObjects(arrays, height, width), coco.frPyObjects(arrays, height, width))


def test_frPyObjects_takes_the_forms_that_pycocotools_only_names():
    box, triangle = [3.0, 4.0, 10.0, 12.0], [2.0, 2.0, 30.0, 5.0, 9.0, 28.0]
    expected = coco.frPyObjects(np.array([box]), 40, 50)
    assert same(mask.frPyObjects([box], 40, 50), expected)
    assert same(mask.frPyObjects(box, 40, 50), expected[0])
    assert same(mask.frPyObjects(np.array([[3, 4, 10, 12]]), 40, 50), expected)
    assert same(mask.frPyObjects(triangle, 40, 50), coco.frPyObjects([triangle], 40, 50)[0])


def test_empty_arguments():
    one = coco.encode(fortran(np.eye(4)))
    assert same(mask.iou([], [one], [0]), coco.iou([], [one], [0]))
    assert same(mask.iou([one], [], []), coco.iou([one], [], []))
    assert same(mask.merge([]), {"size": [0, 0], "counts": b""})
    assert same(mask.area([]), coco.area([]))
    assert same(mask.toBbox([]), coco.toBbox([]))
    other = coco.encode(fortran(np.ones((3, 4))))
    assert same(mask.merge([one, other]), coco.merge([one, other]))
    assert same(mask.iou([one], [other], [0]), coco.iou([one], [other], [0]))
    assert same(mask.merge([one]), coco.merge([one]))


def test_more_masks_than_pycocotools_can_count():
    one = mask.encode(np.eye(4, dtype=bool))
    assert mask.area([one] * 1000).tolist() == [4] * 1000


BROKEN = {
    "covers fewer": b"c0",
    "covers more": b"e0",
    "breaks off": b"d",
    "holds a character": b"d\xff",
    "holds a negative": b"01O",
}


@pytest.mark.parametrize("what", BROKEN)
def test_broken_strings_are_told(what):
    good, bad = {"size": [4, 5], "counts": b"d0"}, {"size": [4, 5], "counts": BROKEN[what]}
    for function in (mask.decode, mask.area, mask.toBbox, mask.merge):
        with pytest.raises(ValueError, match=f"mask 1: counts {what}"):
            function([good, bad])
    with pytest.raises(ValueError, match=f"mask 0: counts {what}"):
        mask.iou([bad], [good], [0])
    with pytest.raises(ValueError, match=f"mask 0: counts {what}"):
        mask.decode(bad)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: mask.encode(np.zeros((4, 5))), TypeError, "dtype uint8 or bool, got float64"),
        (lambda: mask.encode(np.zeros(4, np.uint8)), ValueError, r"\[H, W\] or \[H, W, N\], got 1 dimensions"),
        (lambda: mask.decode([]), ValueError, "at least one mask"),
        (
            lambda: mask.decode([{"size": [4, 5], "counts": "d0"}, {"size": [5, 4], "counts": "d0"}]),
            ValueError,
            "mask 1",
        ),
        (lambda: mask.area({"size": [4, 5], "counts": [20]}), TypeError, "counts must be str or bytes, got list"),
        (lambda: mask.area({"size": [4, -5], "counts": "d0"}), ValueError, r"got \[4, -5\]"),
        (lambda: mask.area({"size": [1 << 20, 1 << 20], "counts": "d0"}), ValueError, r"fewer than 2\*\*32"),
        (lambda: mask.area({"size": [4], "counts": "d0"}), ValueError, r"size must be \(height, width\), got \[4\]"),
        (lambda: mask.area({"size": [4.5, 5], "counts": "d0"}), TypeError, "two whole numbers, got 4.5"),
        (lambda: mask.area({"counts": "d0"}), KeyError, "size"),
        (lambda: mask.decode(5), TypeError, "a mask must be a dictionary with size and counts, got 5"),
        (lambda: mask.decode(["d0"]), TypeError, "a mask must be a dictionary with size and counts, got 'd0'"),
        (lambda: mask.frPyObjects([], 4, 5), TypeError, "pyobj must be"),
        (lambda: mask.frPyObjects("polygon", 4, 5), TypeError, "pyobj must be"),
        (lambda: mask.frPyObjects([[1, 2, 3]], 4, 5), ValueError, "more than four numbers"),
        (lambda: mask.frPyObjects([[1, 2, 3, 4, 5, float("nan")]], 4, 5), ValueError, "mask 0: a vertex lies at nan"),
        (lambda: mask.frPyObjects([[1, 2, 3, 4, 5, float("inf")]], 4, 5), ValueError, "mask 0: a vertex lies at inf"),
        (lambda: mask.frPyObjects([[1, 2, 3, 4, 5, 6]], -4, 5), ValueError, r"got \[-4, 5\]"),
        (lambda: mask.frPyObjects(np.zeros((2, 5)), 4, 5), ValueError, r"boxes of shape \[N, 4\]"),
        (lambda: mask.frPyObjects({"size": [4, 5], "counts": [19]}, 4, 5), ValueError, "covers fewer"),
        (lambda: mask.frPyObjects({"size": [4, 5], "counts": [1 << 40]}, 4, 5), ValueError, "covers more"),
        (lambda: mask.frPyObjects({"size": [4, 5], "counts": [-1, 21]}, 4, 5), ValueError, "negative"),
        (
            lambda: mask.iou(np.zeros((2, 4)), np.zeros((3, 4)), [0]),
            ValueError,
            "a flag for each of the 3 truths, got 1",
        ),
        (lambda: mask.iou(np.zeros((2, 5)), np.zeros((1, 4)), [0]), ValueError, r"dt must be .* shape \(2, 5\)"),
        (lambda: mask.iou([{"size": [4, 5], "counts": "d0"}], np.zeros((1, 4)), [0]), TypeError, "of one kind"),
    ],
)
def test_bad_arguments_are_told(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_random_masks_survive_the_way_there_and_back():
    rng = np.random.default_rng(7)
    for _ in range(200):
        dense = random_mask(rng)
        assert np.array_equal(mask.decode(mask.encode(dense)), dense)


def test_import_is_light():
    """No torch, and NumPy aside well under 0.3 s."""
    program = "import time, sys, numpy; t = time.perf_counter(); import yolact.mask; print(time.perf_counter() - t); "
    program += "assert not {'torch', 'cv2', 'PIL'} & set(sys.modules)"
    best = min(float(subprocess.check_output([sys.executable, "-c", program])) for _ in range(3))
    assert best < 0.1


def test_releases_the_interpreter_while_it_computes():
    """Another thread gets on during one call that takes long: without that, none of its steps could lie inside."""
    side = 12_000
    large = mask.frPyObjects({"size": [side, side], "counts": [0, side * side]}, side, side)
    steps: list[float] = []
    done = threading.Event()

    def step() -> None:
        while not done.wait(0.001):
            steps.append(time.perf_counter())

    thread = threading.Thread(target=step)
    thread.start()
    begin = time.perf_counter()
    decoded = mask.decode(large)
    end = time.perf_counter()
    done.set()
    thread.join()
    assert decoded.all()
    assert sum(begin < moment < end for moment in steps) >= 3


def test_real_annotations_match():
    """COCO's own annotations: polygons of one part and of several, and crowds as uncompressed counts."""
    truth = json.loads(shared_path("data/coco-val-daily/instances_val2017_daily.json").read_text())
    sizes = {picture["id"]: (picture["height"], picture["width"]) for picture in truth["images"]}
    for annotation in truth["annotations"]:
        height, width = sizes[annotation["image_id"]]
        ours = mask.frPyObjects(annotation["segmentation"], height, width)
        assert same(ours, coco.frPyObjects(annotation["segmentation"], height, width))
        if isinstance(ours, list):
            assert same(mask.merge(ours), coco.merge(ours))
        assert same(mask.area(ours), coco.area(ours))
        assert same(mask.toBbox(ours), coco.toBbox(ours))
