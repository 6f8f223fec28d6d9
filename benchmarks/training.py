"""What does training cost beside plain PyTorch, in time and memory? `python -m benchmarks.training`

Two scenes: the losses alone, forward and backward from what the network answered, and a whole step. The contender is
the same loss as plain PyTorch writes it down, matching in the loop; ours is matched by the processes that load
pictures, whose time for it is told apart. Losses and gradients are compared first. Times are medians of alternating
runs; memory is what is needed at the peak beyond weights and inputs: of a GPU as torch counts it, else of a process of
each contender's own.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.kernels import machine, write
from benchmarks.mask_loss import peak_on_gpu, resident_at_most
from yolact.bench.timing import compare
from yolact.config import Config, get_config
from yolact.models.yolact import Yolact
from yolact.ops import preprocess
from yolact.structures import RawOutputs
from yolact.train.assignment import assign
from yolact.train.batches import Batch
from yolact.train.losses import TERMS, losses, term_names
from yolact.train.matching import encode
from yolact.train.step import HALF, TrainStep
from yolact.train.targets import Targets

TRUTHS = 7  # of a picture, as COCO's have on average
RATE = 1e-3
# Sums of as many terms in another order; on GPUs the layouts differ, and TF32 and bfloat16 keep ten bits and eight.
TOLERANCE = {"cpu": 1e-3, "cuda": 0.05}
Terms = dict[str, Tensor]
Run = Callable[[], Terms]


def random_targets(config: Config, batch: int) -> list[Targets]:
    """Ellipses of all sizes."""
    generator = torch.Generator().manual_seed(0)
    pixels = (torch.arange(config.size) + 0.5) / config.size
    targets = []
    for _ in range(batch):
        radii = 0.02 + 0.28 * torch.rand(TRUTHS, 2, generator=generator) ** 2
        centres = radii + (1 - 2 * radii) * torch.rand(TRUTHS, 2, generator=generator)
        x, y = (((pixels - centres[:, i, None]) / radii[:, i, None]) ** 2 for i in (0, 1))
        targets.append(
            Targets(
                boxes=torch.cat([centres - radii, centres + radii], 1),
                labels=torch.randint(config.num_classes, (TRUTHS,), generator=generator),
                masks=x[:, None, :] + y[:, :, None] < 1,
                crowd=torch.zeros(TRUTHS, dtype=torch.bool),
            )
        )
    return targets


def plain_losses(raw: RawOutputs, semantic_logits: Tensor, targets: list[Targets], model: Yolact) -> Terms:
    """The losses as PyTorch writes them down, picture by picture, every tensor whole."""
    config, options = model.config, model.config.train
    priors = raw.priors
    corners = torch.cat([priors[:, :2] - priors[:, 2:] / 2, priors[:, :2] + priors[:, 2:] / 2], 1)
    h, w = raw.prototypes.shape[1:3]
    sums = dict.fromkeys(term_names(config), torch.zeros((), device=priors.device))
    positives = 0
    for b, target in enumerate(targets):
        shared = torch.minimum(target.boxes[:, None, 2:], corners[:, 2:])
        shared = (shared - torch.maximum(target.boxes[:, None, :2], corners[:, :2])).clamp(min=0).prod(2)
        area, own = ((x[:, 2:] - x[:, :2]).prod(1) for x in (target.boxes, corners))
        iou = shared / (area[:, None] + own - shared)  # [n, P]
        best, truth_of = iou.max(0)
        for _ in range(len(target.boxes)):
            truth, prior = divmod(int(iou.argmax()), len(priors))
            best[prior], truth_of[prior] = 1, truth
            iou[truth], iou[:, prior] = -1, -1
        positive, background = best >= options.positive_iou, best < options.negative_iou
        truth = truth_of[positive]
        boxes, count = target.boxes[truth], int(positive.sum())
        positives += count

        deltas = encode(boxes, priors[positive], config.detect.variances)
        box = F.smooth_l1_loss(raw.box_deltas[b, positive].float(), deltas, reduction="sum")

        logits = raw.class_logits[b].float()
        wanted = torch.zeros_like(truth_of)
        wanted[positive] = target.labels[truth] + 1
        hardness = (logits.logsumexp(1) - logits[:, 0]).masked_fill(~background, -torch.inf)
        quota = min(options.negatives_per_positive * count, int(background.sum()))
        counted = positive.clone()
        counted[hardness.argsort(descending=True)[:quota]] = True
        classification = F.cross_entropy(logits[counted], wanted[counted], reduction="sum")

        coefficients = raw.mask_coefficients[b, positive].float()
        probabilities = torch.sigmoid(raw.prototypes[b].float() @ coefficients.T)  # [h, w, p]
        masks = F.interpolate(target.masks[None].float(), (h, w), mode="bilinear")[0] > 0.5
        x1, y1, x2, y2 = (boxes * boxes.new_tensor((w, h, w, h))).unbind(1)
        columns, rows = torch.arange(w, device=boxes.device)[:, None], torch.arange(h, device=boxes.device)[:, None]
        inside = ((rows >= y1 - 1) & (rows < y2 + 1))[:, None] & ((columns >= x1 - 1) & (columns < x2 + 1))
        entropy = F.binary_cross_entropy(
            probabilities * inside, masks[truth].permute(1, 2, 0) * inside.float(), reduction="none"
        )
        mask = (entropy.sum((0, 1)) / ((x2 - x1) * (y2 - y1))).sum()
        if model.maskiou_net is not None:
            large = masks[truth].sum((1, 2)) > options.min_mask_iou_area
            soft, solid = (probabilities * inside).permute(2, 0, 1)[large], masks[truth][large]
            overlap = ((soft > 0.5) & solid).sum((1, 2))
            found = overlap / ((soft > 0.5).sum((1, 2)) + solid.sum((1, 2)) - overlap)
            predicted = model.maskiou_net(soft[:, None]).gather(1, target.labels[truth][large, None])[:, 0]
            sums["mask_iou"] = sums["mask_iou"] + F.smooth_l1_loss(predicted, found, reduction="sum")

        union = torch.zeros_like(semantic_logits[b], dtype=torch.float32)
        small = F.interpolate(target.masks[None].float(), union.shape[1:], mode="bilinear")[0] > 0.5
        for label, pixels in zip(target.labels.tolist(), small, strict=True):
            union[label] = torch.maximum(union[label], pixels.float())
        semantic = F.binary_cross_entropy_with_logits(semantic_logits[b].float(), union, reduction="sum")
        semantic = semantic / union[0].numel()
        for name, term in zip(TERMS, (box, classification, mask, semantic), strict=True):
            sums[name] = sums[name] + term
    return {
        name: getattr(options, f"{name}_weight") * total / (len(targets) if name == "semantic" else positives)
        for name, total in sums.items()
    }


class Bench:
    """The contenders of both scenes, over the same weights and the same batch."""

    def __init__(self, options: argparse.Namespace) -> None:
        torch.manual_seed(0)
        self.config = get_config(options.config)
        self.device, self.half = torch.device(options.device), HALF.get(options.precision)
        self.model = Yolact(self.config, freeze_batch_norm=True).to(self.device).train()
        self.weights = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
        targets = random_targets(self.config, options.batch)
        started = time.perf_counter()
        assignment = assign(targets, self.model.priors.cpu(), self.config, None)
        self.matching = (time.perf_counter() - started) / options.batch
        images = torch.randint(256, (options.batch, self.config.size, self.config.size, 3), dtype=torch.uint8)
        self.batch, self.totals = Batch(images, assignment).to(self.device), assignment.totals
        self.targets = [target.to(self.device) for target in targets]
        self.step = TrainStep(self.model, options.precision)
        self.optimizer = torch.optim.SGD(self.model.parameters(), RATE, momentum=0.9, weight_decay=5e-4)
        self.scaler = torch.amp.GradScaler(options.device, enabled=options.precision == "fp16")
        with torch.no_grad():
            raw, semantic = self.forward()
        self.answers = (raw.box_deltas, raw.class_logits, raw.mask_coefficients, raw.prototypes, semantic)

    def forward(self) -> tuple[RawOutputs, Tensor]:
        mean, std = self.config.preprocessing.mean, self.config.preprocessing.std
        with torch.autocast(self.device.type, self.half, enabled=self.half is not None):
            return self.model.forward_train(preprocess(self.batch.images, self.config.size, mean, std))

    def leaves(self) -> tuple[RawOutputs, Tensor]:
        """What the network answered, to take gradients of."""
        deltas, logits, coefficients, prototypes, semantic = (t.detach().requires_grad_() for t in self.answers)
        return RawOutputs(deltas, logits, coefficients, self.model.priors, prototypes), semantic

    def our_losses(self) -> Terms:
        raw, semantic = self.leaves()
        rest = self.batch.assignment, self.totals, self.config.train, self.model.maskiou_net
        return self._back(losses(raw, semantic, *rest), raw, semantic)

    def plain_losses(self) -> Terms:
        raw, semantic = self.leaves()
        return self._back(plain_losses(raw, semantic, self.targets, self.model), raw, semantic)

    def our_step(self) -> Terms:
        row = self.step([self.batch], self.totals, RATE)
        return dict(zip((*self.step.terms, "gradient"), row, strict=True))

    def plain_step(self) -> Terms:
        self.optimizer.zero_grad()
        terms = plain_losses(*self.forward(), self.targets, self.model)
        self.scaler.scale(torch.stack(list(terms.values())).sum()).backward()
        self.scaler.unscale_(self.optimizer)
        norm = torch.nn.utils.get_total_norm([p.grad for p in self.model.parameters() if p.grad is not None])
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return {**{name: term.detach() for name, term in terms.items()}, "gradient": norm}

    def scenes(self) -> dict[str, dict[str, Run]]:
        return {
            "losses": {"yolact": self.our_losses, "plain torch": self.plain_losses},
            "step": {"yolact": self.our_step, "plain torch": self.plain_step},
        }

    def check(self, contenders: dict[str, Run]) -> None:
        """Raise AssertionError where they disagree, in a loss or a gradient's norm."""
        found = []
        for run in contenders.values():
            self.model.load_state_dict(self.weights)
            found.append(run())
        torch.testing.assert_close(*found, rtol=TOLERANCE[self.device.type], atol=0)

    def _back(self, terms: Terms, raw: RawOutputs, semantic: Tensor) -> Terms:
        torch.stack(list(terms.values())).sum().backward()
        leaves = (raw.box_deltas, raw.class_logits, raw.mask_coefficients, raw.prototypes, semantic)
        norms = {f"gradient {i}": leaf.grad.norm() for i, leaf in enumerate(leaves) if leaf.grad is not None}
        return {**{name: term.detach() for name, term in terms.items()}, **norms}


