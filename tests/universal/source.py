"""Where Feast's tests come from: a folder, a git repository or an archive that ``FEAST_SOURCE`` names, or the release."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
import urllib.error
import urllib.request
from pathlib import Path

from feast import __version__ as FEAST_VERSION

TAG = f"v{FEAST_VERSION}"
ARCHIVE = f"https://codeload.github.com/feast-dev/feast/tar.gz/refs/tags/{TAG}"
TESTS = "sdk/python/tests"
_DOWNLOAD_S = 60
_DOWNLOAD_BYTES_MAX = 500_000_000


class NoSourceError(Exception):
    """Feast's tests cannot be had; says why."""


def copy_tests(target: Path) -> str:
    """Put Feast's tests at ``target/tests``, and nothing else of Feast: it would hide the installed package.

    Returns
    -------
    str
        What they were taken from.

    Raises
    ------
    NoSourceError
        If ``FEAST_SOURCE`` holds no such tests, or is not set and the release cannot be downloaded.
    """
    named = os.environ.get("FEAST_SOURCE")
    if named is None:
        return _downloaded(target)
    place = Path(named).expanduser()
    if (place / TESTS).is_dir():
        shutil.copytree(place / TESTS, target / "tests")
        return str(place)
    if place.is_file():
        _unpack(place.read_bytes(), target)
        return str(place)
    return _from_git(place, target)


def _from_git(repository: Path, target: Path) -> str:
    def git(*arguments: str) -> bytes:
        return subprocess.run(["git", "-C", repository, *arguments], check=True, capture_output=True).stdout

    try:
        tagged = git("tag", "--list", TAG).strip()
        revision = TAG if tagged else "HEAD"
        archive = git("archive", "--format=tar", "--prefix=feast/", revision, TESTS)
        said = git("log", "-1", "--format=%h of %cs", revision).decode().strip()
    except (OSError, subprocess.CalledProcessError) as error:
        detail = getattr(error, "stderr", b"") or str(error).encode()
        raise NoSourceError(f"FEAST_SOURCE={repository}: {detail.decode().strip()}") from error
    _unpack(archive, target)
    return f"tag {TAG}" if tagged else f"commit {said}, as {TAG} is not in {repository}"


def _downloaded(target: Path) -> str:
    try:
        with urllib.request.urlopen(ARCHIVE, timeout=_DOWNLOAD_S) as answer:
            content = answer.read(_DOWNLOAD_BYTES_MAX)
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        raise NoSourceError(
            f"{ARCHIVE} cannot be read ({error}). Set FEAST_SOURCE to a folder, a git repository or an archive of Feast"
        ) from error
    _unpack(content, target)
    return f"tag {TAG}, downloaded"


def _unpack(content: bytes, target: Path) -> None:
    try:
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            inside = [m for m in archive.getmembers() if m.isfile() and f"/{TESTS}/" in f"/{m.name}"]
            for member in inside:
                # Tarfile's own filter of paths came with Python 3.11.4.
                path = (target / "tests" / f"/{member.name}".partition(f"/{TESTS}/")[2]).resolve()
                content_of = archive.extractfile(member)
                if not path.is_relative_to(target.resolve()) or content_of is None:
                    raise NoSourceError(f"the archive's {member.name} leads out of its folder")
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content_of.read())
    except tarfile.TarError as error:
        raise NoSourceError(f"the archive cannot be unpacked: {error}") from error
    if not inside:
        raise NoSourceError(f"the archive holds no {TESTS}")
