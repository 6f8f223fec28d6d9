"""Ultralytics, as installed, beside what takes its place; black boxes both."""

from __future__ import annotations

import json
import threading
from functools import partial

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import shared_path
from installed import assert_same_masks, encoded, installed
from pages import run_example
from torch import Tensor

import yolact.integrations.ultralytics as fast
from yolact.errors import UserError
from yolact.integrations import patching

library = installed("ultralytics.utils.ops")
segment = installed("ultralytics.models.yolo.segment.val")
THEIRS = {name: vars(library)[name] for name in ("process_mask", "process_mask_native")}
THEIR_JSON = segment.SegmentationValidator.pred_to_json
RELEASE = next(release for release in fast.RELEASES if fast._agree(fast._replacements(THEIRS, release), THEIRS))


@pytest.fixture
def accelerated():
    with fast.accelerated():
        yield


def random_case(count: int, sides: tuple[int, int], seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Prototypes, coefficients and boxes in pixels of an input four times the prototypes' size."""
    random = torch.Generator().manual_seed(seed)
    corners = (torch.rand(count, 2, 2, generator=random) * 1.2 - 0.1) * (4.0 * torch.tensor(sides).flip(0))
    boxes = torch.cat([corners.amin(1), corners.amax(1)], 1)
    boxes[::5] = boxes[::5].round()
    boxes[1::7] = boxes[1::7, [2, 1, 0, 3]]  # swapped corners: an empty mask
    prototypes = torch.randn(32, *sides, generator=random) / 4
    return prototypes, torch.randn(count, 32, generator=random), boxes


def real_case(name: str) -> tuple[Tensor, Tensor, Tensor]:
    """The outputs of a real model on a photo of 640 x 640 pixels."""
    with np.load(shared_path("data/proto_coeff_real") / f"{name}.npz") as arrays:
        centre, size = torch.from_numpy(arrays["boxes"]).float().split(2, 1)
        prototypes = torch.from_numpy(arrays["proto"]).float().permute(2, 0, 1)
        return (
            prototypes,
            torch.from_numpy(arrays["coeff"]).float(),
            torch.cat([centre - size / 2, centre + size / 2], 1),
        )


def logits(prototypes: Tensor, coefficients: Tensor) -> Tensor:  # [1, N, h, w] float64
    return torch.einsum("khw,nk->nhw", prototypes.double(), coefficients.double())[None]


def crop(values: Tensor, boxes: Tensor) -> Tensor:
    columns, rows = torch.arange(values.shape[-1]), torch.arange(values.shape[-2])[:, None]
    x1, y1, x2, y2 = boxes.T[:, :, None, None]
    return values * ((columns >= x1) & (columns < x2) & (rows >= y1) & (rows < y2))


def stretch(values: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(values, size, mode="bilinear")[0]


REAL = ("bus", "street_small", "000000403385")


@pytest.mark.parametrize("upsample", [False, True])
@pytest.mark.parametrize("case", [*REAL, "1", "7", "60", "odd"])
def test_process_mask_is_theirs(accelerated, case, upsample):
    sides = (37, 29) if case == "odd" else (40, 48)
    arguments = real_case(case) if case in REAL else random_case(20 if case == "odd" else int(case), sides)
    prototypes, coefficients, boxes = arguments
    height, width = prototypes.shape[1:]
    shape = (4 * height + (3 if case == "odd" else 0), 4 * width)
    before = [tensor.clone() for tensor in arguments]
    found = library.process_mask(*arguments, shape, upsample=upsample)
    expected = THEIRS["process_mask"](*before, shape, upsample=upsample)
    values = logits(prototypes, coefficients)
    if RELEASE.crop == "before":
        values = crop(values, boxes * torch.tensor([width / shape[1], height / shape[0]]).repeat(2))
    assert_same_masks(found, expected, stretch(values, shape) if upsample else values[0])
    assert expected.any()
    assert all(torch.equal(tensor, copy) for tensor, copy in zip(arguments, before, strict=True)), "arguments changed"


PICTURES = [(240, 320), (427, 320), (333, 250), (61, 87), (160, 161)]


@pytest.mark.parametrize("count", [3, 50])  # fewer than prototypes, and more
@pytest.mark.parametrize("picture", PICTURES)
def test_process_mask_native_is_theirs(accelerated, picture, count):
    prototypes, coefficients, _ = random_case(count, (40, 48))
    boxes = random_case(count, (picture[0] // 4, picture[1] // 4))[2]
    found = library.process_mask_native(prototypes, coefficients, boxes, picture)
    expected = THEIRS["process_mask_native"](prototypes, coefficients, boxes.clone(), picture)
    (finer, _, _), region = fast._without_letterbox(prototypes, coefficients, boxes, picture, RELEASE)
    factor = finer.shape[2] // prototypes.shape[1]
    x1, y1, x2, y2 = region[0].tolist()
    whole = F.interpolate(logits(prototypes, coefficients), scale_factor=factor, mode="bilinear")
    assert_same_masks(found, expected, stretch(whole[..., y1:y2, x1:x2], picture))
    assert expected.any()
    rles = fast.process_mask_native_to_rles(prototypes, coefficients, boxes, picture, release=RELEASE)
    assert rles == encoded(found)


def test_process_mask_takes_strided_and_half_tensors(accelerated):
    prototypes, coefficients, boxes = random_case(9, (40, 48))
    channels_last = prototypes.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    whole = library.process_mask(prototypes, coefficients, boxes, (160, 192), upsample=True)
    assert torch.equal(library.process_mask(channels_last, coefficients, boxes, (160, 192), upsample=True), whole)
    half = library.process_mask(prototypes.half(), coefficients, boxes, (160, 192), True)
    expected = THEIRS["process_mask"](prototypes.half(), coefficients, boxes.clone(), (160, 192), True)
    assert half.dtype == expected.dtype
    assert (half != expected).float().mean() < 1e-5


def test_no_detections(accelerated):
    prototypes, coefficients, boxes = random_case(0, (40, 48))
    for upsample, shape in ((True, (160, 192)), (False, (40, 48))):
        found = library.process_mask(prototypes, coefficients, boxes, (160, 192), upsample=upsample)
        assert found.shape == (0, *shape)
        assert found.dtype == RELEASE.dtype
    assert library.process_mask_native(prototypes, coefficients, boxes, (61, 87)).shape == (0, 61, 87)
    assert fast.process_mask_native_to_rles(prototypes, coefficients, boxes, (61, 87)) == []


def test_what_the_kernels_do_not_take_goes_to_theirs(accelerated):
    prototypes, coefficients, boxes = (tensor.to("meta") for tensor in random_case(4, (40, 48)))
    assert library.process_mask(prototypes, coefficients, boxes, (160, 192), upsample=False).device.type == "meta"
    with pytest.raises(RuntimeError, match="dtype"):  # theirs says so
        library.process_mask(*(tensor.double() for tensor in random_case(4, (40, 48))), (160, 192))


@pytest.mark.parametrize("padding", [True, False])
@pytest.mark.parametrize("picture", PICTURES)
def test_scale_masks_is_theirs_above_a_threshold(picture, padding):
    masks = torch.randn(5, 40, 48, generator=torch.Generator().manual_seed(2))
    values = library.scale_masks(masks[None], picture, padding=padding)[0]
    found = fast.scale_masks(masks, picture, padding, threshold=0.25, release=RELEASE)
    assert_same_masks(found, values > 0.25, values.double(), 0.25)
    assert fast.scale_masks_to_rles(masks, picture, padding, threshold=0.25, release=RELEASE) == encoded(found)


def results_of(masks: Tensor | None, picture: tuple[int, int]):
    boxes = torch.tensor([[5.0, 5, 40, 30, 0.9, 0]]).repeat(0 if masks is None else len(masks), 1)
    results = installed("ultralytics.engine.results").Results
    return results(np.zeros((*picture, 3), np.uint8), "photo.jpg", {0: "thing"}, boxes=boxes, masks=masks)


def test_results_to_rles():
    prototypes, coefficients, boxes = random_case(6, (40, 48))
    masks = THEIRS["process_mask"](prototypes, coefficients, boxes.clone(), (160, 192), upsample=True)
    values = library.scale_masks(masks[None].float(), (120, 190))[0]
    assert fast.results_to_rles(results_of(masks, (120, 190)), release=RELEASE) == encoded(values > 0.5)
    assert fast.results_to_rles(results_of(masks, (160, 192))) == encoded(masks)
    assert fast.results_to_rles(results_of(masks, (160, 192)).numpy()) == encoded(masks)
    assert fast.results_to_rles(results_of(None, (160, 192))) == []


def written_json(masks: Tensor) -> list[dict[str, object]]:
    validator = object.__new__(segment.SegmentationValidator)
    validator.jdict, validator.class_map = [], [1, 2, 5]
    boxes = torch.tensor([[5.25, 10.5, 25.123456, 30.0]]).repeat(len(masks), 1)
    scores, labels = torch.full((len(masks),), 0.912345678), torch.full((len(masks),), 2.0)
    if RELEASE is fast.V8_3:
        predictions = torch.cat([boxes, scores[:, None], labels[:, None]], 1)
        validator.pred_to_json(predictions, "photos/000042.jpg", masks.permute(1, 2, 0).numpy())
    else:
        predictions = {"bboxes": boxes, "conf": scores, "cls": labels, "masks": masks}
        validator.pred_to_json(predictions, {"im_file": "photos/000042.jpg"})
    return validator.jdict


def test_json_is_theirs():
    random = torch.Generator().manual_seed(3)
    masks = (torch.rand(4, 33, 47, generator=random) < torch.tensor([0.0, 1.0, 0.5, 0.1])[:, None, None]).byte()
    expected = written_json(masks)
    with fast.accelerated():
        assert json.dumps(written_json(masks)) == json.dumps(expected)
    assert segment.SegmentationValidator.pred_to_json is THEIR_JSON


def test_accelerations_nest_in_any_order_and_restore():
    def is_theirs() -> bool:
        return all(vars(library)[name] is function for name, function in THEIRS.items())

    first = fast.accelerate()
    second = fast.accelerate()
    assert not is_theirs()
    first.restore()
    first.restore()
    assert not is_theirs()
    second.restore()
    assert is_theirs()
    with pytest.raises(ZeroDivisionError), fast.accelerated():
        _ = 1 / 0
    assert is_theirs()
    assert not patching._ACTIVE


def test_copies_that_the_library_imported_are_replaced_too(monkeypatch):
    monkeypatch.setattr(segment, "imported_here", THEIRS["process_mask"], raising=False)
    with fast.accelerated():
        assert segment.imported_here is library.process_mask is not THEIRS["process_mask"]
    assert segment.imported_here is THEIRS["process_mask"]


def test_what_somebody_else_put_there_stays(monkeypatch):
    def somebody_elses() -> None: ...

    acceleration = fast.accelerate()
    monkeypatch.setattr(library, "process_mask", somebody_elses)
    acceleration.restore()
    assert library.process_mask is somebody_elses
    monkeypatch.setattr(library, "process_mask", THEIRS["process_mask"])


def test_other_threads_see_it():
    seen = []
    with fast.accelerated():
        thread = threading.Thread(target=lambda: seen.append(library.process_mask))
        thread.start()
        thread.join()
    assert seen[0] is not THEIRS["process_mask"]


@pytest.mark.parametrize("change", ["masks", "signature", "absent"])
def test_unknown_releases_are_left_alone(monkeypatch, change):
    if change == "masks":
        theirs = THEIRS["process_mask_native"]
        monkeypatch.setattr(library, "process_mask_native", lambda *args: 1 - theirs(*args))
    elif change == "signature":
        monkeypatch.setattr(library, "process_mask_native", lambda protos: protos)
    else:
        monkeypatch.delattr(library, "process_mask_native")
    before = dict(vars(library))
    with pytest.raises(UserError, match=r"^ultralytics \d\S+ .* known .*8\.4\.190 and 8\.3\.0; nothing was changed$"):
        fast.accelerate()
    assert {name: before[name] is value for name, value in vars(library).items()} == dict.fromkeys(before, True)


def test_the_page_runs_and_predicts_what_it_would(tmp_path, monkeypatch):
    """A whole model, with random weights and so a low threshold; its description stands in for the file of weights."""
    package = installed("ultralytics")
    torch.manual_seed(0)
    model = package.YOLO("yolo11n-seg.yaml", verbose=False)
    for layer in model.model.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = 1.0
    model.model.train()(torch.rand(2, 3, 96, 160))  # normalised by what comes, masks are not all empty
    model.model.eval()
    predict = partial(model.predict, conf=1e-4, max_det=7, imgsz=160, verbose=False)
    monkeypatch.chdir(tmp_path)
    cv2.imwrite("photo.jpg", np.random.default_rng(0).integers(0, 256, (97, 160, 3), dtype=np.uint8))
    (expected,) = predict("photo.jpg", retina_masks=True)
    monkeypatch.setattr(model, "predict", predict)
    monkeypatch.setattr(package, "YOLO", lambda weights: model)
    names = run_example("ultralytics")
    masks = names["results"][0].masks.data
    assert masks.shape == expected.masks.data.shape
    assert masks.any()
    assert (masks != expected.masks.data).float().mean() < 1e-4
    assert names["rles"] == encoded(masks)
