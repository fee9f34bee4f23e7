"""Features across all symbols that are alive at one moment: rank, z-score, breadth, and beta and correlation to a whole.

A universe is a set of listings, not of symbols that still exist: a symbol counts from its listing to its delisting, and one
that is listed again later is another listing with a fresh state. One compiled step serves batch and stream.

>>> from tapeline.cross_section import CrossFeature, cross_section                                # doctest: +SKIP
>>> cross_section(frame, ["rank", "z_score:group", "beta:60:index"], group="sector", index="spx")   # doctest: +SKIP

Names are looked up when they are first used, so that the engine alone does not import polars and pyarrow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tapeline.cross_section.engine import CrossSection
from tapeline.cross_section.specification import CrossFeature
from tapeline.cross_section.universe import Listing, Universe

if TYPE_CHECKING:
    from tapeline.cross_section.frames import cross_section

__all__ = ["CrossFeature", "CrossSection", "Listing", "Universe", "cross_section"]


def __getattr__(name: str) -> Any:
    if name != "cross_section":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from tapeline.cross_section.frames import cross_section

    return cross_section
