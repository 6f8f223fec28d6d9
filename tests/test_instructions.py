"""The CPU kernels execute as many instructions as were recorded: repeatable where times are not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from conftest import ROOT, skip_or_fail
from instructions import __main__ as tool

RECORDED = tool.recorded()


@pytest.fixture(scope="module")
def program() -> Path:
    if lacking := tool.missing():
        skip_or_fail("valgrind", lacking)
    return tool.build()


@pytest.mark.parametrize("job", RECORDED)
def test_instructions_are_as_recorded(program, job):
    found, expected = tool.count(program, job), RECORDED[job]
    if found.build != expected.build:
        skip_or_fail("valgrind", f"the counts recorded are of {expected.build}, and this is {found.build}")
    assert (complaint := tool.complaint(job, found, expected)) is None, complaint


def test_every_job_is_recorded(program):
    assert tool.jobs(program) == list(RECORDED)


def test_every_kernel_is_counted():
    """Each that the torch operators or yolact.mask call is called by a job."""
    sources = (*ROOT.glob("csrc/torch/*.cpp"), *ROOT.glob("csrc/python/*.cpp"))
    called = re.compile(r"\bcpu::([a-z]\w+)\(")
    kernels = {name for source in sources for name in called.findall(source.read_text())}
    assert {"detect", "mask_iou", "polygon_flips"} <= kernels
    jobs = "".join(path.read_text() for path in ROOT.glob("tests/instructions/*.cpp"))
    assert kernels <= set(called.findall(jobs))


@pytest.mark.parametrize(("instructions", "told"), [(1019, None), (981, None), (1050, "+5.0%"), (950, "-5.0%")])
def test_margin(instructions, told):
    complaint = tool.complaint("a job", tool.Count(instructions, ""), tool.Count(1000, ""))
    assert complaint is None if told is None else told in complaint
