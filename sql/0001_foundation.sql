-- The schema, the safe horizon of vintages, instruments, sources and corporate actions.
CREATE SCHEMA IF NOT EXISTS tapeline;

-- Which TimescaleDB this database has: none, apache or community.
CREATE FUNCTION tapeline.edition() RETURNS text LANGUAGE sql STABLE AS $$
    SELECT CASE
        WHEN NOT EXISTS (SELECT 1 FROM pg_extension WHERE extname = 'timescaledb') THEN 'none'
        WHEN current_setting('timescaledb.license', true) = 'apache' THEN 'apache'
        ELSE 'community'
    END
$$;

-- The latest moment k for which "as recorded by k" can no longer change: before the start of every open transaction.
-- created_timestamp is a transaction's start, so a row stamped before this moment is either committed or will never be.
-- It refuses rather than guess where it cannot see every writer.
-- SECURITY DEFINER: an ordinary role does not see when other roles' transactions began.
CREATE FUNCTION tapeline.safe_horizon() RETURNS timestamptz LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog AS $$
DECLARE
    -- Taken first, and a little early: a transaction starts shortly before it is seen to have started.
    horizon timestamptz := clock_timestamp() - interval '10 milliseconds';
    oldest  timestamptz;
    hidden  integer;
BEGIN
    IF pg_is_in_recovery() THEN
        RAISE EXCEPTION 'a standby does not see the transactions that are open on its primary'
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Ask the primary for the safe horizon.';
    END IF;
    IF EXISTS (SELECT 1 FROM pg_prepared_xacts WHERE database = current_database()) THEN
        RAISE EXCEPTION 'a prepared transaction is open, and nothing says when it began'
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = 'Commit or roll back what SELECT * FROM pg_prepared_xacts shows.';
    END IF;
    -- The activity is read once in a transaction unless the old picture is dropped.
    PERFORM pg_stat_clear_snapshot();
    SELECT min(coalesce(xact_start, CASE WHEN state = 'active' THEN query_start END)),
           count(*) FILTER (WHERE backend_type IS NULL)
    INTO oldest, hidden
    FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()
      AND (backend_type IS NULL OR backend_type NOT IN ('autovacuum worker', 'walsender'));
    IF hidden > 0 THEN
        RAISE EXCEPTION '% connections of other roles hide when their transactions began', hidden
            USING ERRCODE = 'insufficient_privilege',
                  HINT = format('As a superuser: GRANT pg_read_all_stats TO %I', current_user);
    END IF;
    RETURN least(horizon, oldest - interval '1 microsecond');
END
$$;

CREATE TABLE tapeline.sources (
    source              text PRIMARY KEY,
    kind                text NOT NULL CHECK (kind IN ('bars', 'trades', 'quotes', 'book_events')),
    declared_lag_us     bigint NOT NULL DEFAULT 0 CHECK (declared_lag_us >= 0),
    calendar            text,
    description         text NOT NULL DEFAULT '',
    created_timestamp   timestamptz NOT NULL DEFAULT now()
);
COMMENT ON COLUMN tapeline.sources.declared_lag_us IS
    'how long after its event a first sighting was available; a lag declared too short needs a new source';

CREATE TABLE tapeline.instruments (
    symbol              text NOT NULL,
    venue               text NOT NULL,
    calendar            text NOT NULL,
    asset_class         text NOT NULL,
    currency            text NOT NULL,
    tick_size           float8 NOT NULL CHECK (tick_size > 0),
    multiplier          float8 NOT NULL DEFAULT 1 CHECK (multiplier > 0),
    valid_from          timestamptz NOT NULL,
    valid_to            timestamptz CHECK (valid_to > valid_from),
    previous_symbol     text,
    available_timestamp timestamptz NOT NULL,
    created_timestamp   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (symbol, valid_from, created_timestamp)
);
COMMENT ON COLUMN tapeline.instruments.valid_to IS 'delisting or renaming; null while it is alive';

CREATE TABLE tapeline.corporate_actions (
    symbol              text NOT NULL,
    kind                text NOT NULL CHECK (kind IN ('split', 'dividend')),
    event_timestamp     timestamptz NOT NULL,
    available_timestamp timestamptz NOT NULL,
    created_timestamp   timestamptz NOT NULL DEFAULT now(),
    sequence            bigint NOT NULL DEFAULT 0,
    ratio               float8 CHECK (ratio > 0),
    amount              float8 CHECK (amount >= 0),
    currency            text,
    source              text NOT NULL,
    deleted             boolean NOT NULL DEFAULT false,
    CHECK ((kind = 'split') = (ratio IS NOT NULL)),
    CHECK ((kind = 'dividend') = (amount IS NOT NULL)),
    PRIMARY KEY (symbol, kind, event_timestamp, sequence, created_timestamp)
);
COMMENT ON COLUMN tapeline.corporate_actions.event_timestamp IS
    'start of the first session that trades on the new basis (the ex-date)';
COMMENT ON COLUMN tapeline.corporate_actions.ratio IS 'new shares for one old share: 2 for a two-for-one split';
