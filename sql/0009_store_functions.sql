-- Functions for people and dashboards. They read what was available and, with `k`, recorded by a moment, as exports do; features
-- are never computed from them. Each bounds its result.

-- Table and time to live of a view: `name`, its newest registered version, or `name@2`.
CREATE FUNCTION tapeline.view_table(view_name text, OUT target regclass, OUT ttl interval)
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog AS $$
DECLARE
    wanted text[] := regexp_match(view_name, '^([a-z][a-z0-9_]*)(?:@v?([0-9]{1,9}))?$');
    ttl_us text;
BEGIN
    SELECT to_regclass(v.table_name), v.definition ->> 'ttl_us' INTO target, ttl_us
    FROM tapeline.feature_view_versions v
    WHERE v.view = wanted[1] AND (wanted[2] IS NULL OR v.version = wanted[2]::integer)
    ORDER BY v.version DESC LIMIT 1;
    IF target IS NULL THEN
        RAISE EXCEPTION 'no view % is registered here', quote_literal(view_name)
            USING ERRCODE = 'undefined_table', HINT = 'SELECT view, version FROM tapeline.feature_view_versions';
    END IF;
    ttl := CASE WHEN ttl_us::numeric > 0 THEN format('%s microseconds', ttl_us)::interval END;
END
$$;

-- The row of each entity that the point-in-time rule takes at moment t, null where there is none. At most 10,000 entities.
CREATE FUNCTION tapeline.last_known_rows(
    entities text[], view_name text, t timestamptz, k timestamptz DEFAULT NULL, OUT entity text, OUT known jsonb)
    RETURNS SETOF record LANGUAGE plpgsql STABLE ROWS 25 SET search_path = pg_catalog AS $$
DECLARE
    target regclass;
    ttl    interval;
BEGIN
    IF cardinality(entities) > 10000 THEN
        RAISE EXCEPTION '% entities are more than 10000', cardinality(entities)
            USING ERRCODE = 'program_limit_exceeded', HINT = 'Ask in parts.';
    END IF;
    SELECT v.target, v.ttl INTO target, ttl FROM tapeline.view_table(view_name) v;
    -- Times as constants, so that only chunks are opened that can hold the row.
    RETURN QUERY EXECUTE format(
        'SELECT e.entity, CASE WHEN f.symbol IS NOT NULL THEN to_jsonb(f) END FROM unnest($1) WITH ORDINALITY AS e (entity, place) LEFT JOIN LATERAL ('
        'SELECT s.* FROM %1$s AS s WHERE s.symbol = e.entity AND s.event_timestamp <= %2$L::timestamptz '
        'AND s.event_timestamp >= %3$L::timestamptz AND s.available_timestamp <= %2$L::timestamptz '
        'AND s.created_timestamp <= %4$L::timestamptz ORDER BY s.event_timestamp DESC, s.sequence DESC, '
        's.available_timestamp DESC, s.created_timestamp DESC LIMIT 1) AS f ON true ORDER BY e.place',
        target, t, coalesce(t - ttl, '-infinity'), coalesce(k, 'infinity')) USING entities;
END
$$;

CREATE FUNCTION tapeline.last_known(entity text, view_name text, t timestamptz, k timestamptz DEFAULT NULL) RETURNS jsonb
    LANGUAGE sql STABLE SET search_path = pg_catalog AS $$
    SELECT l.known FROM tapeline.last_known_rows(ARRAY[entity], view_name, t, k) AS l
$$;

-- A feature of an entity on a grid of moments, both ends included: at each the last value that was known then. At most
-- 100,000 moments.
CREATE FUNCTION tapeline.gap_fill(
    view_name text, entity text, feature text, start_at timestamptz, end_at timestamptz, step interval,
    k timestamptz DEFAULT NULL,
    OUT moment timestamptz, OUT value float8, OUT event_timestamp timestamptz, OUT available_timestamp timestamptz)
    RETURNS SETOF record LANGUAGE plpgsql STABLE SET search_path = pg_catalog AS $$
DECLARE
    target regclass;
    ttl    interval;
BEGIN
    IF step <= interval '0' OR (end_at - start_at) / 100000 > step THEN
        RAISE EXCEPTION 'a grid from % to % with step % has no or more than 100000 moments', start_at, end_at, step
            USING ERRCODE = 'program_limit_exceeded', HINT = 'Choose a longer step or a shorter span.';
    END IF;
    SELECT v.target, v.ttl INTO target, ttl FROM tapeline.view_table(view_name) v;
    IF NOT EXISTS (SELECT 1 FROM pg_attribute
                   WHERE attrelid = target AND attname = feature AND atttypid = 'float8'::regtype AND NOT attisdropped) THEN
        RAISE EXCEPTION '% has no feature %', view_name, quote_literal(feature)
            USING ERRCODE = 'undefined_column', HINT = 'SELECT feature FROM tapeline.feature_definitions';
    END IF;
    RETURN QUERY EXECUTE format(
        'SELECT g.moment, f.%1$I, f.event_timestamp, f.available_timestamp '
        'FROM generate_series(%2$L::timestamptz, %3$L::timestamptz, %4$L::interval) AS g (moment) LEFT JOIN LATERAL ('
        'SELECT s.%1$I, s.event_timestamp, s.available_timestamp FROM %5$s AS s WHERE s.symbol = %6$L '
        'AND s.event_timestamp <= %3$L::timestamptz AND s.event_timestamp >= %7$L::timestamptz '
        'AND s.event_timestamp <= g.moment AND s.available_timestamp <= g.moment '
        'AND s.event_timestamp >= g.moment - %8$L::interval AND s.created_timestamp <= %9$L::timestamptz '
        'ORDER BY s.event_timestamp DESC, s.sequence DESC, s.available_timestamp DESC, s.created_timestamp DESC LIMIT 1'
        ') AS f ON true ORDER BY 1',
        feature, start_at, end_at, step, target, entity, coalesce(start_at - ttl, '-infinity'),
        coalesce(ttl, interval '2000 years'), coalesce(k, 'infinity'));
