-- How far streams have come, what late events made necessary, and news.

-- Raised in the transaction that writes the rows up to a position; the epoch fences a worker that lost the partition.
CREATE TABLE tapeline.stream_positions (
    stream              text NOT NULL,
    partition           integer NOT NULL CHECK (partition >= 0),
    kind                text NOT NULL,
    incarnation         text NOT NULL,
    epoch               bigint NOT NULL DEFAULT 1,
    id_ms               bigint NOT NULL DEFAULT 0,
    id_part             bigint NOT NULL DEFAULT 0,
    updated_timestamp   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (stream, partition, kind)
);
COMMENT ON COLUMN tapeline.stream_positions.incarnation IS
    'which stream the position is of: another one under the same name starts anew';
COMMENT ON COLUMN tapeline.stream_positions.id_part IS 'sequence of the entry times 65536, plus place in its block';

-- Late rows, corrections and retractions that a stream took in, and what became of each.
CREATE TABLE tapeline.stream_repairs (
    stream              text NOT NULL,
    partition           integer NOT NULL,
    kind                text NOT NULL,
    symbol              text NOT NULL,
    event_timestamp     timestamptz NOT NULL,
    sequence            bigint NOT NULL,
    available_timestamp timestamptz NOT NULL,
    reason              text NOT NULL CHECK (reason IN ('late', 'correction', 'retraction', 'bar over', 'action')),
    late_us             bigint NOT NULL,
    id_ms               bigint NOT NULL,
    id_part             bigint NOT NULL,
    created_timestamp   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (stream, partition, kind, id_ms, id_part, created_timestamp)
);
COMMENT ON COLUMN tapeline.stream_repairs.late_us IS 'how far its event lies before the newest one of the symbol';

CREATE TABLE tapeline.news (
    source              text NOT NULL,
    symbol              text NOT NULL,
    event_timestamp     timestamptz NOT NULL,
    available_timestamp timestamptz NOT NULL,
    created_timestamp   timestamptz NOT NULL DEFAULT now(),
    sequence            bigint NOT NULL,
    headline            text,
    body                text,
    deleted             boolean NOT NULL DEFAULT false,
    CHECK (available_timestamp >= event_timestamp)
);
CREATE INDEX news_key ON tapeline.news
    (source, symbol, event_timestamp DESC, sequence DESC, created_timestamp DESC);
