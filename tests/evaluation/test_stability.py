"""Temporal stability: who is whose partner, and what is counted, by numbers that can be checked by hand."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from yolact import mask
from yolact.evaluation.stability import match, pool, temporal_stability

SIDE = 20


def found(x: int, y: int, width: int, height: int, category: int = 1, pixels: Any = None) -> dict[str, Any]:
    """A detection, whose mask is its box filled in unless rows and columns are given."""
    picture = np.zeros((SIDE, SIDE), np.uint8)
    picture[pixels or (slice(y, y + height), slice(x, x + width))] = 1
    return {"category_id": category, "bbox": [x, y, width, height], "segmentation": mask.encode(picture)}


def test_masks_and_boxes_are_compared():
    before = found(0, 0, 4, 4, pixels=np.s_[0:4, 0:2])  # 8 pixels
    now = found(1, 0, 4, 4, pixels=np.s_[0:4, 0:3])  # 12, of which 8 are common; boxes share 12 of 20
    measured = temporal_stability([[before], [now]])
    np.testing.assert_allclose(measured.mask_iou, [8 / 12])
    np.testing.assert_allclose(measured.box_iou, [12 / 20])
    assert (measured.frames, measured.detections, measured.sought) == (2, 2, 1)


def test_mean_and_fifth_percentile():
    widths = (10, 6, 6, 8)  # IoUs of 0.6, 1 and 0.75
    summary = temporal_stability([[found(0, 0, width, 5)] for width in widths]).summary()
    assert summary == {
        "frames": 4,
        "detections": 4,
        "sought": 3,
        "matched": 3,
        "mask_mean": pytest.approx((0.6 + 1 + 0.75) / 3),
        "mask_p5": pytest.approx(0.6 + 0.05 * 2 * 0.15),  # a tenth of the way from the least to the next
        "box_mean": pytest.approx((0.6 + 1 + 0.75) / 3),
        "box_p5": pytest.approx(0.6 + 0.05 * 2 * 0.15),
    }


def test_the_highest_overlap_chooses_first():
    before = [found(0, 0, 10, 10), found(0, 0, 8, 10)]
    now = [found(0, 0, 8, 10), found(0, 0, 13, 10)]  # IoUs: .8 and 10/13 of the first, 1 and 8/13 of the second
    assert match(before, now) == [(1, 0), (0, 1)]
    assert match(before, now[:1]) == [(1, 0)], "the first goes without"
    assert match(before[:1], [found(0, 0, 8, 10), found(2, 0, 8, 10)]) == [(0, 0)], "equal ones in their order"


def test_another_class_is_no_partner():
    measured = temporal_stability([[found(0, 0, 8, 8, category=1)], [found(0, 0, 8, 8, category=2)]])
    assert (measured.sought, len(measured.mask_iou)) == (1, 0)


def test_an_overlap_of_half_is_not_enough():
    assert match([found(0, 0, 4, 4)], [found(0, 0, 4, 8)]) == []
    assert match([found(0, 0, 5, 4)], [found(0, 0, 4, 7)]) == []
    assert match([found(0, 0, 4, 7)], [found(0, 0, 4, 4)]) == [(0, 0)]


def test_of_nothing_there_are_no_ious():
    for frames in ([], [[]], [[], []], [[found(0, 0, 4, 4)]], [[], [found(0, 0, 4, 4)]]):
        summary = temporal_stability(frames).summary()
        assert (summary["sought"], summary["matched"]) == (0, 0)
        assert {summary[name] for name in ("mask_mean", "mask_p5", "box_mean", "box_p5")} == {None}
    gone = temporal_stability([[found(0, 0, 4, 4)], [], [found(0, 0, 4, 4)]])
    assert (gone.detections, gone.sought, len(gone.mask_iou)) == (2, 1, 0), "only the next frame is looked at"


def test_an_empty_mask_overlaps_nothing():
    empty = found(0, 0, 8, 8, pixels=np.s_[0:0, 0:0])
    measured = temporal_stability([[empty], [empty], [found(0, 0, 8, 8)]])
    assert measured.mask_iou.tolist() == [0, 0]
    assert measured.box_iou.tolist() == [1, 1]


def test_frames_of_other_sizes_are_refused():
    other = found(0, 0, 4, 4) | {"segmentation": mask.encode(np.ones((9, 9), np.uint8))}
    with pytest.raises(ValueError, match=r"of one size to be compared, got \[\(9, 9\), \(20, 20\)\]"):
        temporal_stability([[found(0, 0, 4, 4)], [other]])


def test_films_are_pooled_pair_by_pair():
    one = temporal_stability([[found(0, 0, 10, 10)], [found(0, 0, 6, 10)]])
    two = temporal_stability([[found(0, 0, 10, 10)]] * 4)
    both = pool([one, two])
    assert (both.frames, both.detections, both.sought) == (6, 6, 4)
    assert both.summary()["mask_mean"] == pytest.approx((0.6 + 3) / 4)
    assert len(pool([]).mask_iou) == 0


def test_two_frames_are_held_at_once():
    class Frame(list[dict[str, Any]]):
        pass

    made: list[weakref.ref[Frame]] = []

    def frames() -> Iterator[Frame]:
        for _ in range(10):
            frame = Frame([found(0, 0, 4, 4)])
            made.append(weakref.ref(frame))
            assert sum(one() is not None for one in made) <= 3, "the two that are compared, and this one"
            yield frame

    assert temporal_stability(frames()).sought == 9
