"""Features of a price that only the caller knows, relative to the stored daily ones."""

from typing import Any

from feast import Field
from feast.on_demand_feature_view import on_demand_feature_view
from feast.types import Float64
from feature_views import daily_technical
from sources import last_price


@on_demand_feature_view(
    sources=[daily_technical[["sma_20", "bbands_upper_20_2_2", "bbands_lower_20_2_2"]], last_price],
    schema=[
        Field(name="distance_to_sma_20", dtype=Float64),
        Field(name="position_in_bbands_20", dtype=Float64),
    ],
    mode="python",
    version="v1",  # pinned, as the views are: Feast cannot apply an unpinned one again after a teardown
    description="Where the last price stands: distance to SMA(20) as a fraction of it; 0 at the lower, 1 at the upper band",
)
def last_price_position(inputs: dict[str, Any]) -> dict[str, Any]:
    """A value is NaN where an input is missing or not warmed up, or where the band has no width."""
    nan = float("nan")

    def fraction(value: float | None, start: float | None, end: float | None) -> float:
        """How far a value lies on the way from start to end."""
        if value is None or start is None or end is None or not end > start:
            return nan
        return (value - start) / (end - start)

    prices = inputs["last_price"]
    return {
        "distance_to_sma_20": [
            nan if average is None else fraction(price, average, 2 * average)
            for price, average in zip(prices, inputs["sma_20"], strict=True)
        ],
        "position_in_bbands_20": [
            fraction(price, lower, upper)
            for price, lower, upper in zip(
                prices, inputs["bbands_lower_20_2_2"], inputs["bbands_upper_20_2_2"], strict=True
            )
        ],
    }
