"""Quality: rules for the rows of a view, its score, daily statistics, and how late rows really arrive."""

from __future__ import annotations

from tapeline.quality.definition import QualityDefinition, definition_of, quality_rules

__all__ = ["QualityDefinition", "definition_of", "quality_rules"]
