"""Augmentation: picture, boxes and masks move together, and a seed fixes everything."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from discs import GREY, STRONG, bounds, disc, disc_data_set, equal

from yolact import mask
from yolact.data import augment
from yolact.data.augment import Augmentation, copy_paste, distort, mosaic
from yolact.data.coco import CocoDataset
from yolact.data.records import Picture, Truth
from yolact.data.render import Sample, render, window_to_size
from yolact.data.samples import SampleStream


@pytest.fixture
def dataset(tmp_path: Path) -> CocoDataset:
    return disc_data_set(tmp_path)


def test_boxes_are_tight_around_their_masks(dataset: CocoDataset) -> None:
    """Within a pixel, but for boxes that copy and paste leaves: what is cut then is another object's."""
    stream = SampleStream(dataset, 96, replace(STRONG, copy_paste=0.0), GREY, seed=1)
    seen = 0
    for position in range(100):
        sample = stream[position]
        assert sample.image.shape == (96, 96, 3)
        assert (sample.boxes >= 0).all()
        assert (sample.boxes <= 96).all()
        for box, pixels in zip(sample.boxes, sample.masks, strict=True):
            assert np.abs(box - bounds(pixels)).max() <= 1
            assert (box[2:] > box[:2]).all()
            seen += 1
    assert seen > 200


def test_masks_lie_on_their_objects(dataset: CocoDataset) -> None:
    """A disc has the colour of its label, so under its mask there is little else, wherever the map takes it."""
    options = Augmentation(photometric=0, rotation=20.0, mosaic=0.5)
    stream = SampleStream(dataset, 96, options, GREY, seed=2)
    shares = []
    for position in range(100):
        sample = stream[position]
        for label, pixels in zip(sample.labels, sample.masks, strict=True):
            others = sample.masks[sample.labels != label]
            alone = pixels & ~np.logical_or.reduce(others) if len(others) else pixels
            if alone.sum() > 100:
                shares.append((sample.image[alone][:, label] > 127).mean())
    assert len(shares) > 100
    assert np.quantile(shares, 0.05) > 0.9


def shown_alone(tmp_path: Path) -> CocoDataset:
    """One picture of one white disc, far from every edge."""
    pixels = np.zeros((120, 160, 3), np.uint8)
    ys, xs = np.mgrid[:120, :160] + 0.5
    pixels[(xs - 70) ** 2 + (ys - 60) ** 2 < 30**2] = 255
    cv2.imwrite(str(tmp_path / "disc.png"), pixels)
    truth = Truth(np.array((40, 30, 100, 90), np.float32), 0, [disc(70, 60, 30)], crowd=False)
    return CocoDataset(Path("disc.json"), (Picture(1, tmp_path / "disc.png", 120, 160, (truth,)),), ("disc",), (1,))


def test_a_mask_is_what_is_seen_of_its_object(tmp_path: Path) -> None:
    stream = SampleStream(shown_alone(tmp_path), 128, Augmentation(photometric=0, rotation=30), (0, 0, 0), seed=0)
    for position in range(60):
        sample = stream[position]
        (pixels,) = sample.masks
        seen = sample.image[..., 0] > 127
        edge = np.count_nonzero(pixels & ~cv2.erode(pixels.view(np.uint8), np.ones((3, 3))).view(bool))
        assert np.count_nonzero(pixels != seen) <= 0.35 * edge + 8, "half a pixel along the edge, at most"


def test_the_picture_is_distorted_and_what_lies_around_it_is_not(tmp_path: Path) -> None:
    fill = (10.0, 20.0, 30.0)
    dataset = shown_alone(tmp_path)
    options = Augmentation(photometric=1.0, expand=1.0, crop=False)
    stream = SampleStream(dataset, 64, options, fill, seed=0)
    for position in range(10):
        image = stream[position].image
        around = (image == np.array(fill)).all(2)
        assert around.mean() > 0.1
        ys, xs = np.nonzero(~around)
        inside = np.s_[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1]
        assert not around[inside].any(), "the picture is a rectangle, and nothing else changes"


