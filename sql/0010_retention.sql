-- Retention with a guard: nothing is dropped that a registered data set, a model in use or a state still needs. All ways lead
-- through apply_retention(): the command, and under Community a daily job.

CREATE TABLE tapeline.retention_rules (
    table_name          text PRIMARY KEY,
    keep                interval NOT NULL CHECK (keep > interval '0'),
    changed_timestamp   timestamptz NOT NULL DEFAULT now()
);

-- What was dropped, and from when on raw rows are taken: an earlier one could not be computed with what is gone.
CREATE TABLE tapeline.retention_horizons (
    table_name          text PRIMARY KEY,
    dropped_before      timestamptz NOT NULL,
    refused_before      timestamptz,
    changed_timestamp   timestamptz NOT NULL DEFAULT now()
);

-- Data sets that need not be rebuilt any more.
CREATE TABLE tapeline.dataset_releases (
    content_sha256      text PRIMARY KEY,
    created_timestamp   timestamptz NOT NULL DEFAULT now()
);

-- The time by which a table's rows grow old; null: it has no retention.
CREATE FUNCTION tapeline.retention_column(target regclass) RETURNS name
    LANGUAGE sql STABLE SET search_path = pg_catalog AS $$
    SELECT CASE
        WHEN c.relname = 'served_vectors' AND n.nspname = 'tapeline' THEN 'served_timestamp'::name
        WHEN n.nspname = 'features' OR n.nspname = 'tapeline' AND c.relname IN ('bars', 'trades', 'quotes', 'book_events',
            'feature_values', 'enhancement_values', 'performance_metrics') THEN 'event_timestamp'::name
    END FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = target AND c.relkind = 'r'
$$;

-- Views that a state of which continues from rows of this table: of raw rows those made from them, of a view's table that view.
CREATE FUNCTION tapeline.views_continued_from(target regclass)
    RETURNS TABLE (view text, version integer, plan_hash text, source text)
    LANGUAGE sql STABLE SET search_path = pg_catalog AS $$
    SELECT v.view, v.version, v.plan_hash, CASE WHEN target <> coalesce(to_regclass(v.table_name), 0) THEN v.definition -> 'rows' ->> 'source' END
    FROM tapeline.feature_view_versions v
    WHERE to_regclass(v.table_name) = target OR target = CASE
        WHEN v.definition -> 'rows' ->> 'kind' IN ('session_bars', 'longer_bars') THEN 'tapeline.bars'::regclass
        ELSE 'tapeline.trades'::regclass END
$$;

-- The earliest row that a view's states still need, given that rows before `cutoff` are to go: those after the newest
-- snapshot at or before it, and those that were not computed yet. Null: none.
CREATE FUNCTION tapeline.needed_by_states(
    target regclass, view_name text, of_version integer, plan text, source_name text, cutoff timestamptz)
    RETURNS timestamptz LANGUAGE plpgsql STABLE SET search_path = pg_catalog AS $$
DECLARE
    chosen text := CASE WHEN source_name IS NULL THEN '' ELSE format('r.source = %L AND', source_name) END;
    needed timestamptz;
BEGIN
    -- Symbols by skipping along the key index; for each the first row after the snapshot.
    EXECUTE format($query$
        WITH RECURSIVE symbols AS (
            (SELECT r.symbol FROM %1$s r WHERE %2$s true ORDER BY r.symbol LIMIT 1)
            UNION ALL
            SELECT (SELECT r.symbol FROM %1$s r WHERE %2$s r.symbol > s.symbol ORDER BY r.symbol LIMIT 1)
            FROM symbols s WHERE s.symbol IS NOT NULL)
        SELECT min(least(after.event_timestamp, waiting.event_timestamp))
        FROM symbols e
        LEFT JOIN LATERAL (
            SELECT s.event_timestamp, s.sequence FROM tapeline.state_snapshots s
            WHERE s.view = $1 AND s.version = $2 AND s.entity = e.symbol AND s.plan_hash = $3 AND s.event_timestamp <= $4
            ORDER BY s.event_timestamp DESC, s.sequence DESC LIMIT 1) base ON true
        LEFT JOIN LATERAL (
            SELECT r.event_timestamp FROM %1$s r
            WHERE %2$s r.symbol = e.symbol AND r.event_timestamp < $4 AND (base.event_timestamp IS NULL
                OR (r.event_timestamp, r.sequence) > (base.event_timestamp, base.sequence))
            ORDER BY r.event_timestamp, r.sequence LIMIT 1) after ON true
        LEFT JOIN tapeline.backfill_progress p ON p.view = $1 AND p.version = $2 AND p.entity = e.symbol
        LEFT JOIN LATERAL (
            SELECT min(r.event_timestamp) AS event_timestamp FROM %1$s r
            WHERE %2$s r.symbol = e.symbol AND r.event_timestamp < $4 AND r.created_timestamp > p.recorded_timestamp AND %3$L
        ) waiting ON true
        WHERE e.symbol IS NOT NULL
    $query$, target, chosen, source_name IS NOT NULL) INTO needed USING view_name, of_version, plan, cutoff;
    RETURN needed;
