"""What is done with a GPU's tensors neither mixes devices nor waits, as far as that shows where no GPU is."""

from __future__ import annotations

import subprocess

from conftest import ROOT, skip_or_fail

TORCH_CUDA = ROOT / "build/venv-torch-2.11/bin/python"


def test_on_tensors_that_pretend_to_lie_on_a_gpu():
    if not TORCH_CUDA.exists():
        skip_or_fail("torch-cuda", f"no environment with a CUDA build of torch ({TORCH_CUDA}): make venv-torch-cuda")
    command = [TORCH_CUDA, "-W", "ignore", ROOT / "tests/pretended_gpu.py"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    told = done.stdout.splitlines()
    assert told.count("detect") == 1
    for begin in ("predict yolact_plus_resnet50", "training yolact_plus_resnet50", "deform_conv2d 2 x", "host time of"):
        assert any(line.startswith(begin) for line in told), begin
