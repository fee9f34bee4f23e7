"""What a store does otherwise than its contract says, and why. A difference that goes away fails its test.

This store keeps every contract; the differences are those of Feast 0.67's own Redis store.
"""

from __future__ import annotations

from tests.feast_ext.conformance.contract import Difference

_ALWAYS_PRESENT = "it says PRESENT of a null and of an entity that it does not have"
_REDIS = {
    "statuses_tell_present_null_and_missing": Difference(_ALWAYS_PRESENT, gives=["PRESENT", "PRESENT", "PRESENT"]),
    "the_event_loop_reads_the_same": Difference(_ALWAYS_PRESENT, gives=[[1.0, None], ["PRESENT", "PRESENT"]]),
    "the_ttl_includes_its_edge": Difference(
        "a view's TTL means nothing to it: a value is given however old it is",
        gives=[[1.0, "PRESENT"], [1.0, "PRESENT"]],
    ),
    "a_row_of_after_the_moment_is_not_there_yet": Difference(
        "it has no clock that could be set to a moment, and looks at none", gives=[1.0]
    ),
    "columns_come_as_they_were_asked_for": Difference(
        "it gives the columns view by view, and those of a view in an order that differs from process to process",
        gives=False,
    ),
    "a_correction_replaces_the_row_of_its_moment": Difference(
        "of one event time the row that was written first stays, whenever it was recorded", gives=[1.0]
    ),
}
DIFFERENCES = {("feast_redis", name): difference for name, difference in _REDIS.items()}
"""By store and contract."""
