"""Backup and restore of a database: every table as binary COPY, taken from one snapshot, put back in one transaction.

Rows keep their recording times, so vintages mean the same in a restored database and data sets can be built again to the
byte. The files depend neither on the version of PostgreSQL nor on the edition of TimescaleDB, and hold no SQL: tables
are described, not scripted.
"""

from tapeline.storage.backup.loading import Loaded, load
from tapeline.storage.backup.manifest import BackupManifest, read_manifest, verify_folder
from tapeline.storage.backup.writing import dump

__all__ = ["BackupManifest", "Loaded", "dump", "load", "read_manifest", "verify_folder"]
