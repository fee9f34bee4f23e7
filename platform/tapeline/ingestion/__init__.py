"""Sources in: calendars, instruments and validation between a file and the raw tables.

:func:`ingest` takes a packaged source, a file or a frame, and :func:`valid_rows` gives what it would store; rows that break a rule wait
in the quarantine (:func:`list_refused`, :func:`replay`) with their reason.
"""

from tapeline.ingestion.calendars import Gap
from tapeline.ingestion.layout import Layout
from tapeline.ingestion.packaged import PACKAGED
from tapeline.ingestion.pipeline import NewInstruments, ingest, valid_rows
from tapeline.ingestion.quarantine import RefusedRow, ReplayReport, list_refused, replay
from tapeline.ingestion.report import IngestReport
from tapeline.storage.reference import Instrument, Source

__all__ = [
    "PACKAGED",
    "Gap",
    "IngestReport",
    "Instrument",
    "Layout",
    "NewInstruments",
    "RefusedRow",
    "ReplayReport",
    "Source",
    "ingest",
    "list_refused",
    "replay",
    "valid_rows",
]