def test_rotation_fills_the_corners(tmp_path: Path) -> None:
    options = replace(Augmentation.none(), rotation=30.0)
    stream = SampleStream(shown_alone(tmp_path), 64, options, (10, 20, 30), seed=0)
    image = stream[3].image
    corners = image[[0, 0, -1, -1], [0, -1, 0, -1]]
    assert (corners == (10, 20, 30)).all()
    assert (image[32, 28] == 255).all()


@pytest.mark.parametrize("least", [0.0, 0.1, 0.3, 0.5, 0.7, 0.9])
def test_crops_overlap_what_they_must(least: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(augment, "CROP_OVERLAPS", (least,))
    rng = np.random.default_rng(0)
    window = np.array((-10.0, -20.0, 190.0, 100.0))
    boxes = np.array([(20, 10, 150, 85), (20, 8, 153, 86)], np.float32)
    crops = np.stack([augment._sample_crop(window, boxes, Augmentation(), rng) for _ in range(20)])
    sides = crops[:, 2:] - crops[:, :2]
    assert (crops[:, :2] >= window[:2]).all()
    assert (crops[:, 2:] <= window[2:] + 1e-9).all()
    assert (sides >= 0.3 * np.array((200, 120))).all()
    assert (np.maximum(sides[:, 0] / sides[:, 1], sides[:, 1] / sides[:, 0]) <= 2).all()
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    shown = ((centres > crops[:, None, :2]) & (centres < crops[:, None, 2:])).all(2)
    assert shown.any(1).all()
    xywh = [np.concatenate([b[:, :2], b[:, 2:] - b[:, :2]], axis=1).astype(np.float64) for b in (crops, boxes)]
    overlaps = mask.iou(*xywh, [0, 0])
    assert overlaps.min() >= least
    assert len(np.unique(crops, axis=0)) == 20


def test_a_picture_without_objects_is_cropped_as_well() -> None:
    rng = np.random.default_rng(0)
    window = np.array((0.0, 0.0, 100.0, 80.0))
    nothing = np.zeros((0, 4), np.float32)
    crops = [augment._sample_crop(window, nothing, Augmentation(), rng) for _ in range(70)]
    whole = sum(np.array_equal(crop, window) for crop in crops)
    assert 3 <= whole <= 20, "one in seven"


def test_choices_are_as_frequent_as_they_should_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shares within four standard deviations, over 1000 views."""
    seen: list[tuple[np.ndarray, object]] = []
    monkeypatch.setattr(augment, "render", lambda p, pixels, matrix, *rest: seen.append((matrix, rest)))
    truth = Truth(np.array((30, 30, 170, 130), np.float32), 0, [disc(100, 80, 40)], crowd=False)
    picture = Picture(1, Path("none"), 160, 200, (truth,))
    rng = np.random.default_rng(0)

    def share(options: Augmentation, of: object) -> float:
        seen.clear()
        for _ in range(1000):
            augment.sample_view(picture, np.zeros((160, 200, 3), np.uint8), (100, 100), options, GREY, rng)
        return float(np.mean([of(matrix) for matrix, _ in seen]))

    plain = Augmentation(crop=False)
    mirrored = share(plain, lambda matrix: matrix[0, 0] < 0)
    assert abs(mirrored - 0.5) < 0.064
    assert abs(share(plain, lambda matrix: abs(matrix[0, 0]) < 0.499) - 0.5) < 0.064, "expanded"
    ratio = share(replace(plain, expand=1.0), lambda matrix: 0.5 / abs(matrix[0, 0]))
    assert abs(ratio - 2.5) < 4 * np.sqrt(0.75 / 1000), "1 to 4"
    whole = share(replace(plain, expand=0.0, crop=True), lambda matrix: abs(matrix[0, 0]) == 0.5)
    assert abs(whole - 1 / 7) < 0.045, "a crop of one object can always be found"


def test_distortions_are_as_frequent_as_they_should_be() -> None:
    """Each of the four in half of the pictures: by what it alone changes of one colour and one grey."""
    image = np.array([[(150, 100, 100), (120, 120, 120)]], np.uint8)
    rng = np.random.default_rng(0)
    outcomes = np.stack([distort(0.5, rng, image)[0] for _ in range(1000)]).astype(int)
    colour, grey = outcomes[:, 0], outcomes[:, 1]
    assert (grey.max(1) - grey.min(1) <= 1).all(), "no colour from none"
    lighter = (grey[:, 0] != 120).mean()
    assert abs(lighter - 0.75) < 0.06, "brightness or contrast"
    turned = (np.abs(colour[:, 1] - colour[:, 2]) > 1).mean()
    assert abs(turned - 0.5) < 0.09, "hue; a turn of less than a degree is not seen"
    unchanged = (outcomes == image[0]).all((1, 2)).mean()
    assert abs(unchanged - 1 / 16) < 0.035


def test_mirrored_twice_is_the_same(dataset: CocoDataset) -> None:
    picture = dataset.pictures[1]
    pixels, size = picture.read(), (64, 64)
    plain = window_to_size((0, 0, picture.width, picture.height), size)
    mirror = np.array([[-1, 0, 64], [0, 1, 0], [0, 0, 1]])
    once, twice = (render(picture, pixels, m, size) for m in (mirror @ plain, mirror @ mirror @ plain))
    assert equal(twice, render(picture, pixels, plain, size))
    reference = render(picture, pixels, plain, size)
    np.testing.assert_allclose(
        once.boxes[:, [2, 1, 0, 3]] * (-1, 1, -1, 1) + (64, 0, 64, 0), reference.boxes, atol=1e-4
    )
    assert (once.masks[..., ::-1] != reference.masks).mean() < 0.01


def test_what_is_cut_away_becomes_a_crowd_and_then_nothing(dataset: CocoDataset) -> None:
    picture = dataset.pictures[2]
    x1, y1, x2, _ = (float(v) for v in picture.truths[0].box)
    pixels = picture.read()

    def left_of(edge: float) -> Sample:
        matrix = window_to_size((edge - 200, y1 - 100, edge, y1 + 100), (200, 200))
        return render(picture, pixels, matrix, (200, 200), min_visible=0.3)

    def crowd_of_first(sample: Sample) -> list[bool]:
        return sample.crowd[sample.labels == 0].tolist()

    assert crowd_of_first(left_of(x1 + 0.5 * (x2 - x1))) == [False]
    assert crowd_of_first(left_of(x1 + 0.2 * (x2 - x1))) == [True]
    assert crowd_of_first(left_of(x1 - 1)) == []


def plain_sample(size: tuple[int, int], box: tuple[int, int, int, int], label: int, colour: int) -> Sample:
    x1, y1, x2, y2 = box
    mask = np.zeros((1, *size), bool)
    mask[0, y1:y2, x1:x2] = True
    image = np.full((*size, 3), colour, np.uint8)
    return Sample(image, np.array([box], np.float32), np.array([label]), mask, np.array([False]))


def test_copy_paste_cuts_away_what_it_covers() -> None:
    below = plain_sample((20, 20), (0, 0, 10, 10), 0, 50)
    above = plain_sample((20, 20), (5, 0, 15, 10), 1, 200)
    rng = np.random.default_rng(0)
    result = next(r for r in (copy_paste(below, above, 0.3, rng) for _ in range(50)) if len(r.labels) == 2)
    assert result.labels.tolist() == [0, 1]
    assert result.boxes.tolist() == [[0, 0, 5, 10], [5, 0, 15, 10]]
    assert not (result.masks[0] & result.masks[1]).any()
    assert (result.image[..., 0] == np.where(above.masks[0], 200, 50)).all()


def test_mosaic_places_four() -> None:
    sizes = ((8, 12), (8, 20), (24, 12), (24, 20))
    parts = [plain_sample(size, (1, 2, 5, 6), i, 10 * i) for i, size in enumerate(sizes)]
    result = mosaic(parts, (8, 12), (32, 32))
    assert result.boxes.tolist() == [[1, 2, 5, 6], [13, 2, 17, 6], [1, 10, 5, 14], [13, 10, 17, 14]]
    assert [result.image[y, x, 0] for y, x in ((0, 0), (0, 31), (31, 0), (31, 31))] == [0, 10, 20, 30]
    for box, pixels in zip(result.boxes, result.masks, strict=True):
        assert bounds(pixels).tolist() == box.tolist()


def test_distortion_is_seeded_and_can_be_off() -> None:
    image = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    assert np.array_equal(distort(0.0, np.random.default_rng(1), image), image)
    first, again, other = (distort(1.0, np.random.default_rng(seed), image) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert not np.array_equal(first, image)
