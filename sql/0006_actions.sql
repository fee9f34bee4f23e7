-- Corporate actions come from declared sources, as raw rows do.
ALTER TABLE tapeline.sources DROP CONSTRAINT sources_kind_check;
ALTER TABLE tapeline.sources ADD CONSTRAINT sources_kind_check
    CHECK (kind IN ('bars', 'trades', 'quotes', 'book_events', 'actions'));

COMMENT ON COLUMN tapeline.corporate_actions.source IS 'the source that reported this version';
COMMENT ON COLUMN tapeline.corporate_actions.sequence IS 'tells apart what takes effect together: a regular and a special dividend';
COMMENT ON COLUMN tapeline.corporate_actions.amount IS
    'cash for one share on the basis of the ex-date, in the currency of the instrument';
