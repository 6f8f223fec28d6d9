"""yolact.mask against pycocotools.mask, byte for byte."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections import OrderedDict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays as hypothesis_arrays
from masks import adversarial_masks, fortran, random_mask, same
from pycocotools import mask as coco

from yolact import mask

# pycocotools' own, about how NumPy 2 asks for copies.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


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


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_encode_takes_any_strides_and_values(data):
    """A view of a larger array: axes in any order, every so many pixels, forwards or backwards."""
    dtype = data.draw(st.sampled_from([np.uint8, np.bool_]))
    axes = data.draw(st.sampled_from([2, 3]))
    array = data.draw(hypothesis_arrays(dtype, st.tuples(*[st.integers(0, 70)] * axes), fill=st.just(dtype(1))))
    steps = data.draw(st.tuples(*[st.sampled_from([1, 2, 3, -1, -2])] * axes))
    view = array[tuple(slice(None, None, step) for step in steps)].transpose(data.draw(st.permutations(range(axes))))
    view.flags.writeable = False
    assert same(mask.encode(view), coco.encode(fortran(view != 0)))


def test_encode_of_noise_outgrows_every_buffer():
    noise = fortran(np.random.default_rng(0).random((300, 200, 3)) < 0.5)
    noise[:, :, 1] = 0
    assert same(mask.encode(noise), coco.encode(noise))


def test_large_masks_match():
    """64 million pixels: an ellipse, and a band of noise whose runs are as short as they get."""
    y, x = np.ogrid[:8000, :8000]
    dense = np.asfortranarray((((x - 3900) / 3800) ** 2 + ((y - 4100) / 2500) ** 2 < 1).astype(np.uint8))
    dense[:, 7000:7050] = np.random.default_rng(0).random((8000, 50)) < 0.5
    rle = coco.encode(dense)
    assert same(mask.encode(dense), rle)
    assert same(mask.encode(np.ascontiguousarray(dense)), rle)
    assert np.array_equal(mask.decode(rle), dense)
    shifted = mask.encode(dense[::-1])
    assert same(mask.area([rle, shifted]), coco.area([rle, shifted]))
    assert same(mask.toBbox([rle, shifted]), coco.toBbox([rle, shifted]))
    assert same(mask.iou([rle], [rle, shifted], [0, 1]), coco.iou([rle], [rle, shifted], [0, 1]))
    for intersect in (False, True):
        assert same(mask.merge([rle, shifted], intersect), coco.merge([rle, shifted], intersect))


def test_many_masks_match():
    rng = np.random.default_rng(0)
    rles = mask.encode(rng.random((24, 32, 2000)) < rng.choice([0.01, 0.5, 0.99], 2000))
    assert same(mask.decode(rles), coco.decode(rles))
    assert same(mask.toBbox(rles), coco.toBbox(rles))
    assert same(mask.merge(rles), coco.merge(rles))
    crowd = rng.integers(0, 2, 400)
    assert same(mask.iou(rles, rles[:400], crowd), coco.iou(rles, rles[:400], crowd))
    boxes, others = rng.random((2000, 4)) * 50, rng.random((400, 4)) * 50
    assert same(mask.iou(boxes, others, crowd), coco.iou(boxes, others, crowd))


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


def test_a_polygon_of_many_vertices_matches():
    """An outline that crosses its columns hundreds of times."""
    rng = np.random.default_rng(0)
    zigzag = np.stack([rng.random(3000) * 60, rng.random(3000) * 900], axis=1).ravel().tolist()
    assert same(mask.frPyObjects([zigzag], 700, 50), coco.frPyObjects([zigzag], 700, 50))


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


def test_runs_of_no_pixels_change_nothing():
    """pycocotools makes such strings of such counts, and then corrupts its memory over them."""
    rng = np.random.default_rng(0)
    for _ in range(500):
        height, width = (int(n) for n in rng.integers(1, 9, 2))
        counts = [np.insert(rng.multinomial(height * width, np.ones(5) / 5), rng.integers(0, 6, 3), 0) for _ in "ab"]
        odd = mask.frPyObjects([{"size": [height, width], "counts": list(runs)} for runs in counts], height, width)
        dense = [np.repeat(np.arange(8) % 2, runs).reshape(width, height).T for runs in counts]
        plain = mask.encode(fortran(np.stack(dense, axis=2)))
        assert np.array_equal(mask.decode(odd), np.stack(dense, axis=2))
        for function in ("area", "toBbox"):
            assert same(getattr(mask, function)(odd), getattr(coco, function)(plain))
        assert same(mask.iou(odd, odd, [0, 1]), coco.iou(plain, plain, [0, 1]))
        for intersect in (False, True):
            assert same(mask.merge(odd, intersect), coco.merge(plain, intersect))


def test_sequences_sizes_and_flags_of_other_kinds():
    rles = coco.encode(random_stack(np.random.default_rng(0), 20, 30, 3))
    expected = coco.iou(rles, rles, [0, 1, 0])
    for flags in ([False, True, False], [0, np.int64(1), 0], np.array([0.0, 1.0, 0.0]), (0, 1, 0)):
        assert same(mask.iou(rles, rles, flags), expected)
    others = [OrderedDict(rle, size=tuple(np.array(rle["size"])), score=0.5) for rle in rles]
    assert same(mask.decode(others), coco.decode(rles))
    assert same(mask.area(tuple(others)), coco.area(rles))
    assert same(mask.merge(tuple(rles)), coco.merge(rles))
    assert same(mask.merge({"a": rles[0], "b": rles[1]}.values()), coco.merge(rles[:2]))
    assert same(mask.merge(rleObjs=rles, intersect=np.True_), coco.merge(rles, 1))
    boxes = coco.toBbox(rles)
    assert same(mask.iou(list(boxes), boxes.astype(int).tolist(), [0, 0, 0]), coco.iou(boxes, boxes, [0, 0, 0]))
    assert same(mask.iou(boxes.astype(np.float32)[::-1], boxes, [0] * 3), coco.iou(boxes[::-1], boxes, [0] * 3))
    outline = np.array([2.0, 2.0, 30.0, 5.0, 9.0, 28.0])
    assert same(mask.frPyObjects([outline], np.int64(40), 50), coco.frPyObjects([outline], 40, 50))


def test_sizes_may_be_whole_floats():
    one = coco.encode(fortran(np.eye(4)))
    for whole in (4.0, np.float64(4), np.int32(4)):
        assert same(mask.decode(one | {"size": [whole, whole]}), coco.decode(one))
        assert same(mask.frPyObjects([[0, 0, 3, 0, 3, 3]], whole, 4), coco.frPyObjects([[0, 0, 3, 0, 3, 3]], whole, 4))


def test_more_masks_than_pycocotools_can_count():
    one = mask.encode(np.eye(4, dtype=bool))
    assert mask.area([one] * 1000).tolist() == [4] * 1000


def test_random_masks_survive_the_way_there_and_back():
    rng = np.random.default_rng(7)
    for _ in range(200):
        dense = random_mask(rng)
        assert np.array_equal(mask.decode(mask.encode(dense)), dense)


def test_import_is_light():
    """No torch, and NumPy aside well under 0.3 s of the processor."""
    program = "import time, sys, numpy; t = time.process_time(); import yolact.mask; print(time.process_time() - t); "
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
