"""What features are about."""

from feast import Entity
from feast.value_type import ValueType

symbol = Entity(
    name="symbol",
    join_keys=["symbol"],
    value_type=ValueType.STRING,
    description="An instrument, as the source of its data calls it",
)
