"""What comes with a request. The tables behind the feature views are named where the views are built."""

from feast import Field, RequestSource
from feast.types import Float64

last_price = RequestSource(
    name="last_price",
    schema=[Field(name="last_price", dtype=Float64)],
    description="The price right now, in units of today's share",
)
