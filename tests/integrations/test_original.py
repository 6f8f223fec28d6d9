"""The original repository beside what takes its place; YOLACT_ORIGINAL names a checkout of it."""

from __future__ import annotations

import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT
from installed import FLOAT32_ROUNDING, installed
from pages import page

import yolact.integrations.original as fast
from yolact import mask
from yolact.errors import UserError

CHECKOUT = os.environ.get("YOLACT_ORIGINAL")
if not CHECKOUT:
    pytest.skip("YOLACT_ORIGINAL names no checkout of the original repository", allow_module_level=True)
sys.path.insert(0, CHECKOUT)
installed("pycocotools.mask")
detection, output, data = map(installed, ("layers.functions.detection", "layers.output_utils", "data"))


@pytest.fixture(autouse=True)
def configuration(monkeypatch):
    data.set_cfg("yolact_base_config")
    monkeypatch.setattr(data.cfg, "mask_proto_debug", False, raising=False)  # eval.py sets it


def network_outputs(scale: float = 1.0):
    random = torch.Generator().manual_seed(0)
    priors = torch.rand(600, 4, generator=random) * 0.4 + torch.tensor([0.3, 0.3, 0.05, 0.05])
    return {
        "loc": torch.randn(2, 600, 4, generator=random),
        "conf": (torch.randn(2, 600, 81, generator=random) * 2 * scale).softmax(2),
        "mask": torch.randn(2, 600, 32, generator=random).tanh(),
        "priors": priors,
        "proto": torch.randn(2, 46, 46, 32, generator=random).relu(),
    }


def detect(across_classes: bool, scale: float = 1.0):
    detector = detection.Detect(81, bkg_label=0, top_k=200, conf_thresh=0.05, nms_thresh=0.5)
    detector.use_fast_nms, detector.use_cross_class_nms = True, across_classes
    return detector(network_outputs(scale), net=None)


@pytest.mark.parametrize("across_classes", [False, True])
def test_detections_are_theirs(across_classes):
    expected = detect(across_classes)
    with fast.accelerated():
        found = detect(across_classes)
    for ours, theirs in zip(found, expected, strict=True):
        assert len(theirs["detection"]["score"]) > 10
        assert ours["detection"].keys() == theirs["detection"].keys()
        for name, value in theirs["detection"].items():
            assert torch.equal(ours["detection"][name], value), name


def test_nothing_detected():
    with fast.accelerated():
        found = detect(False, scale=0.0)
        assert [len(part) for part in output.postprocess(found, 90, 70)] == [0, 0, 0, 0]


@pytest.mark.parametrize("score_threshold", [0, 0.3, 1.0])
@pytest.mark.parametrize("crop", [True, False])
def test_postprocess_is_theirs(crop, score_threshold):
    arguments = {"crop_masks": crop, "score_threshold": score_threshold, "batch_idx": 1}
    found = detect(False)
    prototypes = found[1]["detection"]["proto"]
    coefficients, boxes = found[1]["detection"]["mask"].double(), found[1]["detection"]["box"].double()
    rows = found[1]["detection"]["score"] > score_threshold
    with fast.accelerated():
        ours = output.postprocess(found, 90, 70, **arguments)
    theirs = output.postprocess(found, 90, 70, **arguments)
    assert [part.dtype for part in ours] == [part.dtype for part in theirs]
    assert [part.shape for part in ours] == [part.shape for part in theirs]
    if score_threshold == 1:
        return
    assert all(torch.equal(ours[place], theirs[place]) for place in range(3))
    values = torch.sigmoid(prototypes.double() @ coefficients[rows].T)
    if crop:
        values = installed("layers.box_utils").crop(values, boxes[rows])
    values = torch.nn.functional.interpolate(values.permute(2, 0, 1)[None], (70, 90), mode="bilinear")[0]
    assert bool(((values - 0.5).abs()[ours[3] != theirs[3]] < FLOAT32_ROUNDING).all())
    assert 0 < theirs[3].mean() < 1


def test_masks_are_encoded_as_theirs_and_all_is_restored():
    encoder = installed("pycocotools.mask")
    before = (encoder.encode, detection.Detect.fast_nms, detection.Detect.cc_fast_nms, output.postprocess)
    masks = np.asfortranarray(np.random.default_rng(0).random((30, 40, 3)) < 0.4, dtype=np.uint8)
    expected = encoder.encode(masks)
    with fast.accelerated():
        assert encoder.encode is not before[0]
        assert encoder.encode(masks) == expected
    assert (encoder.encode, detection.Detect.fast_nms, detection.Detect.cc_fast_nms, output.postprocess) == before
    assert pickle.loads(pickle.dumps(mask.encode)) is mask.encode  # it is itself, with its own name


def test_a_checkout_without_the_functions_is_left_alone(monkeypatch):
    monkeypatch.delattr(detection.Detect, "cc_fast_nms")
    before = detection.Detect.fast_nms
    with pytest.raises(UserError, match=r"^the checkout lacks 'cc_fast_nms', which the known commit 902073d has"):
        fast.accelerate()
    assert detection.Detect.fast_nms is before


def test_a_program_of_the_checkout_runs(tmp_path):
    """Its `import yolact` is its own, and `postprocess` is ours."""
    for name in ("layers", "data", "utils", "backbone.py"):
        (tmp_path / name).symlink_to(Path(CHECKOUT) / name)
    (tmp_path / "yolact.py").write_text("class Yolact: ...\n")  # the real one needs a GPU to import
    (tmp_path / "eval.py").write_text(
        "import sys\n"
        "from yolact import Yolact\n"
        "from layers.output_utils import postprocess\n"
        "print(sys.argv[1], Yolact.__module__, postprocess.__code__.co_filename)\n"
    )
    (command,) = re.findall(r"```\npython -I -m yolact.integrations.original (.*)\n```", page("original"))
    # As `python -I -m` where the package is installed: here its folder has to be named.
    start = "import runpy, sys; sys.path.insert(0, sys.argv.pop(1)); "
    start += "runpy.run_module('yolact.integrations.original', run_name='__main__', alter_sys=True)"
    done = subprocess.run(
        [sys.executable, "-I", "-c", start, ROOT, *command.split()], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [command.split()[1], "yolact", fast.__file__]
    done = subprocess.run(
        [sys.executable, "-I", "-c", start, ROOT, "eval.py"], capture_output=True, text=True, cwd=tmp_path.parent
    )
    assert done.returncode == 2
    assert done.stderr.startswith("layers cannot be accelerated: layers.functions.detection does not import")
