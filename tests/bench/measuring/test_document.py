import json
from pathlib import Path

import pytest

from bench.measuring import document
from bench.measuring.document import CONFIGURATION, MEASURED
from qunfs.protocol.errors import LocalError

ROOT = Path(__file__).parents[3]


def run(ops_per_s: float = 10.0, disturbed: bool = False) -> document.Figures:
    figures = dict.fromkeys(MEASURED, 1.0)
    return {
        **figures,
        "ops_per_s": ops_per_s,
        "latency_us": {"p50": 2 * ops_per_s, "p99": None},
        "disturbed": disturbed,
    }


def record(*runs: document.Figures) -> document.Figures:
    return document.record({**dict.fromkeys(CONFIGURATION), "workload": "counter", "b": 1, "clients": 1}, list(runs))


def test_a_record_has_the_medians_and_keeps_the_runs() -> None:
    made = record(run(10), run(30), run(20, disturbed=True))
    assert made["ops_per_s"] == 20
    assert made["latency_us"] == {"p50": 40, "p99": None}
    assert made["disturbed"]
    assert made["repeat"] == len(made["runs"]) == 3


def test_one_result_shows_at_the_top_of_a_document_too() -> None:
    alone = document.document("counter", [record(run())])
    assert (alone["ops_per_s"], alone["b"], alone["schema_version"]) == (10, 1, document.SCHEMA_VERSION)
    assert document.complaints(alone) == []
    two = document.document("counter", [record(run()), record(run())])
    assert "ops_per_s" not in two
    assert len(two["results"]) == 2
    assert json.loads(document.as_text(two)) == two


def test_every_field_is_described() -> None:
    told = (ROOT / "docs" / "benchmarks.md").read_text()
    for name in (*CONFIGURATION, *MEASURED, "parts", "runs", "repeat", "results", "schema_version"):
        assert f"`{name}`" in told, name


@pytest.mark.parametrize(
    ("value", "shown"), [(0, 0), (123456.789, 123457), (12.3456789, 12.346), (0.000123456789, 0.00012346), (7.0, 7)]
)
def test_figures_have_no_digits_that_mean_nothing(value: float, shown: float) -> None:
    assert document.significant(value) == shown


def test_other_files_are_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    for text, why in (
        ("nonsense", "not JSON"),
        ("{}", "not a result"),
        ('{"schema": "qunfs-bench", "schema_version": 99}', "schema version 99"),
        ('{"schema": "qunfs-bench", "schema_version": 1, "results": []}', "no results"),
        ('{"schema": "qunfs-bench", "schema_version": 1, "results": [{}]}', "result 0 lacks workload"),
    ):
        path.write_text(text)
        with pytest.raises(LocalError, match=why):
            document.read(path)
    with pytest.raises(LocalError, match="No such file"):
        document.read(tmp_path / "absent.json")


def test_a_document_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    made = document.document("counter", [record(run())])
    document.save(made, tmp_path / "a.json")
    assert document.read(tmp_path / "a.json") == made
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
    document.save(made, Path("/dev/null"))
    with pytest.raises(LocalError, match="name another file"):
        document.save(made, tmp_path / "no" / "b.json")


def test_a_directory_is_read_whole(tmp_path: Path) -> None:
    with pytest.raises(LocalError, match="no results there; make some with"):
        document.read_all(tmp_path)
    with pytest.raises(LocalError, match="name a directory"):
        document.read_all(tmp_path / "absent")
    (tmp_path / "other.json").write_text("{}")
    (tmp_path / "a.json").write_text(document.as_text(document.document("counter", [record(run())])))
    assert [one["workload"] for one in document.read_all(tmp_path)] == ["counter"]
