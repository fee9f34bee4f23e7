-- Raw market data, as it arrived. Rows are only ever added: a correction is a newer row of the same key
-- (source, symbol, event_timestamp, sequence), a retraction a newer row with `deleted`.
CREATE TABLE tapeline.bars (
    source              text NOT NULL,
    symbol              text NOT NULL,
    start_timestamp     timestamptz NOT NULL,
    event_timestamp     timestamptz NOT NULL,
    available_timestamp timestamptz NOT NULL,
    created_timestamp   timestamptz NOT NULL DEFAULT now(),
    sequence            bigint NOT NULL DEFAULT 0,
    open                float8,
    high                float8,
    low                 float8,
    close               float8,
    volume              float8,
    deleted             boolean NOT NULL DEFAULT false,
    CHECK (start_timestamp < event_timestamp),
    CHECK (available_timestamp >= event_timestamp)
);
COMMENT ON TABLE tapeline.bars IS 'bars over [start, event); prices as traded, never adjusted';

CREATE TABLE tapeline.trades (
    source              text NOT NULL,
    symbol              text NOT NULL,
    event_timestamp     timestamptz NOT NULL,
    available_timestamp timestamptz NOT NULL,
    created_timestamp   timestamptz NOT NULL DEFAULT now(),
    sequence            bigint NOT NULL,
    price               float8,
    size                float8,
    side                smallint NOT NULL DEFAULT 0 CHECK (side IN (-1, 0, 1)),
    deleted             boolean NOT NULL DEFAULT false,
    CHECK (available_timestamp >= event_timestamp)
);
COMMENT ON COLUMN tapeline.trades.side IS 'aggressor: 1 buyer, -1 seller, 0 unknown';

CREATE TABLE tapeline.quotes (
    source              text NOT NULL,
    symbol              text NOT NULL,
    event_timestamp     timestamptz NOT NULL,
    available_timestamp timestamptz NOT NULL,
    created_timestamp   timestamptz NOT NULL DEFAULT now(),
    sequence            bigint NOT NULL,
    bid_price           float8,
    bid_size            float8,
    ask_price           float8,
    ask_size            float8,
    deleted             boolean NOT NULL DEFAULT false,
    CHECK (available_timestamp >= event_timestamp)
);

CREATE TABLE tapeline.book_events (
    source              text NOT NULL,
    symbol              text NOT NULL,
    event_timestamp     timestamptz NOT NULL,
    available_timestamp timestamptz NOT NULL,
    created_timestamp   timestamptz NOT NULL DEFAULT now(),
    sequence            bigint NOT NULL,
    action              text NOT NULL CHECK (action IN ('add', 'change', 'delete', 'trade', 'clear')),
    side                smallint NOT NULL CHECK (side IN (-1, 0, 1)),
    price               float8,
    size                float8,
    order_id            text,
    deleted             boolean NOT NULL DEFAULT false,
    CHECK (available_timestamp >= event_timestamp)
);

CREATE INDEX bars_key ON tapeline.bars
    (source, symbol, event_timestamp DESC, sequence DESC, created_timestamp DESC);
CREATE INDEX trades_key ON tapeline.trades
    (source, symbol, event_timestamp DESC, sequence DESC, created_timestamp DESC);
CREATE INDEX quotes_key ON tapeline.quotes
    (source, symbol, event_timestamp DESC, sequence DESC, created_timestamp DESC);
CREATE INDEX book_events_key ON tapeline.book_events
    (source, symbol, event_timestamp DESC, sequence DESC, created_timestamp DESC);

-- Rows that were refused, as they came, with the rule that each broke.
CREATE TABLE tapeline.quarantine (
    id                  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    source              text NOT NULL,
    table_name          text NOT NULL,
    location            text NOT NULL,
    rule                text NOT NULL,
    reason              text NOT NULL,
    content             jsonb NOT NULL,
    content_sha256      text NOT NULL,
    created_timestamp   timestamptz NOT NULL DEFAULT now(),
    replayed_timestamp  timestamptz,
    UNIQUE (source, table_name, location, rule, content_sha256)
);
COMMENT ON COLUMN tapeline.quarantine.location IS 'file and row, so that a person can find it';
