"""Asks a venue's history: one request at a time, at its pace, again where that may help."""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from itertools import count
from random import Random

from tapeline.core.errors import LimitError, MissingExtraError, UnavailableError
from tapeline.live.adapters import HttpRequest
from tapeline.live.frames import FrameKind
from tapeline.live.outcome import Ask
from tapeline.live.retrying import Backoff
from tapeline.live.source import LiveSource

try:
    import requests
except ImportError:  # pragma: no cover - the extra is not installed
    raise MissingExtraError("requests", "live") from None

PAUSE_S_MAX = 3_600.0
"""A venue that asks for a longer pause is tried again after this."""
_PIECE_BYTES = 1 << 16
_AGAIN = frozenset({408, 418, 425, 429, 500, 502, 503, 504})
"""Statuses after which the same request may work later; 418 is how Binance calls a ban."""


@dataclass
class FetchCounters:
    """Requests that were answered, tried again, given up; and how long a venue asked to wait, in all."""

    fetched: int = 0
    retried: int = 0
    given_up: int = 0
    paused_s: float = 0.0


class Fetcher:
    """Sends requests; what comes of each goes to ``give``.

    Parameters
    ----------
    source
        The declaration, for its limits.
    give
        Takes a frame's kind, tag and data.
    random
        For pauses.
    counters
        Counted up.
    """

    def __init__(
        self,
        source: LiveSource,
        give: Callable[[FrameKind, str, bytes], None],
        random: Random,
        counters: FetchCounters,
    ) -> None:
        self._source = source
        self._give = give
        self._random = random
        self._headers = source.headers()
        self._waiting: list[tuple[float, int, int, Ask]] = []
        self._numbers = count()
        self._wake = asyncio.Event()
        self._not_before_s = 0.0
        self.counters = counters

    @property
    def waiting(self) -> int:
        """Requests that wait."""
        return len(self._waiting)

    def ask(self, ask: Ask) -> None:
        """Queue a request: books first, then in the order in which they are due."""
        due_s = time.monotonic() + ask.delay_s
        heapq.heappush(self._waiting, (due_s, 0 if ask.urgent else 1, next(self._numbers), ask))
        self._wake.set()

    async def run(self) -> None:
        """Work until cancelled."""
        with requests.Session() as session:
            while True:
                ask = await self._next()
                await self._one(session, ask)
                self._not_before_s = max(self._not_before_s, time.monotonic() + self._source.rest.interval_s)

    async def _next(self) -> Ask:
        while True:
            self._wake.clear()
            now_s = time.monotonic()
            ready = [entry for entry in self._waiting if entry[0] <= now_s]
            if ready and now_s >= self._not_before_s:
                best = min(ready, key=lambda entry: entry[1:3])
                self._waiting.remove(best)
                heapq.heapify(self._waiting)
                return best[3]
            due_s = max(self._waiting[0][0] if self._waiting else now_s + PAUSE_S_MAX, self._not_before_s)
            try:
                async with asyncio.timeout(max(due_s - now_s, 0.001)):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def _one(self, session: requests.Session, ask: Ask) -> None:
        rest = self._source.rest
        backoff = Backoff(rest.retry_s, rest.retry_max_s, self._random)
        for attempt in range(rest.attempts_max):
            pause_s: float | None = None
            try:
                status, pause_s, body = await asyncio.to_thread(self._get, session, ask.request)
            except UnavailableError as error:
                reason = str(error)
            except LimitError as error:
                self._give_up(ask, str(error))
                return
            else:
                if status == 200:
                    self.counters.fetched += 1
                    self._give(FrameKind.fetched, ask.key, body)
                    return
                reason = f"HTTP {status}: {body[:200].decode(errors='replace')}"
                if status not in _AGAIN:
                    self._give_up(ask, reason)
                    return
            if attempt + 1 < rest.attempts_max:
                self.counters.retried += 1
                wait_s = backoff.next_s() if pause_s is None else min(pause_s, PAUSE_S_MAX)
                self.counters.paused_s += wait_s
                await asyncio.sleep(wait_s)
        self._give_up(ask, f"given up after {rest.attempts_max} tries: {reason}")

    def _give_up(self, ask: Ask, reason: str) -> None:
        self.counters.given_up += 1
        self._give(FrameKind.failed, ask.key, reason.encode())

    def _get(self, session: requests.Session, request: HttpRequest) -> tuple[int, float | None, bytes]:
        """Status, the pause that the venue asks for, and the body."""
        timeout_s, bytes_max = self._source.rest.timeout_s, self._source.limits.response_bytes_max
        ends_s = time.monotonic() + timeout_s
        headers = self._headers | dict(request.headers)
        body = bytearray()
        try:
            with session.get(
                request.url, headers=headers, timeout=timeout_s, stream=True, allow_redirects=False
            ) as response:
                for piece in response.iter_content(_PIECE_BYTES):
                    body += piece
                    if len(body) > bytes_max:
                        raise LimitError(f"the answer has more than {bytes_max} bytes", where=_place(request))
                    if time.monotonic() > ends_s:
                        raise UnavailableError(f"the answer takes longer than {timeout_s} s", where=_place(request))
                return response.status_code, seconds_of(response.headers.get("Retry-After")), bytes(body)
        except requests.RequestException as error:
            raise UnavailableError(f"the history does not answer: {error}", where=_place(request)) from None


def _place(request: HttpRequest) -> str:
    return request.url.partition("?")[0]


def seconds_of(header: str | None) -> float | None:
    """Seconds of a ``Retry-After``: a number, or a date."""
    if header is None:
        return None
    if header.strip().isdigit():
        return float(header)
    try:
        moment = parsedate_to_datetime(header)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())
