"""docs/models.md: its table is made of the newest results, which tell of every configuration as it is."""

from __future__ import annotations

from typing import Any

from conftest import ROOT

from benchmarks import readme
from yolact.config import CONFIGS

PAGE = (ROOT / "docs/models.md").read_text()
RESULTS: dict[str, Any] = readme.newest("models") or {}
TIMED = {"cpu": {"median": 123.4, "low": 1, "high": 200}, "gpu": {"median": 1.23, "low": 1, "high": 2}}


def test_the_table_is_that_of_the_newest_results() -> None:
    assert readme.insert(PAGE, readme.models_table(RESULTS)) == PAGE
    assert [row["config"] for row in RESULTS["models"]] == list(CONFIGS)


def test_counts_are_those_of_this_version() -> None:
    from test_bench_models import COUNTS

    assert {row["config"]: (row["parameters"], row["multiply_adds"]) for row in RESULTS["models"]} == COUNTS


def test_times_come_with_what_measured_them() -> None:
    rows = [RESULTS["models"][0] | TIMED, RESULTS["models"][1] | {"cpu": TIMED["cpu"], "gpu": None}]
    text = readme.models_table(RESULTS | {"models": rows, "threads": 2, "gpu": "some GPU"})
    head, _, *table = text.splitlines()
    assert f"float32 with 2 threads of {RESULTS['machine']['cpu']}" in head
    assert head.endswith("float16 on some GPU.")
    assert "| CPU, ms | GPU, ms | published |" in table[0]
    assert "| 123 | 1.2 | 29.8 mask AP (test-dev), 33.5 fps |" in table[2]
    assert table[3].endswith("| 123 |  |  |")
    untimed = readme.models_table(RESULTS | {"models": [row | {"cpu": None, "gpu": None} for row in rows]})
    assert "ms" not in untimed
    assert "Times" not in untimed
