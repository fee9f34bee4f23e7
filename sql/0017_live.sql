-- What live sources missed, and what became of it.
CREATE TABLE tapeline.live_gaps (
    source              text NOT NULL,
    kind                text NOT NULL CHECK (kind IN ('trades', 'quotes', 'book_events')),
    symbol              text NOT NULL,
    found_timestamp     timestamptz NOT NULL,
    first_number        bigint NOT NULL,
    last_number         bigint NOT NULL,
    since_timestamp     timestamptz,
    until_timestamp     timestamptz,
    reason              text NOT NULL
        CHECK (reason IN ('sequence', 'disconnect', 'downtime', 'checksum', 'renumbered')),
    state               text NOT NULL CHECK (state IN ('found', 'filled', 'unfillable')),
    remedy              text NOT NULL CHECK (remedy IN ('', 'stream', 'history', 'snapshot')),
    missing             bigint NOT NULL CHECK (missing >= 0),
    detail              text NOT NULL DEFAULT '',
    changed_timestamp   timestamptz NOT NULL,
    created_timestamp   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (source, kind, symbol, found_timestamp, first_number)
);
COMMENT ON TABLE tapeline.live_gaps IS
    'a filled gap of trades has all its rows; a book whose gap is filled is right again, what happened between is not known';
COMMENT ON COLUMN tapeline.live_gaps.first_number IS 'the venue''s number; -1 where it does not number';
COMMENT ON COLUMN tapeline.live_gaps.missing IS 'numbers that are still missing';
