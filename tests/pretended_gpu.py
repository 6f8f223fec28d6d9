"""Runs in a Python whose torch is a CUDA build, where no GPU need be: what is done with a GPU's tensors, done with
torch's pretended ones, that have a device and a shape but hold nothing. Nothing may mix devices, nor look at a value:
whoever did would wait for the device, and no CUDA graph could hold it.

python tests/pretended_gpu.py
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "gpu")]

from calls import CALLS, results_of  # noqa: E402

import yolact  # noqa: E402
from benchmarks import cuda_deform_jobs, cuda_jobs, cuda_mask_jobs, rescoring_jobs  # noqa: E402
from benchmarks.training import random_targets  # noqa: E402
from yolact import ops  # noqa: E402
from yolact.config import get_config  # noqa: E402
from yolact.engine.engine import Ready  # noqa: E402
from yolact.engine.network import lean_network  # noqa: E402
from yolact.engine.rescoring import lean_mask_iou  # noqa: E402
from yolact.engine.results import pack_rows  # noqa: E402
from yolact.train.assignment import assign  # noqa: E402
from yolact.train.losses import losses  # noqa: E402


def pretended(tensor: Tensor, device: str = "cuda") -> Tensor:
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=device)


def move(model: nn.Module) -> None:
    """What `to` does, which cannot pretend."""
    for module in model.modules():
        for name, weight in module._parameters.items():
            module._parameters[name] = None if weight is None else nn.Parameter(pretended(weight))
        for name, buffer in module._buffers.items():
            module._buffers[name] = None if buffer is None else pretended(buffer)


def on_gpu(found: tuple[Tensor, ...]) -> bool:
    return all(tensor.device == torch.device("cuda:0") for tensor in found)


def operators() -> Iterator[str]:
    """Each on a GPU's tensors, and with one of them left behind: but for gradients, for which torch asks a driver."""
    for name, call in CALLS.items():
        given = {key: pretended(tensor) for key, tensor in call.tensors.items()}
        if "backward" not in name:
            assert on_gpu(results_of(call.run(**given))), name
            yield name
        for left_behind in given.keys() - {"sizes"} if len(given) > 1 else ():
            message = "no error"
            try:
                call.run(**given | {left_behind: pretended(call.tensors[left_behind], "cpu")})
            except ValueError as error:
                message = str(error)
            assert " must be on c" in message, f"{name} without {left_behind}: {message}"


def predict(config: str, mode: FakeTensorMode) -> Iterator[str]:
    """All that `Model.predict` asks of a GPU, from pictures to what is copied to the host."""
    model = yolact.Model(get_config(config)).eval()
    with mode, torch.no_grad():
        move(model)
        for precision in (torch.float32, torch.float16, torch.bfloat16):
            mask_iou = None if model.maskiou_net is None else lean_mask_iou(model.maskiou_net)
            ready = Ready(lean_network(model, precision), mask_iou, None)
            sizes, pictures = torch.empty(2, 2).long().to("cuda"), torch.empty(2, 48, 64, 3).byte().to("cuda")
            rows = model._way(ready, 0.15, model.which_score(), {}, False, sizes, pictures)
            masks = rows.prototypes, rows.coefficients, rows.relative_boxes
            assert on_gpu(pack_rows(rows, ops.assemble_run_lengths(*masks, sizes, count=rows.count)))
            yield f"predict {config} {precision}"


def training(config: str, mode: FakeTensorMode) -> Iterator[str]:
    """From a batch to its losses."""
    model = yolact.Model(get_config(config)).train()
    assignment = assign(random_targets(model.config, 2), model.priors, model.config, model.config.train.max_masks)
    totals = assignment.totals
    with mode:
        move(model)
        there = assignment._map(pretended)
        images = torch.empty(2, 3, model.config.size, model.config.size, device="cuda")
        for half in (torch.bfloat16, torch.float16):
            with torch.autocast("cuda", half):
                raw, semantic = model.forward_train(images)
            found = losses(raw, semantic, there, totals, model.config.train, model.maskiou_net)
            assert on_gpu(tuple(found.values()))
            yield f"training {config} {half}"


def benchmarks(mode: FakeTensorMode) -> Iterator[str]:
    """The contenders that a graph is to hold; the others copy to the host."""
    for jobs in (
        cuda_jobs.detect,
        cuda_jobs.fast_nms,
        cuda_mask_jobs.assemble_masks,
        cuda_mask_jobs.assemble_run_lengths,
        cuda_mask_jobs.resize_masks,
        cuda_mask_jobs.encode_run_lengths,
        cuda_mask_jobs.decode_run_lengths,
        cuda_deform_jobs.jobs,
    ):
        for job in jobs(torch.device("cpu"), cuda_jobs.TOY):
            drawn = job.draw(0)
            with mode:
                given = tuple(map(pretended, drawn))
                for name, contender in job.contenders.items():
                    if not contender.waits and "backward" not in job.name:
                        contender.run(*given)
                        yield f"{job.name}, {name}"
    net = rescoring_jobs.random_net(torch.device("cpu"))
    drawn = rescoring_jobs.detections(2, 3, rescoring_jobs.SMALLEST)
    with mode:
        move(net)
        ways, _ = rescoring_jobs.contenders(net, ragged=False)
        for name, way in ways.items():
            assert on_gpu((way(*map(pretended, drawn)),))
            yield f"scores of masks, {name}"
        for name, run in cuda_jobs.host(torch.device("cuda")).items():
            run()
            yield f"host time of {name}"


def main() -> None:
    torch.set_num_threads(1)
    mode = FakeTensorMode()
    with mode:
        done = list(operators())
    for config in ("yolact_lite0", "yolact_plus_resnet50"):
        done += [*predict(config, mode), *training(config, mode)]
    done += benchmarks(mode)
    print("\n".join(done))


if __name__ == "__main__":
    main()
