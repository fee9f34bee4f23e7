-- What each TimescaleDB edition adds. Functions rather than statements: an edition can change after this file was applied, so
-- `tapeline migrate` calls fit_edition() every time, and each call does only what is still to be done.
--   none       plain tables and views
--   apache     hypertables: a query that bounds the time opens only the chunks it needs
--   community  and compression of old chunks, continuous aggregates for dashboards, retention

-- Policies are set once. What an operator changes or removes afterwards stays so.
CREATE TABLE tapeline.edition_policies (
    table_name          text NOT NULL,
    policy              text NOT NULL CHECK (policy IN ('compression', 'refresh', 'retention')),
    created_timestamp   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (table_name, policy)
);

-- Time span of new chunks: as set for this transaction, else as the bars have it, else 30 days.
CREATE FUNCTION tapeline.chunk_interval() RETURNS interval LANGUAGE plpgsql STABLE AS $$
DECLARE
    span interval := nullif(current_setting('tapeline.chunk_interval', true), '')::interval;
BEGIN
    IF span IS NULL AND tapeline.edition() <> 'none' THEN
        SELECT time_interval INTO span FROM timescaledb_information.dimensions
        WHERE hypertable_schema = 'tapeline' AND hypertable_name = 'bars';
    END IF;
    RETURN coalesce(span, interval '30 days');
END
$$;

-- Where TimescaleDB's functions are: whoever migrates need not have that schema on the search path.
CREATE FUNCTION tapeline.timescaledb_schema() RETURNS name LANGUAGE sql STABLE AS $$
    SELECT nspname FROM pg_extension JOIN pg_namespace ON pg_namespace.oid = extnamespace WHERE extname = 'timescaledb'
$$;

