"""The losses against the original's, values and gradients, on stand-in weights."""

from __future__ import annotations

import importlib.util
import json
from types import ModuleType

import numpy as np
import pytest
import torch
from conftest import shared_path

from yolact.config import get_config
from yolact.models.checkpoint import load_into, read_checkpoint
from yolact.models.yolact import Yolact
from yolact.train import Targets, loss_terms

RELATIVE = 1e-3  # a hundred convolutions add up in another order than where the golden values were made

# Relative centre, radii and class of the elliptic truths of the golden batch, a picture and its mirror image.
ELLIPSES = (
    (
        (0.30, 0.40, 0.18, 0.22, 0),
        (0.70, 0.60, 0.25, 0.30, 17),
        (0.15, 0.80, 0.06, 0.05, 2),
        (0.85, 0.20, 0.10, 0.15, 0),
    ),
    ((0.50, 0.50, 0.40, 0.35, 56), (0.25, 0.25, 0.08, 0.12, 17), (0.75, 0.85, 0.12, 0.08, 79)),
)
CROWDS = ((3,), ())


def ellipse_targets(ellipses: tuple, crowds: tuple[int, ...], size: int) -> Targets:
    cx, cy, rx, ry = torch.tensor([e[:4] for e in ellipses]).T
    centres = (torch.arange(size) + 0.5) / size
    masks = ((centres - cx[:, None]) / rx[:, None])[:, None, :] ** 2 + ((centres - cy[:, None]) / ry[:, None])[
        ..., None
    ] ** 2
    return Targets(
        boxes=torch.stack([cx - rx, cy - ry, cx + rx, cy + ry], 1).clamp(0, 1),
        labels=torch.tensor([e[4] for e in ellipses]),
        masks=masks < 1,
        crowd=torch.tensor([i in crowds for i in range(len(ellipses))]),
    )


@pytest.fixture(scope="module")
def golden_weights() -> ModuleType:
    spec = importlib.util.spec_from_file_location("golden_weights", shared_path("golden/weights.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_loss_terms_match_the_originals(golden_weights: ModuleType, tmp_path) -> None:
    expected = json.loads(shared_path("golden/yolact_base.loss.json").read_text())
    keys = json.loads(shared_path("golden/yolact_base.json").read_text())["keys"]
    config = get_config("yolact_base")
    path = tmp_path / "yolact_base.pth"
    torch.save(
        {name: torch.from_numpy(np.asarray(golden_weights.tensor_for(name, shape))) for name, shape in keys.items()},
        path,
    )
    model = Yolact(config, freeze_batch_norm=True).train()
    load_into(model, read_checkpoint(path))

    rgb = golden_weights.image()[..., ::-1]
    pictures = torch.from_numpy(np.stack([rgb, rgb[:, ::-1]]).astype(np.float32)).permute(0, 3, 1, 2)
    images = torch.nn.functional.interpolate(pictures, (550, 550), mode="bilinear", align_corners=False)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (config.preprocessing.mean, config.preprocessing.std))
    targets = [ellipse_targets(e, c, 550) for e, c in zip(ELLIPSES, CROWDS, strict=True)]
    terms = loss_terms(model, (images - mean) / std, targets, max_masks=None)
    names = {"box": "B", "mask": "M", "classification": "C", "semantic": "S"}
    assert {n: t.item() for n, t in terms.items()} == {
        n: pytest.approx(expected["losses"][short], rel=RELATIVE) for n, short in names.items()
    }

    torch.stack(list(terms.values())).sum().backward()
    gradients = {name: p.grad.norm().item() for name, p in model.named_parameters() if p.grad is not None}
    found = {name: gradients[name] for name in expected["grad_norms"]}
    assert found == {name: pytest.approx(norm, rel=RELATIVE) for name, norm in expected["grad_norms"].items()}
    assert np.linalg.norm(list(gradients.values())) == pytest.approx(expected["all_grad_norm"], rel=RELATIVE)
