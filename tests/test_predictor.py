"""load, create and predict: every kind of input, the model's mode, and results that stay."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

import yolact
from yolact.errors import UserError
from yolact.models.checkpoint import save_checkpoint
from yolact.pictures import write_picture


@pytest.fixture(scope="module")
def model() -> yolact.Model:
    """Random weights and two classes: every prior scores about a third, so there is always something to find."""
    torch.manual_seed(0)
    return yolact.create("yolact_lite0", num_classes=2).eval()


def picture(seed: int = 0, height: int = 48, width: int = 64) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def equal(a: yolact.Instances, b: yolact.Instances) -> bool:
    tensors = ("boxes", "scores", "labels", "masks")
    return a.rles == b.rles and all(torch.equal(getattr(a, name), getattr(b, name)) for name in tensors)


def test_predict_returns_instances_inside_the_picture(model: yolact.Model) -> None:
    (found,) = model.predict(picture())
    assert 0 < len(found) <= 100
    assert found.boxes.dtype == found.scores.dtype == torch.float32
    assert found.labels.dtype == torch.int64
    assert found.masks.shape == (len(found), 48, 64)
    assert (found.boxes >= 0).all()
    assert (found.boxes <= torch.tensor([64, 48, 64, 48])).all()
    assert (found.scores.diff() <= 0).all()
    assert set(found.names) <= set(model.config.class_names)


def test_predict_takes_every_kind_of_picture(model: yolact.Model, tmp_path: Path) -> None:
    array = picture()
    write_picture(tmp_path / "a.png", array)
    (expected,) = model.predict(array)
    tensor = torch.from_numpy(array)
    for given in (
        tmp_path / "a.png",
        str(tmp_path / "a.png"),
        tensor,
        tensor.permute(2, 0, 1),
        array[:, ::-1][:, ::-1],
        [array],
        iter([array]),
    ):
        (found,) = model.predict(given)
        assert equal(found, expected)
        np.testing.assert_array_equal(found.picture, array)


def test_predict_on_sizes_that_differ(model: yolact.Model) -> None:
    pictures = [picture(0), picture(1, 100, 30), picture(2, 1, 1), picture(3, 7, 300)]
    together = model.predict(pictures, batch_size=4)
    assert [found.size for found in together] == [p.shape[:2] for p in pictures]
    for given, found in zip(pictures, together, strict=True):
        (alone,) = model.predict(given)
        torch.testing.assert_close(alone.scores, found.scores, atol=1e-4, rtol=0)


def test_stream_takes_pictures_as_it_needs_them(model: yolact.Model) -> None:
    taken = []

    def pictures() -> Iterator[np.ndarray]:
        for seed in range(7):
            taken.append(seed)
            yield picture(seed)

    stream = model.stream(pictures(), batch_size=2)
    assert taken == []
    for position, found in enumerate(stream):
        assert position < len(taken) <= position + 4, "two batches in flight"
        np.testing.assert_array_equal(found.picture, picture(position))
    assert len(taken) == 7


def test_stream_leaves_the_mode_to_its_caller(model: yolact.Model) -> None:
    stream = model.train().stream([picture(0), picture(1)])
    for _ in stream:
        assert all(module.training for module in model.modules())
        assert torch.is_grad_enabled()
    model.eval()


def test_stream_checks_its_arguments_at_once(model: yolact.Model) -> None:
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        model.stream([], batch_size=0)
    stream = model.stream([picture(), "missing.jpg"])
    next(stream)
    with pytest.raises(UserError, match=r"missing\.jpg: No such file"):
        next(stream)


def test_predict_on_nothing(model: yolact.Model) -> None:
    assert model.predict([]) == []


def test_results_do_not_change_with_later_ones(model: yolact.Model) -> None:
    array = picture(0)
    (first,) = model.predict(array)
    (kept,) = model.predict(array)
    expected = kept.rles, kept.masks.clone(), kept.boxes.clone(), kept.plot()
    array[:] = 0
    model.predict([picture(1), picture(2)], batch_size=2)
    assert first.rles == expected[0]
    assert torch.equal(first.masks, expected[1])
    assert torch.equal(first.boxes, expected[2])
    np.testing.assert_array_equal(first.plot(), expected[3])


def test_predict_restores_every_mode(model: yolact.Model) -> None:
    model.train()
    model.fpn.eval()
    modes = [module.training for module in model.modules()]
    statistics = {name: buffer.clone() for name, buffer in model.named_buffers()}
    model.predict(picture())
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(statistics[name], buffer) for name, buffer in model.named_buffers())
    with pytest.raises(TypeError):
        model.predict(3)
    assert [module.training for module in model.modules()] == modes
    model.eval()


def test_score_threshold_filters_strictly(model: yolact.Model) -> None:
    (found,) = model.predict(picture(), score_threshold=0)
    middle = found.scores[len(found) // 2].item()
    (above,) = model.predict(picture(), score_threshold=middle)
    assert torch.equal(above.scores, found.scores[found.scores > middle])
    assert len(above) < len(found)


def test_boxes_are_integers_where_the_configuration_says_so(model: yolact.Model) -> None:
    (exact,) = model.predict(picture())
    truncating = yolact.Model(replace(model.config, integer_boxes=True)).eval()
    truncating.load_state_dict(model.state_dict())
    (whole,) = truncating.predict(picture())
    assert (exact.boxes != exact.boxes.trunc()).any()
    assert torch.equal(whole.boxes, exact.boxes.trunc())
    assert torch.equal(whole.masks, exact.masks), "masks are cropped to the boxes before that"


def test_preprocess_resizes_as_the_configuration_says(model: yolact.Model) -> None:
    given = picture(0, 200, 300)
    how = replace(model.config.preprocessing, resize="uint8")
    as_opencv = yolact.Model(replace(model.config, preprocessing=how))
    mean, std = np.float32(how.mean), np.float32(how.std)
    expected = (cv2.resize(given, (320, 320)) - mean) / std
    np.testing.assert_allclose(as_opencv.preprocess([given])[0].permute(1, 2, 0), expected, atol=1e-6)
    expected = (cv2.resize(given.astype(np.float32), (320, 320)) - mean) / std
    np.testing.assert_allclose(model.preprocess([given])[0].permute(1, 2, 0), expected, atol=1e-4)


def test_predict_passes_options_to_detect(model: yolact.Model) -> None:
    (few,) = model.predict(picture(), max_detections=3)
    (found,) = model.predict(picture())
    assert torch.equal(few.scores, found.scores[:3])
    (uncapped,) = model.predict(picture(), max_detections=None)
    assert len(uncapped) > len(found) == 100
    with pytest.raises(TypeError, match="nonsense"):
        model.predict(picture(), nonsense=1)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (np.zeros((4, 4, 3), np.float32), TypeError, "uint8, got float32"),
        (torch.zeros(3, 4, 4), TypeError, "uint8, got float32"),
        (np.zeros((4, 4), np.uint8), ValueError, r"\[4, 4\]"),
        (np.zeros((3, 4, 5), np.uint8), ValueError, r"\[3, 4, 5\]"),
        (np.zeros((2, 4, 4, 3), np.uint8), ValueError, r"\[2, 4, 4, 3\]"),
        (np.zeros((0, 4, 3), np.uint8), ValueError, r"\[0, 4, 3\]"),
        ([3], TypeError, r"paths, \[H, W, 3\] uint8 arrays or tensors, got int"),
        (None, TypeError, "got NoneType"),
        (Image.new("RGB", (4, 4)), TypeError, "got Image"),
        ("missing.jpg", UserError, "missing.jpg: No such file"),
    ],
)
def test_predict_rejects_what_is_no_picture(
    model: yolact.Model, given: object, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        model.predict(given)


@pytest.mark.parametrize(("option", "value"), [("score_threshold", "0.5"), ("batch_size", 1.5), ("batch_size", True)])
def test_predict_rejects_options_of_another_type(model: yolact.Model, option: str, value: object) -> None:
    with pytest.raises(TypeError, match=f"{option} must be a .*number, got {value!r}"):
        model.predict(picture(), **{option: value})


@pytest.mark.parametrize(
    ("option", "value"), [("score_threshold", -0.1), ("score_threshold", float("nan")), ("batch_size", 0)]
)
def test_predict_rejects_options_out_of_range(model: yolact.Model, option: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{option}.*{value}"):
        model.predict(picture(), **{option: value})


def test_load_gives_back_what_was_saved(model: yolact.Model, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "ours.pth", model)
    loaded = yolact.load(tmp_path / "ours.pth")
    assert not loaded.training
    assert loaded.config == model.config
    assert equal(loaded.predict(picture())[0], model.predict(picture())[0])


def test_load_with_another_number_of_classes_lists_what_it_left(model: yolact.Model, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "ours.pth", model)
    with pytest.warns(UserWarning, match=r"prediction_layers\.0\.conf_layer\.bias"):
        loaded = yolact.load(tmp_path / "ours.pth", num_classes=5)
    assert loaded.config.num_classes == 5
    assert torch.equal(loaded.proto_net.state_dict()["0.weight"], model.proto_net.state_dict()["0.weight"])


def test_load_finds_bundled_models_by_name(
    model: yolact.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("yolact.loading.BUNDLED", tmp_path)
    with pytest.raises(UserError, match=r"^small: no such file, nor a bundled model \(none is installed\)"):
        yolact.load("small")
    save_checkpoint(tmp_path / "small.pth", model)
    assert yolact.load("small").config == model.config
    with pytest.raises(UserError, match=r"^large: no such file, nor a bundled model \(small\)"):
        yolact.load("large")
    with pytest.raises(UserError, match=r"^small\.pt: no such file"):
        yolact.load("small.pt")


def test_create_rejects_an_unknown_configuration() -> None:
    with pytest.raises(UserError, match="unknown configuration 'yolact_r18'"):
        yolact.create("yolact_r18")
