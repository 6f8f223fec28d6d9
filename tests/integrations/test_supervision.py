"""supervision's Detections, there and back."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from conftest import ROOT, skip_or_fail
from installed import installed
from pages import run_example

from yolact.instances import Instances
from yolact.integrations.supervision import from_supervision, to_supervision
from yolact.ops import PictureResults

supervision = installed("supervision")


@pytest.fixture
def instances() -> Instances:
    random = torch.Generator().manual_seed(0)
    corners = torch.rand(5, 2, 2, generator=random)
    relative = torch.cat([corners.amin(1), corners.amax(1)], 1)
    return Instances(
        boxes=relative * torch.tensor([70.0, 50.0, 70.0, 50.0]),
        scores=torch.rand(5, generator=random),
        labels=torch.tensor([1, 0, 1, 1, 0]),
        coefficients=torch.randn(5, 8, generator=random),
        relative_boxes=relative,
        prototypes=torch.randn(20, 20, 8, generator=random),
        picture=np.zeros((50, 70, 3), np.uint8),
        class_names=("cat", "dog"),
        category_ids=(1, 5),
    )


def assert_same(detections, instances: Instances) -> None:
    assert np.array_equal(detections.xyxy, instances.boxes.numpy())
    assert np.array_equal(detections.confidence, instances.scores.numpy())
    assert np.array_equal(detections.class_id, instances.labels.numpy())
    assert detections.mask.dtype == bool
    assert np.array_equal(detections.mask, instances.masks.numpy())
    assert detections.data["class_name"].tolist() == instances.names


def test_instances_there_and_back(instances):
    detections = to_supervision(instances)
    assert_same(detections, instances)
    assert detections.mask.any()
    assert detections[detections.class_id == 0].data["class_name"].tolist() == ["cat", "cat"]
    results = from_supervision(detections)
    assert results.rles == instances.rles
    assert torch.equal(results.boxes, instances.boxes)
    assert torch.equal(results.scores, instances.scores)
    assert torch.equal(results.labels, instances.labels)
    assert_same(to_supervision(results, ("cat", "dog")), instances)
    assert to_supervision(results).data == {}


def test_nothing_there_and_back(instances):
    none = instances[:0]
    assert to_supervision(none).mask.shape == (0, 50, 70)
    for detections in (to_supervision(none), supervision.Detections.empty()):
        results = from_supervision(detections)
        assert isinstance(results, PictureResults)
        assert [len(part) for part in results] == [0, 0, 0, 0]
        assert results.boxes.shape == (0, 4)
        assert len(to_supervision(results)) == 0


def test_masks_in_any_memory(instances):
    detections = to_supervision(instances)
    masks = detections.mask.copy()
    read_only = masks.copy()
    read_only.flags.writeable = False
    for same in (np.asfortranarray(masks), masks[:, ::-1].copy()[:, ::-1], read_only):
        detections.mask = same
        assert from_supervision(detections).rles == instances.rles


@pytest.mark.parametrize("name", ["mask", "confidence", "class_id"])
def test_what_is_missing_is_named(instances, name):
    detections = to_supervision(instances)
    setattr(detections, name, None)
    with pytest.raises(ValueError, match=f"detections must have {name}, got None"):
        from_supervision(detections)


def test_it_can_be_drawn(instances):
    picture = np.zeros((50, 70, 3), np.uint8)
    drawn = supervision.MaskAnnotator().annotate(picture.copy(), to_supervision(instances))
    assert (drawn.any(2) == instances.masks.any(0).numpy()).all()


def test_the_page_runs(tmp_path, monkeypatch):
    weights = ROOT / "yolact/weights/yolact_lite0_dogcat.pth"
    if not weights.exists():
        skip_or_fail("weights", "the bundled model is not here")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "yolact_resnet50_54_800000.pth").symlink_to(weights)  # files are told apart by what they hold
    picture = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    cv2.imwrite("photo.jpg", picture)
    names = run_example("supervision")
    assert names["picture"].shape == picture.shape
    assert names["rles"] == names["result"].rles
