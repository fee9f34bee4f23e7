"""A few of the trials that `make soak` counts to a thousand of."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.crash.batches import Batch, batches
from tests.crash.trial import Trials
from tests.crash.world import Server, expected_rows


def test_nothing_acknowledged_is_lost_and_nothing_half_is_seen(tmp_path: Path) -> None:
    server = Server()
    try:
        outcome = Trials(server, 1, tmp_path / "trials").run()
    finally:
        server.close()
    assert outcome.kills + outcome.missed == 4
    assert outcome.kills >= 3
    assert outcome.exports == 8
    assert outcome.acknowledged > 500


def sent_for(kind: str) -> list[Batch]:
    return [batch for batch in batches(3, 40) if batch.kind == kind]


@pytest.mark.parametrize("kind", ["bars", "push", "values"])
def test_batches_hold_what_writers_must_cope_with(kind: str) -> None:
    sent = sent_for(kind)
    added = [stored for batch in sent for stored in batch.adds]
    versions = Counter(stored.key for stored in added)
    assert max(versions.values()) > 1, "corrections"
    assert sum(len(batch.rows) for batch in sent) > len(added), "repetitions"
    assert any(stored.available_us - stored.key[1] > 3_600_000_000 for stored in added), "late rows"
    assert any(stored.deleted for stored in added) == (kind == "bars")
    assert len(set(added)) == len(added)


def test_the_comparison_tells_lost_doubled_and_half_batches() -> None:
    """What is asserted of the stored rows would not hold if one were missing or there twice."""
    sent = batches(3, 5)
    whole = expected_rows(sent)
    kind = sent[-1].kind
    one = next(iter(sent[-1].adds))
    for change in (-1, 1):
        other = {name: Counter(rows) for name, rows in whole.items()}
        other[kind][one] += change
        assert +other[kind] != whole[kind]
    assert expected_rows(sent[:-1]) != whole
