-- Exported data sets and the model registry. Bundles are files addressed by their SHA-256; here is what names them.
CREATE TABLE tapeline.datasets (
    content_sha256      text NOT NULL,
    service             text NOT NULL,
    as_of               timestamptz NOT NULL,
    row_count           bigint NOT NULL,
    manifest            jsonb NOT NULL,
    created_timestamp   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (content_sha256, created_timestamp)
);

CREATE TABLE tapeline.models (
    model               text NOT NULL,
    version             text NOT NULL CHECK (version ~ '^[0-9]+\.[0-9]+\.[0-9]+$'),
    model_uuid          uuid NOT NULL UNIQUE DEFAULT gen_random_uuid(),
    bundle_sha256       text NOT NULL,
    dataset_sha256      text,
    parent_sha256       text,
    manifest            jsonb NOT NULL,
    metrics             jsonb NOT NULL,
    created_timestamp   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (model, version)
);

-- champion, challenger, shadow: rows are only ever added, the newest of a (model, alias) holds.
CREATE TABLE tapeline.model_aliases (
    id                  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    model               text NOT NULL,
    alias               text NOT NULL CHECK (alias ~ '^[a-z][a-z0-9_-]*$'),
    version             text NOT NULL,
    created_timestamp   timestamptz NOT NULL DEFAULT now(),
    FOREIGN KEY (model, version) REFERENCES tapeline.models (model, version)
);
CREATE INDEX model_aliases_newest ON tapeline.model_aliases (model, alias, id DESC);
