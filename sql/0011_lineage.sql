-- Lineage: what came from what, from a source's column to a served prediction. Nodes and edges are added where something is
-- registered, in the same transaction, and never changed. Served vectors and aliases are joined from their own tables.
CREATE TABLE tapeline.lineage_nodes (
    kind                text NOT NULL CHECK (kind IN (
                            'source', 'calendar', 'table', 'column', 'kernel', 'feature', 'view', 'service', 'dataset',
                            'model')),
    name                text NOT NULL CHECK (length(name) BETWEEN 1 AND 400),
    created_timestamp   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (kind, name)
);

-- What is known of a node: hashes, parameters, row counts. The newest holds; a node that is only referred to has none.
CREATE TABLE tapeline.lineage_descriptions (
    kind                text NOT NULL,
    name                text NOT NULL,
    attributes          jsonb NOT NULL,
    attributes_sha256   text NOT NULL,
    created_timestamp   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (kind, name, attributes_sha256),
    FOREIGN KEY (kind, name) REFERENCES tapeline.lineage_nodes (kind, name)
);

CREATE TABLE tapeline.lineage_edges (
    upstream_kind       text NOT NULL,
    upstream_name       text NOT NULL,
    downstream_kind     text NOT NULL,
    downstream_name     text NOT NULL,
    role                text NOT NULL CHECK (role IN (
                            'delivers', 'holds', 'value', 'indirect', 'gives', 'part', 'selected', 'exported', 'label',
                            'trained', 'read', 'succeeded')),
    created_timestamp   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (downstream_kind, downstream_name, upstream_kind, upstream_name, role),
    FOREIGN KEY (upstream_kind, upstream_name) REFERENCES tapeline.lineage_nodes (kind, name),
    FOREIGN KEY (downstream_kind, downstream_name) REFERENCES tapeline.lineage_nodes (kind, name)
);
CREATE INDEX lineage_edges_upstream ON tapeline.lineage_edges (upstream_kind, upstream_name);
COMMENT ON COLUMN tapeline.lineage_edges.role IS
    'value: computed from; indirect: decides which rows, their order or their time; part: a feature of a view';

CREATE FUNCTION tapeline.lineage_is_never_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'lineage is only ever added to, never changed'
        USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Register the changed thing as a new version.';
END
$$;
CREATE TRIGGER lineage_nodes_stay BEFORE UPDATE OR DELETE ON tapeline.lineage_nodes
    FOR EACH ROW EXECUTE FUNCTION tapeline.lineage_is_never_changed();
CREATE TRIGGER lineage_descriptions_stay BEFORE UPDATE OR DELETE ON tapeline.lineage_descriptions
    FOR EACH ROW EXECUTE FUNCTION tapeline.lineage_is_never_changed();
CREATE TRIGGER lineage_edges_stay BEFORE UPDATE OR DELETE ON tapeline.lineage_edges
    FOR EACH ROW EXECUTE FUNCTION tapeline.lineage_is_never_changed();

-- The newest predictions of a model, and one request's rows, without reading the whole log.
CREATE INDEX served_vectors_model ON tapeline.served_vectors (model, model_version, served_timestamp DESC);

-- Edges that lead into a node, recorded by a moment.
CREATE FUNCTION tapeline.lineage_into(node_kind text, node_name text, as_of timestamptz DEFAULT 'infinity')
    RETURNS TABLE (kind text, name text, role text, created_timestamp timestamptz) LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN QUERY
        SELECT e.upstream_kind, e.upstream_name, e.role, e.created_timestamp FROM tapeline.lineage_edges e
        WHERE e.downstream_kind = node_kind AND e.downstream_name = node_name AND e.created_timestamp <= as_of;
    IF node_kind = 'prediction' THEN
        RETURN QUERY
            SELECT 'model', s.model || '@' || s.model_version, 'served', min(s.created_timestamp)
            FROM tapeline.served_vectors s
            WHERE s.request_id = node_name::uuid AND s.created_timestamp <= as_of GROUP BY 2;
    ELSIF node_kind = 'deployment' THEN
        RETURN QUERY
            SELECT 'model', a.model || '@' || a.version, 'named', a.created_timestamp FROM tapeline.model_aliases a
            WHERE a.model || '@' || a.alias = node_name AND a.created_timestamp <= as_of
            ORDER BY a.id DESC LIMIT 1;
    END IF;
END
$$;

