-- What describes feature values and what stands beside them: definitions, the newest row of each entity, ad-hoc values,
-- values that models add, predictions, users' tiers, metrics of models, and daily summaries for dashboards.
-- Partitions: tables that grow with time are hypertables in chunks where TimescaleDB is. Without it they are plain
-- tables: the key index finds one entity's rows among any number of others, and what is old goes by range deletion.

-- One row for each column of each view version. Written with the version, and never changed.
CREATE TABLE tapeline.feature_definitions (
    view                text NOT NULL,
    version             integer NOT NULL,
    feature             text NOT NULL,
    position            integer NOT NULL CHECK (position >= 1),
    dtype               text NOT NULL CHECK (dtype IN ('float64', 'int64', 'bool', 'string')),
    unit                text NOT NULL,
    lowest              float8,
    highest             float8,
    warm_up             integer NOT NULL CHECK (warm_up >= 0),
    indicator           text NOT NULL,
    parameters          jsonb NOT NULL,
    description         text NOT NULL,
    kernel_hash         text,
    created_timestamp   timestamptz NOT NULL DEFAULT now(),
    CHECK (lowest <= highest),
    PRIMARY KEY (view, version, feature),
    UNIQUE (view, version, position),
    FOREIGN KEY (view, version) REFERENCES tapeline.feature_view_versions (view, version) ON DELETE CASCADE
);
COMMENT ON COLUMN tapeline.feature_definitions.lowest IS 'what the formula cannot pass but by rounding; null: no bound';
COMMENT ON COLUMN tapeline.feature_definitions.warm_up IS 'rows up to and with the first that has a value';
COMMENT ON COLUMN tapeline.feature_definitions.kernel_hash IS
    'SHA-256 over the expression and the syntax trees of its kernels; null: described after its kernels had changed';

-- Values of features that have no view: one row for each feature, so that a new one needs no new column. A namespace is a
-- wide table stored tall: a row of it is all features of one (entity, event, sequence, available, created).
CREATE TABLE tapeline.feature_values (
    namespace           text NOT NULL CHECK (namespace ~ '^[a-z][a-z0-9_]{0,47}$'),
    feature             text NOT NULL CHECK (feature ~ '^[a-z][a-z0-9_]{0,62}$'),
    entity              text NOT NULL CHECK (octet_length(entity) BETWEEN 1 AND 500),
    event_timestamp     timestamptz NOT NULL,
    available_timestamp timestamptz NOT NULL,
    created_timestamp   timestamptz NOT NULL DEFAULT now(),
    sequence            bigint NOT NULL DEFAULT 0,
    value               float8,
    text_value          text CHECK (octet_length(text_value) <= 1000),
    CHECK (available_timestamp >= event_timestamp),
    CHECK (value IS NULL OR text_value IS NULL)
);
COMMENT ON COLUMN tapeline.feature_values.entity IS
    'the value of the join key; of several, a JSON object of them with its keys in order';
-- Its key, and all that a lookup reads, so that the table itself is not touched.
CREATE UNIQUE INDEX feature_values_key ON tapeline.feature_values
    (namespace, entity, event_timestamp DESC, sequence DESC, available_timestamp DESC, created_timestamp DESC, feature)
    INCLUDE (value, text_value);

-- What a model or another step adds to an entity's row when it predicts: a score, a regime, a cluster.
CREATE TABLE tapeline.enhancement_values (
    name                text NOT NULL CHECK (name ~ '^[a-z][a-z0-9_]{0,62}$'),
    entity              text NOT NULL CHECK (octet_length(entity) BETWEEN 1 AND 500),
    event_timestamp     timestamptz NOT NULL,
    available_timestamp timestamptz NOT NULL,
    created_timestamp   timestamptz NOT NULL DEFAULT now(),
    sequence            bigint NOT NULL DEFAULT 0,
    value               float8,
    producer            text NOT NULL CHECK (octet_length(producer) BETWEEN 1 AND 200),
    producer_version    text NOT NULL CHECK (octet_length(producer_version) BETWEEN 1 AND 100),
    request_id          uuid,
    CHECK (available_timestamp >= event_timestamp)
);
COMMENT ON COLUMN tapeline.enhancement_values.producer IS 'a model of tapeline.models, or the name of another step';
COMMENT ON COLUMN tapeline.enhancement_values.request_id IS 'the request that it was made for, in served_vectors';
CREATE UNIQUE INDEX enhancement_values_key ON tapeline.enhancement_values
    (name, entity, producer, producer_version, event_timestamp DESC, sequence DESC, available_timestamp DESC,
     created_timestamp DESC) INCLUDE (value);

