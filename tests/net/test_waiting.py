"""What the log says of operations that wait for servers."""

from qunfs.net.driver import no_quorum
from qunfs.protocol.quorum import threshold
from qunfs.protocol.recursive_quorum import recursive_threshold


def test_too_few_servers() -> None:
    assert no_quorum(threshold(1), {2: "no answer"}) is None
    told = no_quorum(threshold(1), {2: "no answer", 4: "refused"})
    assert told == "4 of 6 servers answer and 5 are needed; missing 2: no answer; 4: refused"


def test_a_server_is_named_once_and_not_all_of_many() -> None:
    missing = {server: f"server {server} at 127.0.0.1:{server}: refused" for server in range(11)}
    told = no_quorum(threshold(2), missing)
    assert told is not None
    assert told.endswith("missing " + "; ".join(f"{s}: 127.0.0.1:{s}: refused" for s in range(5)) + "; and 6 more")


def test_enough_servers_that_are_no_quorum() -> None:
    """Four sites of four, three of three: as many as make a quorum elsewhere do not where two sites lack two each."""
    sites = recursive_threshold([(0, 1), (0, 1)])
    assert no_quorum(sites, dict.fromkeys([0, 1, 4, 8, 12], "x")) is None
    told = no_quorum(sites, dict.fromkeys([0, 1, 4, 5], "x"))
    assert told == "12 of 16 servers answer and 1 more are needed, such as 0; missing 0: x; 1: x; 4: x; 5: x"
    told = no_quorum(sites, dict.fromkeys([0, 1, 4, 5, 8, 9], "x"))
    assert told is not None
    assert told.startswith("10 of 16 servers answer and 2 more are needed, such as 0, 4; missing 0: x")
