"""The CPU kernels at every level of x86-64: one binary, one set of bits."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys

import pytest
from binaries import OPERATORS, told_by
from conftest import ROOT

LEVELS = ("default", "avx2", "avx512")

# What only a level has: all of AVX begins with v, of masks with k; then what comes with AVX2. (verr, verw, vm...: the
# system's own.)
LATER = (
    r"v(?!er[rw]|m(call|func|launch|ptr|read|resume|write|x))\w+|k(add|and|mov|not|ortest|or|shift|test|unpck|xn?or)\w+"
    r"|andn|bextr|bls(i|r|msk)|bzhi|mulx|pdep|pext|rorx|s(ar|hl|hr)x|lzcnt|popcnt"
)

# Hashes what each operator returns: for each type of input, with more than one thread.
PROGRAM = """
import hashlib
import torch
from benchmarks import inputs
from yolact import _mask, ops

torch.set_num_threads(2)
digest = hashlib.sha256()

def take(result):
    for tensor in [result] if isinstance(result, torch.Tensor) else vars(result).values():
        if isinstance(tensor, torch.Tensor):
            digest.update(tensor.contiguous().view(-1).view(torch.uint8).numpy())

crowd = inputs.clustered_detections(survivors=400, clusters=20)
masks = inputs.smooth_masks(detections=6, coverage=0.3)
truth = torch.rand(2, 138, 138, generator=torch.Generator().manual_seed(0)) < 0.5
for dtype in (torch.float32, torch.float16, torch.bfloat16):
    outputs = [t.to(dtype) for t in (crowd.box_deltas, crowd.class_logits, crowd.priors)]
    take(ops.detect(*outputs))
    take(ops.detect(*outputs, across_classes=True, method="greedy"))
    prototypes, coefficients = masks.prototypes.to(dtype), masks.coefficients.to(dtype)
    for layout, stored in (("hwk", prototypes), ("khw", prototypes.permute(0, 3, 1, 2).contiguous())):
        for options in ({}, {"activation": "none", "threshold": 0.0, "crop": "after"}):
            arguments = (stored, coefficients, masks.boxes)
            take(ops.assemble_masks(*arguments, (311, 205), layout=layout, **options))
            take(ops.assemble_masks(*arguments, (311, 205), layout=layout, packed=True, **options))
            take(ops.assemble_run_lengths(*arguments, [(311, 205)], layout=layout, **options))
    leaves = [each.clone().requires_grad_() for each in (prototypes, coefficients[0, :4])]
    which = torch.tensor([0, 0, 0, 0]), torch.tensor([0, 1, 0, 1])
    loss = ops.mask_loss(*leaves, *which, masks.boxes[0, :2], truth)
    loss.sum().backward()
    for tensor in (loss.detach(), leaves[0].grad, leaves[1].grad):
        take(tensor)
    shapes = (2, 37, 9, 8), (2, 18, 9, 8), (3, 37, 3, 3), (2, 9, 9, 8)
    seeded = torch.Generator().manual_seed(3)
    leaves = [torch.rand(shape, generator=seeded).to(dtype).requires_grad_() for shape in shapes]
    convolved = ops.deform_conv2d(*leaves[:3], padding=1, mask=leaves[3])
    convolved.sum().backward()
    for tensor in (convolved.detach(), *(leaf.grad for leaf in leaves)):
        take(tensor)
scores = crowd.class_logits.softmax(-1)[:, :500, 1:].mT
take(ops.fast_nms(torch.rand(1, 500, 4, generator=torch.Generator().manual_seed(1)), scores))
for dense in (inputs.ellipses(5, 131, 203), inputs.noise(3, 131, 203), inputs.noise(2, 131, 203).mT):
    encoded = ops.encode_run_lengths(dense, capacity=40000)
    take(encoded)
    take(ops.decode_run_lengths(encoded, dense.shape[1:]))
picture = torch.randint(0, 256, (1, 61, 83, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
for rounded in (True, False):
    take(ops.preprocess(picture, (97, 53), (1.0, 2.0, 3.0), (4.0, 5.0, 6.0), round_to_uint8=rounded))
print(_mask.cpu_capability(), digest.hexdigest())
"""


def run(level: str, program: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "YOLACT_CPU_CAPABILITY": level, "PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)


def test_levels_compute_the_same_bits():
    done = [run(level, PROGRAM) for level in LEVELS]
    assert not any(each.returncode for each in done), done
    told = [each.stdout.split() for each in done]
    for level, (used, digest) in zip(LEVELS, told, strict=True):
        assert LEVELS.index(used) <= LEVELS.index(level), "more than was allowed"
        assert digest == told[0][1], f"{used} differs from {told[0][0]}"


def test_levels_rejects_an_unknown_one():
    done = run("sse9", "from yolact import _mask\n_mask.cpu_capability()")
    assert "ValueError: YOLACT_CPU_CAPABILITY must be default, avx2 or avx512, got 'sse9'" in done.stderr


@pytest.mark.skipif(platform.machine() != "x86_64", reason="levels are of x86-64")
@pytest.mark.parametrize("path", [OPERATORS, *OPERATORS.parent.glob("_mask.*.so")], ids=lambda path: path.name)
def test_levels_stay_apart(path):
    """Nothing that every processor runs may hold an instruction of a level: not even a template of the standard
    library's that was compiled beside one."""
    held: dict[str, set[str]] = {}
    function = ""
    for line in told_by("objdump", "-d", "-w", "--no-show-raw-insn", path).splitlines():
        if named := re.match(r"[0-9a-f]+ <(.*)>:", line):
            function = named[1]
        elif (found := re.match(r"\s*[0-9a-f]+:\s+(\w+)", line)) and re.fullmatch(LATER, found[1]):
            held.setdefault(function, set()).add(found[1])
    assert held
    outside = {name: kinds for name, kinds in held.items() if not re.search("(for|pack|unpack)_avx(2|512)", name)}
    assert not outside, f"{path.name}: outside the levels' functions: {outside}"
