from pathlib import Path

import pytest

from bench import mail, postmark
from bench.mail import Kind
from bench.postmark import STANDARD_COUNTS, Phase


@pytest.mark.parametrize(("files", "transactions"), [(10, 10), (20, 60), (37, 400), (100, 3000)])
def test_the_actions_are_postmarks(tmp_path: Path, files: int, transactions: int) -> None:
    (tmp_path / "run").mkdir()
    result = postmark.run(tmp_path / "run", tmp_path, files, transactions)
    assert mail.counts(files, transactions) == result.counts


def test_the_standard_size() -> None:
    assert mail.counts(5000, 20000) == STANDARD_COUNTS


def test_actions_fit_together() -> None:
    sizes: dict[str, int] = {}
    phases = []
    for action in mail.actions(50, 500):
        phases.append(action.phase)
        if action.kind is Kind.CREATE:
            assert action.name not in sizes
            assert mail.BYTES_MIN <= action.size < mail.BYTES_MAX
            sizes[action.name] = action.size
        elif action.kind is Kind.APPEND:
            assert sizes[action.name] < action.size <= mail.BYTES_MAX
            sizes[action.name] = action.size
        elif action.kind is Kind.READ:
            assert sizes[action.name] == action.size
        else:
            del sizes[action.name]
        assert (action.transaction is not None) == (action.phase is Phase.TRANSACTIONS)
    assert not sizes
    assert phases == sorted(phases, key=list(Phase).index)
