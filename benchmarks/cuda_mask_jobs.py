"""What a GPU is asked about masks and run lengths; see `benchmarks.cuda_jobs`."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from benchmarks import inputs, peers
from benchmarks.cuda_jobs import Job, Sizes, head_outputs, name_of
from benchmarks.cuda_timing import Contender, InputSet
from yolact import ops


def mask_jobs(device: torch.device, sizes: Sizes) -> Iterator[tuple[str, Callable, int, tuple[int, int], bool, int]]:
    """(name, draw, batch, size, whether every peer runs, bytes read) for boxes of usual size and full-frame ones."""
    for batch in sizes.batches:
        for dtype in (torch.float32, torch.float16):
            for size in sizes.pictures:
                for boxes, coverage in (("boxes of 4 %", 0.04), ("full-frame boxes", 1.0)):

                    def draw(seed: int, batch=batch, dtype=dtype, size=size, coverage=coverage) -> InputSet:
                        given = inputs.smooth_masks(batch, sizes.masks, sizes.prototypes, coverage=coverage, seed=seed)
                        pairs = torch.tensor([size] * batch, device=device)
                        maps = (given.prototypes.to(device, dtype), given.coefficients.to(device, dtype))
                        return *maps, given.boxes.to(device), pairs

                    read = sum(tensor.numel() * tensor.element_size() for tensor in draw(0))
                    name = f"{batch} x {sizes.masks} of {size[0]} x {size[1]} {name_of(dtype)}, {boxes}"
                    yield name, draw, batch, size, batch == 1 and dtype is torch.float32, read


def eager_masks(prototypes: Tensor, coefficients: Tensor, boxes: Tensor, size: tuple[int, int]) -> list[Tensor]:
    """A picture at a time, as the original goes."""
    return [peers.eager_masks(*picture, size) for picture in zip(prototypes, coefficients, boxes, strict=True)]


def assemble_masks(device: torch.device, sizes: Sizes) -> Iterator[Job]:
    """To dense masks: the prototypes are read, the masks written."""
    for name, draw, batch, size, everything, read in mask_jobs(device, sizes):

        def ours(prototypes, coefficients, boxes, _, size=size, **options) -> Tensor:
            return ops.assemble_masks(prototypes, coefficients, boxes, size, **options)

        def check(*tensors: Tensor, ours=ours, size=size, everything=everything) -> None:
            masks = ours(*tensors)[-1]
            # An exponential's last bit, or another order of a sum, may move a pixel that is a half but for rounding.
            differ = masks.cpu() != ours(*(tensor[-1:].cpu() for tensor in tensors))[0]
            assert differ.sum() <= differ.numel() // 1_000_000
            if everything:
                differ = masks != eager_masks(*tensors[:3], size)[0]
                assert differ.sum() <= differ.numel() // 100_000

        pixels = batch * sizes.masks * size[0]
        contenders = {
            "yolact": Contender(ours, read + pixels * size[1]),
            "yolact, packed": Contender(functools.partial(ours, packed=True), read + pixels * -(-size[1] // 8)),
            "torch eager, as the original": Contender(lambda p, c, b, _, size=size: eager_masks(p, c, b, size)),
        }
        if everything and sizes.compiles:
            compiled = peers.compiled(peers.eager_masks)
            contenders["torch.compile"] = Contender(lambda p, c, b, _, f=compiled, s=size: f(p[0], c[0], b[0], s))
        yield Job(f"assemble_masks {name}", draw, contenders, check)


def assemble_run_lengths(device: torch.device, sizes: Sizes) -> Iterator[Job]:
    """Prototypes to COCO's strings: the prototypes are read, and rows of 4096 bytes written. Checked against dense
    masks, which have a job of their own."""
    for name, draw, batch, size, everything, read in mask_jobs(device, sizes):

        def ours(*tensors: Tensor) -> tuple[Tensor, ...]:
            found = ops.assemble_run_lengths(*tensors)
            return found.data, found.length, found.needed, found.size

        def dense(prototypes, coefficients, boxes, _, size=size) -> object:
            return ops.encode_run_lengths(ops.assemble_masks(prototypes, coefficients, boxes, size).flatten(0, 1))

        def original(prototypes, coefficients, boxes, _, size=size) -> object:
            masks = peers.eager_masks(prototypes[0], coefficients[0], boxes[0], size)
            return peers.copied_then_encoded(masks, "pycocotools", turn=False)

        def check(*tensors: Tensor, ours=ours, dense=dense) -> None:
            one, other = ours(*tensors), dense(*tensors)
            for mine, theirs in zip(one, (other.data, other.length, other.needed, other.size), strict=True):
                assert torch.equal(mine, theirs)

        contenders = {
            "yolact": Contender(ours, read + batch * sizes.masks * (ops.run_lengths.DEFAULT_CAPACITY + 32)),
            "yolact, to dictionaries": Contender(ops.prototypes_to_rles, waits=True),
            "yolact, dense in between": Contender(dense),
        }
        if everything:
            contenders["torch eager, copied, pycocotools"] = Contender(original, waits=True)
        yield Job(f"prototypes_to_rles {name}", draw, contenders, check)


def resize_masks(device: torch.device, sizes: Sizes) -> Iterator[Job]:
    """Logits of low resolution to the picture, dense and as strings: the logits are read, the masks written."""
    for side, size in ((78, sizes.pictures[0]), (108, sizes.pictures[-1])):

        def draw(seed: int, side=side) -> InputSet:
            return (inputs.mask_logits(sizes.masks, side, seed=seed).to(device),)

        def check(logits: Tensor, size=size) -> None:
            masks = ops.resize_masks(logits, size)
            differ = masks != peers.eager_resize(logits, size)
            assert differ.sum() <= differ.numel() // 100_000  # logits that are 0 but for rounding
            assert ops.logits_to_rles(logits, size) == ops.masks_to_rles(masks)

        def copied(logits: Tensor, size=size) -> object:
            return peers.copied_then_encoded(peers.eager_resize(logits, size), "pycocotools", turn=False)

        read, pixels = 4 * sizes.masks * side**2, sizes.masks * size[0] * size[1]
        written = sizes.masks * (ops.run_lengths.DEFAULT_CAPACITY + 32)
        dense = {
            "yolact": Contender(lambda logits, size=size: ops.resize_masks(logits, size), read + pixels),
            "torch eager": Contender(lambda logits, size=size: peers.eager_resize(logits, size)),
        }
        strings = {
            "yolact": Contender(lambda logits, size=size: ops.resize_run_lengths(logits, size).data, read + written),
            "yolact, to dictionaries": Contender(
                lambda logits, size=size: ops.logits_to_rles(logits, size), waits=True
            ),
            "torch eager, copied, pycocotools": Contender(copied, waits=True),
        }
        name = f"{sizes.masks} of {side} x {side} to {size[0]} x {size[1]}"
        yield Job(f"resize_masks {name}", draw, dense, check)
        yield Job(f"logits_to_rles {name}", draw, strings, check)


def encode_run_lengths(device: torch.device, sizes: Sizes) -> Iterator[Job]:
    """Dense masks, which are read once, to COCO's strings, beside all who end on the host."""
    kinds: list[tuple[str, Callable[[int], Tensor]]] = []
    for height, width in sizes.pictures:
        for coverage in (0.04, 0.5):

            def ellipses(seed: int, shape=(sizes.masks, height, width), coverage=coverage) -> Tensor:
                return inputs.ellipses(*shape, coverage=coverage, seed=seed, device=device)

            kinds.append((f"{sizes.masks} ellipses of {coverage:.0%}, {height} x {width}", ellipses))
    height, width = sizes.pictures[0]
    kinds.append(
        (
            f"{sizes.masks} ellipses of 4%, {height} x {width}, column-major",
            lambda seed: inputs.ellipses(sizes.masks, height, width, seed=seed, device=device).mT.contiguous().mT,
        )
    )
    kinds.append(
        (f"10 of noise, {height} x {width}", lambda seed: inputs.noise(10, height, width, seed=seed).to(device))
    )
    for name, masks_of in kinds:
        most = max(ops.run_lengths.DEFAULT_CAPACITY, *ops.encode_run_lengths(masks_of(0)).needed.tolist())
        capacity = most + most // 16  # other seeds need a little more or less

        def ours(masks: Tensor, capacity=capacity) -> tuple[Tensor, ...]:
            found = ops.encode_run_lengths(masks, capacity=capacity)
            return found.data, found.length, found.needed, found.size

        def check(masks: Tensor, ours=ours, noise="noise" in name) -> None:
            for here, there in zip(ours(masks), ours(masks.cpu()), strict=True):
                assert torch.equal(here.cpu(), there)
            if not noise:  # millions of counts, one by one in Python
                assert peers.runs_all_at_once(masks) == ops.masks_to_rles(masks)

        contenders = {
            "yolact": Contender(ours, masks_of(0).numel() + len(masks_of(0)) * (capacity + 32)),
            "yolact, to dictionaries": Contender(ops.masks_to_rles, waits=True),
        }
        if "noise" not in name:
            contenders["segment-anything's way"] = Contender(peers.runs_mask_by_mask, waits=True)
            contenders["ultralytics-like"] = Contender(peers.runs_all_at_once, waits=True)
        for package in ("pycocotools", "hotcoco"):
            for turn, how in ((False, "copied"), (True, "turned on the GPU, copied")):
                way = functools.partial(peers.copied_then_encoded, package=package, turn=turn)
                contenders[f"{how}, {package}"] = Contender(way, waits=True)
        yield Job(f"encode_run_lengths {name}", lambda seed, f=masks_of: (f(seed),), contenders, check)


