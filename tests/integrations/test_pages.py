"""The pages are short, found, and tell what was measured; their examples run beside the libraries."""

from __future__ import annotations

import json

import pytest
from conftest import ROOT
from pages import page

from benchmarks import integrations


@pytest.mark.parametrize("library", integrations.LIBRARIES)
def test_a_page_is_short_linked_and_tells_the_newest_results(library):
    text = page(library)
    assert len(text.splitlines()) <= 30
    assert f"](docs/integrations/{library}.md)" in (ROOT / "README.md").read_text()
    newest = sorted((ROOT / "benchmarks/results").glob(f"*-{library}.json"))[-1]
    assert integrations.insert(text, json.loads(newest.read_text())) == text


def test_every_page_has_a_benchmark():
    assert {path.stem for path in (ROOT / "docs/integrations").glob("*.md")} == set(integrations.LIBRARIES)
