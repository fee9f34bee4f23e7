"""The gate that every block of rows passes on its way into a view's table."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg

from tapeline.core.clock import LiveClock
from tapeline.core.errors import QualityError
from tapeline.core.settings import Settings, get_settings
from tapeline.quality.block import Block
from tapeline.quality.definition import QualityDefinition, definition_of, is_overridden
from tapeline.quality.score import Assessment, assess
from tapeline.quality.tables import mark_stale, record

logger = logging.getLogger("tapeline.quality")


@dataclass(frozen=True)
class Judgement:
    """What the gate says of a block that may be written: its score, and what to tell of it, a sentence each."""

    score: float = 1.0
    warnings: tuple[str, ...] = ()


class RefusedBlockError(QualityError):
    """A refusal on its way out of the transaction that it ends."""

    def __init__(self, assessment: Assessment) -> None:
        error = assessment.as_error()
        super().__init__(error.what, where=error.where, remedy=error.remedy)
        self.assessment = assessment


def judge(
    cursor: psycopg.Cursor[Any],
    block: Block,
    *,
    statistics: bool = True,
    settings: Settings | None = None,
    definition: QualityDefinition | None = None,
) -> Judgement:
    """Judge a block in the transaction that is to write it, and record its score there.

    Parameters
    ----------
    cursor
        Inside the transaction, before or after the rows are copied. If the block is refused, the error ends it.
    block
        The rows; nothing happens if it is empty.
    statistics
        Whether the view keeps daily statistics, whose days are to be computed again.
    settings
        With thresholds and overrides; the process's if not given.
    definition
        What to judge by; that of the view version if not given.

    Returns
    -------
    Judgement
        Its score, and what to tell of it, which is logged, too.

    Raises
    ------
    QualityError
        If a rule or the score refuses it. Call it within :func:`refusals_recorded`, which keeps a record of that.
    ConfigurationError
        If the view's own rules cannot be tried.
    """
    if len(block) == 0:
        return Judgement()
    definition = definition or definition_of(block.view, block.version, settings)
    assessment = assess(block, definition, LiveClock().now_us())
    verdict = assessment.verdict(overridden=is_overridden(block.view, block.version, settings or get_settings()))
    if verdict == "blocked":
        raise RefusedBlockError(assessment)
    record(cursor, assessment, verdict)
    if statistics:
        mark_stale(cursor, block)
    told = tuple(assessment.warnings())
    for sentence in told:
        logger.warning("%s", sentence)
    return Judgement(assessment.score, told)


@contextmanager
def refusals_recorded(connection: psycopg.Connection[Any] | Callable[[], psycopg.Connection[Any]]) -> Iterator[None]:
    """Record a refusal in a transaction of its own, after the one that it ended; goes around that one.

    Parameters
    ----------
    connection
        Idle once the refused transaction is rolled back; or what opens one.
    """
    try:
        yield
    except RefusedBlockError as refused:
        if callable(connection):
            with connection() as opened, opened.cursor() as cursor:
                record(cursor, refused.assessment, "blocked")
        else:
            with connection.transaction(), connection.cursor() as cursor:
                record(cursor, refused.assessment, "blocked")
        raise refused.assessment.as_error() from None
