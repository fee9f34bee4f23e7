"""What each step takes, as numbers: measured by :mod:`benchmarks.scaling.measure`, taken by the simulation and the tables."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Costs:
    """Seconds and bytes of one machine.

    Attributes
    ----------
    add_entry_s, add_byte_s
        Of the Redis server: to append a block to a stream.
    read_call_s, read_byte_s
        Of the Redis server: to hand blocks out to a consumer.
    write_value_s
        Of the Redis server: to compare and set one online value.
    acknowledge_entry_s
        Of the Redis server: to acknowledge a block.
    round_trip_s
        Between a client and its server, the server's own work left out.
    batch_s, event_s
        Of a worker: for each batch that it reads, and for each event of it; waiting for servers left out.
    encode_event_s, decode_event_s, kernel_event_s
        Shares of it, measured apart, for the table; encoding is the producer's.
    raw_row_s, feature_row_s
        Of PostgreSQL: to take in a raw row, and a feature row with all outputs, by COPY.
    event_bytes, block_bytes
        Of a block: for each event, and for itself with one symbol.
    entry_bytes
        Memory of Redis for a block, besides its bytes.
    value_bytes, state_bytes
        Memory of Redis for one online value and one state of a symbol, keys included.
    raw_row_bytes, feature_row_bytes
        Disk of PostgreSQL, indexes included.
    rows_per_event
        Feature rows that an event makes.
    """

    add_entry_s: float
    add_byte_s: float
    read_call_s: float
    read_byte_s: float
    write_value_s: float
    acknowledge_entry_s: float
    round_trip_s: float
    batch_s: float
    event_s: float
    encode_event_s: float
    decode_event_s: float
    kernel_event_s: float
    raw_row_s: float
    feature_row_s: float
    event_bytes: float
    block_bytes: float
    entry_bytes: float
    value_bytes: float
    state_bytes: float
    raw_row_bytes: float
    feature_row_bytes: float
    rows_per_event: float = 1.0