def decode_run_lengths(device: torch.device, sizes: Sizes) -> Iterator[Job]:
    """COCO's strings to dense masks, which are written once."""
    for height, width in sizes.pictures:

        def draw(seed: int, shape=(sizes.masks, height, width)) -> InputSet:
            encoded = ops.encode_run_lengths(inputs.ellipses(*shape, seed=seed, device=device))
            return encoded.data, encoded.length, encoded.needed, encoded.size

        def ours(*rows: Tensor, size=(height, width)) -> Tensor:
            return ops.decode_run_lengths(ops.RunLengths(*rows), size)

        def pycocotools(*rows: Tensor) -> Tensor:
            from pycocotools import mask as coco

            return torch.from_numpy(coco.decode(ops.RunLengths(*rows).to_coco())).to(device)

        def check(*rows: Tensor, ours=ours, shape=(sizes.masks, height, width)) -> None:
            assert torch.equal(ours(*rows), ours(*(row.cpu() for row in rows)).to(device))
            assert torch.equal(ops.encode_run_lengths(ours(*rows)).data, rows[0])

        contenders = {
            "yolact": Contender(ours, sizes.masks * (height * width + ops.run_lengths.DEFAULT_CAPACITY)),
            "to dictionaries, pycocotools, copied": Contender(pycocotools, waits=True),
        }
        yield Job(f"decode_run_lengths {sizes.masks} ellipses, {height} x {width}", draw, contenders, check)


