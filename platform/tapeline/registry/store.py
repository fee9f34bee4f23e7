"""The content-addressed store of bundles: a local folder, or anything fsspec reaches (S3, GCS, Azure)."""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from pathlib import Path
from typing import Any, Protocol

from tapeline.core.errors import IntegrityError, MissingExtraError, ParameterError
from tapeline.registry.bundle import check_address, check_size, verify_bundle
from tapeline.registry.manifest import MANIFEST_NAME, read_manifest


class BundleStore(Protocol):
    """Keeps bundles under the SHA-256 of their manifest. Writing the same bundle twice is the same as once."""

    def put(self, folder: Path) -> str:
        """Verify a bundle folder, keep a copy, and return its address."""
        ...

    def fetch(self, address: str) -> Path:
        """A local folder with the verified bundle; not to be written to.

        Raises
        ------
        IntegrityError
            If the bundle is not there, or any byte of it is not what its address promises.
        """
        ...


def open_store(location: str | Path, *, cache: Path | None = None) -> BundleStore:
    """The store at a folder, or at an fsspec URL such as ``s3://bucket/models``.

    Parameters
    ----------
    location
        Folder or URL. A ``file://`` URL is a folder.
    cache
        Where bundles of a remote store are kept locally; none: a folder of this user in the temporary folder.

    Raises
    ------
    MissingExtraError
        If the URL needs fsspec and that is not installed.
    """
    text = str(location)
    if text.startswith("file://"):
        text = text.removeprefix("file://")
    if "://" not in text:
        return FolderStore(Path(text))
    user = os.getuid() if hasattr(os, "getuid") else os.environ.get("USERNAME", "user")
    return RemoteStore(text, cache or Path(tempfile.gettempdir()) / f"tapeline-bundles-{user}")


class FolderStore:
    """Bundles in a local folder, each at ``<first two digits>/<address>/``."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, address: str) -> Path:
        """Where the bundle of an address lies or would lie."""
        return self.root / check_address(address)[:2] / address

    def put(self, folder: Path) -> str:
        """Verify a bundle folder, copy it in atomically, and return its address."""
        address = verify_bundle(folder).address
        target = self.path(address)
        if not target.exists():
            self._copy_in(folder, target)
        verify_bundle(target, address=address)
        return address

    def fetch(self, address: str) -> Path:
        """The bundle's own folder in the store, verified."""
        folder = self.path(address)
        if not folder.is_dir():
            raise IntegrityError(
                f"bundle {address} is not in the store",
                where=str(self.root),
                remedy="Point `artifacts` at the store it was registered in, or restore it from a backup",
            )
        verify_bundle(folder, address=address)
        return folder

    def _copy_in(self, folder: Path, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        incoming = target.parent / f".incoming-{uuid.uuid4().hex}"
        try:
            shutil.copytree(folder, incoming)
            for file in incoming.iterdir():
                with file.open("rb") as handle:
                    os.fsync(handle.fileno())
            try:
                incoming.rename(target)
            except OSError:
                # Another process put the same bundle there first; the caller verifies what it wrote.
                if not target.is_dir():
                    raise
        finally:
            shutil.rmtree(incoming, ignore_errors=True)


class RemoteStore:
    """Bundles behind an fsspec URL, copied into a local cache when fetched.

    Object stores have no rename: the manifest is written last, and a bundle without its manifest does not exist.
    """

    def __init__(self, url: str, cache: Path) -> None:
        try:
            import fsspec  # type: ignore[import-untyped]
        except ModuleNotFoundError:
            raise MissingExtraError("fsspec", "remote") from None
        try:
            self._files: Any
            self._files, self._root = fsspec.core.url_to_fs(url)
        except (ImportError, ValueError) as error:
            raise ParameterError(
                f"the artifact store cannot be opened: {error}", where=url, remedy="Install the package it names"
            ) from None
        self._cache = FolderStore(cache)

    def put(self, folder: Path) -> str:
        """Verify a bundle folder, upload it, manifest last, and return its address."""
        address = verify_bundle(folder).address
        target = self._remote(address)
        if not self._files.exists(f"{target}/{MANIFEST_NAME}"):
            self._files.makedirs(target, exist_ok=True)
            for name in (*read_manifest(folder).files, MANIFEST_NAME):
                self._files.put_file(str(folder / name), f"{target}/{name}")
        self.fetch(address)
        return address

    def fetch(self, address: str) -> Path:
        """The bundle in the local cache, downloaded if it is not there yet, and verified either way."""
        if self._cache.path(address).is_dir():
            return self._cache.fetch(address)
        target = self._remote(address)
        if not self._files.exists(f"{target}/{MANIFEST_NAME}"):
            raise IntegrityError(f"bundle {address} is not in the store", where=target)
        listing = [entry for entry in self._files.ls(target, detail=True) if entry["type"] == "file"]
        check_size(sum(int(entry["size"] or 0) for entry in listing), where=target)
        self._cache.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryDirectory(dir=self._cache.root, prefix=".incoming-") as incoming:
            self._files.get_file(f"{target}/{MANIFEST_NAME}", f"{incoming}/{MANIFEST_NAME}")
            for name in read_manifest(Path(incoming)).files:
                self._files.get_file(f"{target}/{name}", f"{incoming}/{name}")
            verify_bundle(Path(incoming), address=address)
            self._cache.put(Path(incoming))
        return self._cache.fetch(address)

    def _remote(self, address: str) -> str:
        return f"{self._root.rstrip('/')}/{check_address(address)[:2]}/{address}"
