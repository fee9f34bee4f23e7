"""The direct reader: many entities × views in one round trip, as one matrix. No Feast, and nothing of pandas or Arrow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from redis import Redis

from tapeline.core.errors import ParameterError, UnknownNameError
from tapeline.kernels import packed_values as loops
from tapeline.storage.keys import view_prefix
from tapeline.storage.multi_get import MultiGet
from tapeline.storage.packed import INTEGER_KINDS, Found, Layout, damage

Entities = Sequence[bytes] | Mapping[str, Sequence[bytes]]


class OnlineMatrix(NamedTuple):
    """What a read gave for N entities, V views and F features.

    Attributes
    ----------
    names
        ``view:feature`` of each column.
    values
        float64 (N, F): whole numbers and booleans converted; NaN unless ``PRESENT`` (a present value may be NaN, too: a
        kernel that has not warmed up).
    statuses
        uint8 (N, F): a ``FieldStatus`` each.
    times
        int64 (N, V, 4): event, sequence, available and created of each view's row, as in ``RowTimes``, microseconds;
        ``UNKNOWN`` where there is no row.
    """

    names: tuple[str, ...]
    values: NDArray[np.float64]
    statuses: NDArray[np.uint8]
    times: NDArray[np.int64]

    @property
    def event_us(self) -> NDArray[np.int64]:
        """int64 (N, V): event time of each row."""
        return self.times[:, :, 0]

    @property
    def available_us(self) -> NDArray[np.int64]:
        """int64 (N, V): available time of each row."""
        return self.times[:, :, 2]


class ReadPlan:
    """Which features of which views make a matrix, worked out once.

    Parameters
    ----------
    project
        The project whose keys are read.
    layouts
        One layout a view; values of any other layout are refused.
    features
        Pairs of view name and feature, in the order of the matrix's columns; none: all numbers of all views.
    ttls_us
        One TTL a view, microseconds, 0 for none; left out: none has any.

    Raises
    ------
    UnknownNameError
        If there is no such view or feature.
    ParameterError
        If a view occurs twice, a feature is no number, or the TTLs do not fit.
    """

    def __init__(
        self,
        project: str,
        layouts: Sequence[Layout],
        features: Sequence[tuple[str, str]] | None = None,
        ttls_us: Sequence[int] | None = None,
    ) -> None:
        ttls = tuple(ttls_us) if ttls_us is not None else (0,) * len(layouts)
        if len(ttls) != len(layouts):
            raise ParameterError(f"{len(ttls)} TTLs do not fit {len(layouts)} layouts")
        by_name = {layout.view: layout for layout in layouts}
        if len(by_name) != len(layouts):
            raise ParameterError("a view occurs twice", remedy="Read its versions with a plan each")
        if features is None:
            features = [(a.view, a.columns[column].name) for a in layouts for column in a.slots]
        wanted: dict[str, list[tuple[int, int]]] = {layout.view: [] for layout in layouts}
        for place, (view, feature) in enumerate(features):
            wanted.get(view, []).append((_number(by_name, view, feature), place))
        self.names = tuple(f"{view}:{feature}" for view, feature in features)
        self._layouts = tuple(layouts)
        self._prefixes = tuple(view_prefix(project, layout.view, layout.version) for layout in layouts)
        self._tables = _tables(layouts, ttls, wanted)

    def keys(self, entities: Entities) -> list[bytes]:
        """The keys to fetch, view by view.

        Parameters
        ----------
        entities
            Entity parts of the keys (see ``storage.keys.entity_key``), the same for all views; or, by view name, a list of
            equal length for each: views of different entities are then read row by row beside each other.

        Raises
        ------
        ParameterError
            If the lists are of unequal length or one is missing.
        """
        if not isinstance(entities, Mapping):
            return [prefix + entity for prefix in self._prefixes for entity in entities]
        lists = [entities.get(layout.view) for layout in self._layouts]
        if any(one is None for one in lists) or len({len(one) for one in lists if one is not None}) > 1:
            raise ParameterError("every view needs a list of entities, all of one length")
        return [prefix + entity for prefix, one in zip(self._prefixes, lists, strict=True) for entity in one or ()]

    def decode(
        self, values: Sequence[bytes | None], *, now_us: int | None = None, hide_future: bool = False
    ) -> OnlineMatrix:
        """What ``MGET`` of ``keys`` returned, as a matrix: for a caller with a connection of its own.

        Parameters
        ----------
        now_us, hide_future
            See ``row_statuses``.

        Raises
        ------
        IntegrityError
            If a value is damaged or of another layout.
        ParameterError
            If there are not as many values of each view.
        """
        return self.matrix(Found.of(values), now_us=now_us, hide_future=hide_future)

    def matrix(self, found: Found, *, now_us: int | None = None, hide_future: bool = False) -> OnlineMatrix:
        """``decode`` of values that lie in one piece of memory."""
        count, rest = divmod(len(found.starts), max(len(self._layouts), 1))
        if rest:
            raise ParameterError(f"{len(found.starts)} values do not fit {len(self._layouts)} views")
        values = np.empty((count, len(self.names)), dtype=np.float64)
        statuses = np.empty((count, len(self.names)), dtype=np.uint8)
        times = np.empty((count, len(self._layouts), 4), dtype=np.int64)
        clock = (0, 0, 0) if now_us is None else (1, now_us, hide_future)
        wrong = loops.read_matrix(*found, *self._tables, *clock, values, statuses, times)
        if wrong >= 0:
            view = wrong // count
            raise damage(self._layouts[view], found.at(slice(view * count, view * count + count)), wrong % count)
        return OnlineMatrix(self.names, values, statuses, times)


def _number(known: Mapping[str, Layout], view: str, feature: str) -> int:
    """Column of a feature that is a number."""
    if view not in known:
        raise UnknownNameError("feature view", view, known)
    layout = known[view]
    if feature not in layout.index:
        raise UnknownNameError("feature", feature, layout.index, where=layout.label)
    if layout.index[feature] not in layout.slots:
        raise ParameterError(
            f"feature {feature!r} is no number",
            where=layout.label,
            remedy="Read it with decode_many, or through Feast",
        )
    return layout.index[feature]


def _tables(
    layouts: Sequence[Layout], ttls_us: Sequence[int], wanted: Mapping[str, Sequence[tuple[int, int]]]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """What ``read_matrix`` knows of views, of features, and of the columns in their tails."""
    views = np.zeros((len(layouts), loops.VIEW_SIZE), dtype=np.int64)
    picks: list[tuple[int, int, int, bool]] = []
    tails: list[int] = []
    for number, (layout, ttl_us) in enumerate(zip(layouts, ttls_us, strict=True)):
        slot_of = {column: slot for slot, column in enumerate(layout.slots)}
        begins = len(picks), len(tails)
        picks += [
            (slot_of[column], column, place, layout.columns[column].kind in INTEGER_KINDS)
            for column, place in wanted[layout.view]
        ]
        tails += layout.tails
        views[number, [loops.EXPECTED, loops.COLUMNS, loops.SLOTS, loops.TTL_US]] = (
            layout.expected, len(layout.columns), len(layout.slots), ttl_us,
        )  # fmt: skip
        views[number, [loops.PICK, loops.TAIL]] = begins
        views[number, [loops.PICK_END, loops.TAIL_END]] = len(picks), len(tails)
        run = np.array(picks[begins[0] :], dtype=np.int64).reshape(-1, loops.PICK_SIZE)
        steps = np.diff(run[:, [loops.SLOT, loops.PLACE]], axis=0)
        views[number, loops.IS_RUN] = len(run) > 0 and bool((steps == 1).all()) and not run[:, loops.IS_INTEGER].any()
    return (
        views,
        np.array(picks, dtype=np.int64).reshape(len(picks), loops.PICK_SIZE),
        np.array(tails, dtype=np.int64),
    )


class OnlineReader:
    """Reads a plan's features for some entities in one round trip. Safe to share between threads.

    Parameters
    ----------
    redis
        A client of ``storage.redis.connect_redis``: one server, under Sentinel, or a cluster.
    plan
        What to read.
    """

    def __init__(self, redis: Redis, plan: ReadPlan) -> None:
        self.plan = plan
        self._mget = MultiGet(redis)

    def read(self, entities: Entities, *, now_us: int | None = None, hide_future: bool = False) -> OnlineMatrix:
        """Fetch and decode.

        Parameters
        ----------
        entities
            See ``ReadPlan.keys``.
        now_us
            The clock's moment, by which TTLs and availability are judged; none: they are not.
        hide_future
            On a replayed clock: rows of after ``now_us`` are ``NOT_FOUND``.

        Raises
        ------
        UnavailableError
            If the server cannot be reached, or does not answer in time.
        IntegrityError
            If a value is damaged or of another layout.
        """
        return self.plan.matrix(self._mget(self.plan.keys(entities)), now_us=now_us, hide_future=hide_future)

    def close(self) -> None:
        """Close this thread's connections."""
        self._mget.close()
