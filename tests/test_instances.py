"""What an Instances makes of prototypes and coefficients, and that it is a good container."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from yolact import mask
from yolact.draw import draw
from yolact.instances import Instances
from yolact.ops import assemble_masks
from yolact.pictures import read_picture

NAMES, IDS = ("cat", "dog", "bird"), (17, 18, 16)


def make(count: int = 6, height: int = 90, width: int = 120, seed: int = 0) -> Instances:
    """Instances with smooth random masks, some of them with holes and in several pieces."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 8, 9, 9, generator=generator)
    prototypes = torch.nn.functional.interpolate(coarse, size=(34, 34), mode="bicubic")[0].permute(1, 2, 0).relu()
    corners = torch.rand(count, 4, generator=generator).view(count, 2, 2).sort(dim=1).values
    relative = torch.stack([corners[:, 0] * 0.6 - 0.1, corners[:, 1] * 0.6 + 0.5], dim=1).flatten(1)
    edges = torch.tensor([width, height, width, height], dtype=torch.float32)
    return Instances(
        boxes=(relative * edges).trunc().clamp(torch.zeros(4), edges),
        scores=torch.linspace(0.95, 0.3, count),
        labels=torch.arange(count) % 3,
        coefficients=(torch.rand(count, 8, generator=generator) * 2 - 1) * 3,
        relative_boxes=relative,
        prototypes=prototypes.contiguous(),
        picture=np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8),
        class_names=NAMES,
        category_ids=IDS,
    )


def test_masks_are_assembled_at_the_size_of_the_picture() -> None:
    r = make()
    assert r.masks.shape == (6, 90, 120)
    assert r.masks.dtype == torch.bool
    expected = assemble_masks(r.prototypes[None], r.coefficients[None], r.relative_boxes[None], (90, 120))[0]
    assert torch.equal(r.masks, expected)
    assert 0 < r.masks.float().mean() < 1


def test_rles_equal_the_encoded_masks() -> None:
    r = make()
    assert all(isinstance(rle["counts"], str) and rle["size"] == [90, 120] for rle in r.rles)
    decoded = np.stack([mask.decode(rle) for rle in r.rles])
    np.testing.assert_array_equal(decoded.astype(bool), r.masks.numpy())


@pytest.mark.parametrize("seed", range(5))
def test_polygons_filled_give_the_masks_back(seed: int) -> None:
    r = make(seed=seed)
    assert len(r.polygons) == 6
    for rings, dense in zip(r.polygons, r.masks.numpy(), strict=True):
        assert all(ring.ndim == 2 and ring.shape[1] == 2 and ring.dtype == np.float32 for ring in rings)
        filled = cv2.fillPoly(np.zeros(dense.shape, np.uint8), [ring.astype(np.int32) for ring in rings], 1)
        np.testing.assert_array_equal(filled.astype(bool), dense)


def test_polygons_have_holes_and_pieces() -> None:
    """The masks above would prove little if each were one solid piece."""
    rings = [len(rings) for seed in range(5) for rings in make(seed=seed).polygons]
    assert max(rings) > 1


def test_to_coco_is_what_json_and_cocoapi_take(tmp_path: Path) -> None:
    coco = pytest.importorskip("pycocotools.coco")
    r = make()
    results = json.loads(json.dumps(r.to_coco(np.int64(42))))
    assert [result["category_id"] for result in results] == [17, 18, 16, 17, 18, 16]
    assert all(result["image_id"] == 42 for result in results)
    assert all(isinstance(value, float) for result in results for value in result["bbox"])
    x, y, w, h = results[0]["bbox"]
    assert [x, y, x + w, y + h] == r.boxes[0].tolist()
    truth = coco.COCO()
    truth.dataset = {
        "images": [{"id": 42, "height": 90, "width": 120}],
        "categories": [{"id": i, "name": name} for i, name in zip(IDS, NAMES, strict=True)],
        "annotations": [],
    }
    truth.createIndex()
    loaded = truth.loadRes(results)
    np.testing.assert_array_equal(loaded.annToMask(loaded.loadAnns([1])[0]).astype(bool), r.masks[0].numpy())


def test_names_and_size_and_repr() -> None:
    r = make()
    assert r.names == ["cat", "dog", "bird", "cat", "dog", "bird"]
    assert r.size == (90, 120)
    assert repr(r) == "Instances(6 in 120x90: cat 0.95, dog 0.82, bird 0.69, cat 0.56, dog 0.43, 1 more)"
    assert repr(r[:0]) == "Instances(0 in 120x90)"


@pytest.mark.parametrize(
    ("key", "rows"),
    [
        (2, [2]),
        (-1, [5]),
        (np.int64(1), [1]),
        (torch.tensor(4), [4]),
        (slice(1, 4), [1, 2, 3]),
        (slice(None, None, -2), [5, 3, 1]),
        ([4, 0], [4, 0]),
        ((4, 0), [4, 0]),
        ([], []),
        (np.array([]), []),
        (np.array([1, 3, 5])[::-1], [5, 3, 1]),
        (torch.tensor([3, 3]), [3, 3]),
        (np.array([False, True, False, False, False, True]), [1, 5]),
    ],
)
def test_indexing_selects(key: object, rows: list[int]) -> None:
    r = make()
    chosen = r[key]
    assert len(chosen) == len(rows)
    assert chosen.scores.tolist() == r.scores[rows].tolist()
    assert chosen.rles == [r.rles[row] for row in rows]
    assert torch.equal(chosen.masks, r.masks[rows])


def test_indexing_by_a_condition() -> None:
    r = make()
    assert r[r.scores > 0.5].names == ["cat", "dog", "bird", "cat"]
    assert [one.names for one in r] == [[name] for name in r.names]


@pytest.mark.parametrize("key", [6, -7, torch.ones(5, dtype=torch.bool)])
def test_indexing_rejects_what_is_not_there(key: object) -> None:
    with pytest.raises(IndexError):
        make()[key]


@pytest.mark.parametrize("key", [1.5, "2", None])
def test_indexing_rejects_what_is_no_index(key: object) -> None:
    with pytest.raises(TypeError):
        make()[key]


def test_without_instances_everything_is_empty() -> None:
    r = make()[:0]
    assert len(r) == 0
    assert r.names == r.rles == r.polygons == r.to_coco(1) == []
    assert r.masks.shape == (0, 90, 120)
    np.testing.assert_array_equal(r.plot(), r.picture)


@pytest.mark.parametrize("size", [(90, 120), (37, 51), (1, 9), (200, 3)])
def test_plot_draws_the_masks(size: tuple[int, int]) -> None:
    r = make(12, *size)
    texts = [f"{name} {score:.2f}" for name, score in zip(r.names, r.scores.tolist(), strict=True)]
    dense = draw(r.picture, r.masks.numpy()[::-1], r.boxes.numpy()[::-1], r.labels.tolist()[::-1], texts[::-1])
    np.testing.assert_array_equal(r.plot(), dense)


def test_plot_does_not_depend_on_how_many_masks_are_held(monkeypatch: pytest.MonkeyPatch) -> None:
    r = make()
    together = r.plot()
    monkeypatch.setattr("yolact.instances._DENSE_BYTES", 1)
    np.testing.assert_array_equal(r.plot(), together)


def test_plot_leaves_the_picture_alone_and_save_writes_it(tmp_path: Path) -> None:
    r = make()
    before = r.picture.copy()
    drawn = r.plot()
    np.testing.assert_array_equal(r.picture, before)
    assert (drawn != before).any()
    r.save(tmp_path / "out.png")
    np.testing.assert_array_equal(read_picture(tmp_path / "out.png"), drawn)
