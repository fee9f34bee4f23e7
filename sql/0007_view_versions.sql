-- Which version of a view holds where none is named, and which are retired. Rows are only ever added; of a view, the newest
-- promotion or rollback holds, and of a version, the newest row tells whether it is retired. Who adds rows takes an
-- exclusive advisory lock (tapeline.lock_view_versions) first, so that their order is that of the commits.
CREATE TABLE tapeline.view_promotions (
    id                  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    view                text NOT NULL,
    version             integer NOT NULL,
    decision            text NOT NULL CHECK (decision IN ('promote', 'rollback', 'retire')),
    decided_by          text NOT NULL DEFAULT session_user,
    reason              text NOT NULL DEFAULT '',
    created_timestamp   timestamptz NOT NULL DEFAULT now(),
    FOREIGN KEY (view, version) REFERENCES tapeline.feature_view_versions (view, version)
);
CREATE INDEX view_promotions_newest ON tapeline.view_promotions (view, id DESC);

CREATE FUNCTION tapeline.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'rows of %.% are only ever added', TG_TABLE_SCHEMA, TG_TABLE_NAME
        USING HINT = 'Add a row that says what holds from now on';
END
$$;
CREATE TRIGGER only_added BEFORE UPDATE OR DELETE ON tapeline.view_promotions
    FOR EACH ROW EXECUTE FUNCTION tapeline.refuse_change();

CREATE FUNCTION tapeline.lock_view_versions() RETURNS void LANGUAGE sql AS $$
    SELECT pg_advisory_xact_lock(hashtext('tapeline:view versions'))
$$;

-- Whoever is about to depend on a version takes this one, so that it is not retired meanwhile.
CREATE FUNCTION tapeline.share_view_versions() RETURNS void LANGUAGE sql AS $$
    SELECT pg_advisory_xact_lock_shared(hashtext('tapeline:view versions'))
$$;

-- Until now, what was registered last was what everybody read.
INSERT INTO tapeline.view_promotions (view, version, decision, reason)
SELECT view, max(version), 'promote', 'in use before promotions were kept' FROM tapeline.feature_view_versions GROUP BY view;

-- A view of which nothing was ever promoted stands at the version that was registered first.
CREATE VIEW tapeline.view_version_states AS
WITH promoted AS (
    SELECT DISTINCT ON (view) view, version FROM tapeline.view_promotions
    WHERE decision <> 'retire' ORDER BY view, id DESC
), first_registered AS (
    SELECT DISTINCT ON (view) view, version FROM tapeline.feature_view_versions
    ORDER BY view, created_timestamp, version
), newest AS (
    SELECT DISTINCT ON (view, version) * FROM tapeline.view_promotions ORDER BY view, version, id DESC
)
SELECT r.view, r.version, r.table_name, r.lineage_hash, r.created_timestamp AS registered_timestamp,
       r.version = coalesce(p.version, f.version) AS promoted,
       coalesce(n.decision = 'retire', false) AS retired,
       n.decision, n.decided_by, n.reason, n.created_timestamp AS decided_timestamp
FROM tapeline.feature_view_versions r
JOIN first_registered f USING (view)
LEFT JOIN promoted p USING (view)
LEFT JOIN newest n ON (n.view, n.version) = (r.view, r.version);
