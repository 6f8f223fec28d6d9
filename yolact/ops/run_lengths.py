"""COCO run lengths as tensors of fixed shape, and what turns them into results."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from yolact.ops import _library  # noqa: F401 - loads torch.ops.yolact
from yolact.ops._checks import check_size, items_of

# Bytes a row where the caller names no capacity: a page. Of the 7,214 strings that the published models gave on 100
# COCO pictures 24 are longer; those overflow and are told.
DEFAULT_CAPACITY = 4096


def ample_capacity(width: int) -> int:
    """Return the bytes a row that suffice for nearly all masks of so many columns: strings grow with them."""
    return min(max(DEFAULT_CAPACITY, 4 * width), 16 * DEFAULT_CAPACITY)


# What the host is told of a row: where its string begins in the text, its length, the bytes needed, height, width.
_RECORD_FIELDS = 5


@dataclass(frozen=True, eq=False)
class RunLengths:
    """Masks as COCO's compressed run-length strings, one a row, without a host's knowledge of their lengths.

    A row whose `needed` exceeds the capacity overflowed: its data mean nothing and its length is 0.
    """

    data: Tensor  # [M, capacity] uint8, the characters; zeros past the length
    length: Tensor  # [M] int64, bytes that count
    needed: Tensor  # [M] int64, bytes that the whole string takes
    size: Tensor  # [M, 2] int64, (height, width) of the mask

    def __len__(self) -> int:
        return self.data.shape[0]

    def __getitem__(self, rows: list[int] | slice) -> RunLengths:
        """Return some of the rows."""
        if isinstance(rows, int):  # rows keep their axis; this also ends a loop over what is no sequence of masks
            raise TypeError(f"rows must be a list or a slice, got {rows}")
        return RunLengths(self.data[rows], self.length[rows], self.needed[rows], self.size[rows])

    def to_coco(self) -> list[dict[str, Any]]:
        """Return a dictionary a row, {"size": [H, W], "counts": str}; synchronises where the tensors are on a GPU.

        Raises:
            ValueError: a row overflowed; the first such row is named with the bytes that it needs.
        """
        needed, rles = self._on_host()
        capacity = self.data.shape[1]
        for row, bytes_needed in enumerate(needed):
            if bytes_needed > capacity:
                raise ValueError(f"row {row} overflowed: it needs {bytes_needed} bytes, the capacity is {capacity}")
        return rles

    def _on_host(self) -> tuple[list[int], list[dict[str, Any]]]:
        """Return the bytes that each row needs, and COCO's dictionaries; no counts where a row overflowed."""
        memory = self.gather()
        if self.data.is_cuda:
            torch.cuda.current_stream(self.data.device).synchronize()
        return self.read(memory)

    def gather(self) -> Tensor:  # uint8
        """Return memory for `read`, to be waited for on a GPU: the device itself writes it, and only what counts."""
        count, capacity = self.data.shape
        size = count * (_RECORD_FIELDS * 8 + -(-capacity // 4) * 4)  # int64 each
        memory = torch.empty(size, dtype=torch.uint8, device="cpu", pin_memory=self.data.is_cuda)
        torch.ops.yolact.gather_run_lengths(self.data, self.length, self.needed, self.size, memory)
        return memory

    def read(self, memory: Tensor) -> tuple[list[int], list[dict[str, Any]]]:
        """Return the bytes that each row needs, and COCO's dictionaries; no counts where a row overflowed."""
        count = len(self)
        begin_of_text = count * _RECORD_FIELDS * 8
        records = memory[:begin_of_text].view(torch.int64).view(count, _RECORD_FIELDS).tolist()
        bytes_of_text = sum(records[-1][:2]) if records else 0
        text = memory[begin_of_text : begin_of_text + bytes_of_text].numpy().tobytes().decode("ascii")
        rles = [
            {"size": [height, width], "counts": text[begin : begin + length]}
            for begin, length, _, height, width in records
        ]
        return [needed for _, _, needed, _, _ in records], rles

    def decode(self, size: tuple[int, int] | None = None) -> Tensor:  # [M, H, W] bool
        """Return the masks; see `yolact.ops.decode_run_lengths`."""
        from yolact.ops.decode_run_lengths import decode_run_lengths

        return decode_run_lengths(self, size)

    @staticmethod
    def from_coco(
        rles: Sequence[dict[str, Any]],  # each with "size" and "counts"
        *,
        device: torch.device | str = "cpu",
    ) -> RunLengths:
        """Return the rows of COCO's dictionaries; the capacity is the longest string's length, or 1.

        Args:
            rles: dictionaries with "size", (height, width), and "counts": a str, bytes, or uncompressed, a list of
                whole numbers. Strings are taken as they are: decoding tells the broken ones.
            device: where the tensors are to lie.

        Raises:
            TypeError, ValueError: an entry of another form, named by its place.
        """
        rles = items_of(rles, "rles")
        sizes = [_size_of(rle, place) for place, rle in enumerate(rles)]
        texts = [_string_of(rle, place) for place, rle in enumerate(rles)]
        capacity = max((len(text) for text in texts), default=0) or 1
        data = np.zeros((len(texts), capacity), np.uint8)
        for row, text in zip(data, texts, strict=True):
            row[: len(text)] = np.frombuffer(text, np.uint8)
        length = torch.tensor([len(text) for text in texts], dtype=torch.int64, device=device)
        size = torch.tensor(sizes, dtype=torch.int64, device=device).view(-1, 2)
        return RunLengths(torch.from_numpy(data).to(device), length, length.clone(), size)


torch.export.register_dataclass(RunLengths, serialized_type_name="yolact.RunLengths")


def _size_of(rle: dict[str, Any], place: int) -> list[int]:
    """The height and width of one COCO dictionary."""
    if not isinstance(rle, dict) or not {"size", "counts"} <= rle.keys():
        raise TypeError(f"rles[{place}] must be a dictionary with size and counts, got {rle!r}")
    return check_size(rle["size"], f"rles[{place}]", low=0)


def _string_of(rle: dict[str, Any], place: int) -> bytes:
    """The string of one COCO dictionary, whatever the form of its counts."""
    counts = rle["counts"]
    if isinstance(counts, str):
        return counts.encode()
    if isinstance(counts, bytes):
        return counts
    if isinstance(counts, list):
        from yolact import mask

        return mask.frPyObjects(rle, *rle["size"])["counts"]
    raise TypeError(f"the counts of rles[{place}] must be str, bytes or a list, got {type(counts).__name__}")


def exact_rles(
    run_lengths: RunLengths,
    encode_again: Callable[[list[int], int], RunLengths],  # (rows, a capacity that suffices)
) -> list[dict[str, Any]]:
    """Return `run_lengths.to_coco()`, but with the rows that overflowed encoded again.

    Those of about one length at a time, so that one long string does not make all others take as much memory.
    """
    needed, rles = run_lengths._on_host()
    overflowed: dict[int, list[int]] = defaultdict(list)
    for row, size in enumerate(needed):
        if size > run_lengths.data.shape[1]:
            overflowed[size.bit_length()].append(row)
    for rows in overflowed.values():
        again = encode_again(rows, max(needed[row] for row in rows))
        for row, rle in zip(rows, again.to_coco(), strict=True):
            rles[row] = rle
    return rles


def copy_to_host(tensor: Tensor) -> Tensor:
    """Return a copy for the host to read, from the current stream's next synchronisation on; itself if it is there."""
    if not tensor.is_cuda:
        return tensor
    return torch.empty_like(tensor, device="cpu", pin_memory=True).copy_(tensor, non_blocking=True)


@torch.library.register_fake("yolact::gather_run_lengths")
def _(data: Tensor, length: Tensor, needed: Tensor, size: Tensor, out: Tensor) -> None:
    return None