-- Predictions, a row for each output. What was served is stored once, in served_vectors.
CREATE VIEW tapeline.predictions AS
SELECT s.request_id, s.entity, coalesce(m.manifest -> 'outputs' ->> (o.position - 1)::integer, 'output_' || o.position) AS output,
    o.value, s.model, s.model_version, s.bundle_sha256, s.request_timestamp AS event_timestamp, s.served_timestamp,
    s.created_timestamp
FROM tapeline.served_vectors s
LEFT JOIN tapeline.models m ON m.model = s.model AND m.version = s.model_version
CROSS JOIN LATERAL unnest(s.prediction) WITH ORDINALITY AS o (value, position);
COMMENT ON VIEW tapeline.predictions IS 'one row for each request, entity and output; none where there was no prediction';

-- How good a model was over a window that ended at event_timestamp. Rows are only ever added.
CREATE TABLE tapeline.performance_metrics (
    model               text NOT NULL,
    version             text NOT NULL,
    metric              text NOT NULL CHECK (metric ~ '^[a-z][a-z0-9_]{0,62}$'),
    window_start        timestamptz NOT NULL,
    event_timestamp     timestamptz NOT NULL,
    available_timestamp timestamptz NOT NULL,
    created_timestamp   timestamptz NOT NULL DEFAULT now(),
    value               float8 NOT NULL,
    sample_size         bigint NOT NULL CHECK (sample_size >= 0),
    CHECK (window_start < event_timestamp),
    CHECK (available_timestamp >= event_timestamp),
    PRIMARY KEY (model, version, metric, event_timestamp, window_start, available_timestamp, created_timestamp),
    FOREIGN KEY (model, version) REFERENCES tapeline.models (model, version)
);

-- What a user of each tier may ask of the server. Null: no limit, or everything.
CREATE TABLE tapeline.user_tiers (
    tier                     text PRIMARY KEY CHECK (tier ~ '^[a-z][a-z0-9_-]{0,47}$'),
    requests_per_s           float8 CHECK (requests_per_s > 0 AND requests_per_s < 'Infinity'),
    burst_requests           integer CHECK (burst_requests >= 1),
    entities_per_request_max integer NOT NULL CHECK (entities_per_request_max BETWEEN 1 AND 100000),
    live_rows_max            integer NOT NULL CHECK (live_rows_max >= 0),
    features_allowed         text[] CHECK (cardinality(features_allowed) > 0 AND array_position(features_allowed, NULL) IS NULL),
    models_allowed           text[] CHECK (cardinality(models_allowed) > 0 AND array_position(models_allowed, NULL) IS NULL),
    description              text NOT NULL DEFAULT '',
    changed_timestamp        timestamptz NOT NULL DEFAULT now(),
    CHECK ((requests_per_s IS NULL) = (burst_requests IS NULL))
);
COMMENT ON COLUMN tapeline.user_tiers.features_allowed IS 'view, view@version or view@version:feature';
INSERT INTO tapeline.user_tiers
    (tier, requests_per_s, burst_requests, entities_per_request_max, live_rows_max, description) VALUES
    ('free', 2, 10, 5, 0, 'stored features only'),
    ('standard', 50, 200, 50, 1000, 'live rows'),
    ('professional', 500, 2000, 500, 10000, 'many entities at once'),
    ('internal', NULL, NULL, 1000, 100000, 'our own applications: no limit of rate');

-- The newest row of each entity of a view version, in a table of the same name and columns in the schema `latest`. Newest
-- is the greatest (event, sequence, available, created), whether it is available yet or not: a reader as of a moment takes
-- it only if it is visible then, and else looks into the view's own table.
CREATE SCHEMA latest;

-- Bring the newest rows of some entities up to date, given that no added row lies before `since`.
CREATE FUNCTION tapeline.renew_latest(target regclass, entities text[], since timestamptz) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
DECLARE
    kept    text;
    columns text;
    changes text;
