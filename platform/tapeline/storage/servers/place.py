"""Where the embedded servers of one data folder keep their files and sockets.

Everything lies in ``<home>/servers``, with two exceptions. A socket's path may hold about a hundred bytes, so below a deep
home the sockets lie in a private folder under ``/tmp``. And where root's PostgreSQL account may not enter the home, its data
lie in ``/var/lib/tapeline``. The choice is made once, written down, and kept: data must not seem to vanish because
somebody changed a folder's mode.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from tapeline.core.errors import ConfigurationError
from tapeline.storage.servers.account import Account, caller, postgres_account
from tapeline.storage.servers.binaries import SHARED_FOLDER, make_shared_folder

DATABASE = "tapeline"
"""Name of the database and of the role in the embedded server."""

_POSTGRES_SOCKET = ".s.PGSQL.5432"
_VALKEY_SOCKET = "valkey.sock"
_SOCKET_PATH_BYTES_MAX = 103  # macOS allows 104 with the closing zero, Linux 108
_TEMPORARY = Path("/tmp")  # noqa: S108 - must not follow TMPDIR, which differs between the processes that share a home
_FILE = "place.json"


@dataclass(frozen=True)
class Place:
    """Folders of one pair of embedded servers.

    Attributes
    ----------
    folder
        Private files of whoever starts the servers: lock, recorded processes, logs.
    postgres_data, postgres_run
        PostgreSQL's cluster and the folder of its socket.
    valkey_data, valkey_run
        Valkey's append-only file and the folder of its socket.
    """

    folder: Path
    postgres_data: Path
    postgres_run: Path
    valkey_data: Path
    valkey_run: Path

    @classmethod
    def inside(cls, folder: Path) -> Place:
        """Everything below one folder, which must have a short path and be enterable for PostgreSQL's account."""
        return cls(
            folder=folder,
            postgres_data=folder / "postgres",
            postgres_run=folder / "postgres-run",
            valkey_data=folder / "valkey",
            valkey_run=folder / "valkey-run",
        )

    @classmethod
    def of_home(cls, home: Path) -> Place:
        """The place of a data folder: as written down, else where it would be put now. Writes nothing.

        Raises
        ------
        ConfigurationError
            If the written choice cannot be read, or belongs to a data folder that was since moved or copied and whose
            database lies elsewhere.
        """
        folder = home / "servers"
        record = folder / _FILE
        if record.is_file():
            return cls._read(record, home)
        return cls._choose(home, postgres_account() if os.geteuid() == 0 else caller())

    @classmethod
    def _choose(cls, home: Path, account: Account) -> Place:
        folder = home / "servers"
        plain = cls.inside(folder)
        name = hashlib.sha256(str(home).encode()).hexdigest()[:16]
        enterable = account.can_enter(home)
        postgres_base = folder if enterable else SHARED_FOLDER / name
        short = _TEMPORARY / f"tapeline-{name}"
        postgres_run = postgres_base / "postgres-run"
        if _is_long(postgres_run / _POSTGRES_SOCKET):
            postgres_run = short.with_name(f"{short.name}-postgres")
        valkey_run = plain.valkey_run
        if _is_long(valkey_run / _VALKEY_SOCKET):
            valkey_run = short.with_name(f"{short.name}-valkey")
        return cls(folder, postgres_base / "postgres", postgres_run, plain.valkey_data, valkey_run)

    @classmethod
    def _read(cls, record: Path, home: Path) -> Place:
        try:
            written = json.loads(record.read_text())
            former = Path(written["home"])
            paths = {name: Path(written[name]) for name in ("postgres_data", "postgres_run", "valkey_run")}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigurationError(
                f"{record} cannot be read: {error}", remedy="Restore it, or move the data folder aside"
            ) from None
        if former != home:
            # Moved with its home: what lay inside moved too, sockets are made anew, but data elsewhere stayed behind
            # and may still be the former home's.
            if not paths["postgres_data"].is_relative_to(former):
                raise ConfigurationError(
                    f"the database of {home} lies in {paths['postgres_data']} and belongs to {former}",
                    where=str(record),
                    remedy=f"Move the data folder back to {former}, or dump and restore the database",
                )
            return cls._choose(home, postgres_account())
        return cls(
            record.parent, paths["postgres_data"], paths["postgres_run"], home / "servers/valkey", paths["valkey_run"]
        )

    def prepare(self, home: Path) -> None:
        """Create the folders and write the choice down."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.postgres_data.is_relative_to(SHARED_FOLDER):
            base = make_shared_folder() / self.postgres_data.parent.name
            base.mkdir(exist_ok=True)
            base.chmod(0o755)
            (base / "home").write_text(str(home))  # tells the doctor whose it is
        self.own()
        content = {
            "home": str(home),
            "postgres_data": str(self.postgres_data),
            "postgres_run": str(self.postgres_run),
            "valkey_run": str(self.valkey_run),
        }
        draft = self.folder / f"{_FILE}.draft"
        draft.write_text(json.dumps(content, indent=2) + "\n")
        draft.replace(self.folder / _FILE)

    def own(self) -> None:
        """Create the four folders, each private to the account that works in it."""
        account = postgres_account()
        if not account.can_enter(self.postgres_data.parent) or not account.can_enter(self.postgres_run.parent):
            raise ConfigurationError(
                f"user {account.name}, under which PostgreSQL runs, may not enter {self.postgres_data.parent}",
                remedy=f"Let {account.name} enter it and its parents (chmod o+x), or set TAPELINE_HOME elsewhere",
            )
        account.own(self.postgres_data)
        account.own(self.postgres_run)
        caller().own(self.valkey_data)
        caller().own(self.valkey_run)

    @property
    def cluster(self) -> Path:
        """PostgreSQL's own data folder; made beside it and moved here when whole."""
        return self.postgres_data / "cluster"

    @property
    def postgres_url(self) -> str:
        """Address of the database: a socket that only its account and the caller reach, and no password."""
        return f"postgresql://{DATABASE}@/{DATABASE}?host={quote(str(self.postgres_run))}"

    @property
    def postgres_socket_lock(self) -> Path:
        """Says which process has PostgreSQL's socket."""
        return self.postgres_run / f"{_POSTGRES_SOCKET}.lock"

    @property
    def valkey_socket(self) -> Path:
        """Valkey's socket."""
        return self.valkey_run / _VALKEY_SOCKET

    @property
    def redis_url(self) -> str:
        """Address of Valkey."""
        return f"unix://{quote(str(self.valkey_socket))}?db=0"


def _is_long(socket: Path) -> bool:
    return len(os.fsencode(socket)) > _SOCKET_PATH_BYTES_MAX
