import json
from pathlib import Path

import pytest

from bench import tables
from bench.measuring.document import document
from tests.bench.test_plots import part, record


def test_a_row_has_one_client_and_the_peak_and_asterisks_for_what_was_disturbed() -> None:
    counters = document(
        "counter",
        [
            record("counter", 1, 2_000, n=6),
            record("counter", 1, 5_000, n=6, clients=64, disturbed=True),
            record("counter", 1, 4_000, n=6, clients=16),
        ],
    )
    lines = tables.markdown([counters]).splitlines()
    assert lines[2] == "| `b=1` | 6 | 500 | 20 | 5,000* | 64 | 20* | 0.0 | 4,000 | 10,000* |"
    assert len(lines) == 3, "no tables of what there is none of"


def test_a_column_for_each_protocol_and_a_row_for_each_figure() -> None:
    records = [record("counter", 1, 2_000, n=6), record("pbft", 1, 9_000, n=4, clients=32)]
    for one in records:
        one["operation"] = "increment"
    lines = tables.beside_the_baseline([document("counter", records)], (1,), (1, 32)).splitlines()
    assert lines[0] == "|  | Q/U f=1 | PBFT f=1 |"
    assert "| 1 loop: p50, us | 500 | - |" in lines
    assert "| 32 loops: operations/s | - | 9,000 |" in lines


def test_a_comparison_without_the_baseline_or_its_levels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "counter.json").write_text(json.dumps(document("counter", [record("counter", 2, 2_000)])))
    assert tables.main([str(tmp_path)]) == 0
    assert capsys.readouterr().out.count("\n") == 3


def test_what_was_not_measured_is_a_dash() -> None:
    parts = [part(name) for name in ("getattr", "create", "rename")]
    lines = tables.markdown([document("nfs", [record("nfs", 2, parts=parts)])]).splitlines()
    assert lines[2] == "| `b=2` | - | - | 10,000 | 10,000 | 10,000 | - | - |"
