"""What a store does otherwise than its contract says, and why. A difference that goes away fails its test.

This store keeps every contract; the differences are those of Feast 0.67's own stores.
"""

from __future__ import annotations

from feast.errors import EntityTimestampInferenceException
from psycopg import errors

from tests.feast_ext.conformance.contract import Difference

_POSTGRES = {
    "composite_keys_that_read_alike_differ": Difference(
        "it puts the keys of an entity row together without a separator: both rows get both routes",
        gives=[21.0, 12.0, 21.0, 12.0],
    ),
    "a_view_without_entities_is_materialized": Difference(
        "its reads lack the placeholder key that Feast's engine looks for",
        raises=ValueError,
        match="__dummy_id not found",
    ),
    "times_keep_their_zone": Difference(
        "its entity rows go through a timestamp column without a zone", gives=[True, None]
    ),
    "the_one_column_of_times_may_have_any_name": Difference(
        "it writes the name into its statement without quotes", raises=errors.SyntaxError, match='at or near "AS"'
    ),
    "a_query_may_name_its_time": Difference(
        "a query's time column comes back as an object column, which it does not recognise",
        raises=EntityTimestampInferenceException,
        match="event_timestamp",
    ),
    "a_range_needs_no_entity_rows": Difference(
        "it gives each stored row, corrected ones beside their corrections",
        gives=[
            [1, "03-01 09:00:00", 1.0],
            [1, "03-01 10:00:00", 2.0],
            [1, "03-01 10:00:00", 2.5],
            [1, "03-01 12:00:00", 3.0],
            [2, "03-01 11:00:00", 4.0],
        ],
    ),
    "a_range_has_keys_time_and_features": Difference(
        "its range has the created time too", gives=["created_timestamp", "driver_id", "event_timestamp", "rate"]
    ),
    **{
        name: Difference("it does not offer offline_write_batch", raises=NotImplementedError)
        for name in (
            "a_written_batch_is_read",
            "a_batch_of_reordered_columns_is_written",
            "a_batch_of_a_mapped_view_has_the_columns_of_its_table",
            "a_batch_written_again_adds_nothing",
            "a_push_reaches_the_offline_store",
            "a_push_reaches_both_stores",
        )
    },
    "logged_features_are_read_back": Difference("it does not offer write_logged_features", raises=NotImplementedError),
    "a_saved_data_set_is_not_overwritten": Difference(
        "it refuses with the database's error rather than Feast's", raises=errors.DuplicateTable, match="already exists"
    ),
    "a_saved_data_set_is_overwritten_when_asked": Difference(
        "it creates its table without regard to allow_overwrite", raises=errors.DuplicateTable, match="already exists"
    ),
}
_NO_RANGE = Difference(
    "it has no retrieval without entity rows", raises=TypeError, match="unexpected keyword argument 'start_date'"
)
_NO_QUERY = Difference(
    "it takes entity rows as a DataFrame only", raises=AttributeError, match="'str' object has no attribute 'columns'"
)
_DUCKDB = {
    "a_pull_says_its_statement": Difference("its retrievals have no SQL to show", raises=NotImplementedError),
    "a_view_without_entities_is_materialized": _POSTGRES["a_view_without_entities_is_materialized"],
    "entity_rows_may_be_a_query": _NO_QUERY,
    "a_query_may_name_its_time": _NO_QUERY,
    "a_range_needs_no_entity_rows": _NO_RANGE,
    "a_range_has_keys_time_and_features": _NO_RANGE,
    "a_range_over_two_views_has_every_entity": _NO_RANGE,
    "a_reference_may_name_a_version": Difference(
        "its full names leave the version out, so two versions cannot be told apart",
        raises=KeyError,
        match="stats@v0__rate",
    ),
    "a_batch_of_a_mapped_view_has_the_columns_of_its_table": Difference(
        "it compares the mapped names with those of the file", raises=ValueError, match="incorrect columns"
    ),
    "a_batch_written_again_adds_nothing": Difference("it appends what it is given", gives=2),
}
DIFFERENCES = {("feast_postgres", name): difference for name, difference in _POSTGRES.items()} | {
    ("feast_duckdb", name): difference for name, difference in _DUCKDB.items()
}
"""By store and contract."""
