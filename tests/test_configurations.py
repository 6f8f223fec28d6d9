"""Every configuration's network: written and read again, and folded for inference, the same; tests/test_config.py has
their numbers, tests/test_bench_models.py their sizes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from networks import ROUNDING, create, distance, images

from yolact.config import CONFIGS
from yolact.engine.network import is_plain
from yolact.loading import load
from yolact.models.checkpoint import save_checkpoint

# Configurations that share these share every layer, but for the number of classes.
NETWORKS = {
    (config.backbone, config.deformable, config.fpn, config.mask_rescoring): name for name, config in CONFIGS.items()
}


@pytest.mark.parametrize("name", NETWORKS.values())
def test_a_network_survives_its_file_and_its_folding(name: str, tmp_path: Path) -> None:
    model = create(name)
    save_checkpoint(tmp_path / "w.pth", model)
    same = load(tmp_path / "w.pth")
    assert same.config == model.config
    expected, found = model.state_dict(), same.state_dict()
    assert expected.keys() == found.keys()
    assert all(torch.equal(tensor, found[name]) for name, tensor in expected.items())
    assert is_plain(same)
    with torch.no_grad():
        assert distance(same.network("fp32")(images()), model(images())) < ROUNDING