-- Whether a policy was not yet set here; true only once for each.
CREATE FUNCTION tapeline.first_time(target regclass, wanted text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO tapeline.edition_policies (table_name, policy) VALUES (target::text, wanted) ON CONFLICT DO NOTHING;
    RETURN FOUND;
END
$$;

-- Turn a table with a time column into a hypertable where the edition has them, rows included. Says whether it is one now.
-- Its old chunks are compressed under Community: long after the last correction is likely, though corrections still go in.
CREATE FUNCTION tapeline.make_hypertable(target regclass, time_column name DEFAULT 'event_timestamp') RETURNS boolean
    LANGUAGE plpgsql AS $$
DECLARE
    span     interval := tapeline.chunk_interval();
    library  name := tapeline.timescaledb_schema();
    columns  text[];
    segments text;
    ordering text;
BEGIN
    IF tapeline.edition() = 'none' THEN
        RETURN false;
    END IF;
    IF EXISTS (SELECT 1 FROM timescaledb_information.hypertables
               WHERE format('%I.%I', hypertable_schema, hypertable_name)::regclass = target) THEN
        EXECUTE format('SELECT %I.set_chunk_time_interval($1, $2)', library) USING target, span;
    ELSE
        -- What was noted of a dropped table of that name does not hold for this one.
        DELETE FROM tapeline.edition_policies WHERE table_name = target::text;
        EXECUTE format('SELECT %1$I.create_hypertable($1, %1$I.by_range($2, $3), create_default_indexes => false, '
                       'migrate_data => true)', library) USING target, time_column, span;
    END IF;
    IF tapeline.edition() = 'community' AND tapeline.first_time(target, 'compression') THEN
        SELECT array_agg(attname) INTO columns FROM pg_attribute
        WHERE attrelid = target AND attnum > 0 AND NOT attisdropped;
        -- One entity's rows lie together and in the order in which a point-in-time query wants them.
        SELECT string_agg(quote_ident(name), ', ') INTO segments
        FROM unnest(ARRAY['source', 'symbol', 'model']) AS name WHERE name = ANY (columns);
        SELECT string_agg(quote_ident(name) || ' DESC', ', ') INTO ordering
        FROM unnest(ARRAY[time_column, 'sequence', 'available_timestamp', 'created_timestamp']) AS name
        WHERE name = ANY (columns);
        EXECUTE format('ALTER TABLE %s SET (timescaledb.compress, timescaledb.compress_segmentby = %L, '
                       'timescaledb.compress_orderby = %L)', target, coalesce(segments, ''), ordering);
        EXECUTE format('SELECT %I.add_compression_policy($1, compress_after => $2)', library)
            USING target, greatest(2 * span, interval '90 days');
    END IF;
    RETURN true;
END
$$;

-- A daily summary for dashboards: a continuous aggregate under Community, else a view with the same columns. It counts rows
-- as recorded, a correction beside what it corrects, and is never a feature's input: that would be a second definition.
CREATE FUNCTION tapeline.make_daily_summary(summary text, source_table regclass, columns text) RETURNS void
    LANGUAGE plpgsql AS $$
DECLARE
    name      text := 'tapeline.' || quote_ident(summary);
    community boolean := tapeline.edition() = 'community';
    library   name := tapeline.timescaledb_schema();
    bucket    text := CASE WHEN community THEN format('%I.time_bucket(interval ''1 day'', event_timestamp)', library)
                           ELSE 'date_trunc(''day'', event_timestamp, ''UTC'')' END;
    query     text := format('SELECT source, symbol, %s AS day, %s FROM %s GROUP BY 1, 2, 3', bucket, columns, source_table);
BEGIN
    IF NOT community THEN
        EXECUTE format('CREATE OR REPLACE VIEW %s AS %s', name, query);
        RETURN;
    END IF;
    IF EXISTS (SELECT 1 FROM timescaledb_information.continuous_aggregates
               WHERE view_schema = 'tapeline' AND view_name = summary) THEN
        RETURN;
    END IF;
    EXECUTE format('DROP VIEW IF EXISTS %s', name);
    EXECUTE format('CREATE MATERIALIZED VIEW %s WITH (timescaledb.continuous, timescaledb.materialized_only = false) '
                   'AS %s WITH NO DATA', name, query);
    IF tapeline.first_time(name::regclass, 'refresh') THEN
        EXECUTE format('SELECT %I.add_continuous_aggregate_policy($1, start_offset => NULL, end_offset => $2, '
                       'schedule_interval => $2)', library) USING name::regclass, interval '1 hour';
    END IF;
END
$$;

-- Whether TimescaleDB was loaded with the server: without that, creating the extension would end the connection.
CREATE FUNCTION tapeline.timescaledb_is_loaded() RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT EXISTS (SELECT 1 FROM pg_settings WHERE name LIKE 'timescaledb.%')
$$;

-- Fit every table to the database's edition, taking TimescaleDB into use where the server offers it. Returns the edition.
CREATE FUNCTION tapeline.fit_edition() RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    target regclass;
BEGIN
    IF tapeline.edition() = 'none' AND tapeline.timescaledb_is_loaded()
       AND EXISTS (SELECT 1 FROM pg_available_extensions WHERE name = 'timescaledb') THEN
        BEGIN
            CREATE EXTENSION IF NOT EXISTS timescaledb;
        EXCEPTION WHEN insufficient_privilege THEN
            RAISE WARNING 'TimescaleDB is available, but % may not create the extension', current_user;
        END;
    END IF;
    FOR target IN
        SELECT format('tapeline.%I', name)::regclass
        FROM unnest(ARRAY['bars', 'trades', 'quotes', 'book_events']) AS name
        UNION ALL
        SELECT attrelid::regclass FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
        WHERE relnamespace = 'features'::regnamespace AND relkind = 'r' AND attname = 'event_timestamp'
    LOOP
        PERFORM tapeline.make_hypertable(target);
    END LOOP;
    PERFORM tapeline.make_hypertable('tapeline.served_vectors', 'served_timestamp');
    -- A year of served vectors can be replayed; operators who need more remove the policy or lengthen it.
    IF tapeline.edition() = 'community' AND tapeline.first_time('tapeline.served_vectors', 'retention') THEN
        EXECUTE format('SELECT %I.add_retention_policy($1, drop_after => $2)', tapeline.timescaledb_schema())
            USING 'tapeline.served_vectors'::regclass, interval '1 year';
    END IF;
    PERFORM tapeline.make_daily_summary('bars_daily', 'tapeline.bars',
        'count(*) AS rows, count(*) FILTER (WHERE deleted) AS retractions, min(low) AS low, max(high) AS high, '
        'sum(volume) AS volume, max(created_timestamp) AS last_recorded');
    PERFORM tapeline.make_daily_summary('trades_daily', 'tapeline.trades',
        'count(*) AS rows, count(*) FILTER (WHERE deleted) AS retractions, min(price) AS low, max(price) AS high, '
        'sum(size) AS volume, max(created_timestamp) AS last_recorded');
    RETURN tapeline.edition();
END
$$;
