"""RunLengths: from COCO's dictionaries and back."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from masks import real_rles

from yolact import ops
from yolact.ops import reference


def parts_of(run_lengths: ops.RunLengths) -> tuple[torch.Tensor, ...]:
    return run_lengths.data, run_lengths.length, run_lengths.needed, run_lengths.size


@pytest.mark.parametrize("name", ["yolact_base", "yolact_resnet50"])
def test_run_lengths_decode_and_encode_real_strings_identically(name, backend):
    rles = real_rles(name)
    assert len(rles) == {"yolact_base": 3380, "yolact_resnet50": 3834}[name]
    if backend == "simt":
        rles = rles[::100]  # for its time
    by_size: dict[tuple[int, int], list[dict]] = {}
    for rle in rles:
        by_size.setdefault(tuple(rle["size"]), []).append(rle)
    for same in by_size.values():
        assert ops.masks_to_rles(ops.RunLengths.from_coco(same).decode()) == same
    assert ops.RunLengths.from_coco(rles).to_coco() == rles


def test_run_lengths_from_every_form_of_counts():
    string = {"size": [4, 5], "counts": "35301"}
    counts = reference.run_lengths.counts_in(b"35301")
    forms = [string, string | {"counts": b"35301"}, {"size": (4, 5), "counts": counts}]
    assert sum(counts) == 20
    run_lengths = ops.RunLengths.from_coco(forms)
    assert run_lengths.to_coco() == [string] * 3
    assert run_lengths.data.shape == (3, 5)
    assert ops.RunLengths.from_coco(form for form in forms).to_coco() == [string] * 3


def test_run_lengths_select_rows():
    run_lengths = ops.encode_run_lengths(torch.eye(6, dtype=torch.bool).repeat(4, 1, 1).tril(1))
    assert len(run_lengths) == 4
    assert run_lengths[[2, 0]].to_coco() == [run_lengths.to_coco()[row] for row in (2, 0)]


def test_run_lengths_select_no_single_row():
    run_lengths = ops.encode_run_lengths(torch.ones(2, 3, 3, dtype=torch.bool))
    with pytest.raises(TypeError, match="rows must be a list or a slice, got 0"):
        run_lengths[0]


@pytest.mark.parametrize("capacity", [1, 4, 7, 40])
def test_gather_run_lengths_matches_reference(capacity):
    masks = torch.rand(6, 4, 5, generator=torch.Generator().manual_seed(0)) > 0.8
    encoded = ops.encode_run_lengths(masks, capacity=capacity)
    damaged = replace(encoded, length=torch.tensor([-1, capacity + 1, 0, 1, 1, 1]))
    for run_lengths in (encoded, encoded[slice(None, None, 2)], encoded[:0], damaged):
        memory = torch.full((len(run_lengths) * (40 + -(-capacity // 4) * 4),), 77, dtype=torch.uint8)
        torch.ops.yolact.gather_run_lengths(*parts_of(run_lengths), memory)
        expected = reference.gather_run_lengths(run_lengths)
        assert torch.equal(memory[: len(expected)], expected)
        assert (memory[len(expected) :] == 77).all()


def test_gather_run_lengths_opcheck():
    encoded = ops.encode_run_lengths(torch.ones(2, 5, 7, dtype=torch.bool), capacity=16)
    memory = torch.zeros(2 * (40 + 16), dtype=torch.uint8)
    torch.library.opcheck(torch.ops.yolact.gather_run_lengths, (*parts_of(encoded), memory))


def test_gather_run_lengths_rejects_memory_that_does_not_fit():
    encoded = ops.encode_run_lengths(torch.ones(2, 5, 7, dtype=torch.bool), capacity=16)
    with pytest.raises(RuntimeError, match=r"out must be of shape \[112\], got \[111\]"):
        torch.ops.yolact.gather_run_lengths(*parts_of(encoded), torch.zeros(111, dtype=torch.uint8))
    with pytest.raises(RuntimeError, match="out must begin at a multiple of 8 bytes"):
        torch.ops.yolact.gather_run_lengths(*parts_of(encoded), torch.zeros(113, dtype=torch.uint8)[1:])


def test_run_lengths_of_nothing():
    nothing = ops.RunLengths.from_coco([])
    assert nothing.to_coco() == []
    assert nothing.data.shape == (0, 1)
    assert nothing.size.shape == (0, 2)


@pytest.mark.parametrize(
    ("rle", "error", "message"),
    [
        ({"counts": "0"}, TypeError, r"rles\[1\] must be a dictionary with size and counts"),
        ("0", TypeError, r"rles\[1\] must be a dictionary with size and counts, got '0'"),
        ({"size": [4], "counts": "0"}, ValueError, r"rles\[1\] must be \(height, width\), got \[4\]"),
        ({"size": [4.5, 2], "counts": "9"}, TypeError, r"the height of rles\[1\] must be a whole number, got 4.5"),
        ({"size": [4, 5], "counts": 7}, TypeError, r"the counts of rles\[1\] must be str, bytes or a list, got int"),
        ({"size": [4, 5], "counts": [7, 8]}, ValueError, "counts covers fewer pixels than its size has"),
    ],
)
def test_run_lengths_rejects(rle, error, message):
    with pytest.raises(error, match=message):
        ops.RunLengths.from_coco([{"size": [4, 5], "counts": "d0"}, rle])