BEGIN
    SELECT format('latest.%I', relname) INTO kept FROM pg_class WHERE oid = target;
    SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum),
           string_agg(format('%1$I = EXCLUDED.%1$I', attname), ', ') FILTER (WHERE attname <> 'symbol')
    INTO columns, changes FROM pg_attribute WHERE attrelid = kept::regclass AND attnum > 0 AND NOT attisdropped;
    -- `since` as a constant spares opening earlier chunks. In the order of entities, so that two writers cannot lock one
    -- another out.
    EXECUTE format(
        'INSERT INTO %1$s AS l (%2$s) SELECT n.* FROM unnest($1) AS e (symbol) CROSS JOIN LATERAL ('
        'SELECT %2$s FROM %3$s AS s WHERE s.symbol = e.symbol AND s.event_timestamp >= %4$L::timestamptz '
        'ORDER BY s.event_timestamp DESC, s.sequence DESC, s.available_timestamp DESC, s.created_timestamp DESC LIMIT 1) n '
        'ORDER BY e.symbol ON CONFLICT (symbol) DO UPDATE SET %5$s '
        'WHERE (EXCLUDED.event_timestamp, EXCLUDED.sequence, EXCLUDED.available_timestamp, EXCLUDED.created_timestamp) '
        '> (l.event_timestamp, l.sequence, l.available_timestamp, l.created_timestamp)',
        kept, columns, target, since, changes) USING entities;
END
$$;

-- After each INSERT or COPY into a view's table, whoever made it, in its transaction.
CREATE FUNCTION tapeline.keep_latest_rows() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
DECLARE
    since    timestamptz;
    entities text[];
BEGIN
    SELECT min(first_event), array_agg(symbol) INTO since, entities
    FROM (SELECT symbol, min(event_timestamp) AS first_event FROM added GROUP BY symbol) AS touched;
    IF entities IS NOT NULL THEN
        PERFORM tapeline.renew_latest(TG_RELID, entities, since);
    END IF;
    RETURN NULL;
END
$$;

-- Keep the newest rows of a view's table from now on, those that are there included.
CREATE FUNCTION tapeline.keep_latest(target regclass) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    name     text := (SELECT relname FROM pg_class WHERE oid = target);
    entities text[];
BEGIN
    IF EXISTS (SELECT 1 FROM pg_trigger WHERE tgrelid = target AND tgname = 'keep_latest_rows') THEN
        RETURN;
    END IF;
    -- What a dropped table of that name had does not hold for this one. Room for updates beside the row.
    EXECUTE format('DROP TABLE IF EXISTS latest.%I', name);
    EXECUTE format('CREATE TABLE latest.%I (LIKE %s, PRIMARY KEY (symbol)) WITH (fillfactor = 50)', name, target);
    EXECUTE format('CREATE TRIGGER keep_latest_rows AFTER INSERT ON %s REFERENCING NEW TABLE AS added '
                   'FOR EACH STATEMENT EXECUTE FUNCTION tapeline.keep_latest_rows()', target);
    EXECUTE format('SELECT array_agg(DISTINCT symbol) FROM %s', target) INTO entities;
    IF entities IS NOT NULL THEN
        PERFORM tapeline.renew_latest(target, entities, '-infinity');
    END IF;
END
$$;

-- Daily summaries are for dashboards and statistics. What is listed here is refused as a source of features.
CREATE TABLE tapeline.daily_summaries (
    summary             text PRIMARY KEY,
    source_table        text NOT NULL
);
INSERT INTO tapeline.daily_summaries VALUES
    ('tapeline.bars_daily', 'tapeline.bars'), ('tapeline.trades_daily', 'tapeline.trades');

-- The summaries that a view or table reads, itself included, through any number of views.
CREATE FUNCTION tapeline.summaries_read_by(target regclass) RETURNS SETOF text
    LANGUAGE sql STABLE SET search_path = pg_catalog AS $$
    WITH RECURSIVE read (oid) AS (
        SELECT target::oid
        UNION
        SELECT d.refobjid FROM read
        JOIN pg_rewrite w ON w.ev_class = read.oid
        JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid AND d.refclassid = 'pg_class'::regclass
    )
    SELECT s.summary FROM read JOIN tapeline.daily_summaries s ON to_regclass(s.summary) = read.oid ORDER BY 1
