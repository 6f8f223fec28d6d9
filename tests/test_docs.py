"""Every block of code in the documentation runs, or says why not; then what it names exists all the same."""

from __future__ import annotations

import importlib.util
import re
import runpy
from pathlib import Path
from typing import Any

import click
import documents
import numpy as np
import pytest
import torch
from conftest import ROOT
from documents import LANGUAGES, PAGES, PYTHON, SHELL, blocks_of
from stand_in_files import write_stand_ins

from yolact import mask

BLOCKS = [block for page in PAGES for block in blocks_of(page)]
RUN = sorted({block.page for block in BLOCKS if block.not_run is None and block.language in (*PYTHON, *SHELL)})
LEFT_OUT = [block for block in BLOCKS if block.not_run is not None]


def some_tensors() -> dict[str, Any]:
    """The names that the README's example of the operators takes as given."""
    size, count, k, priors = 20, 6, 8, 30
    random = torch.Generator().manual_seed(0)
    square = mask.encode(np.ones((5, 5), np.uint8))
    return {
        "H": 50,
        "W": 70,
        "masks": torch.rand(3, 9, 11, generator=random) > 0.5,
        "logits": torch.randn(3, 9, 11, generator=random),
        "prototypes": torch.randn(1, size, size, k, generator=random),
        "coefficients": torch.randn(1, count, k, generator=random),
        "boxes": torch.tensor([[[0.0, 0.0, 30.0, 30.0]]]).expand(1, count, 4),
        "scores": torch.rand(1, 3, count, generator=random),
        "box_deltas": torch.randn(1, priors, 4, generator=random),
        "class_logits": torch.randn(1, priors, 4, generator=random),
        "mask_coefficients": torch.randn(1, priors, k, generator=random),
        "priors": torch.rand(priors, 4, generator=random),
        "pixels": np.eye(5, dtype=np.uint8),
        "a": [square],
        "b": [square],
        "crowd": [0],
        "x": torch.randn(1, 4, 6, 7, generator=random),
        "offset": torch.randn(1, 18, 6, 7, generator=random),
        "factors": torch.rand(1, 9, 6, 7, generator=random),
        "weight": torch.randn(5, 4, 3, 3, generator=random),
        "bias": torch.zeros(5),
    }


@pytest.fixture(scope="module")
def stand_ins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stand_ins")
    write_stand_ins(folder)
    return folder


@pytest.mark.filterwarnings("ignore:.*of another number of classes")  # as the page says
@pytest.mark.usefixtures("traced_once")
@pytest.mark.parametrize("page", RUN, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_runs(page, stand_ins, tmp_path, monkeypatch):
    threads = torch.get_num_threads()
    monkeypatch.chdir(tmp_path)
    for file in stand_ins.iterdir():
        (tmp_path / file.name).symlink_to(file)
    names = some_tensors() if page.name == "README.md" else {}
    for block in blocks_of(page):
        if block.not_run is None:
            documents.run(block, names)
    torch.set_num_threads(threads)  # `yolact predict` chooses its own


@pytest.mark.parametrize("block", LEFT_OUT, ids=lambda block: f"{block.place}, {block.not_run}")
def test_what_is_not_run_names_what_exists(block):
    if block.language == "python":
        compile(block.text, block.page, "exec")
    for command in documents.commands_of(block) if block.language in SHELL else ():
        documents.check_named(command)


def test_every_block_can_be_run_or_says_why_not():
    assert [block.place for block in BLOCKS if block.language not in LANGUAGES and block.not_run is None] == []


def test_the_reference_holds_every_public_name():
    pages = "\n".join(path.read_text() for path in (ROOT / "docs/reference").glob("*.md"))
    listed = re.findall(r"^\.\. auto(?:function|class|exception):: (\S+?)(?:\(\))?$", pages, re.MULTILINE)
    for package in ("yolact", "yolact.ops", "yolact.train"):
        module = importlib.import_module(package)
        functions_and_classes = {f"{package}.{name}" for name in module.__all__ if callable(getattr(module, name))}
        assert functions_and_classes <= set(listed)
    whole = set(re.findall(r"^\.\. automodule:: (\S+)\n   :members:", pages, re.MULTILINE))
    integrations = {f"yolact.integrations.{page.stem}" for page in documents.INTEGRATIONS.glob("*.md")}
    assert {"yolact.mask", "yolact.evaluation", *filter(importlib.util.find_spec, integrations)} <= whole


def test_a_broken_link_and_a_file_from_elsewhere_are_found(tmp_path):
    links = runpy.run_path(str(ROOT / "docs/extensions/links.py"))
    (tmp_path / "a.html").write_text(
        '<p id="here"></p><a href="#here"></a><a href="b.html#there"></a><a href="https://elsewhere.org"></a>'
        '<a href="#nowhere"></a><a href="b.html#here"></a><a href="c.html"></a>'
        '<script src="https://elsewhere.org/a.js"></script><img src="missing.png">'
    )
    (tmp_path / "b.html").write_text('<p id="there"></p>')
    assert sorted(links["faults"](tmp_path)) == [
        "a.html: #nowhere names no place of that page",
        "a.html: b.html#here names no place of that page",
        "a.html: c.html leads nowhere",
        "a.html: loads https://elsewhere.org/a.js",
        "a.html: missing.png leads nowhere",
    ]


MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in (ROOT / "yolact").rglob("*.py")
    if ">>>" in path.read_text()
)


@pytest.mark.parametrize("module", MODULES)
def test_examples_of_docstrings_run(module):
    found = importlib.import_module(module)
    for test in documents.examples_of(found):
        assert test.docstring is not None
        documents.run_examples(test.docstring, test.globs, test.name)


def test_an_option_that_does_not_exist_is_found():
    for line in ("yolact predict a.jpg --no-such-option", "yolact no-such-command", "torchrun -m yolact.cli eval --x"):
        with pytest.raises(click.UsageError):
            documents.check_named(documents.Command(tuple(line.split()), None))


def test_another_output_is_found():
    documents.compare("a ... c", "a b c\n")
    with pytest.raises(AssertionError, match="the page says"):
        documents.compare("a ... c", "a b d\n")
