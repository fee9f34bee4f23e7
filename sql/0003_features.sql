-- Feature values live in one wide table per view version in the schema `features`, created when the version is
-- registered. Here stands what describes them, the state snapshots, and the log of what was served.
CREATE SCHEMA features;

CREATE TABLE tapeline.feature_view_versions (
    view                text NOT NULL,
    version             integer NOT NULL CHECK (version >= 1),
    lineage_hash        text NOT NULL,
    plan_hash           text NOT NULL,
    table_name          text NOT NULL UNIQUE,
    definition          jsonb NOT NULL,
    created_timestamp   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (view, version)
);

-- Kernel state after the row at (event_timestamp, sequence), as known at available_timestamp. Never changed: a correction
-- adds newer ones. They can be computed again from raw rows, so old ones are thinned out.
CREATE TABLE tapeline.state_snapshots (
    view                text NOT NULL,
    version             integer NOT NULL,
    entity              text NOT NULL,
    event_timestamp     timestamptz NOT NULL,
    sequence            bigint NOT NULL,
    available_timestamp timestamptz NOT NULL,
    recorded_timestamp  timestamptz NOT NULL,
    created_timestamp   timestamptz NOT NULL DEFAULT now(),
    plan_hash           text NOT NULL,
    rows_seen           bigint NOT NULL,
    state               bytea NOT NULL,
    PRIMARY KEY (view, version, entity, event_timestamp, sequence, created_timestamp),
    FOREIGN KEY (view, version) REFERENCES tapeline.feature_view_versions (view, version)
);

COMMENT ON COLUMN tapeline.state_snapshots.recorded_timestamp IS
    'a raw row created later that was available by then makes the snapshot useless if it lies before its position';

-- How far a back-fill has come: rows created and available by these moments have been computed.
CREATE TABLE tapeline.backfill_progress (
    view                text NOT NULL,
    version             integer NOT NULL,
    entity              text NOT NULL,
    recorded_timestamp  timestamptz NOT NULL,
    available_timestamp timestamptz NOT NULL,
    PRIMARY KEY (view, version, entity),
    FOREIGN KEY (view, version) REFERENCES tapeline.feature_view_versions (view, version)
);

CREATE TABLE tapeline.served_vectors (
    request_id          uuid NOT NULL,
    entity              text NOT NULL,
    model               text NOT NULL,
    model_version       text NOT NULL,
    bundle_sha256       text NOT NULL,
    served_timestamp    timestamptz NOT NULL,
    request_timestamp   timestamptz NOT NULL,
    created_timestamp   timestamptz NOT NULL DEFAULT now(),
    vector              bytea NOT NULL,
    statuses            bytea NOT NULL,
    prediction          float8[] NOT NULL,
    views               jsonb NOT NULL,
    live_rows           jsonb,
    PRIMARY KEY (request_id, entity, served_timestamp)  -- a hypertable wants its time in every unique key
);
COMMENT ON COLUMN tapeline.served_vectors.request_timestamp IS 'the injected clock at the request: "now" for TTLs';
COMMENT ON COLUMN tapeline.served_vectors.served_timestamp IS 'the wall clock at the request: what had been recorded';
COMMENT ON COLUMN tapeline.served_vectors.vector IS 'little-endian float64, in the order of the bundle''s features';
COMMENT ON COLUMN tapeline.served_vectors.views IS
    'per view: version, plan hash, origin (store or live), event and available time, sequence of the row or state used';
CREATE INDEX served_vectors_time ON tapeline.served_vectors (served_timestamp);
