-- How far continuous verification of served vectors has come, and what it found. Counts and position move in one
-- transaction, so a verifier that is killed goes on without counting an answer twice or leaving one out.
CREATE INDEX served_vectors_recorded ON tapeline.served_vectors (created_timestamp);

CREATE TABLE tapeline.verification_jobs (
    job                 text PRIMARY KEY,
    sample_rate         float8 NOT NULL CHECK (sample_rate > 0 AND sample_rate <= 1),
    sample_seed         bigint NOT NULL,
    created_position    timestamptz NOT NULL,
    served_position     timestamptz,
    request_position    uuid,
    entity_position     text,
    step                bigint NOT NULL DEFAULT 0,
    vectors             bigint NOT NULL DEFAULT 0,
    last_served         timestamptz,
    updated_timestamp   timestamptz NOT NULL DEFAULT now()
);
COMMENT ON COLUMN tapeline.verification_jobs.created_position IS
    'everything recorded before this moment has been looked at, and of this moment everything up to the other positions';
COMMENT ON COLUMN tapeline.verification_jobs.step IS 'raised by every step; a second verifier of the same job fails on it';

-- Values in all; cause `compared` counts every value that was compared.
CREATE TABLE tapeline.verification_counts (
    job                 text NOT NULL REFERENCES tapeline.verification_jobs ON DELETE CASCADE,
    view                text NOT NULL,
    cause               text NOT NULL,
    value_count         bigint NOT NULL,
    PRIMARY KEY (job, view, cause)
);

-- The same by the minute in which they were served; old minutes are removed.
CREATE TABLE tapeline.verification_minutes (
    job                 text NOT NULL REFERENCES tapeline.verification_jobs ON DELETE CASCADE,
    minute              timestamptz NOT NULL,
    cause               text NOT NULL,
    value_count         bigint NOT NULL,
    PRIMARY KEY (job, minute, cause)
);

-- The newest differences; older ones are removed, and stay in the counts.
CREATE TABLE tapeline.verification_mismatches (
    id                  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    job                 text NOT NULL REFERENCES tapeline.verification_jobs ON DELETE CASCADE,
    request_id          uuid NOT NULL,
    entity              text NOT NULL,
    view                text NOT NULL,
    version             integer NOT NULL,
    feature             text NOT NULL,
    served_timestamp    timestamptz NOT NULL,
    request_timestamp   timestamptz NOT NULL,
    origin              text NOT NULL,
    served              float8 NOT NULL,
    expected            float8 NOT NULL,
    cause               text NOT NULL,
    used                jsonb NOT NULL,
    recorded            jsonb NOT NULL,
    created_timestamp   timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX verification_mismatches_newest ON tapeline.verification_mismatches (job, id DESC);
COMMENT ON COLUMN tapeline.verification_mismatches.used IS 'times and sequence of the row that the value came from';
COMMENT ON COLUMN tapeline.verification_mismatches.recorded IS
    'times and sequence of the stored row that explains the cause';