END
$$;

-- Who still needs rows of a table from before a cutoff, and from when on. Data sets by their first twelve hexadecimal digits.
CREATE FUNCTION tapeline.retention_needs(target regclass, cutoff timestamptz)
    RETURNS TABLE (kind text, name text, needed_from timestamptz)
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog AS $$
DECLARE
    named text := target::text;
BEGIN
    IF EXISTS (SELECT 1 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
               WHERE c.oid = target AND n.nspname IN ('features', 'tapeline') AND c.relname <> 'served_vectors') THEN
        RETURN QUERY
        WITH newest AS (
            SELECT DISTINCT ON (d.content_sha256) d.content_sha256, d.service, d.manifest FROM tapeline.datasets d
            WHERE NOT EXISTS (SELECT FROM tapeline.dataset_releases r WHERE r.content_sha256 = d.content_sha256)
            ORDER BY d.content_sha256, d.created_timestamp DESC
        ), uses AS (
            -- A query's tables are not known, so that of every table it names all is needed.
            SELECT n.content_sha256, n.service, CASE
                WHEN v ->> 'table' LIKE '(%' THEN CASE WHEN strpos(v ->> 'table', split_part(named, '.', 2)) > 0 THEN '-infinity'::timestamptz END
                WHEN to_regclass(v ->> 'table') <> target THEN NULL
                WHEN coalesce((v ->> 'ttl_us')::numeric, 0) NOT BETWEEN 1 AND 6e16 THEN '-infinity'
                ELSE (n.manifest ->> 'first_event')::timestamptz - format('%s microseconds', v ->> 'ttl_us')::interval
            END AS since
            FROM newest n CROSS JOIN LATERAL jsonb_array_elements(n.manifest -> 'plan' -> 'views') v
            UNION ALL
            -- Labels look back forty days and over the longest closure of a venue.
            SELECT n.content_sha256, n.service, (n.manifest ->> 'first_event')::timestamptz - interval '60 days' FROM newest n
            WHERE to_regclass('tapeline.' || (n.manifest -> 'labels' ->> 'kind')) = target
        )
        SELECT 'data set', format('%s (%s)', left(u.content_sha256, 12), u.service), min(u.since) FROM uses u
        WHERE u.since < cutoff GROUP BY u.content_sha256, u.service;

        RETURN QUERY
        WITH used AS (
            SELECT DISTINCT m.model, m.version, v ->> 'view' AS view, (v ->> 'version')::integer AS view_version,
                coalesce((v ->> 'ttl_us')::numeric, 0) AS ttl_us
            FROM tapeline.models m
            JOIN (SELECT DISTINCT ON (a.model, a.alias) a.model, a.version FROM tapeline.model_aliases a
                  ORDER BY a.model, a.alias, a.id DESC) a ON a.model = m.model AND a.version = m.version
            CROSS JOIN LATERAL jsonb_array_elements(m.manifest -> 'views') v
        )
        SELECT 'model', format('%s@%s', u.model, u.version),
            min(CASE WHEN u.ttl_us BETWEEN 1 AND 6e16 THEN now() - format('%s microseconds', u.ttl_us)::interval ELSE '-infinity' END)
        FROM used u JOIN tapeline.feature_view_versions f ON f.view = u.view AND f.version = u.view_version
        WHERE to_regclass(f.table_name) = target
        GROUP BY u.model, u.version
        HAVING min(CASE WHEN u.ttl_us BETWEEN 1 AND 6e16 THEN now() - format('%s microseconds', u.ttl_us)::interval ELSE '-infinity' END) < cutoff;
    END IF;
    RETURN QUERY
    SELECT 'state', format('%s@%s', s.view, s.version), s.since FROM (
        SELECT v.view, v.version,
            tapeline.needed_by_states(target, v.view, v.version, v.plan_hash, v.source, cutoff) AS since
        FROM tapeline.views_continued_from(target) v) s
    WHERE s.since < cutoff;
END
$$;

-- Drop what a table holds from before a cutoff, as far as nobody needs it. Says up to when it dropped, how many rows (of
-- hypertables: chunks), and who held the rest back.
CREATE FUNCTION tapeline.drop_before(
    target regclass, cutoff timestamptz, OUT dropped_before timestamptz, OUT dropped bigint, OUT held_by text[])
    LANGUAGE plpgsql SET search_path = pg_catalog AS $$