def postprocess(device: torch.device, sizes: Sizes) -> Iterator[Job]:
    """All after the network, from its outputs to COCO's dictionaries on the host, beside the original's way."""
    for batch in sizes.batches:

        def draw(seed: int, batch=batch) -> InputSet:
            head = head_outputs(batch, "1200 survivors", seed)
            maps = inputs.smooth_masks(batch, 1, sizes.prototypes, seed=seed).prototypes
            shape = (*head.box_deltas.shape[:2], maps.shape[-1])
            coefficients = torch.randn(shape, generator=torch.Generator().manual_seed(seed)).tanh()
            tensors = (head.box_deltas, head.class_logits, coefficients, head.priors, maps)
            return tuple(tensor.to(device) for tensor in tensors)

        def ours(*tensors: Tensor, batch=batch) -> object:
            return ops.postprocess(*tensors, [sizes.pictures[1]] * batch)

        def original(deltas, logits, coefficients, priors, maps) -> list[list[dict]]:
            found = peers.eager_detect(deltas, logits, priors, coefficients)
            masks = (peers.eager_masks(p, c, b, sizes.pictures[1]) for p, (b, _, _, c) in zip(maps, found, strict=True))
            return [peers.copied_then_encoded(picture, "pycocotools", turn=False) for picture in masks]

        def check(*tensors: Tensor, ours=ours, original=original) -> None:
            mine = [[rle["counts"] for rle in picture.rles] for picture in ours(*tensors)]
            others = [[[rle["counts"] for rle in p.rles] for p in ours(*(tensor.cpu() for tensor in tensors))]]
            if importlib.util.find_spec("pycocotools"):
                others.append([[rle["counts"].decode() for rle in picture] for picture in original(*tensors)])
            for theirs in others:
                for one, other in zip(mine, theirs, strict=True):
                    # Where scores differ by a rounding their order may, and a pixel whose value is a half but for one.
                    assert sum(a == b for a, b in zip(one, other, strict=True)) >= 0.9 * len(other)

        contenders = {
            "yolact, to dictionaries": Contender(ours, waits=True),
            "torch eager, copied, pycocotools": Contender(original, waits=True),
        }
        yield Job(
            f"postprocess {batch} x 19248 x 81 to {' x '.join(map(str, sizes.pictures[1]))}", draw, contenders, check
        )
