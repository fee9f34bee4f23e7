-- Quality: what each written block of rows was worth, statistics of each day, and how late rows really arrive.

-- What a view's blocks are judged by: rules, weights, thresholds. Known by the hash of its content, so that a score says
-- by what it was given. Rows are only ever added.
CREATE TABLE tapeline.quality_definitions (
    definition_sha256   text PRIMARY KEY,
    view                text NOT NULL,
    version             integer NOT NULL,
    definition          jsonb NOT NULL,
    created_timestamp   timestamptz NOT NULL DEFAULT now()
);

-- One row for each block that was written or refused. Counts rather than shares: those of a view are their sums.
CREATE TABLE tapeline.quality_scores (
    id                  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    view                text NOT NULL,
    version             integer NOT NULL,
    origin              text NOT NULL CHECK (origin IN ('backfill', 'push')),
    verdict             text NOT NULL CHECK (verdict IN ('passed', 'warned', 'overridden', 'blocked')),
    entities            text[] NOT NULL,
    first_event         timestamptz NOT NULL,
    last_event          timestamptz NOT NULL,
    rows                bigint NOT NULL CHECK (rows > 0),
    cells_expected      bigint NOT NULL,
    cells_filled        bigint NOT NULL CHECK (cells_filled BETWEEN 0 AND cells_expected),
    rows_reliable       bigint NOT NULL CHECK (rows_reliable BETWEEN 0 AND rows),
    rows_late           bigint NOT NULL,
    rows_corrected      bigint NOT NULL,
    rows_valid          bigint NOT NULL CHECK (rows_valid BETWEEN 0 AND rows),
    freshness           float8 NOT NULL CHECK (freshness BETWEEN 0 AND 1),
    score               float8 NOT NULL CHECK (score BETWEEN 0 AND 1),
    faults              jsonb NOT NULL,
    definition_sha256   text NOT NULL REFERENCES tapeline.quality_definitions,
    created_timestamp   timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX quality_scores_view ON tapeline.quality_scores (view, version, created_timestamp);
COMMENT ON COLUMN tapeline.quality_scores.entities IS 'the block''s entities, at most 256; the first of them where it has more';
COMMENT ON COLUMN tapeline.quality_scores.faults IS
    'broken rules: name, number of rows, share, features, and a few of the rows';

-- Days whose statistics no longer agree with the view's table. Written with the rows themselves, removed by whoever has
-- computed the days again: a writer that dies leaves both or neither.
CREATE TABLE tapeline.stale_statistics (
    id                  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    view                text NOT NULL,
    version             integer NOT NULL,
    first_day           date NOT NULL,
    last_day            date NOT NULL CHECK (last_day >= first_day)
);
CREATE INDEX stale_statistics_view ON tapeline.stale_statistics (view, version);

-- Of each day (UTC, by event time) the statistics of all features of a view, over the newest row of each key.
CREATE TABLE tapeline.feature_statistics (
    view                text NOT NULL,
    version             integer NOT NULL,
    day                 date NOT NULL,
    rows                bigint NOT NULL CHECK (rows > 0),
    statistics          bytea NOT NULL,
    updated_timestamp   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (view, version, day),
    FOREIGN KEY (view, version) REFERENCES tapeline.feature_view_versions (view, version)
);
COMMENT ON COLUMN tapeline.feature_statistics.statistics IS
    'features in the order of the view''s definition; see tapeline.quality.statistics';

-- First sightings that arrived as they happened, so that their delay says something of the source. Left out are
--   events of before the source was registered: a load of history;
--   rows that arrived more than `late_max` after their event: a gap that was filled afterwards;
--   rows recorded together with others of more than `span_max` before or after: a load, too.
-- `events_since` bounds what is read.
CREATE FUNCTION tapeline.live_sightings(
    of_source text, events_since timestamptz, late_max interval DEFAULT '7 days', span_max interval DEFAULT '4 days'
) RETURNS TABLE (
    symbol text, event_timestamp timestamptz, available_timestamp timestamptz, created_timestamp timestamptz
) LANGUAGE plpgsql STABLE AS $$
DECLARE
    raw_kind   text;
    registered timestamptz;
BEGIN
    SELECT s.kind, s.created_timestamp INTO raw_kind, registered FROM tapeline.sources s WHERE s.source = of_source;
    IF raw_kind IS NULL THEN
        RETURN;
    END IF;
    RETURN QUERY EXECUTE format($query$
        WITH sighted AS (
            SELECT DISTINCT ON (r.symbol, r.event_timestamp, r.sequence)
                r.symbol, r.event_timestamp, r.available_timestamp, r.created_timestamp
            FROM tapeline.%I r
            WHERE r.source = $1 AND r.event_timestamp >= $2 AND r.event_timestamp >= $3
            ORDER BY r.symbol, r.event_timestamp, r.sequence, r.created_timestamp, r.available_timestamp
        ), together AS (
            SELECT s.created_timestamp FROM sighted s GROUP BY 1
            HAVING max(s.event_timestamp) - min(s.event_timestamp) <= $5
        )
        SELECT s.symbol, s.event_timestamp, s.available_timestamp, s.created_timestamp
        FROM sighted s JOIN together t USING (created_timestamp)
        WHERE s.created_timestamp - s.event_timestamp <= $4
        $query$, raw_kind) USING of_source, events_since, registered, late_max, span_max;
END
$$;