DECLARE
    time_column name := tapeline.retention_column(target);
    is_raw      boolean := target::text IN ('tapeline.bars', 'tapeline.trades', 'tapeline.quotes', 'tapeline.book_events');
    chunked     boolean := false;
    kept        text;
    entities    text[];
BEGIN
    IF time_column IS NULL THEN
        RAISE EXCEPTION '% has no retention', target
            USING ERRCODE = 'wrong_object_type', HINT = 'Tables of raw rows, of view versions and of logs have.';
    END IF;
    -- One at a time; a data set that is registered meanwhile waits for the end and finds what is left.
    LOCK TABLE tapeline.datasets, tapeline.dataset_releases, tapeline.model_aliases IN SHARE MODE;
    PERFORM pg_advisory_xact_lock(hashtext('tapeline:retention:' || target::text));
    SELECT coalesce(array_agg(format('%s %s', n.kind, n.name) ORDER BY n.kind, n.name), '{}'), least(cutoff, min(n.needed_from))
    INTO held_by, dropped_before FROM tapeline.retention_needs(target, cutoff) n;
    dropped := 0;
    IF tapeline.edition() <> 'none' THEN
        chunked := EXISTS (SELECT FROM timescaledb_information.hypertables
                           WHERE format('%I.%I', hypertable_schema, hypertable_name)::regclass = target);
    END IF;
    IF chunked THEN
        IF isfinite(dropped_before) THEN
            EXECUTE format('SELECT count(*) FROM %I.drop_chunks($1, older_than => $2)', tapeline.timescaledb_schema())
                INTO dropped USING target, dropped_before;
        END IF;
    ELSE
        EXECUTE format('DELETE FROM %s WHERE %I < $1', target, time_column) USING dropped_before;
        GET DIAGNOSTICS dropped = ROW_COUNT;
    END IF;
    IF dropped = 0 THEN
        RETURN;
    END IF;
    INSERT INTO tapeline.retention_horizons AS h (table_name, dropped_before, refused_before)
    VALUES (target::text, dropped_before, CASE WHEN is_raw THEN cutoff END)
    ON CONFLICT (table_name) DO UPDATE SET dropped_before = greatest(h.dropped_before, EXCLUDED.dropped_before),
        refused_before = greatest(h.refused_before, EXCLUDED.refused_before), changed_timestamp = now();
    SELECT format('latest.%I', relname) INTO kept FROM pg_class
    WHERE oid = target AND relnamespace = 'features'::regnamespace AND to_regclass(format('latest.%I', relname)) IS NOT NULL;
    IF kept IS NOT NULL THEN
        EXECUTE format('WITH gone AS (DELETE FROM %s WHERE event_timestamp < $1 RETURNING symbol) '
                       'SELECT array_agg(symbol) FROM gone', kept) INTO entities USING dropped_before;
        IF entities IS NOT NULL THEN
            PERFORM tapeline.renew_latest(target, entities, '-infinity');
        END IF;
    END IF;
END
$$;

-- Apply a table's rule now.
CREATE FUNCTION tapeline.apply_retention(
    target regclass, OUT cutoff timestamptz, OUT dropped_before timestamptz, OUT dropped bigint, OUT held_by text[])
    LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    SELECT now() - r.keep INTO cutoff FROM tapeline.retention_rules r WHERE r.table_name = target::text;
    IF cutoff IS NOT NULL THEN
        SELECT d.dropped_before, d.dropped, d.held_by INTO dropped_before, dropped, held_by
        FROM tapeline.drop_before(target, cutoff) d;
    END IF;
END
$$;

-- What Community's scheduler calls; what is held back is in the job's log.
CREATE PROCEDURE tapeline.retention_job(job_id integer, config jsonb) LANGUAGE plpgsql SET search_path = pg_catalog AS $$
DECLARE
    done record;
BEGIN
    SELECT * INTO done FROM tapeline.apply_retention((config ->> 'table')::regclass);
    IF cardinality(done.held_by) > 0 THEN
        RAISE LOG 'retention of % is held back by %', config ->> 'table', array_to_string(done.held_by, ', ');
    END IF;
END
$$;

-- Set a table's rule, or with null remove it; under Community with its daily job.
CREATE FUNCTION tapeline.set_retention(target regclass, keep_for interval) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog AS $$
DECLARE
    job integer;
