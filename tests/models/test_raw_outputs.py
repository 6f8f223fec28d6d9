"""Every raw tensor of every configuration at hand equals what the original and mmdetection computed."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pytest
import stand_ins
import torch
from torch import Tensor
from torch.nn import functional as F

from yolact.config import Config
from yolact.models.checkpoint import choose_config, load_into, read_checkpoint
from yolact.models.yolact import Yolact
from yolact.structures import RawOutputs

MMDET = "mmdet_yolact_r50_1xb8-55e_coco"
# Deep networks add up in another order on another machine; values near zero have no relative precision.
TOLERANCE = {"rtol": 1e-3, "atol": 1e-5}


class Run(NamedTuple):
    """One configuration's network on the shared picture."""

    config: Config
    images: Tensor
    raw: RawOutputs
    expected: dict[str, dict]


def network_input(picture: np.ndarray, config: Config) -> Tensor:
    """[H, W, 3] uint8 RGB to [1, 3, S, S], by other code than the package's own."""
    if config.preprocessing.resize == "uint8":
        pixels = torch.from_numpy(cv2.resize(picture, (config.size, config.size))).permute(2, 0, 1)[None].float()
    else:
        whole = torch.from_numpy(picture).permute(2, 0, 1)[None].float()
        pixels = F.interpolate(whole, size=(config.size, config.size), mode="bilinear", align_corners=False)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (config.preprocessing.mean, config.preprocessing.std))
    return (pixels - mean) / std


@pytest.fixture(scope="module", params=["yolact_base", "yolact_darknet53", "yolact_plus_resnet50", MMDET])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    expected = stand_ins.outputs(request.param)
    state = stand_ins.state(expected["keys"])
    path: Path = tmp_path_factory.mktemp("weights") / f"{request.param}.pth"
    torch.save({"state_dict": state, "meta": {}} if request.param == MMDET else state, path)
    checkpoint = read_checkpoint(path)
    path.unlink()
    config = choose_config(checkpoint)
    model = Yolact(config).eval()
    assert load_into(model, checkpoint) == []
    picture = np.ascontiguousarray(stand_ins.generator().image()[:, :, ::-1])
    images = network_input(picture, config)
    with torch.inference_mode():
        return Run(config, images, model(images), expected["raw"])


def assert_samples(actual: Tensor, expected: dict) -> None:
    assert list(actual.shape) == expected["shape"]
    sampled = actual.reshape(-1)[torch.tensor(expected["index"])]
    torch.testing.assert_close(sampled, torch.tensor(expected["value"]), **TOLERANCE)
    assert actual.double().mean().item() == pytest.approx(expected["mean"], rel=1e-3, abs=1e-5)
    assert actual.double().std().item() == pytest.approx(expected["std"], rel=1e-3)


def test_the_configuration_is_told_by_the_keys(run: Run, request: pytest.FixtureRequest) -> None:
    name = request.node.callspec.params["run"]
    assert run.config.name == ("mmdet_yolact_r50_1xb8" if name == MMDET else name)


def test_raw_outputs_match_golden(run: Run) -> None:
    raw = run.raw
    if run.config.name.startswith("mmdet"):
        actual = {
            "cls": raw.class_logits.roll(-1, dims=-1),  # theirs has the background last
            "box": raw.box_deltas,
            "coef": raw.mask_coefficients,
        }
    else:
        actual = {
            "input": run.images,
            "loc": raw.box_deltas,
            "conf": raw.class_logits.softmax(-1),
            "mask": raw.mask_coefficients,
            "priors": raw.priors,
            "proto": raw.prototypes,
        }
    assert set(actual) == set(run.expected)
    for name, tensor in actual.items():
        assert_samples(tensor, run.expected[name])


def test_prototypes_have_twice_the_side_of_p3(run: Run) -> None:
    side = 2 * run.config.feature_sizes[0]
    assert run.raw.prototypes.shape == (1, side, side, 32)
    assert (run.raw.prototypes >= 0).all()
