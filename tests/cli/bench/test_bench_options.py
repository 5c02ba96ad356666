import pytest
import typer

from qunfs.cli.bench import options
from qunfs.cli.bench.options import Numbers


@pytest.mark.parametrize(
    ("text", "wanted"), [("1", [1]), ("0-5", [0, 1, 2, 3, 4, 5]), ("0,2", [0, 2]), ("2,0-1, 1", [0, 1, 2])]
)
def test_levels_of_faults(text: str, wanted: list[int]) -> None:
    assert list(options.faults(text)) == wanted


@pytest.mark.parametrize("text", ["", "x", "1-", "-1", "1,,2", "5-0", "0-99", "1.5"])
def test_other_levels_are_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="give numbers"):
        options.faults(text)


def test_numbers_are_shown_as_they_are_written() -> None:
    assert str(Numbers([0, 1, 2, 3])) == "0-3"
    assert str(Numbers([1, 4, 16])) == "1,4,16"
    assert options.faults(str(Numbers(range(6)))) == Numbers(range(6))


def test_no_client_is_refused() -> None:
    with pytest.raises(typer.BadParameter, match="from 1 to"):
        options.client_counts("0")
