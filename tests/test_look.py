"""Looking inside: the steps of an assembly are those of the mask, and their pictures show them."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F

import yolact
from yolact.cli import main
from yolact.instances import Instances
from yolact.look import assemble, draw_assembly, draw_inside, draw_prototypes
from yolact.models.checkpoint import save_checkpoint
from yolact.pictures import read_picture, write_picture


def instances(count: int = 3, channels: int = 5, size: tuple[int, int] = (90, 120)) -> Instances:
    """Random ones: smooth prototypes, of which the last is silent."""
    random = torch.Generator().manual_seed(0)
    noise = torch.rand(1, channels, 5, 6, generator=random)
    prototypes = F.interpolate(noise, (20, 24), mode="bilinear")[0].permute(1, 2, 0).contiguous()
    prototypes[..., -1] = 0
    corners = torch.tensor([[0.1, 0.2, 0.7, 0.9]]).repeat(count, 1) + 0.05 * torch.rand(count, 4, generator=random)
    return Instances(
        boxes=corners * torch.tensor([size[1], size[0]] * 2),
        scores=torch.linspace(0.9, 0.4, count),
        labels=torch.arange(count) % 2,
        coefficients=torch.rand(count, channels, generator=random) * 2 - 1,
        relative_boxes=corners,
        prototypes=prototypes,
        picture=np.full((*size, 3), 128, np.uint8),
        class_names=("cat", "dog"),
        category_ids=(17, 18),
    )


def test_the_steps_lead_to_the_mask() -> None:
    found = instances()
    for number in range(len(found)):
        made = assemble(found[number])
        np.testing.assert_allclose(made.terms.sum(0), made.total, atol=1e-5)
        np.testing.assert_allclose(made.sigmoid, 1 / (1 + np.exp(-made.total)), atol=1e-6)
        inside = made.cut != 0
        np.testing.assert_array_equal(made.cut[inside], made.sigmoid[inside])
        x1, y1, x2, y2 = (found.relative_boxes[number] * torch.tensor([24, 20, 24, 20])).tolist()
        rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
        assert (columns[0], columns[-1]) == pytest.approx((x1 - 1, x2), abs=1), "a prototype's pixel wider than the box"
        assert (rows[0], rows[-1]) == pytest.approx((y1 - 1, y2), abs=1)
        stretched = F.interpolate(torch.from_numpy(made.cut)[None, None], found.size, mode="bilinear")[0, 0].numpy()
        surely = np.abs(stretched - 0.5) > 1e-5
        np.testing.assert_array_equal((stretched > 0.5)[surely], made.mask[surely])
        np.testing.assert_array_equal(made.mask, found.masks[number].numpy())


def test_the_strongest_terms_come_first() -> None:
    found = replace(instances(1), coefficients=torch.tensor([[0.01, -1.0, 0.5, 0.02, 1.0]]))
    assert assemble(found).strongest.tolist() == [1, 2, 3, 0, 4], "a silent prototype weighs nothing"
    outside = found.prototypes.clone()
    outside[:2, :, 3] += 1000
    assert assemble(replace(found, prototypes=outside)).strongest.tolist() == [1, 2, 3, 0, 4], "nor what lies outside"


@pytest.mark.parametrize("count", [0, 2])
def test_assemble_rejects_other_than_one(count: int) -> None:
    with pytest.raises(ValueError, match=f"instance must be a single one, as result\\[0\\], got {count}"):
        assemble(instances(count))


def test_prototypes_are_drawn_from_dark_to_bright() -> None:
    found = instances(channels=3)
    step = torch.linspace(0, 7, 24).expand(20, 24)
    sheet = draw_prototypes(replace(found, prototypes=torch.stack([step, step.flip(1), 0 * step], dim=2)))
    brightness = cv2.cvtColor(sheet, cv2.COLOR_RGB2LAB)[..., 0].astype(int)
    height, width = 143, 189  # of a cell: an eighth of 1600 pixels, in the photo's shape
    first, second, silent = (brightness[94:237, x : x + 189] for x in (32, 233, 434))
    assert first.shape == (height, width)
    assert first[70, 20] < 80 < 180 < first[70, -20]
    assert second[70, -20] < 80 < 180 < second[70, 20]
    assert np.ptp(silent[5:-5, 5:-5]) == 0


def test_terms_are_red_where_they_add_and_blue_where_they_take_away() -> None:
    found = replace(instances(1, 2), prototypes=torch.ones(20, 24, 2), coefficients=torch.tensor([[0.5, -1.0]]))
    sheet = draw_assembly(found).astype(int)
    away, adds = sheet[160, 120], sheet[160, 320]
    assert away[2] > away[0] + 80
    assert adds[0] > adds[2] + 80
    total = sheet[420, 200]
    assert total[2] > total[0] + 80, "their sum"


@pytest.mark.parametrize("size", [(90, 120), (1, 3000), (2000, 3), (50, 50)])
@pytest.mark.parametrize("count", [0, 1, 2])
def test_any_picture_can_be_drawn(size: tuple[int, int], count: int) -> None:
    found = instances(count, channels=9, size=size)
    found = replace(found, coefficients=found.coefficients * float("nan") if count == 1 else found.coefficients)
    sheet = draw_inside(found)
    assert sheet.dtype == np.uint8
    assert sheet.shape[1:] == (1664, 3)
    assert sheet.shape[0] < 4000
    above = draw_prototypes(found)
    np.testing.assert_array_equal(sheet[: len(above)], above)
    assert (len(sheet) == len(above)) == (count == 0)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_picture("photo.png", np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8))
    return tmp_path


def test_look_writes_a_picture(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    weights = "ours.pth"  # random, so that they find something everywhere
    save_checkpoint(Path(weights), yolact.create("yolact_lite0", num_classes=2))
    assert main(["look", "photo.png", "--weights", weights, "--instance", "7", "-o", "new/look.png"]) == 0
    out, err = capsys.readouterr()
    assert out.endswith("\nnew/look.png\n")
    assert err == ""
    both = read_picture("new/look.png")
    assert main(["look", "photo.png", "--weights", weights, "--score-threshold", "1"]) == 0
    assert capsys.readouterr().out == "Instances(0 in 80x60)\nlook.png\n"
    prototypes = read_picture("look.png")
    np.testing.assert_array_equal(both[: len(prototypes)], prototypes)
    assert len(both) > len(prototypes)


def test_look_tells_faults(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, message in (
        (["none.png"], "none.png: No such file or directory"),
        (["photo.png", "-o", "photo.png"], "photo.png: is the photo itself and would be overwritten; write another"),
        (["photo.png", "--instance", "0"], "Invalid value for '--instance': 0 is not in the range x>=1."),
        (["photo.png", "--instance", "99999"], "photo.png: has "),
        (["photo.png", "-o", "look.txt"], "look.txt: cannot write a picture with the suffix '.txt'"),
        (["photo.png", "--weights", "none.pth"], "none.pth: "),
    ):
        assert main(["look", *arguments]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith(f"yolact: {message}")
        assert err.count("\n") == 1
    assert os.listdir() == ["photo.png"]
