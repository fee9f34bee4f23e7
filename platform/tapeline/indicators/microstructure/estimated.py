"""Models that are fitted again from time to time; each has an output for the age of the fit it speaks from, in rows."""

from __future__ import annotations

from tapeline.core.errors import ParameterError
from tapeline.indicators.expression import Expression, outcomes
from tapeline.indicators.microstructure.quotes import now
from tapeline.indicators.microstructure.signs import direction
from tapeline.indicators.specification import indicator
from tapeline.kernels.estimated.information_share import information_share
from tapeline.kernels.estimated.micro_price import fixed_point
from tapeline.kernels.estimated.pin import informed_trading


@indicator(
    "PIN",
    group="microstructure",
    outputs={
        "pin": "ratio",
        "pin_alpha": "ratio",
        "pin_delta": "ratio",
        "pin_mu": "rows",
        "pin_epsilon_buy": "rows",
        "pin_epsilon_sell": "rows",
        "pin_age": "rows",
    },
    source="Easley, Kiefer, O'Hara & Paperman 1996, Journal of Finance 51; likelihood as Lin & Ke 2011",
    oracle="formula",
    bounds={"periods": (10, 1_000), "period_s": (1, 31_536_000), "every": (1, 1_000)},
    quiet=("period_s", "every"),
)
def pin(
    time: Expression,
    price: Expression,
    side: Expression,
    bid: Expression,
    ask: Expression,
    periods: int = 60,
    period_s: int = 86_400,
    every: int = 1,
) -> tuple[Expression, ...]:
    """Probability of informed trading: share of trades by those who know news, with the model's parameters and age.

    Rates are trades in a period: periods are multiples of ``period_s`` seconds of UTC, and those without trades are left
    out, as nights and holidays are. Fitted in the first row after a period is over, from the ``periods`` before it. A trade
    is a buy or a sell as the venue tells, else by Lee and Ready's rule; one that neither can tell is not counted.
    """
    return outcomes(informed_trading, time, direction(price, side, bid, ask), periods, period_s, every)


@indicator(
    "INFORMATION_SHARE",
    group="microstructure",
    outputs={
        "information_share": "ratio",
        "information_share_lower": "ratio",
        "information_share_upper": "ratio",
        "information_share_age": "rows",
    },
    source="Hasbrouck 1995, Journal of Finance 50; in event time as Frijns & Schotman 2009",
    oracle="formula",
    bounds={"samples": (50, 10_000), "lags": (1, 20), "every": (1, 10_000)},
    quiet=("every",),
)
def share_of_trades(
    time: Expression,
    price: Expression,
    bid: Expression,
    ask: Expression,
    samples: int = 1_000,
    lags: int = 5,
    every: int = 100,
) -> tuple[Expression, ...]:
    """Share of trades in price discovery, against the mid of the quotes: middle of its bounds, the bounds, the age.

    A trade, or a change of a best quote, is a sample of both prices as they stand after it.
    """
    if samples < 10 * (1 + 2 * lags):
        raise ParameterError(
            f"samples {samples} are too few for {lags} lags",
            where="indicator INFORMATION_SHARE",
            remedy=f"Give at least {10 * (1 + 2 * lags)}",
        )
    return outcomes(information_share, time, price, now(bid), now(ask), samples, lags, every)


@indicator(
    "MICRO_PRICE",
    group="microstructure",
    outputs={"micro_price": "price", "micro_price_age": "rows"},
    source="Stoikov 2018, Quantitative Finance 18, theorem 3.1",
    oracle="formula",
    bounds={"samples": (50, 20_000), "classes": (2, 20), "spreads": (1, 10), "every": (1, 10_000)},
    quiet=("every",),
)
def micro_price(
    time: Expression,
    bid: Expression,
    ask: Expression,
    bid_size: Expression,
    ask_size: Expression,
    samples: int = 2_000,
    classes: int = 10,
    spreads: int = 2,
    every: int = 200,
) -> tuple[Expression, ...]:
    """Micro-price: where the mid is expected to settle, given imbalance and spread, by their chain in the last changes.

    ``classes`` of the imbalance (an even number), ``spreads`` in ticks, the last one open; the tick is the smallest
    spread in the window.
    """
    if classes % 2:
        raise ParameterError(
            f"classes {classes} is odd", where="indicator MICRO_PRICE", remedy="Give an even number: they are mirrored"
        )
    quotes = (now(bid), now(ask), now(bid_size), now(ask_size))
    return outcomes(fixed_point, time, *quotes, samples, classes, spreads, every)