END
$$;

-- Bars of any width from a source's trades, or from its shorter bars, as known at `as_of`. They cover [start, end) from the
-- epoch on in multiples of the width, as the kernels' bars do; an interval without rows makes none.
-- A bar of stored bars begins with the first of them. Prices are as traded:
-- a split inside a bar is not undone. At most 100,000 bars. For charts: a feature's bars are made by its kernel.
CREATE FUNCTION tapeline.bars_at(
    source_name text, symbol_name text, width interval, start_at timestamptz, end_at timestamptz,
    as_of timestamptz DEFAULT now(), k timestamptz DEFAULT NULL,
    OUT start_timestamp timestamptz, OUT event_timestamp timestamptz, OUT open float8, OUT high float8, OUT low float8,
    OUT close float8, OUT volume float8, OUT rows bigint, OUT finished boolean)
    RETURNS SETOF record LANGUAGE plpgsql STABLE SET search_path = pg_catalog AS $$
DECLARE
    origin   CONSTANT timestamptz := '1970-01-01 00:00:00+00';
    recorded CONSTANT timestamptz := coalesce(k, 'infinity');
    of_rows  text := (SELECT s.kind FROM tapeline.sources s WHERE s.source = source_name);
    first_at timestamptz;
BEGIN
    IF coalesce(of_rows, '') NOT IN ('trades', 'bars') THEN
        RAISE EXCEPTION 'there is no source % of trades or bars', quote_literal(source_name)
            USING ERRCODE = 'undefined_object', HINT = 'SELECT source, kind FROM tapeline.sources';
    END IF;
    IF width <= interval '0' OR extract(month FROM width) <> 0 OR extract(year FROM width) <> 0 THEN
        RAISE EXCEPTION 'bars cannot be % wide', width
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Give days, hours, minutes or less.';
    END IF;
    IF (end_at - start_at) / 100000 > width THEN
        RAISE EXCEPTION 'from % to % there can be more than 100000 bars', start_at, end_at
            USING ERRCODE = 'program_limit_exceeded', HINT = 'Choose wider bars or a shorter span.';
    END IF;
    first_at := date_bin(width, start_at, origin);
    -- Sums are taken in the order of the rows: that of the kernels, which addition of floating-point numbers depends on.
    RETURN QUERY EXECUTE format($query$
        SELECT min(q.began), q.bar + $1, (array_agg(q.open ORDER BY q.event_timestamp, q.sequence))[1], max(q.high), min(q.low),
            (array_agg(q.close ORDER BY q.event_timestamp DESC, q.sequence DESC))[1],
            sum(q.volume ORDER BY q.event_timestamp, q.sequence), count(*), q.bar + $1 <= $5
        FROM (%s) AS q GROUP BY q.bar ORDER BY q.bar
    $query$, format(CASE of_rows WHEN 'trades' THEN $trades$
        SELECT b.bar, b.bar AS began, r.event_timestamp, r.sequence, r.price AS open, r.price AS high, r.price AS low,
            r.price AS close, r.size AS volume
        FROM (SELECT DISTINCT ON (t.event_timestamp, t.sequence) t.* FROM tapeline.trades t
              WHERE t.source = $3 AND t.symbol = $4 AND t.event_timestamp >= %1$L::timestamptz
                AND t.event_timestamp < %2$L::timestamptz AND t.available_timestamp <= $5 AND t.created_timestamp <= $6
              ORDER BY t.event_timestamp, t.sequence, t.available_timestamp DESC, t.created_timestamp DESC) r
        CROSS JOIN LATERAL (SELECT date_bin($1, r.event_timestamp, $2) AS bar) b
        WHERE NOT r.deleted AND r.price > 0 AND r.price < 'Infinity' AND r.size >= 0 AND r.size < 'Infinity'
    $trades$ ELSE $bars$
        SELECT date_bin($1, r.event_timestamp - interval '1 microsecond', $2) AS bar, r.start_timestamp AS began,
            r.event_timestamp, r.sequence, r.open, r.high, r.low, r.close, r.volume
        FROM (SELECT DISTINCT ON (t.event_timestamp, t.sequence) t.* FROM tapeline.bars t
              WHERE t.source = $3 AND t.symbol = $4 AND t.event_timestamp > %1$L::timestamptz
                AND t.event_timestamp <= %2$L::timestamptz AND t.available_timestamp <= $5 AND t.created_timestamp <= $6
              ORDER BY t.event_timestamp, t.sequence, t.available_timestamp DESC, t.created_timestamp DESC) r
        WHERE NOT r.deleted
    $bars$ END, first_at, date_bin(width, end_at - interval '1 microsecond', origin) + width))
    USING width, origin, source_name, symbol_name, as_of, recorded;
END
$$;
