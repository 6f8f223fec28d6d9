"""The pages of docs/integrations, whose examples run."""

from __future__ import annotations

import re
from typing import Any

from conftest import ROOT


def page(library: str) -> str:
    return (ROOT / "docs/integrations" / f"{library}.md").read_text()


def run_example(library: str) -> dict[str, Any]:
    """Run a page's code; its names."""
    (code,) = re.findall(r"```python\n(.*?)```", page(library), re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)
    return names
