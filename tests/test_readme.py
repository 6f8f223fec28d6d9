"""What the README says is so; tests/test_docs.py runs its examples."""

from __future__ import annotations

import re

from conftest import ROOT

from benchmarks import readme

TEXT = (ROOT / "README.md").read_text()


def test_tables_are_those_of_the_newest_results():
    assert readme.insert(TEXT, readme.section(readme.newest("kernels"), readme.newest("gpu"))) == TEXT


def test_links_lead_somewhere():
    targets = re.findall(r"\]\((?!https?:)([^)#]+)\)", TEXT)
    assert targets
    for target in targets:
        assert (ROOT / target).exists(), target
