-- These functions write times into statements of their own. A session may show times by name of their zone, and some names
-- stand for two of them (IST is India's, Israel's and Ireland's): whatever the session says, they write them as numbers.
ALTER FUNCTION tapeline.last_known_rows(text[], text, timestamptz, timestamptz) SET datestyle = 'ISO, YMD';
ALTER FUNCTION tapeline.gap_fill(text, text, text, timestamptz, timestamptz, interval, timestamptz) SET datestyle = 'ISO, YMD';
ALTER FUNCTION tapeline.bars_at(text, text, interval, timestamptz, timestamptz, timestamptz, timestamptz)
    SET datestyle = 'ISO, YMD';
