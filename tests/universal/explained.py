"""Why each universal test that does not pass against this store does not: by store, test and, where it fails, the error."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Explanation:
    """A test that is skipped or fails.

    Attributes
    ----------
    test
        Its file and name, without parameters.
    outcome
        ``skipped`` or ``failed``.
    says
        Words of the message.
    reason
        Why that is so.
    """

    test: str
    outcome: str
    says: str
    reason: str


_TWICE = Explanation(
    "test_offline_write::test_reorder_columns",
    "failed",
    "one key comes twice with different content",
    "the test writes two rows of one driver and one moment that contradict each other in one batch. This store refuses that"
    " rather than keep whichever comes last; a correction is a later batch. In the order of columns, which the test is about,"
    " it agrees: see a_batch_of_reordered_columns_is_written in tests/feast_ext/conformance",
)
_NOT_SQL = Explanation(
    "test_universal_historical_retrieval::test_historical_features_with_entities_from_query",
    "skipped",
    "Offline source is not sql-based",
    "the test asks a source for a `table` attribute, which Feast's PostgreSQLSource does not have. With TimescaleSource it"
    " runs and passes",
)
_EMPTY = "got empty parameter set"
_OTHER_STORES = tuple(
    Explanation(f"test_universal_online::{test}", "skipped", _EMPTY, f"Feast keeps it for {stores}")
    for test, stores in {
        "test_connection_pool_online_stores": "the connection pools of its PostgreSQL store",
        "test_retrieve_online_documents": "its stores of vectors: nearest neighbours are no part of this store",
        "test_retrieve_online_documents_v2": "its stores of vectors",
        "test_retrieve_online_documents_v2_with_filters": "its stores of vectors",
        "test_retrieve_online_milvus_documents": "its stores of vectors",
        "test_retrieve_online_image_search_hybrid": "its stores of vectors",
        "test_openai_search": "its stores of vectors",
        "test_openai_search_no_embedding_config": "its stores of vectors",
        "test_openai_search_not_found": "its stores of vectors",
    }.items()
)
_DYNAMO = tuple(
    Explanation(test, "failed", "No module named 'aiobotocore'", "it is about Feast's DynamoDB store and nothing else")
    for test in (
        "test_universal_online::test_async_online_retrieval_with_event_timestamps_dynamo",
        "test_push_features_to_online_store::test_push_features_and_read_async_dynamodb",
    )
)
EXPLAINED: dict[str, tuple[Explanation, ...]] = {
    "tapeline": (_TWICE,),
    "tapeline_on_feasts_source": (_TWICE, _NOT_SQL),
    "tapeline_online": (*_OTHER_STORES, *_DYNAMO),
}
LEFT_OUT = {
    "test_dqm_validation.py": "it is about Feast's validation by great_expectations < 1, a package that nothing here uses;"
    " Feast leaves the file out of its own runs of other stores",
}
"""Files that are not run at all."""
