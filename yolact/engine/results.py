"""What a GPU computed of a batch, on its way to the host: everything copied once, and waited for once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from yolact.engine.packing import pack, unpack
from yolact.engine.transfer import mark
from yolact.instances import OnHost
from yolact.ops import RunLengths
from yolact.ops.run_lengths import copy_to_host
from yolact.structures import Rows

_LAST_TOLD = "boxes"  # the last field that the host is told, after all those before it


def row_names(rescored: bool) -> list[str]:
    """The fields of `Rows` that are there, with or without scores of boxes and masks apart."""
    return [field.name for field in fields(Rows) if rescored or field.name not in ("box_scores", "mask_scores")]


def pack_rows(rows: Rows, strings: RunLengths) -> tuple[Tensor, ...]:
    """What `Sent` takes: rows in a block with a row a picture, and run lengths."""
    block, *views = pack([getattr(rows, name) for name in row_names(rows.mask_scores is not None)])
    return block, *views, strings.data, strings.length, strings.needed, strings.size


@dataclass(frozen=True, eq=False)
class Arrived:
    """One picture's results."""

    tensors: dict[str, Tensor]  # on the device: the fields of `Rows` but for the count, [N, ...] each
    on_host: OnHost
    picture: Tensor  # [H, W, 3] uint8, on the host


class Sent:
    """A batch's results: copies of its own on the device, and others under way to the host."""

    def __init__(
        self,
        pictures: Sequence[Tensor],  # B x [H, W, 3] uint8, on the CPU or on the device
        names: list[str],  # of `row_names`
        outputs: tuple[Tensor, ...],  # of `pack_rows`, which later work may overwrite
    ) -> None:
        self._names, self._told_names = names, names[: names.index(_LAST_TOLD) + 1]
        block, *self._views = outputs[: 1 + len(names)]
        self._rows = [row.clone() for row in block]  # a picture's instances must not keep another's alive
        first_left = self._views[len(self._told_names)]
        told = block[:, : first_left.storage_offset() * first_left.element_size()]
        self._told = copy_to_host(told.clone(memory_format=torch.contiguous_format))
        self._strings = RunLengths(*outputs[1 + len(names) :])
        self._text = self._strings.gather()
        self._pictures = [copy_to_host(picture) for picture in pictures]
        self._wait = mark(block.device)

    def wait(self) -> list[Arrived]:
        """The results, once they are here."""
        self._wait()
        needed, rles = self._strings.read(self._text)
        detections, capacity = len(rles) // len(self._rows), self._strings.data.shape[1]
        arrived = []
        for b, (row, told, picture) in enumerate(zip(self._rows, self._told, self._pictures, strict=True)):
            count, *host = unpack(told, self._views[: len(self._told_names)])
            n = int(count)
            mine = slice(b * detections, b * detections + n)
            known = [tensor[:n].clone() for tensor in host]  # not the memory pinned for the way
            whole = max(needed[mine], default=0) <= capacity
            device = dict(zip(self._names, unpack(row, self._views), strict=True))
            del device["count"]
            arrived.append(
                Arrived(
                    {name: tensor if name == "prototypes" else tensor[:n] for name, tensor in device.items()},
                    OnHost(**dict(zip(self._told_names[1:], known, strict=True)), rles=rles[mine] if whole else None),
                    picture.clone() if picture.is_pinned() else picture,
                )
            )
        return arrived