def peak_here(options: argparse.Namespace, scene: str, name: str) -> int:
    """The bytes that this process needs at its peak beyond weights and inputs; it must have done nothing else."""
    torch.set_num_threads(options.threads)
    run = Bench(options).scenes()[scene][name]
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew from what is resident now
    before = resident_at_most()
    run()
    return resident_at_most() - before


def peak(scene: str, name: str) -> int:
    """The same, of a process of its own."""
    command = [sys.executable, "-m", "benchmarks.training", *sys.argv[1:], "--peak", scene, name]
    # No large piece of freed memory stays resident, to be counted as there before.
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}
    return int(subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="yolact_resnet50")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--precision", choices=("fp32", *HALF), default="fp32")
    parser.add_argument("--scenes", nargs="+", choices=("losses", "step"), default=("losses", "step"))
    parser.add_argument("--batch", type=int, default=8, help="pictures")
    parser.add_argument("--threads", type=int, default=1, help="on the CPU")
    parser.add_argument("--seconds", type=float, default=20.0, help="a scene")
    parser.add_argument("--json", type=Path, help="where to write the results")
    parser.add_argument("--peak", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak:
        print(peak_here(options, *options.peak))
        return
    torch.set_num_threads(options.threads)
    bench = Bench(options)
    rows = []
    for scene in options.scenes:
        contenders = bench.scenes()[scene]
        bench.check(contenders)

        def waited_for(run: Run) -> None:
            run()
            if options.device == "cuda":
                torch.cuda.synchronize()

        runs = {name: lambda run=run: waited_for(run) for name, run in contenders.items()}
        timings = compare(runs, seconds=options.seconds, least=3, threads=options.threads)
        print(f"\n{scene}, {options.config}, {options.batch} pictures, {options.precision}")
        for name, timing in timings.items():
            size = peak_on_gpu(runs[name]) if options.device == "cuda" else peak(scene, name)
            print(f"  {name:<12} {timing.median:9.1f} ms ({timing.low:.1f} to {timing.high:.1f})", end="")
            print(f"  {timings['yolact'].times(timing):5.2f}x  {size / 1e6:8.1f} MB")
            rows.append({"scene": scene, "contender": name, "milliseconds": asdict(timing), "peak_bytes": size})
    print(f"\nmatching and the rest that the loading processes do: {1e3 * bench.matching:.1f} ms a picture")
    what = {name: getattr(options, name) for name in ("config", "device", "precision", "batch", "threads")}
    device = torch.cuda.get_device_name() if options.device == "cuda" else "CPU"
    results = {"machine": machine(), "device": device, "options": what, "rows": rows}
    write({**results, "assign_milliseconds": 1e3 * bench.matching}, options.json)


if __name__ == "__main__":
    main()
