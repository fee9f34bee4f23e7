"""Writing and verifying bundle folders: ``model.onnx``, ``sample.npz``, ``manifest.json``."""

from __future__ import annotations

import os
import re
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path

from tapeline.core.errors import IntegrityError, LimitError, ParameterError
from tapeline.core.hashing import sha256_file
from tapeline.registry.manifest import MANIFEST_NAME, BundleManifest, read_manifest

BUNDLE_BYTES_MAX = 100 * 1024 * 1024


def write_bundle(folder: Path, manifest: BundleManifest, files: Mapping[str, bytes]) -> BundleManifest:
    """Write a bundle folder at once: it is there completely, or not at all.

    Parameters
    ----------
    folder
        Must not exist yet.
    manifest
        Its ``files`` are replaced by the SHA-256 of the files given here.
    files
        Content by name.

    Returns
    -------
    BundleManifest
        The manifest as written.

    Raises
    ------
    ParameterError
        If the folder exists.
    LimitError
        If the files together pass 100 MB.
    """
    check_size(sum(map(len, files.values())), where=str(folder))
    if folder.exists():
        raise ParameterError(f"{folder} exists already", remedy="Choose another folder, or remove it")
    folder.parent.mkdir(parents=True, exist_ok=True)
    incoming = folder.parent / f".incoming-{uuid.uuid4().hex}"
    incoming.mkdir()
    try:
        for name, content in files.items():
            _write(incoming / name, content)
        digests = {name: sha256_file(incoming / name) for name in sorted(files)}
        written = BundleManifest.model_validate(manifest.model_dump() | {"files": digests})
        _write(incoming / MANIFEST_NAME, written.to_bytes())
        incoming.rename(folder)
    except BaseException:
        shutil.rmtree(incoming, ignore_errors=True)
        raise
    return written


def verify_bundle(folder: Path, *, address: str | None = None) -> BundleManifest:
    """Check every file of a bundle against its manifest, and the manifest against the bundle's address.

    Raises
    ------
    IntegrityError
        If a file is missing, unexpected or altered, or the manifest is not the one of this address.
    LimitError
        If the files together pass 100 MB; nothing is read then.
    """
    manifest = read_manifest(folder)
    if address is not None and manifest.address != address:
        raise IntegrityError(
            f"the manifest has SHA-256 {manifest.address} where {address} is expected",
            where=str(folder / MANIFEST_NAME),
            remedy="Restore the artifact from a backup, or register the model again",
        )
    present = {entry.name: entry for entry in folder.iterdir() if entry.name != MANIFEST_NAME}
    if missing := sorted(manifest.files.keys() - present.keys()):
        raise IntegrityError(f"the bundle lacks {', '.join(missing)}", where=str(folder), remedy="Fetch it again")
    if strange := sorted(present.keys() - manifest.files.keys()):
        raise IntegrityError(
            f"the bundle holds {', '.join(strange)}, which its manifest does not name",
            where=str(folder),
            remedy="Remove what does not belong there",
        )
    check_size(sum(entry.stat().st_size for entry in present.values()), where=str(folder))
    for name, expected in manifest.files.items():
        actual = sha256_file(present[name])
        if actual != expected:
            raise IntegrityError(
                f"{name} has SHA-256 {actual} where {expected} is expected",
                where=str(present[name]),
                remedy="Restore the artifact from a backup, or register the model again",
            )
    return manifest


def check_size(size_bytes: int, *, where: str) -> None:
    """Refuse what is larger than a bundle may be.

    Raises
    ------
    LimitError
        Above 100 MB.
    """
    if size_bytes > BUNDLE_BYTES_MAX:
        raise LimitError(
            f"the bundle has {size_bytes / 2**20:.1f} MB; at most {BUNDLE_BYTES_MAX >> 20} MB are allowed",
            where=where,
            remedy="Train a smaller model: fewer trees or leaves",
        )


def check_address(address: str) -> str:
    """The address itself, if it is one.

    Raises
    ------
    ParameterError
        If it is not 64 hexadecimal digits, so that an address can never be a path.
    """
    if not re.fullmatch(r"[0-9a-f]{64}", address):
        raise ParameterError(f"{address!r} is not a bundle's SHA-256", remedy="Use 64 hexadecimal digits")
    return address


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
