-- Table and time to live of a view: `name`, its promoted version, as everywhere else, or `name@2`.
CREATE OR REPLACE FUNCTION tapeline.view_table(view_name text, OUT target regclass, OUT ttl interval)
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog AS $$
DECLARE
    wanted text[] := regexp_match(view_name, '^([a-z][a-z0-9_]*)(?:@v?([0-9]{1,9}))?$');
    ttl_us text;
BEGIN
    SELECT to_regclass(v.table_name), v.definition ->> 'ttl_us' INTO target, ttl_us
    FROM tapeline.feature_view_versions v JOIN tapeline.view_version_states s USING (view, version)
    WHERE v.view = wanted[1] AND CASE WHEN wanted[2] IS NULL THEN s.promoted ELSE v.version = wanted[2]::integer END;
    IF target IS NULL THEN
        RAISE EXCEPTION 'no view % is registered here', quote_literal(view_name)
            USING ERRCODE = 'undefined_table', HINT = 'SELECT view, version FROM tapeline.feature_view_versions';
    END IF;
    ttl := CASE WHEN ttl_us::numeric > 0 THEN format('%s microseconds', ttl_us)::interval END;
END
$$;
