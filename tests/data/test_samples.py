"""A stream of samples: a seed fixes every one, whoever draws it, and another stands for one that does not read."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from discs import GREY, STRONG, disc_data_set, equal

from yolact.data.augment import Augmentation
from yolact.data.coco import CocoDataset
from yolact.data.render import render, window_to_size
from yolact.data.samples import SampleStream
from yolact.errors import UserError


@pytest.fixture
def dataset(tmp_path: Path) -> CocoDataset:
    return disc_data_set(tmp_path)


def test_a_seed_fixes_every_sample(dataset: CocoDataset) -> None:
    a, b = (SampleStream(dataset, 64, STRONG, GREY, seed=5) for _ in range(2))
    for position in (11, 0, 7):
        assert equal(a[position], b[position]), "whatever was asked for before"
    assert not np.array_equal(a[0].image, SampleStream(dataset, 64, STRONG, GREY, seed=6)[0].image)


def test_truths_below_the_least_size_are_left_out(dataset: CocoDataset) -> None:
    everything = SampleStream(dataset, 32, Augmentation.none(), GREY, seed=0)
    sides = [(s.boxes[:, 2:] - s.boxes[:, :2]).min(axis=1) for s in map(everything.__getitem__, range(len(dataset)))]
    least = float(np.median(np.concatenate(sides)))
    stream = SampleStream(dataset, 32, Augmentation.none(), GREY, seed=0, min_truth_size=least)
    kept = [len(stream[position].labels) for position in range(len(dataset))]
    assert kept == [int((side >= least).sum()) for side in sides]
    assert 0 < sum(kept) < sum(map(len, sides))


def test_workers_draw_the_same_samples(dataset: CocoDataset) -> None:
    alone = SampleStream(dataset, 64, STRONG, GREY, seed=5)
    loader = torch.utils.data.DataLoader(
        SampleStream(dataset, 64, STRONG, GREY, seed=5), batch_size=None, sampler=range(3, 13), num_workers=2
    )
    for position, sample in enumerate(loader, 3):
        assert equal(sample, alone[position])


def test_an_epoch_shows_every_picture_once(dataset: CocoDataset) -> None:
    stream = SampleStream(dataset, 32, Augmentation.none(), GREY, seed=0)
    for epoch in range(3):
        shown = [stream[4 * epoch + i].image.tobytes() for i in range(4)]
        assert len(set(shown)) == 4


def test_without_augmentation_a_picture_is_only_resized(dataset: CocoDataset) -> None:
    picture = dataset.pictures[0]
    pixels = picture.read()
    sample = render(picture, pixels, window_to_size((0, 0, picture.width, picture.height), (80, 64)), (80, 64))
    resized = cv2.resize(pixels, (64, 80), interpolation=cv2.INTER_LINEAR)
    difference = np.abs(sample.image.astype(int) - resized)
    assert difference.max() <= 6, "OpenCV warps with coordinates rounded to 1/32 of a pixel"
    scale = np.array((64 / picture.width, 80 / picture.height) * 2)
    np.testing.assert_allclose(sample.boxes, np.stack([t.box for t in picture.truths]) * scale, rtol=1e-5)


def stream_of(dataset: CocoDataset, **options: object) -> SampleStream:
    return SampleStream(dataset, 48, STRONG, GREY, seed=4, **options)


def test_another_picture_stands_for_one_that_does_not_read(dataset: CocoDataset) -> None:
    expected = [stream_of(dataset)[position] for position in range(24)]
    bad = dataset.pictures[1]
    bad.path.write_bytes(b"")
    stream = stream_of(dataset, on_fault="skip")
    samples = [stream[position] for position in range(24)]
    again = stream_of(dataset, on_fault="skip")
    assert all(equal(again[position], samples[position]) for position in (17, 3, 23, 8)), "in any order"
    touched = [bool(sample.unreadable) for sample in samples]
    assert 0 < sum(touched) < 24
    for sample, before in zip(samples, expected, strict=True):
        if sample.unreadable:
            assert all(line == f"{bad.path}: the file is empty" for line in sample.unreadable)
        else:
            assert equal(sample, before), "what has nothing to do with it stays as it was"
    position = touched.index(True)
    with pytest.raises(UserError, match=r"1\.png: the file is empty$"):
        stream_of(dataset)[position]


def test_a_data_set_of_which_nothing_reads_is_an_error(dataset: CocoDataset) -> None:
    for picture in dataset.pictures:
        picture.path.write_bytes(b"")
    with pytest.raises(UserError, match=r"png: the file is empty$"):
        stream_of(dataset, on_fault="skip")[0]
