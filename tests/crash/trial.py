"""One seed: a fresh database, and kills upon it one after another, each with recovery and comparison."""

from __future__ import annotations

import multiprocessing
import random
import shutil
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import psycopg
from psycopg.types.json import Jsonb
from tapeline.compute import backfill
from tapeline.datasets import export, read_data, read_manifest

from tests.crash import roles
from tests.crash.batches import batches
from tests.crash.world import Server, expected_rows, feature_rows, go_on_in_quiet, stored_rows

KILLS = 4
"""Of one seed."""
BATCHES = 8
"""Sent during each trial."""
EXPORTERS = ("exporter", "second exporter")
ROLES = ("writer", "back-fill", *EXPORTERS)
SERVER = ("postmaster", "server process", "server")
VICTIMS = (*ROLES, *SERVER, "everything")
_NOTES = {
    "writer": "acknowledged",
    "back-fill": "computed",
    "exporter": "exported",
    "second exporter": "exported again",
}
_STEPS = {"writer": BATCHES - 2, "back-fill": 6, "exporter": 10, "second exporter": 10}
_END_S = 600.0

# Processes are forked from one that has imported everything, so that a trial takes a second and not twenty.
_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(["tests.crash.roles"])


class Fault(AssertionError):
    """Something that must hold after a kill does not."""


@dataclass
class Outcome:
    """What the trials of one seed came to."""

    kills: int = 0
    missed: int = 0
    acknowledged: int = 0
    exports: int = 0
    retried: int = 0


