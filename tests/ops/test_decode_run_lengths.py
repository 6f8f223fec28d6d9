"""COCO run lengths to dense masks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from masks import adversarial_masks, random_mask

from yolact import ops
from yolact.ops import reference


def rows(*strings: str, size: tuple[int, int] = (4, 5)) -> ops.RunLengths:
    return ops.RunLengths.from_coco([{"size": list(size), "counts": string} for string in strings])


def test_decode_run_lengths_inverts_encoding_of_adversarial_masks():
    for mask in adversarial_masks():
        tensor = torch.from_numpy(mask)[None]
        assert torch.equal(ops.encode_run_lengths(tensor, capacity=40_000).decode(), tensor), mask.shape


def test_decode_run_lengths_inverts_encoding_of_random_masks(backend):
    rng = np.random.default_rng(0)
    for _ in range(100 if backend == "simt" else 1000):  # for its time
        mask = torch.from_numpy(random_mask(rng))[None]
        assert torch.equal(ops.encode_run_lengths(mask, capacity=30_000).decode(tuple(mask.shape[1:])), mask)


def test_decode_run_lengths_matches_reference():
    masks = torch.rand(5, 70, 33, generator=torch.Generator().manual_seed(0)) > 0.8
    encoded = ops.encode_run_lengths(masks)
    assert torch.equal(ops.decode_run_lengths(encoded), reference.decode_run_lengths(encoded, (70, 33)))


def test_decode_run_lengths_reads_strings_that_no_encoder_writes():
    """Runs of no pixels inside a string are no error: they change nothing."""
    string = reference.run_lengths.string_of([3, 0, 2, 4, 0, 0, 5, 6]).decode()
    expected = torch.zeros(20, dtype=torch.bool)
    expected[5:9] = True
    expected[14:] = True
    assert torch.equal(rows(string).decode()[0], expected.view(5, 4).T)


def test_decode_run_lengths_on_empty():
    assert ops.RunLengths.from_coco([]).decode().shape == (0, 0, 0)
    assert ops.RunLengths.from_coco([]).decode((4, 5)).shape == (0, 4, 5)
    assert rows("0", "", size=(0, 7)).decode().shape == (2, 0, 7)


def test_decode_run_lengths_takes_any_strides():
    encoded = ops.encode_run_lengths(torch.rand(6, 30, 20, generator=torch.Generator().manual_seed(0)) > 0.5)
    other = encoded[slice(None, None, 2)]
    assert not other.data.is_contiguous()
    assert torch.equal(other.decode(), encoded.decode()[::2])


@pytest.mark.parametrize(
    ("string", "message"),
    [
        ("c0", "row 1 of run_lengths covers fewer pixels than its size has"),
        ("", "row 1 of run_lengths covers fewer pixels than its size has"),
        ("e0", "row 1 of run_lengths covers more pixels than its size has"),
        ("d00001", "row 1 of run_lengths covers more pixels than its size has"),
        ("d", "row 1 of run_lengths breaks off inside a number"),
        ("01O", "row 1 of run_lengths holds a negative run length"),
        ("d/", "row 1 of run_lengths holds a character that no run length has"),
        ("é0", "row 1 of run_lengths holds a character that no run length has"),
        ("oooooooo0", "row 1 of run_lengths holds a character that no run length has"),
    ],
)
def test_decode_run_lengths_rejects_broken_strings(string, message):
    with pytest.raises(ValueError, match=message):
        rows("d0", string).decode()


@pytest.mark.parametrize(
    ("run_lengths", "size", "error", "message"),
    [
        (rows("d0"), (4, 6), ValueError, r"row 0 of run_lengths is of size \[4, 5\], not \[4, 6\]"),
        (rows("d0"), (-1, 5), ValueError, "the height of size must be at least 0, got -1"),
        (rows("d0"), (4, 5.0), TypeError, "the width of size must be a whole number, got 5.0"),
        (rows("d0"), 20, TypeError, "size must be a sequence, got 20"),
        (rows("d0"), (1 << 20, 1 << 20), ValueError, r"size must have fewer than 2\*\*32 pixels"),
        (rows("d0").to_coco(), None, TypeError, "run_lengths must be RunLengths, got list"),
        (
            replace(rows("d0"), length=torch.zeros(2, dtype=torch.int64)),
            None,
            ValueError,
            r"run_lengths.length must be",
        ),
        (replace(rows("d0"), length=torch.tensor([99])), None, ValueError, "row 0 of run_lengths breaks off"),
        (replace(rows("d0"), needed=torch.tensor([9])), None, ValueError, "overflowed: it needs 9 bytes"),
        (replace(rows("d0"), size=torch.zeros(1, 2)), None, TypeError, "run_lengths.size must be of dtype int64"),
    ],
)
def test_decode_run_lengths_rejects(run_lengths, size, error, message):
    with pytest.raises(error, match=message):
        ops.decode_run_lengths(run_lengths, size)


def test_decode_run_lengths_rejects_masks_of_different_sizes():
    mixed = ops.RunLengths.from_coco([{"size": [4, 5], "counts": "d0"}, {"size": [5, 4], "counts": "d0"}])
    with pytest.raises(ValueError, match=r"row 1 of run_lengths is of size \[5, 4\], not \[4, 5\]"):
        mixed.decode()


def test_decode_run_lengths_is_deterministic():
    encoded = ops.encode_run_lengths(torch.rand(17, 90, 110, generator=torch.Generator().manual_seed(0)) > 0.9)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        expected = encoded.decode()
        torch.set_num_threads(3)
        assert torch.equal(encoded.decode(), expected)
    finally:
        torch.set_num_threads(threads)


def test_decode_run_lengths_gives_empty_masks_where_nobody_waits():
    """The operator tells of each row what is wrong with it; inside a compiled graph that is all."""
    strings = ("d0", "0d0", "c0", "d/", "d")
    run_lengths = rows(*strings)
    compiled = torch.compile(ops.decode_run_lengths, fullgraph=True, backend="aot_eager")
    expected = torch.zeros(5, 4, 5, dtype=torch.bool)
    expected[1] = True
    assert torch.equal(compiled(run_lengths, (4, 5)), expected)
    parts = (run_lengths.data, run_lengths.length, run_lengths.needed, run_lengths.size)
    masks, error = torch.ops.yolact.decode_run_lengths(*parts, [4, 5])
    assert torch.equal(masks, expected)
    assert error.tolist() == [0, 0, 5, 1, 2]
    masks, error = torch.ops.yolact.decode_run_lengths(*parts, [4, 6])
    assert not masks.any()
    assert error.tolist() == [7] * 5


def test_decode_run_lengths_exports():
    class Decode(torch.nn.Module):
        def forward(self, run_lengths: ops.RunLengths) -> torch.Tensor:
            return ops.decode_run_lengths(run_lengths, (4, 5))

    program = torch.export.export(Decode(), (rows("d0", "0d0"),))
    assert program.module()(rows("0d0", "d0"))[:, 0, 0].tolist() == [True, False]


def test_decode_run_lengths_opcheck():
    encoded = ops.encode_run_lengths(torch.ones(2, 5, 7, dtype=torch.bool), capacity=16)
    arguments = (encoded.data, encoded.length, encoded.needed, encoded.size, [5, 7])
    torch.library.opcheck(torch.ops.yolact.decode_run_lengths, arguments)


def test_decode_run_lengths_compiles_with_dynamic_sizes():
    compiled = torch.compile(ops.decode_run_lengths, fullgraph=True, dynamic=True, backend="aot_eager")
    for shape in [(1, 9, 11), (3, 20, 8)]:
        masks = torch.rand(shape, generator=torch.Generator().manual_seed(0)) > 0.5
        assert torch.equal(compiled(ops.encode_run_lengths(masks), shape[1:]), masks)