-- Edges that lead out of a node, recorded by a moment. Of a model: also the aliases that name it at that moment, and its
-- newest predictions, so many at most.
CREATE FUNCTION tapeline.lineage_out_of(
    node_kind text, node_name text, as_of timestamptz DEFAULT 'infinity', predictions_max integer DEFAULT 20)
    RETURNS TABLE (kind text, name text, role text, created_timestamp timestamptz) LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN QUERY
        SELECT e.downstream_kind, e.downstream_name, e.role, e.created_timestamp FROM tapeline.lineage_edges e
        WHERE e.upstream_kind = node_kind AND e.upstream_name = node_name AND e.created_timestamp <= as_of;
    IF node_kind = 'model' THEN
        RETURN QUERY
            SELECT 'deployment', newest.model || '@' || newest.alias, 'named', newest.created_timestamp
            FROM (SELECT DISTINCT ON (a.alias) a.model, a.alias, a.version, a.created_timestamp
                  FROM tapeline.model_aliases a
                  WHERE a.model = split_part(node_name, '@', 1) AND a.created_timestamp <= as_of
                  ORDER BY a.alias, a.id DESC) newest
            WHERE newest.version = split_part(node_name, '@', 2);
        -- One request may ask for many entities: look at as many rows as that can be, and keep to the newest requests.
        RETURN QUERY
            SELECT 'prediction', newest.request_id::text, 'served', min(newest.created_timestamp)
            FROM (SELECT s.request_id, s.created_timestamp, s.served_timestamp FROM tapeline.served_vectors s
                  WHERE s.model = split_part(node_name, '@', 1) AND s.model_version = split_part(node_name, '@', 2)
                      AND s.created_timestamp <= as_of
                  ORDER BY s.served_timestamp DESC LIMIT predictions_max * 1000) newest
            GROUP BY newest.request_id ORDER BY max(newest.served_timestamp) DESC LIMIT predictions_max;
    END IF;
END
$$;

-- Everything that a node came from: the edges of the graph above it, nearest first, at most rows_max of them.
-- A view that is come upon is named and not walked through: what used some of its features did not use the others. So is the
-- version that a model succeeded. Ask for them to see where they come from.
CREATE FUNCTION tapeline.lineage_upstream(
    node_kind text, node_name text, as_of timestamptz DEFAULT 'infinity', depth_max integer DEFAULT 32,
    rows_max integer DEFAULT 10000)
    RETURNS TABLE (depth integer, upstream_kind text, upstream_name text, downstream_kind text, downstream_name text,
                   role text, created_timestamp timestamptz) LANGUAGE sql STABLE AS $$
    WITH RECURSIVE walk (kind, name, goes_on, depth) AS (
        SELECT node_kind, node_name, true, 0
        UNION
        SELECT e.kind, e.name, e.kind <> 'view' AND e.role <> 'succeeded', walk.depth + 1
        FROM walk CROSS JOIN LATERAL tapeline.lineage_into(walk.kind, walk.name, as_of) e
        WHERE walk.goes_on AND walk.depth < depth_max
    ), reached AS (
        SELECT kind, name, min(depth) AS depth FROM walk WHERE goes_on AND depth < depth_max GROUP BY kind, name
    )
    SELECT reached.depth + 1, e.kind, e.name, reached.kind, reached.name, e.role, e.created_timestamp
    FROM reached CROSS JOIN LATERAL tapeline.lineage_into(reached.kind, reached.name, as_of) e
    ORDER BY 1, 2, 3, 4, 5, 6 LIMIT rows_max
$$;

-- Everything that came from a node; see lineage_upstream.
CREATE FUNCTION tapeline.lineage_downstream(
    node_kind text, node_name text, as_of timestamptz DEFAULT 'infinity', depth_max integer DEFAULT 32,
    rows_max integer DEFAULT 10000, predictions_max integer DEFAULT 20)
    RETURNS TABLE (depth integer, upstream_kind text, upstream_name text, downstream_kind text, downstream_name text,
                   role text, created_timestamp timestamptz) LANGUAGE sql STABLE AS $$
    WITH RECURSIVE walk (kind, name, goes_on, depth) AS (
        SELECT node_kind, node_name, true, 0
        UNION
        SELECT e.kind, e.name, e.kind <> 'view' AND e.role <> 'succeeded', walk.depth + 1
        FROM walk CROSS JOIN LATERAL tapeline.lineage_out_of(walk.kind, walk.name, as_of, predictions_max) e
        WHERE walk.goes_on AND walk.depth < depth_max
    ), reached AS (
        SELECT kind, name, min(depth) AS depth FROM walk WHERE goes_on AND depth < depth_max GROUP BY kind, name
    )
    SELECT reached.depth + 1, reached.kind, reached.name, e.kind, e.name, e.role, e.created_timestamp
    FROM reached CROSS JOIN LATERAL tapeline.lineage_out_of(reached.kind, reached.name, as_of, predictions_max) e
    ORDER BY 1, 2, 3, 4, 5, 6 LIMIT rows_max
$$;
