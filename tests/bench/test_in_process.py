import pytest

from bench import in_process


@pytest.mark.parametrize("b", [0, 1])
def test_each_procedure_gets_a_line(b: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert in_process.main(["-b", str(b), "--count", "5"]) == 0
    lines = capsys.readouterr().out.splitlines()
    table = {cells[1].strip(): [int(cell) for cell in cells[2:4]] for cells in (line.split("|") for line in lines[4:])}
    assert {"increment", "fetch", "CREATE", "GETATTR", "LOOKUP", "SETATTR", "RENAME", "REMOVE"} <= table.keys()
    assert all(at_replica > 0 and at_client > 0 for at_replica, at_client in table.values())