class Trials:
    """The trials of one seed.

    Parameters
    ----------
    server
        Where its databases are made.
    seed
        All that is random follows from it, but not how fast the machine is: the same seed kills at about the same place.
    folder
        For notes and data sets; emptied first.
    tell
        Given a line for each kill.
    """

    def __init__(self, server: Server, seed: int, folder: Path, tell: Callable[[str], None] = lambda _: None) -> None:
        self._server, self._seed, self._folder, self._tell = server, seed, folder, tell
        self._choice = random.Random(seed)
        self._running: dict[str, BaseProcess] = {}
        self._outcome = Outcome()
        self._quiet_sent = 0
        self._number = 0
        self._ended_well: set[str] = set()
        self._deadlines: dict[str, float] = {}
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "sets").mkdir(parents=True)

    def run(self, kills: int = KILLS) -> Outcome:
        """All trials of the seed.

        Raises
        ------
        Fault
            If an acknowledged row is lost or doubled, a batch is there in part, half an export is to be seen, or features
            or a data set differ from undisturbed ones.
        """
        with self._server.databases(self._seed) as (self._url, self._quiet):
            roles.write(self._folder, self._url, self._seed, 1)  # an empty database has nothing to compute or to export
            time.sleep(0.1)  # until the safe horizon has passed it
            for self._number in range(kills):
                try:
                    self._trial()
                finally:
                    for process in self._running.values():
                        process.kill()
                        process.join()
        return self._outcome

    def _trial(self) -> None:
        victim = self._choice.choice(VICTIMS)
        watched = victim if victim in ROLES else self._choice.choice(ROLES)
        for role in ROLES:
            self._begin(role)
        self._wait_for(watched)
        hit = self._kill(victim)
        self._outcome.kills += hit > 0
        self._outcome.missed += hit == 0
        self._tell(f"seed {self._seed}, trial {self._number}: killed {victim} while the {watched} was at work")
        if victim not in ROLES:
            self._server.come_back()
        self._check_exports()
        while self._running or self._unfinished():
            self._collect(server_went=victim not in ROLES)
            for role in self._unfinished():
                if role not in self._running:
                    if role == "writer":
                        self._check_rows()
                    self._begin(role)
            time.sleep(0.005)
        self._check_all()

    # Processes ---------------------------------------------------------------------------------------------------------

    @property
    def _upto(self) -> int:
        return BATCHES * (self._number + 1)

    def _names(self) -> list[str]:
        return [f"{role} {self._number}" for role in EXPORTERS]

    def _begin(self, role: str) -> None:
        body, *arguments = {
            "writer": (roles.write, self._url, self._seed, self._upto),
            "back-fill": (roles.compute, self._url, self._upto),
        }.get(role, (roles.take_out, self._url, f"{role} {self._number}", _NOTES[role], roles.days_of(self._upto)))
        process = _processes.Process(target=roles.work, args=(body, self._folder, role, *arguments), daemon=True)
        process.start()
        self._running[role] = process
        self._ended_well.discard(role)
        self._deadlines[role] = time.monotonic() + _END_S

    def _wait_for(self, role: str) -> None:
        """Until it has done some random number of its steps, and a random moment longer."""
        file = self._folder / _NOTES[role]
        goal = len(roles.notes(file)) + self._choice.randrange(_STEPS[role])
        while self._running[role].is_alive() and len(roles.notes(file)) < goal:
            time.sleep(0.001)
        time.sleep(self._choice.random() * 0.06)

    def _kill(self, victim: str) -> int:
        hit = 0
        for role, process in self._running.items():
            if victim in {role, "everything"} and process.is_alive():
                process.kill()
                hit += 1
        if victim in SERVER or victim == "everything":
            hit += self._server.kill(victim if victim in SERVER else "server", self._choice)
        return hit

    def _unfinished(self) -> list[str]:
        return [role for role in ROLES if role not in self._ended_well]

    def _collect(self, *, server_went: bool) -> None:
        """Take note of processes that ended, and of how."""
        for role, process in list(self._running.items()):
            if process.exitcode is None:
                if time.monotonic() > self._deadlines[role]:
                    raise Fault(f"the {role} does not come to its end")
                continue
            del self._running[role]
            if process.exitcode == 0:
                self._ended_well.add(role)
            elif process.exitcode == roles.UNAVAILABLE and server_went:
                self._outcome.retried += 1
            elif process.exitcode != -9:
                error = self._folder / f"{role}.error"
                raise Fault(f"the {role} ended with {process.exitcode}:\n{error.read_text() if error.exists() else ''}")

    # What must hold ----------------------------------------------------------------------------------------------------

    def _connect(self) -> psycopg.Connection[Any]:
        return psycopg.connect(self._url)

    def _check_rows(self) -> None:
        """With the writer dead: every acknowledged batch stands once, and of the next one all or nothing."""
        acknowledged = len(roles.notes(self._folder / "acknowledged"))
        sent = batches(self._seed, self._upto)
        with self._connect() as connection:
            found = stored_rows(connection)
        possible = [expected_rows(sent[:count]) for count in (acknowledged, acknowledged + 1)]
        if found not in possible:
            raise Fault(f"after {acknowledged} acknowledged batches: {_difference(possible[0], found)}")

    def _check_exports(self) -> None:
        """What is to be seen under a name is whole, whatever is still going on."""
        for entry in sorted((self._folder / "sets").iterdir()):
            if entry.name.startswith("."):
                if not entry.name.endswith(".exporting"):
                    raise Fault(f"an unknown hidden entry: {entry.name}")
                continue
            _read_whole(entry)

    def _check_all(self) -> None:
        sent = batches(self._seed, self._upto)
        with self._connect() as connection:
            found, expected = stored_rows(connection), expected_rows(sent)
            if found != expected:
                raise Fault(f"at the end: {_difference(expected, found)}")
            if backfill(connection, roles.SPEC).rows_added:
                raise Fault("the back-fill had not finished although it said so")
            disturbed = feature_rows(connection)
        quiet = go_on_in_quiet(self._quiet, sent[self._quiet_sent :])
        if disturbed != quiet:
            lost, more = Counter(quiet) - Counter(disturbed), Counter(disturbed) - Counter(quiet)
            raise Fault(
                f"the features are not those of an undisturbed run: {lost.total()} rows missing {list(lost)[:3]}, "
                f"{more.total()} too many {list(more)[:3]}"
            )
        self._quiet_sent = len(sent)
        self._outcome.acknowledged = sum(len(batch.adds) for batch in sent)
        self._check_exports()
        names = sorted(entry.name for entry in (self._folder / "sets").iterdir())
        wanted = sorted(f"{role} {trial}" for role in EXPORTERS for trial in range(self._number + 1))
        if names != wanted:
            raise Fault(f"data sets {names} instead of {wanted}")
        for name in self._names():
            self._check_again(self._folder / "sets" / name)

    def _check_again(self, made: Path) -> None:
        """The same export in quiet and in one slice: the same bytes; and it was registered once."""
        manifest, again = _read_whole(made), self._folder / "again"
        shutil.rmtree(again, ignore_errors=True)
        with self._connect() as connection:
            count = connection.execute(
                "SELECT count(*) FROM tapeline.datasets WHERE content_sha256 = %s AND manifest = %s",
                (manifest.content_sha256, Jsonb(manifest.model_dump(mode="json"))),
            ).fetchone()
            connection.rollback()
            rows = roles.entity_rows(roles.days_of(self._upto))
            quiet = export(connection, roles.PLAN, rows, again, as_of_us=manifest.as_of_us)
        if count != (1,):
            raise Fault(f"{made.name} is registered {count} times")
        if quiet.content_sha256 != manifest.content_sha256:
            raise Fault(f"{made.name} has another SHA-256 than the same export in quiet")
        self._outcome.exports += 1


def _read_whole(folder: Path) -> Any:
    try:
        manifest = read_manifest(folder)
        rows = read_data(folder).num_rows
    except Exception as error:
        raise Fault(f"{folder.name} can be seen and cannot be read: {error}") from error
    if rows != manifest.row_count:
        raise Fault(f"{folder.name} has {rows} rows of {manifest.row_count}")
    return manifest


def _difference(expected: dict[Any, Any], found: dict[Any, Any]) -> str:
    lines = []
    for kind, wanted in expected.items():
        lost, more = wanted - found[kind], found[kind] - wanted
        lines.append(f"{kind}: {lost.total()} rows missing {list(lost)[:2]}, {more.total()} too many {list(more)[:2]}")
    return "; ".join(lines)
