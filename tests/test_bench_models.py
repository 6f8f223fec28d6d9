"""`yolact models`: what it counts, prints and writes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from torch import nn

from yolact import ops
from yolact.bench import models as bench
from yolact.cli import main
from yolact.config import CONFIGS, get_config

# Parameters, and multiply-adds of a picture.
COUNTS = {
    "yolact_base": (50_157_071, 82_342_331_072),
    "yolact_im400": (50_157_071, 42_717_067_520),
    "yolact_im700": (50_157_071, 131_464_083_968),
    "yolact_darknet53": (47_783_087, 77_354_652_032),
    "yolact_resnet50": (31_164_943, 59_140_948_672),
    "yolact_resnet50_pascal": (30_734_623, 56_480_105_152),
    "yolact_resnet152": (65_800_719, 105_388_851_904),
    "yolact_plus_base": (52_571_142, 94_108_340_672),
    "yolact_plus_resnet50": (33_766_460, 71_131_342_528),
    "mmdet_yolact_r50_1xb8": (35_293_711, 59_475_378_880),
    "mmdet_yolact_r50_8xb8": (35_293_711, 59_475_378_880),
    "mmdet_yolact_r101_1xb8": (54_285_839, 82_676_761_280),
    "yolact_mobilenetv2": (3_764_431, 6_352_521_344),
    "yolact_lite0": (3_982_287, 2_212_687_168),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_counts_of_every_configuration(name: str) -> None:
    line = bench.describe(get_config(name))
    assert (line.parameters, line.multiply_adds) == COUNTS[name]


def test_counts_are_those_of_the_layers() -> None:
    """By hand, layer by layer, of the network with most kinds of them."""
    config = get_config("yolact_plus_resnet50")
    with torch.device("meta"):
        model = bench.Yolact(config).eval()
        counted = 0

        def count(layer: nn.Conv2d, given: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
            nonlocal counted
            counted += output.numel() * layer.weight[0].numel()

        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                module.register_forward_hook(count)
        raw = model(torch.empty(1, 3, config.size, config.size))
        assert model.maskiou_net is not None
        model.maskiou_net(torch.empty(100, 1, *raw.prototypes.shape[1:3]))
    assert counted == COUNTS[config.name][1]


def test_a_deformable_convolution_counts_as_a_plain_one_does() -> None:
    class Deformable(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return ops.deform_conv2d(x, torch.zeros(2, 18, 5, 4), torch.zeros(6, 4, 3, 3), mask=torch.zeros(2, 9, 5, 4))

    assert bench._counted(Deformable(), torch.zeros(2, 8, 7, 6))[1] == 2 * 6 * 5 * 4 * 4 * 9


def test_the_table_and_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "models.json"
    options = ["--time", "--threads", "1", "--seconds", "0.01", "--json", str(file)]
    assert main(["models", "yolact_lite0", "yolact_resnet50"]) == 0
    head, lite0, resnet50 = capsys.readouterr().out.splitlines()
    assert head.split() == ["configuration", "backbone", "input", "Mparam", "GMAC", "published"]
    assert lite0.split() == ["yolact_lite0", "efficientnet_lite0", "320", "4.0", "2.2"]
    assert resnet50.endswith("28.2 mask AP (test-dev), 42.5 fps")

    assert main(["models", "yolact_lite0", *options]) == 0
    told = capsys.readouterr()
    assert told.err == "yolact_lite0 ...\n"
    content = json.loads(file.read_text())
    (line,) = content["models"]
    assert content["threads"] == 1
    assert {"date", "cpu", "versions"} <= content["machine"].keys()
    assert (line["parameters"], line["multiply_adds"]) == COUNTS["yolact_lite0"]
    assert 0 < line["cpu"]["low"] <= line["cpu"]["median"]
    assert f"{line['cpu']['median']:.1f}" in told.out.splitlines()[1].split()


def test_another_backbone(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "yolact_lite0", "--backbone", "mobilenet_v2"]) == 0
    assert capsys.readouterr().out.splitlines()[1].startswith("yolact_lite0 with mobilenet_v2  mobilenet_v2  320")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["yolact_big"], "unknown configuration 'yolact_big': choose one of yolact_base, "),
        (["--backbone", "resnet18"], "backbone must be one of resnet50, .* or timm/NAME, got 'resnet18'"),
        (["yolact_plus_base", "--backbone", "darknet53"], "deformable: of ResNets alone, .* for darknet53"),
        (["--json", "."], r"\.: is a folder"),
        (["--seconds", "nan"], "nan is not a finite number"),
        (["--threads", "0"], "0 is not in the range"),
    ],
)
def test_mistakes(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", *arguments]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    (line,) = told.err.splitlines()
    assert re.search(message, line)
