"""mmdetection's YOLACT, as installed, beside what takes its place; `mmcv.ops` is a stub (mmcv_stub.py)."""

from __future__ import annotations

import pickle
from pathlib import Path

import cv2
import mmcv_stub
import numpy as np
import pytest
import torch
from installed import FLOAT32_ROUNDING, installed
from pages import run_example

import yolact.integrations.mmdet as fast
from yolact.errors import UserError

installed("mmcv")
mmcv_stub.install()
mmdet = installed("mmdet")
yolact_head = installed("mmdet.models.dense_heads.yolact_head")
layers = installed("mmdet.models.layers")
mask_utils = installed("mmdet.structures.mask")

CONFIG = ".mim/configs/yolact/yolact_r50_1xb8-55e_coco.py"
LEVELS = (23, 12, 6, 3, 2)  # a third of the real ones
INPUT = 183
SCORES = {"atol": 1e-6, "rtol": 0.0}  # of a float32 softmax, in another order
BOXES = {"atol": 2e-4, "rtol": 0.0}  # pixels: decoded as fractions of the input, not as pixels of it


@pytest.fixture(scope="module")
def heads():
    """The heads of mmdetection's own configuration."""
    from mmengine.config import Config

    model = Config.fromfile(Path(mmdet.__file__).parent / CONFIG).model
    builder = installed("mmdet.registry").MODELS
    box_head = builder.build({**model.bbox_head, "test_cfg": model.test_cfg, "train_cfg": None})
    mask_head = builder.build({**model.mask_head, "test_cfg": model.test_cfg, "train_cfg": None})
    return box_head.eval(), mask_head.eval()


def outputs(background: float, pictures: int = 2):
    """A head's outputs on noise; a high background leaves few detections."""
    random = torch.Generator().manual_seed(0)
    scores, deltas, coefficients = (
        [torch.randn(pictures, 3 * channels, side, side, generator=random) for side in LEVELS]
        for channels in (81, 4, 32)
    )
    for level in scores:
        level.mul_(2).view(pictures, 3, 81, *level.shape[2:])[:, :, 80] += background
    prototypes = torch.randn(pictures, 46, 46, 32, generator=random).relu()
    return scores, deltas, [level.tanh() for level in coefficients], prototypes


METAS = [
    {"img_shape": (INPUT, INPUT), "ori_shape": (120, 160), "scale_factor": (INPUT / 160, INPUT / 120)},
    {"img_shape": (INPUT - 9, INPUT - 4, 3), "ori_shape": (211, 97, 3), "scale_factor": (INPUT / 97, INPUT / 211)},
]


def predict(heads, background: float, rescale: bool, rescale_boxes: bool = False):
    """What `SingleStageInstanceSegmentor.predict` does with its heads' outputs."""
    box_head, mask_head = heads
    *maps, prototypes = outputs(background)
    found = box_head.predict_by_feat(*maps, METAS, rescale=rescale_boxes)
    masks = [torch.sigmoid(picture @ result.coeffs.t()) for picture, result in zip(prototypes, found, strict=True)]
    return mask_head.predict_by_feat(masks, None, found, METAS, rescale=rescale)


@pytest.mark.parametrize("rescale", [True, False])
@pytest.mark.parametrize("background", [4.0, 9.0, 10.5, 99.0])
def test_predictions_are_theirs(heads, background, rescale):
    expected = predict(heads, background, rescale)
    with fast.accelerated():
        found = predict(heads, background, rescale)
    for ours, theirs in zip(found, expected, strict=True):
        assert len(ours) == len(theirs)
        assert (len(ours) == 0) == (background == 99)
        assert torch.equal(ours.labels, theirs.labels)
        assert torch.allclose(ours.scores, theirs.scores, **SCORES)
        assert torch.allclose(ours.bboxes, theirs.bboxes, **BOXES)
        assert torch.equal(ours.coeffs, theirs.coeffs)
        assert ours.masks.dtype == theirs.masks.dtype
        assert ours.masks.shape == theirs.masks.shape
        assert ours.keys() == theirs.keys()
        # A box that differs by rounding may take in another row of prototypes: all of its pixels, of few masks.
        assert (ours.masks != theirs.masks).float().mean().nan_to_num() < 1e-4


def test_boxes_in_the_picture(heads):
    *maps, _ = outputs(9.0)
    expected = heads[0].predict_by_feat(*maps, METAS, rescale=True)
    with fast.accelerated():
        found = heads[0].predict_by_feat(*maps, METAS, rescale=True)
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.allclose(ours.bboxes, theirs.bboxes, **BOXES)
        assert torch.equal(ours.labels, theirs.labels)


