"""One seed: a fresh database and stream, and kills upon them one after another; then everything is compared."""

from __future__ import annotations

import multiprocessing
import random
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

import psycopg
import redis
from tapeline.storage.servers.options import ServerOptions
from tapeline.storage.servers.valkey_server import running_valkey, start_valkey
from tapeline.streaming.leases import groups_of

from tests.crash.world import Server
from tests.streaming.kills import roles
from tests.streaming.world import add_source, raw_rows, require_same

KILLS = 5
"""Of one seed."""
WORKERS = ("worker 1", "worker 2")
POSTGRES = ("postmaster", "server process", "server")
VICTIMS = (*WORKERS, "producer", "Redis", *POSTGRES, "everything")
_END_S = 120.0

_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(["tests.streaming.kills.roles"])


class Fault(AssertionError):
    """Something that must hold after a kill does not."""


@dataclass
class Outcome:
    """What the trials of one seed came to: kills that hit, events acknowledged, feature values compared."""

    kills: int = 0
    missed: int = 0
    events: int = 0
    values: int = 0


class Servers(Server):
    """PostgreSQL and Valkey, each of which may be killed."""

    def start(self) -> None:
        """Start both; after a kill this is the recovery."""
        super().start()
        self.start_redis()

    def start_redis(self) -> None:
        """Start Valkey, if it does not run."""
        if running_valkey(self.place) is None:
            start_valkey(self.place, ServerOptions(die_with_parent=True))

    @property
    def redis_url(self) -> str:
        """Where Valkey is."""
        return f"unix://{self.place.valkey_socket}?db=0"

    def kill_redis(self) -> int:
        """SIGKILL to Valkey."""
        running = running_valkey(self.place)
        if running is None:
            return 0
        running.stop(9, timeout_s=10.0)
        return 1


class Trials:
    """The trials of one seed.

    Parameters
    ----------
    servers
        Theirs alone.
    seed
        All that is random follows from it, but not how fast the machine is.
    folder
        For notes; emptied first.
    tell
        Given a line for each kill.
    """

    def __init__(self, servers: Servers, seed: int, folder: Path, tell: Callable[[str], None] = lambda _: None) -> None:
        self._servers, self._seed, self._folder, self._tell = servers, seed, folder, tell
        self._choice = random.Random(seed)
        self._running: dict[str, BaseProcess] = {}
        self._upto = 0
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)

    def run(self, kills: int = KILLS) -> Outcome:
        """All trials of the seed.

        Raises
        ------
        Fault
            If an acknowledged event is lost or doubled, or stream, tables, online store and a back-fill differ.
        """
        outcome = Outcome()
        with self._servers.databases(self._seed) as (self._url, _):
            with redis.Redis.from_url(self._servers.redis_url) as client:
                client.flushall()
            with psycopg.connect(self._url) as connection:
                add_source(connection)
            try:
                for number in range(kills):
                    self._upto += roles.EVENTS
                    for role in (*WORKERS, "producer"):
                        self._begin(role)
                    victim = self._choice.choice(VICTIMS)
                    time.sleep(self._choice.random() * 0.8)
                    hit = self._kill(victim)
                    outcome.kills += hit > 0
                    outcome.missed += hit == 0
                    self._tell(f"seed {self._seed}, trial {number}: killed {victim}")
                    self._recover()
                outcome.events = self._upto
                self._end()
                outcome.values = self._check()
            finally:
                for process in self._running.values():
                    process.kill()
                    process.join()
        return outcome

    def _begin(self, role: str) -> None:
        running = self._running.get(role)
        if running is not None and running.is_alive():
            return
        if running is not None and running.exitcode not in {0, -9}:
            raise Fault(f"the {role} ended with {running.exitcode}:\n{self._error(role)}")
        if role == "producer":
            body, arguments = roles.produce, (self._folder, self._servers.redis_url, self._seed, self._upto)
        else:
            body, arguments = roles.work, (self._url, self._servers.redis_url)
        target = (body, self._folder / f"{role}.error", *arguments)
        self._running[role] = process = _processes.Process(target=roles.guarded, args=target, daemon=True)
        process.start()

    def _error(self, role: str) -> str:
        file = self._folder / f"{role}.error"
        return file.read_text() if file.exists() else ""

    def _kill(self, victim: str) -> int:
        hit = 0
        for role, process in self._running.items():
            if victim in {role, "everything"} and process.is_alive():
                process.kill()
                process.join()
                hit += 1
        if victim in {"Redis", "everything"}:
            hit += self._servers.kill_redis()
        if victim in POSTGRES or victim == "everything":
            hit += self._servers.kill(victim if victim in POSTGRES else "server", self._choice)
        return hit

    def _recover(self) -> None:
        """What was killed comes back, and the producer comes to its end."""
        self._servers.start_redis()
        self._servers.come_back()
        deadline = time.monotonic() + _END_S
        while roles.acknowledged(self._folder) < self._upto:
            for role in (*WORKERS, "producer"):
                self._begin(role)
            if time.monotonic() > deadline:
                raise Fault(
                    f"the producer does not come to its end: {roles.acknowledged(self._folder)} of {self._upto}"
                )
            time.sleep(0.01)
        self._running["producer"].join()

    def _end(self) -> None:
        """Workers take what waits, and end."""
        deadline = time.monotonic() + _END_S
        with redis.Redis.from_url(self._servers.redis_url) as client:
            while self._waiting(client):
                for role in WORKERS:
                    self._begin(role)
                if time.monotonic() > deadline:
                    raise Fault(f"{self._waiting(client)} entries are still waiting")
                time.sleep(0.02)
        for role in WORKERS:
            process = self._running[role]
            process.terminate()
            process.join(_END_S)
            if process.exitcode not in {0, -15}:
                raise Fault(f"{role} ended with {process.exitcode}:\n{self._error(role)}")

    def _waiting(self, client: redis.Redis) -> int:
        stream, waiting = roles.stream(), 0
        for partition in range(stream.partitions):
            groups = groups_of(client, stream.events_key(partition))
            if not groups:
                return 1
            waiting += sum(group["pending"] + (1 if group["lag"] is None else group["lag"]) for group in groups)
        return waiting

    def _check(self) -> int:
        events = roles.tape(self._seed)
        stream = roles.stream()
        wanted = set()
        for record in events.records[: self._upto]:
            if record["change"] == 0:
                wanted.add((events.symbols[int(record["symbol"])], int(record["event_us"]), int(record["sequence"])))
        with psycopg.connect(self._url) as connection, redis.Redis.from_url(self._servers.redis_url) as client:
            rows = raw_rows(connection)
            found = {(row[0], round(row[1].timestamp() * 1e6), row[2]) for row in rows}
            if found != wanted:
                raise Fault(
                    f"{len(wanted - found)} acknowledged events are missing, {len(found - wanted)} are too many"
                )
            if len(rows) != len(set(rows)):
                raise Fault(f"{len(rows) - len(set(rows))} rows stand there twice")
            if client.xlen(stream.shared_key("dead")):
                raise Fault("events are among the dead letters")
            # What a killed worker had not written is computed by the one after it: a last one takes what is left.
            return require_same(connection, client, stream)