$$;

-- A day of a view version's rows for each symbol, in `tapeline.<table>_daily`: a continuous aggregate under Community, else
-- a view with the same columns. Corrected rows are those beyond the first of their (event, sequence).
CREATE FUNCTION tapeline.make_feature_summary(target regclass) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    named     text := (SELECT relname FROM pg_class WHERE oid = target) || '_daily';
    summary   text := format('tapeline.%I', named);
    community boolean := tapeline.edition() = 'community';
    library   name := tapeline.timescaledb_schema();
    bucket    text := CASE WHEN community THEN format('%I.time_bucket(interval ''1 day'', event_timestamp)', library)
                           ELSE 'date_trunc(''day'', event_timestamp, ''UTC'')' END;
    features  text;
    query     text;
BEGIN
    IF octet_length(named) > 63 THEN
        RETURN;
    END IF;
    SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) INTO features FROM pg_attribute
    WHERE attrelid = target AND attnum > 0 AND NOT attisdropped AND atttypid = 'float8'::regtype;
    query := format(
        'SELECT symbol, %1$s AS day, count(*) AS rows, count(*) - count(DISTINCT (event_timestamp, sequence)) AS corrected, '
        'min(event_timestamp) AS first_event, max(event_timestamp) AS last_event, max(created_timestamp) AS last_recorded, '
        'avg(num_nulls(VARIADIC ARRAY[%2$s]) / cardinality(ARRAY[%2$s])::float8) AS null_share, '
        'avg(cardinality(array_positions(ARRAY[%2$s], ''NaN''::float8)) / cardinality(ARRAY[%2$s])::float8) AS nan_share '
        'FROM %3$s GROUP BY 1, 2', bucket, features, target);
    INSERT INTO tapeline.daily_summaries VALUES (summary, target::text) ON CONFLICT DO NOTHING;
    IF NOT community THEN
        EXECUTE format('CREATE OR REPLACE VIEW %s AS %s', summary, query);
        RETURN;
    END IF;
    IF EXISTS (SELECT 1 FROM timescaledb_information.continuous_aggregates
               WHERE view_schema = 'tapeline' AND view_name = named) THEN
        RETURN;
    END IF;
    EXECUTE format('DROP VIEW IF EXISTS %s', summary);
    EXECUTE format('CREATE MATERIALIZED VIEW %s WITH (timescaledb.continuous, timescaledb.materialized_only = false) '
                   'AS %s WITH NO DATA', summary, query);
    IF tapeline.first_time(summary::regclass, 'refresh') THEN
        EXECUTE format('SELECT %I.add_continuous_aggregate_policy($1, start_offset => NULL, end_offset => $2, '
                       'schedule_interval => $2)', library) USING summary::regclass, interval '1 hour';
    END IF;
END
$$;

-- What was recorded or became available after a moment is found by a BRIN index: rows lie in the order in which they were
-- written, so a few kilobytes say which blocks can hold them. It must be on both, for they are asked for with OR.
CREATE FUNCTION tapeline.index_what_is_new(target regclass) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    named text := (SELECT relname FROM pg_class WHERE oid = target) || '_new';
BEGIN
    IF octet_length(named) <= 63 AND NOT EXISTS (SELECT FROM pg_index WHERE indrelid = target
            AND indexrelid IN (SELECT oid FROM pg_class WHERE relname = named)) THEN
        EXECUTE format('CREATE INDEX %I ON %s USING brin (created_timestamp, available_timestamp) '
                       'WITH (pages_per_range = 32, autosummarize = on)', named, target);
    END IF;
END
$$;
SELECT tapeline.index_what_is_new(format('tapeline.%I', name)::regclass)
FROM unnest(ARRAY['bars', 'trades', 'quotes', 'book_events']) AS name;

-- A registered view version's table with all that belongs to it. Called again it does what is still to be done.
CREATE FUNCTION tapeline.fit_feature_table(target regclass) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM tapeline.make_hypertable(target);
    PERFORM tapeline.index_what_is_new(target);
    PERFORM tapeline.keep_latest(target);
    PERFORM tapeline.make_feature_summary(target);
END
$$;