def test_masks_are_theirs_to_the_rounding(heads):
    random = torch.Generator().manual_seed(1)
    data = installed("mmengine.structures").InstanceData
    corners = torch.rand(30, 2, 2, generator=random) * INPUT
    boxes = torch.cat([corners.amin(1), corners.amax(1)], 1)
    masks = torch.rand(46, 46, 30, generator=random)
    for rescale in (True, False):
        ours, theirs = (data(bboxes=boxes.clone()) for _ in range(2))
        heads[1].predict_by_feat([masks], None, [theirs], METAS[:1], rescale=rescale)
        with fast.accelerated():
            heads[1].predict_by_feat([masks], None, [ours], METAS[:1], rescale=rescale)
        cropped = heads[1].crop_single(masks.double(), boxes.double() / INPUT).permute(2, 0, 1)[None]
        values = torch.nn.functional.interpolate(cropped, theirs.masks.shape[1:], mode="bilinear")[0]
        assert bool(((values - 0.5).abs()[ours.masks != theirs.masks] < FLOAT32_ROUNDING).all())
        assert torch.equal(ours.bboxes, theirs.bboxes)
        assert 0 < theirs.masks.float().mean() < 1


@pytest.mark.parametrize("max_num", [-1, 7, 100])
@pytest.mark.parametrize("count", [1, 300])
def test_fast_nms_is_theirs(count, max_num):
    random = torch.Generator().manual_seed(count)
    corners = torch.rand(count, 2, 2, generator=random) * 100
    scores = torch.rand(count, 6, generator=random)
    arguments = (
        torch.cat([corners.amin(1), corners.amax(1)], 1),
        scores,
        torch.randn(count, 32, generator=random),
    )
    expected = layers.fast_nms(*arguments, 0.3, 0.5, 200, max_num)
    with fast.accelerated():
        assert yolact_head.fast_nms is layers.fast_nms
        found = layers.fast_nms(*arguments, 0.3, 0.5, 200, max_num)
    assert len(expected[0])
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.equal(ours, theirs)


def test_results_are_encoded_as_theirs():
    masks = np.random.default_rng(0).random((4, 31, 45)) < np.array([0, 1, 0.5, 0.1])[:, None, None]
    for form in (
        masks,
        list(masks),
        masks[:0],
        masks.astype(np.uint8),
        masks[:, ::-1],
        np.broadcast_to(masks[2], (2, 31, 45)),
    ):
        expected = mask_utils.encode_mask_results(form)
        with fast.accelerated():
            found = mask_utils.encode_mask_results(form)
        assert found == [dict(rle, size=list(rle["size"])) for rle in expected]


@pytest.mark.parametrize("change", [("bbox_coder", "clip_border", False), ("test_cfg", "top_k", -1)])
def test_other_configurations_stay_theirs(heads, monkeypatch, change):
    """A coder that clips no boxes, and all scores but the last one, are not what `detect` does."""
    part, name, value = change
    monkeypatch.setattr(getattr(heads[0], part), name, value)
    expected = predict(heads, 9.0, True)
    with fast.accelerated():
        found = predict(heads, 9.0, True)
    assert all(torch.equal(ours.bboxes, theirs.bboxes) for ours, theirs in zip(found, expected, strict=True))


def test_restores(heads):
    functions = [
        (yolact_head.YOLACTHead, "_predict_by_feat_single"),
        (yolact_head.YOLACTProtonet, "predict_by_feat"),
        (yolact_head, "fast_nms"),
        (layers, "fast_nms"),
        (mask_utils, "encode_mask_results"),
    ]
    before = [vars(owner)[name] for owner, name in functions]
    with fast.accelerated():
        assert all(vars(owner)[name] is not was for (owner, name), was in zip(functions, before, strict=True))
    assert all(vars(owner)[name] is was for (owner, name), was in zip(functions, before, strict=True))
    for ours in (fast.fast_nms, fast.encode_mask_results):
        assert pickle.loads(pickle.dumps(ours)) is ours  # it is itself, with its own name


def test_a_release_without_the_functions_is_left_alone(monkeypatch):
    monkeypatch.delattr(yolact_head.YOLACTProtonet, "predict_by_feat")
    before = yolact_head.fast_nms
    with pytest.raises(UserError, match=r"^mmdet 3\S+ lacks 'predict_by_feat', which the known release 3\.3\.0 has"):
        fast.accelerate()
    assert yolact_head.fast_nms is before


def test_the_page_runs_and_predicts_what_it_would(tmp_path, monkeypatch):
    """A whole model, with random weights and so no threshold; the configuration stands in for the files of both."""
    apis = installed("mmdet.apis")
    torch.manual_seed(0)
    model = apis.init_detector(Path(mmdet.__file__).parent / CONFIG, device="cpu")
    model.bbox_head.test_cfg.update(score_thr=0.0, max_per_img=7)
    monkeypatch.chdir(tmp_path)
    cv2.imwrite("photo.jpg", np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8))
    expected = apis.inference_detector(model, "photo.jpg").pred_instances
    monkeypatch.setattr(apis, "init_detector", lambda *files, device: model)
    names = run_example("mmdet")
    found = names["result"].pred_instances
    assert found.masks.shape == (7, 60, 90)
    assert torch.allclose(found.scores, expected.scores, **SCORES)
    assert [rle["size"] for rle in names["rles"]] == [[60, 90]] * 7
