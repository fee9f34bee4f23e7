"""Instruments and splits of the packaged sources.

Listing dates are the first day of trading on the venue; of IBM, the day on which it took its name. Dividends are left
out: the packaged data names none, and no list with announcement dates that may be redistributed came with it; prices and
returns here are price returns until somebody ingests some.
"""

from __future__ import annotations

from dataclasses import dataclass

from tapeline.core.timestamps import to_us
from tapeline.storage.reference import Instrument


def _share(symbol: str, venue: str, listed: str) -> Instrument:
    moment = to_us(f"{listed}T00:00:00+00:00")
    return Instrument(symbol, venue, "XNYS", "equity", "USD", 0.01, moment, moment)


# Venues by ISO 10383; NASDAQ keeps the sessions of the New York Stock Exchange. FB and GOOG changed their names after
# the packaged data ends (to META, and for this class to GOOGL), which nobody knew then: the entries are open-ended.
SHARES = (
    _share("AAPL", "XNAS", "1980-12-12"),
    _share("FB", "XNAS", "2012-05-18"),
    _share("GOOG", "XNAS", "2004-08-19"),
    _share("IBM", "XNYS", "1924-02-14"),
    _share("MSFT", "XNAS", "1986-03-13"),
)

_ES_FROM = to_us("1997-09-09T00:00:00+00:00")  # first day of the contract, Chicago Mercantile Exchange
FUTURES = (
    Instrument("ES", "XCME", "CMES", "future", "USD", 0.25, _ES_FROM, _ES_FROM, multiplier=50.0),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Split:
    """A share split: from the open of which session on, announced when, and new shares for one old share."""

    symbol: str
    event_us: int
    published_us: int
    ratio: float


def _split(symbol: str, first_session_opens: str, known: str, ratio: float) -> Split:
    return Split(symbol, to_us(first_session_opens), to_us(known), ratio)


# Of the packaged shares these are all splits between 2000-03-01 and 2013-03-01; each shows in the prices as traded as
# a jump to about half. Known from the end of the day of the announcement in New York.
SPLITS = (
    # Apple Computer, press release of 2000-04-19
    _split("AAPL", "2000-06-21T09:30:00-04:00", "2000-04-20T00:00:00-04:00", 2.0),
    # Microsoft, press release of 2003-01-16
    _split("MSFT", "2003-02-18T09:30:00-05:00", "2003-01-17T00:00:00-05:00", 2.0),
    # Apple Computer, press release of 2005-02-11
    _split("AAPL", "2005-02-28T09:30:00-05:00", "2005-02-12T00:00:00-05:00", 2.0),
)
