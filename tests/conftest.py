"""What every test shares: where the data lie, and which wants may skip."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
REQUIRED = {want.strip() for want in os.environ.get("YOLACT_REQUIRE", "").split(",") if want.strip()}


def skip_or_fail(want: str, reason: str) -> None:
    """Skip the test for want of `want`, or fail it where YOLACT_REQUIRE names that want."""
    if want in REQUIRED:
        pytest.fail(f"YOLACT_REQUIRE names {want!r}, and {reason}", pytrace=False)
    pytest.skip(reason)


def shared_path(relative: str) -> Path:
    """A file or folder of the shared test data: $YOLACT_SHARED, else `shared` beside the checkout."""
    base = Path(os.environ.get("YOLACT_SHARED") or ROOT.parent / "shared")
    path = base / relative
    if not path.exists():
        skip_or_fail("shared", f"the shared test data are not here ({path})")
    return path
