"""Quality: rules for the rows of a view, its score, daily statistics, and how late rows really arrive."""
