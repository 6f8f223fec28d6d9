"""What yolact.mask refuses, and how it tells."""

from __future__ import annotations

import numpy as np
import pytest

from yolact import mask

BOXES = [[1.0, 2.0, 3.0, 4.0]]

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
        *(
            (
                lambda flags=flags: mask.iou(np.zeros((2, 4)), np.zeros((3, 4)), flags),
                ValueError,
                f"a flag for each of the 3 truths, got {len(flags)}",
            )
            for flags in ([0], [0] * 4, np.zeros(2))
        ),
        (lambda: mask.iou(np.zeros((2, 4)), np.zeros((1, 4)), ["a"]), ValueError, "invalid literal for int"),
        (lambda: mask.iou(np.zeros((2, 4)), np.zeros((1, 4)), [None]), TypeError, "not 'NoneType'"),
        (lambda: mask.iou(np.full((2, 4), "a"), np.zeros((1, 4)), [0]), ValueError, "could not convert string"),
        (lambda: mask.encode([[1], [2, 3]]), ValueError, "inhomogeneous shape"),
        (lambda: mask.iou(np.zeros((2, 5)), np.zeros((1, 4)), [0]), ValueError, r"dt must be .* shape \(2, 5\)"),
        (lambda: mask.iou([{"size": [4, 5], "counts": "d0"}], np.zeros((1, 4)), [0]), TypeError, "of one kind"),
        (lambda: mask.encode(None), ValueError, "got 0 dimensions"),
        (lambda: mask.merge(None), TypeError, "masks must come in a list, got None"),
        (lambda: mask.merge({"size": [4, 5], "counts": "d0"}), TypeError, "must be a dictionary .*, got 'size'"),
        (lambda: mask.iou(BOXES, BOXES, [[0]]), ValueError, "pyiscrowd must be flat"),
        (lambda: mask.iou([[1, 2, 3]], BOXES, [0]), ValueError, r"dt must be .*, got \[1, 2, 3\]"),
        (lambda: mask.iou([["a"] * 4], BOXES, [0]), TypeError, "coordinates must be numbers, got 'a'"),
        (lambda: mask.iou(BOXES, {"size": [4, 5]}, [0]), TypeError, "gt must be masks, or boxes"),
        (lambda: mask.frPyObjects([1, 2], 4, 5), ValueError, r"more than four numbers, a box four, got \[1, 2\]"),
        (lambda: mask.frPyObjects([[1, 2, 3, 4, 5, 6], None], 4, 5), TypeError, "come in a list, got None"),
        (lambda: mask.frPyObjects([[[1, 2], [3, 4], [5, 6], [7, 8], [9, 9]]], 4, 5), TypeError, r"got \[1, 2\]"),
        (lambda: mask.frPyObjects([[1, 2, 3, 4, 5, 6]], 4.5, 5), TypeError, "two whole numbers, got 4.5"),
        (lambda: mask.frPyObjects(np.array([["a"] * 4]), 4, 5), ValueError, "could not convert string"),
        (
            lambda: mask.frPyObjects({"size": [4, 5], "counts": b"d0"}, 4, 5),
            ValueError,
            "list of whole numbers, got b'd0'",
        ),
        (lambda: mask.frPyObjects({"size": [4, 5], "counts": [10**30]}, 4, 5), ValueError, r"less than 2\*\*32"),
        (lambda: mask.frPyObjects([{"size": [4, 5], "counts": [20]}, 5], 4, 5), TypeError, "a mask must be .*, got 5"),
    ],
)
def test_bad_arguments_are_told(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_a_long_argument_is_not_told_whole():
    with pytest.raises(TypeError) as told:
        mask.frPyObjects("polygon" * 10_000, 4, 5)
    assert len(str(told.value)) < 400


class Emptying:
    """A number that empties the list that it is read from."""

    def __init__(self, owner: list) -> None:
        self.owner = owner

    def __float__(self) -> float:
        self.owner.clear()
        return 5.0


def test_a_list_that_changes_while_it_is_read():
    polygon: list = [1.0, 2.0, 9.0]
    polygon += [Emptying(polygon), 3.0, 4.0]
    assert len(mask.frPyObjects([polygon], 20, 20)) == 1
    boxes: list = [[1.0, 2.0, 3.0], BOXES[0]]
    boxes[0].append(Emptying(boxes))
    assert mask.iou(boxes, BOXES, [0]).shape == (1, 1)


@pytest.mark.parametrize("side", [4.5, float("nan"), float("inf"), 1e300])
def test_a_size_is_whole(side):
    with pytest.raises(TypeError, match="size must be two whole numbers, got "):
        mask.frPyObjects([[0, 0, 3, 0, 3, 3]], side, 4)
