"""Overlays: colours that stay with a class, everything inside the picture, nothing drawn for nothing."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from yolact.draw import colour, draw


def disc(height: int, width: int, x: float, y: float, radius: float) -> np.ndarray:
    rows, columns = np.mgrid[0:height, 0:width]
    return (columns - x) ** 2 + (rows - y) ** 2 < radius**2


def test_colours_are_distinct_and_stay() -> None:
    colours = [colour(label) for label in range(80)]
    assert colours == [colour(label) for label in range(80)]
    assert all(0 <= channel <= 255 for rgb in colours for channel in rgb)
    assert len(set(colours)) == 80
    nearest = min(np.abs(np.subtract(a, b)).sum() for a, b in combinations(colours[:12], 2))
    assert nearest > 40, "the first dozen classes are told apart at a glance"


def test_draw_nothing_changes_nothing() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    drawn = draw(picture, [], np.zeros((0, 4)), [], [])
    np.testing.assert_array_equal(drawn, picture)
    assert drawn is not picture


def test_draw_tints_the_mask_and_leaves_the_rest() -> None:
    picture = np.full((480, 640, 3), 100, np.uint8)
    before = picture.copy()
    drawn = draw(picture, [disc(480, 640, 320, 240, 80)], np.array([[240, 160, 401, 321]]), [3], ["disc 0.90"])
    np.testing.assert_array_equal(picture, before)
    expected = 0.55 * 100 + 0.45 * np.array(colour(3))
    assert np.abs(drawn[240, 320] - expected).max() <= 1, "inside, tinted with the colour of its class"
    assert (drawn[300:310, 255:260] == 100).all(), "inside the box, outside the mask"
    assert (drawn[400:] == 100).all(), "outside the box"


def test_draw_leaves_holes_open() -> None:
    ring = disc(480, 640, 320, 240, 100) & ~disc(480, 640, 320, 240, 50)
    drawn = draw(np.full((480, 640, 3), 100, np.uint8), [ring], np.array([[220, 140, 421, 341]]), [0], [""])
    assert (drawn[220:260, 300:340] == 100).all()


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (7, 5), (48, 64), (1200, 1600)])
@pytest.mark.parametrize("box", [(0, 0, 1, 1), (-5, -5, 9000, 9000), (3, 3, 3, 3)])
def test_draw_on_any_size(size: tuple[int, int], box: tuple[int, ...]) -> None:
    picture = np.zeros((*size, 3), np.uint8)
    mask = np.ones(size, bool)
    drawn = draw(picture, [mask, ~mask], np.array([box, box], np.float32), [0, 1], ["one 1.00", "two 0.50"])
    assert drawn.shape == picture.shape
    assert drawn.dtype == np.uint8


def test_tags_stay_inside_and_avoid_each_other() -> None:
    picture = np.zeros((480, 640, 3), np.uint8)
    boxes = np.array([[600, 0, 640, 40], [590, 0, 640, 40], [600, 440, 640, 480]], np.float32)
    empty = [np.zeros((480, 640), bool)] * 3
    drawn = draw(picture, empty, boxes, [0, 1, 2], ["first 1.00", "second 0.90", "third 0.80"])
    tags = [(drawn == colour(label)).all(axis=-1) for label in range(3)]
    assert all(tag.sum() > 500 for tag in tags), "each tag shows most of its plate"


@pytest.mark.parametrize("label", range(12))
def test_tags_are_legible(label: int) -> None:
    drawn = draw(
        np.full((480, 640, 3), 100, np.uint8),
        [np.zeros((480, 640), bool)],
        np.array([[50, 50, 90, 90]]),
        [label],
        ["mmm"],
    )
    luminance = np.array(colour(label)) @ (0.299, 0.587, 0.114)
    ink = 0 if luminance > 140 else 255
    near_ink = (np.abs(drawn.astype(int) - ink) < 40).all(axis=-1)
    assert near_ink.sum() > 20, "letters are black or white"
    assert abs(ink - luminance) > 100, "and contrast with their plate"


def test_text_of_any_letters_is_drawn() -> None:
    picture = np.zeros((60, 90, 3), np.uint8)
    mask = disc(60, 90, 40, 30, 10)
    for text in ("\ud800", "\u732b", ""):  # half a character, one that the font lacks, none
        assert draw(picture, [mask], np.array([[30, 20, 51, 41]]), [0], [text]).any()
