"""What the README says is so."""

from __future__ import annotations

import re

import cv2
import numpy as np
import torch
from conftest import ROOT, skip_or_fail

from benchmarks import readme
from yolact import mask

TEXT = (ROOT / "README.md").read_text()
WEIGHTS = ROOT / "yolact/weights/yolact_lite0_dogcat.pth"


def test_tables_are_those_of_the_newest_results():
    assert readme.insert(TEXT, readme.section(readme.newest("kernels"), readme.newest("gpu"))) == TEXT


def test_links_lead_somewhere():
    targets = re.findall(r"\]\((?!https?:)([^)#]+)\)", TEXT)
    assert targets
    for target in targets:
        assert (ROOT / target).exists(), target


def python_blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


def test_the_model_example_runs(tmp_path, monkeypatch):
    if not WEIGHTS.exists():
        skip_or_fail("weights", "the bundled model is not here")
    monkeypatch.chdir(tmp_path)
    # Files are told apart by what they hold, so the bundled model stands in for the file of the example.
    (tmp_path / "yolact_resnet50_54_800000.pth").symlink_to(WEIGHTS)
    picture = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    cv2.imwrite("photo.jpg", picture)
    exec(python_blocks()[0], {})
    assert cv2.imread("out.png").shape == picture.shape


def test_the_operators_example_runs():
    size, count, k, priors = 20, 6, 8, 30
    random = torch.Generator().manual_seed(0)
    names = {
        "H": 50,
        "W": 70,
        "masks": torch.rand(3, 9, 11, generator=random) > 0.5,
        "logits": torch.randn(3, 9, 11, generator=random),
        "prototypes": torch.randn(1, size, size, k, generator=random),
        "coefficients": torch.randn(1, count, k, generator=random),
        "boxes": torch.tensor([[[0.0, 0.0, 30.0, 30.0]]]).expand(1, count, 4),
        "scores": torch.rand(1, 3, count, generator=random),
        "box_deltas": torch.randn(1, priors, 4, generator=random),
        "class_logits": torch.randn(1, priors, 4, generator=random),
        "mask_coefficients": torch.randn(1, priors, k, generator=random),
        "priors": torch.rand(priors, 4, generator=random),
        "pixels": np.eye(5, dtype=np.uint8),
        "a": mask.encode(np.asfortranarray(np.ones((5, 5, 1), np.uint8))),
        "b": mask.encode(np.asfortranarray(np.ones((5, 5, 1), np.uint8))),
        "crowd": [0],
    }
    exec(python_blocks()[1], names)
    assert len(names["labels"]) == len(names["rles"]) > 0