BEGIN
    IF tapeline.retention_column(target) IS NULL THEN
        RAISE EXCEPTION '% has no retention', target
            USING ERRCODE = 'wrong_object_type', HINT = 'Tables of raw rows, of view versions and of logs have.';
    END IF;
    IF tapeline.edition() = 'community' THEN
        FOR job IN SELECT j.job_id FROM timescaledb_information.jobs j
                   WHERE j.proc_schema = 'tapeline' AND j.proc_name = 'retention_job' AND j.config ->> 'table' = target::text
        LOOP
            EXECUTE format('SELECT %I.delete_job($1)', tapeline.timescaledb_schema()) USING job;
        END LOOP;
    END IF;
    IF keep_for IS NULL THEN
        DELETE FROM tapeline.retention_rules WHERE table_name = target::text;
        RETURN;
    END IF;
    INSERT INTO tapeline.retention_rules (table_name, keep) VALUES (target::text, keep_for)
    ON CONFLICT (table_name) DO UPDATE SET keep = EXCLUDED.keep, changed_timestamp = now();
    IF tapeline.edition() = 'community' THEN
        EXECUTE format('SELECT %I.add_job(''tapeline.retention_job'', interval ''1 day'', config => $1)',
                       tapeline.timescaledb_schema()) USING jsonb_build_object('table', target::text);
    END IF;
END
$$;

-- Release a data set from the guard, unless a model in use was trained on it.
CREATE FUNCTION tapeline.forget_dataset(named text) RETURNS text LANGUAGE plpgsql SET search_path = pg_catalog AS $$
DECLARE
    found text[] := (SELECT array_agg(DISTINCT d.content_sha256) FROM tapeline.datasets d WHERE starts_with(d.content_sha256, named));
    users text;
BEGIN
    IF coalesce(cardinality(found), 0) <> 1 OR length(named) < 8 THEN
        RAISE EXCEPTION '% names % data sets', quote_literal(named), coalesce(cardinality(found), 0)
            USING ERRCODE = 'undefined_object', HINT = 'Give at least eight digits of a SHA-256 in tapeline.datasets.';
    END IF;
    SELECT string_agg(DISTINCT format('%s@%s', m.model, m.version), ', ') INTO users FROM tapeline.models m
    JOIN (SELECT DISTINCT ON (a.model, a.alias) a.model, a.version FROM tapeline.model_aliases a
          ORDER BY a.model, a.alias, a.id DESC) a ON a.model = m.model AND a.version = m.version
    WHERE m.dataset_sha256 = found[1];
    IF users IS NOT NULL THEN
        RAISE EXCEPTION 'data set % trained %, which is in use', left(found[1], 12), users
            USING ERRCODE = 'object_in_use', HINT = 'Give its alias to another version first.';
    END IF;
    INSERT INTO tapeline.dataset_releases VALUES (found[1]) ON CONFLICT DO NOTHING;
    RETURN found[1];
END
$$;

-- Fit the tables of these files to the database's edition; `tapeline migrate` calls it after fit_edition(). A bare retention
-- policy becomes a guarded rule: what an operator removed stays removed.
CREATE FUNCTION tapeline.fit_edition_store() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    target  regclass;
    keys    text;
    fresh   boolean;
    library name := tapeline.timescaledb_schema();
    policy  record;
BEGIN
    FOR target, keys IN VALUES ('tapeline.feature_values'::regclass, 'namespace, entity'),
                               ('tapeline.enhancement_values', 'name, entity') LOOP
        fresh := NOT EXISTS (SELECT FROM tapeline.edition_policies p WHERE p.table_name = target::text AND p.policy = 'compression');
        IF tapeline.make_hypertable(target) AND fresh AND tapeline.edition() = 'community' THEN
            EXECUTE format('ALTER TABLE %s SET (timescaledb.compress_segmentby = %L)', target, keys);
        END IF;
    END LOOP;
    FOR target IN SELECT to_regclass(table_name) FROM tapeline.feature_view_versions
                  WHERE to_regclass(table_name) IS NOT NULL ORDER BY 1 LOOP
        PERFORM tapeline.fit_feature_table(target);
    END LOOP;
    IF tapeline.edition() <> 'community' THEN
        RETURN;
    END IF;
    FOR policy IN SELECT format('%I.%I', hypertable_schema, hypertable_name)::regclass AS target,
                         (config ->> 'drop_after')::interval AS keep
                  FROM timescaledb_information.jobs
                  WHERE proc_name = 'policy_retention' AND hypertable_schema IN ('tapeline', 'features') LOOP
        EXECUTE format('SELECT %I.remove_retention_policy($1)', library) USING policy.target;
        PERFORM tapeline.set_retention(policy.target, policy.keep);
    END LOOP;
END
$$;
