"""Turns whose work is done in parts by other sessions: who waits for whom, whoever dies."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import psycopg
import pytest
from tapeline.core.errors import ConfigurationError, ParameterError, UnavailableError
from tapeline.storage.turns import Turn, part_of_turn, shared_turn, turn


@pytest.fixture
def sessions(database: str) -> Iterator[list[psycopg.Connection]]:
    with ExitStack() as stack:
        yield [stack.enter_context(psycopg.connect(database)) for _ in range(4)]


class Doer(threading.Thread):
    """Enters a block on another thread and stays there until it is told to leave."""

    def __init__(self, block) -> None:
        super().__init__(daemon=True)
        self._block = block
        self.inside, self.leave = threading.Event(), threading.Event()
        self.raised: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            with self._block:
                self.inside.set()
                self.leave.wait(30)
        except BaseException as error:  # noqa: BLE001 - told by done()
            self.raised = error

    def done(self) -> BaseException | None:
        self.leave.set()
        self.join(30)
        assert not self.is_alive()
        return self.raised


@contextmanager
def watched(database: str, waiting: psycopg.Connection) -> Iterator[None]:
    """The block begins when the session waits for a lock."""
    pid = waiting.info.backend_pid
    deadline = time.monotonic() + 20
    with psycopg.connect(database, autocommit=True) as watch:
        while watch.execute(
            "SELECT wait_event FROM pg_stat_activity WHERE pid = %s AND state = 'active'", (pid,)
        ).fetchone() != ("advisory",):
            assert time.monotonic() < deadline, "the session does not wait"
            time.sleep(0.01)
        yield


def test_parts_are_done_side_by_side_under_a_turn_that_others_wait_for(
    database: str, sessions: list[psycopg.Connection]
) -> None:
    holder, first, second, other = sessions
    with shared_turn(holder, "t") as held:
        doers = [Doer(part_of_turn(first, held, 1)), Doer(part_of_turn(second, held, 2))]
        assert all(doer.inside.wait(10) for doer in doers)
        waiting = Doer(turn(other, "t"))
        with watched(database, other):
            assert not waiting.inside.is_set()
        assert [doer.done() for doer in doers] == [None, None]
        assert not waiting.inside.is_set()  # the holder still has it
    assert waiting.inside.wait(10)
    assert waiting.done() is None


def test_one_part_is_done_by_one_at_a_time(database: str, sessions: list[psycopg.Connection]) -> None:
    holder, first, second, _ = sessions
    with shared_turn(holder, "t") as held:
        doer = Doer(part_of_turn(first, held, 1))
        assert doer.inside.wait(10)
        again = Doer(part_of_turn(second, held, 1))
        with watched(database, second):
            assert not again.inside.is_set()
        assert doer.done() is None
        assert again.inside.wait(10)
        assert again.done() is None


def test_the_next_holder_waits_for_the_parts_of_one_that_died(
    database: str, sessions: list[psycopg.Connection]
) -> None:
    holder, first, second, other = sessions
    with ExitStack() as stack:
        held = stack.enter_context(shared_turn(holder, "t"))
        doer = Doer(part_of_turn(first, held, 1))
        assert doer.inside.wait(10)
        holder.close()
        follower = Doer(shared_turn(other, "t"))
        with watched(database, other):
            assert not follower.inside.is_set()
        late = Doer(part_of_turn(second, held, 2))  # begins only now, and must not
        assert doer.done() is None
        assert isinstance(late.done(), UnavailableError)
        assert not late.inside.is_set()
        assert follower.inside.wait(10)
        assert follower.done() is None


def test_a_part_of_another_database_or_of_no_turn_is_refused(
    empty_database: str, sessions: list[psycopg.Connection]
) -> None:
    holder, first, *_ = sessions
    with shared_turn(holder, "t") as held:
        with psycopg.connect(empty_database) as elsewhere, pytest.raises(ConfigurationError, match="another database"):
            part_of_turn(elsewhere, held, 1).__enter__()
        with pytest.raises(ParameterError, match="number 0"):
            part_of_turn(first, held, 0).__enter__()
    with pytest.raises(UnavailableError, match="not held any more"):
        part_of_turn(first, held, 1).__enter__()
    with pytest.raises(UnavailableError, match="not held any more"):
        part_of_turn(first, Turn("other", held.token, held.database), 1).__enter__()
    row = holder.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'").fetchone()
    assert row == (0,)  # nobody left a lock behind


def test_a_part_that_fails_leaves_no_lock(sessions: list[psycopg.Connection]) -> None:
    holder, first, second, _ = sessions
    with shared_turn(holder, "t") as held:
        with pytest.raises(psycopg.errors.DivisionByZero), part_of_turn(first, held, 7), first.transaction():
            first.execute("SELECT 1 / 0")
        with part_of_turn(second, held, 7):
            pass
