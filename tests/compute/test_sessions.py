"""Session arrays agree with what the exchanges did on known days."""

from __future__ import annotations

import pytest
from tapeline.compute.sessions import next_session_close, session_times
from tapeline.core.errors import EmptyDataError, ParameterError, UnknownNameError
from tapeline.core.timestamps import format_us, to_us


@pytest.mark.parametrize(
    ("moment", "close"),
    [
        ("2012-07-03T12:00:00+00:00", "2012-07-03T17:00:00+00:00"),  # half day before Independence Day
        ("2012-10-26T20:00:00+00:00", "2012-10-31T20:00:00+00:00"),  # closed for the hurricane
        ("2000-03-01T20:59:59+00:00", "2000-03-01T21:00:00+00:00"),
        ("2001-09-10T20:00:00+00:00", "2001-09-17T20:00:00+00:00"),
    ],
)
def test_next_close_of_new_york(moment: str, close: str) -> None:
    assert format_us(next_session_close("XNYS", to_us(moment))) == close


def test_closes_are_counted_forward_and_numbers_rise() -> None:
    times = session_times("XNYS")
    friday = to_us("2013-02-15T21:00:00+00:00")
    assert format_us(times.close_after_us(friday, 1)) == "2013-02-19T21:00:00+00:00"  # Presidents' Day between
    assert times.close_after_us(friday, 5) == to_us("2013-02-25T21:00:00+00:00")
    opening = to_us("2013-02-15T14:30:00+00:00")
    assert times.number_of(opening) == times.number_of(friday) == times.number_of(opening - 1) + 1
    assert not times.open_us.flags.writeable


def test_refusals() -> None:
    with pytest.raises(UnknownNameError, match="XNYS"):
        session_times("XNYZ")
    with pytest.raises(EmptyDataError):
        next_session_close("XNYS", to_us("2100-01-01T00:00:00+00:00"))
    with pytest.raises(ParameterError):
        session_times("XNYS").close_after_us(0, 0)
