"""Recordings: what is replayed is what was sent, and no crash makes it something else."""

from __future__ import annotations

import shutil
import time
from contextlib import suppress
from pathlib import Path

import pytest
import redis
from hypothesis import given, settings
from hypothesis import strategies as st
from tapeline.core.errors import ConfigurationError, IntegrityError, ParameterError
from tapeline.live.frames import Frame, FrameKind
from tapeline.live.recorder import Recorder
from tapeline.live.recording import read_recording
from tapeline.live.replaying import replay_recording
from tapeline.live.source import LiveSource, parse_source
from tapeline.streaming.plan import StreamPlan
from tapeline.streaming.producer import Producer

from tests.live.venue import Faults
from tests.live.world import (
    SYMBOLS,
    Listener,
    Row,
    expected,
    make_source,
    make_venue,
    places,
    sent_rows,
    truth_of_trades,
    without_available,
)


@pytest.mark.parametrize("adapter", ["binance", "kraken"])
def test_a_replay_sends_what_the_run_sent_bit_for_bit(
    database: str, redis_url: str, tmp_path: Path, adapter: str
) -> None:
    faults = Faults()
    venue = make_venue(adapter, 400, seed=8, faults=faults)
    faults.drop.add(places(venue, "trade", 60))
    faults.skip.update({places(venue, "trade", 120, pair=True), places(venue, "book", 200, pair=True)})
    faults.garbage.add(places(venue, "book", 280))
    faults.twice.update(range(300, 320))
    with venue.running(expected(adapter)):
        source = make_source(adapter, venue)
        with Listener(source, database, redis_url, record=tmp_path) as listener:
            trades = len(truth_of_trades(venue, SYMBOLS[adapter]))
            listener.until(lambda: venue.done.is_set() and listener.runner.seen.trades >= trades)
            listener.end()
            assert listener.error is None
            sent = sent_rows(listener.client, listener.plan)
            seen = listener.runner.seen
    [recording] = read_recording(tmp_path)
    plan = StreamPlan("again", "again", 3, project="test")
    with redis.Redis.from_url(redis_url) as client:
        producer = Producer(client, plan)
        done = replay_recording(
            recording, send=lambda outcome: [producer.send(events) for events in outcome.batches()] and None
        )
        assert sent_rows(client, plan) == sent
    assert done.counters == seen
    assert len(sent["trades"]) == trades
    assert done.sha256 == replay_recording(recording, speed=1e6).sha256
    assert {gap.reason.value for gap in done.gaps} >= {"sequence", "disconnect"}


def _source(name: str = "x") -> LiveSource:
    return parse_source({"name": name, "source": "x", "adapter": "binance", "symbols": {"A": "a"}}, "here")


def _frames(count: int, size: int = 40) -> list[Frame]:
    kinds = list(FrameKind)
    return [
        Frame(kinds[number % len(kinds)], 1_000 + number, bytes([number % 251]) * (number % size), f"tag{number % 3}")
        for number in range(count)
    ]


def _record(folder: Path, frames: list[Frame], *, run_us: int = 7, every: int = 5, **limits: int) -> None:
    recorder = Recorder(folder, _source(), run_us, **limits)
    for number, frame in enumerate(frames):
        recorder.append(frame)
        if number % every == every - 1:
            recorder.flush()
    recorder.close()


@settings(max_examples=60)
@given(st.data())
def test_a_file_cut_anywhere_gives_the_frames_before_the_cut(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("cut")
    frames = _frames(60)
    _record(folder, frames)
    [path] = folder.iterdir()
    whole = path.read_bytes()
    cut = data.draw(st.integers(0, len(whole) - 1))
    zeros = data.draw(st.integers(0, 64))
    path.write_bytes(whole[:cut] + bytes(zeros))
    runs = read_recording(folder) if cut >= 9 or not zeros else []  # half a magic number and zeros may be anything
    found = [frame for run in runs for frame in run.frames()]
    assert found == frames[: len(found)]
    assert len(found) % 5 == 0
    if runs:
        assert len(found) < len(frames)
        assert runs[0].torn_bytes <= len(whole)
    shutil.rmtree(folder)


@settings(max_examples=120)
@given(st.data())
def test_damage_is_found_or_leaves_a_beginning(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.mktemp("damage")
    frames = _frames(40)
    _record(folder, frames)
    [path] = folder.iterdir()
    spoiled = bytearray(path.read_bytes())
    spoiled[data.draw(st.integers(0, len(spoiled) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(spoiled)
    found: list[Frame] = []
    with suppress(IntegrityError):
        for run in read_recording(folder):
            found.extend(run.frames())
    assert found == frames[: len(found)]
    shutil.rmtree(folder)


def test_a_run_goes_on_in_the_next_file_and_a_missing_one_is_noticed(tmp_path: Path) -> None:
    frames = _frames(3_000, size=250)
    _record(tmp_path, frames, file_bytes=4_000, every=40)
    files = sorted(tmp_path.iterdir())
    assert len(files) > 5
    assert all(path.stat().st_size < 12_000 for path in files)
    [run] = read_recording(files[0])
    assert list(run.frames()) == frames
    with pytest.raises(ConfigurationError, match="from its first file on"):
        read_recording(files[1])
    files[2].unlink()
    with pytest.raises(IntegrityError, match="a file of the run is missing"):
        read_recording(tmp_path)


def test_old_runs_make_room_and_the_present_one_stays(tmp_path: Path) -> None:
    frames = _frames(400, size=250)
    for run_us in (1, 2, 3, 4):
        _record(tmp_path, frames, run_us=run_us, keep_bytes=10_000)
    kept = [run.run_us for run in read_recording(tmp_path)]
    assert kept[-1] == 4
    assert 1 not in kept
    recorder = Recorder(tmp_path, _source(), 5, keep_bytes=2_000)
    assert not recorder.is_full
    for frame in frames:
        recorder.append(frame)
    recorder.flush()
    assert recorder.is_full
    recorder.close()
    other = Recorder(tmp_path, _source("y"), 6, keep_bytes=1)
    other.close()
    assert 5 in [run.run_us for run in read_recording(tmp_path)]  # another source's are left alone


def test_a_full_recording_begins_a_new_run_that_goes_on(database: str, redis_url: str, tmp_path: Path) -> None:
    venue = make_venue("binance", 1_200, seed=4)
    with venue.running(expected("binance")):
        source = make_source("binance", venue)
        with Listener(source, database, redis_url, record=tmp_path, keep_bytes=24_000) as listener:
            truth = truth_of_trades(venue, SYMBOLS["binance"])

            def heard() -> list[Row]:
                return without_available(sent_rows(listener.client, listener.plan).get("trades", []))

            def whole() -> bool:
                """Whether nothing is missing before each symbol's last one: this venue plays on while nobody listens."""
                rows = heard()
                last = {row[0]: row[2] for row in rows}
                return venue.done.is_set() and rows == [row for row in truth if row[2] <= last.get(row[0], -1)]

            listener.until(whole)
            listener.end()
            assert listener.error is None
            assert listener.runner.counters.runs > 1
            assert len(heard()) > len(truth) / 2
    runs = read_recording(tmp_path)
    assert sum(path.stat().st_size for run in runs for path in run.paths) < 60_000
    assert [next(run.frames()).kind for run in runs] == [FrameKind.start] * len(runs)
    assert all(replay_recording(run).counters.refused == 0 for run in runs)


def test_a_replay_keeps_the_pace(tmp_path: Path) -> None:
    frames = [Frame(FrameKind.opened, 0), Frame(FrameKind.closed, 400_000)]
    _record(tmp_path, frames)
    [run] = read_recording(tmp_path)
    began_s = time.monotonic()
    replay_recording(run, speed=2.0)
    assert 0.2 <= time.monotonic() - began_s < 5
    with pytest.raises(ParameterError, match="speed is -1"):
        replay_recording(run, speed=-1)


def test_what_is_no_recording_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no recording"):
        read_recording(tmp_path)
    path = tmp_path / "x-0000000000000001-0000.tlrec"
    path.write_bytes(b"something else entirely")
    with pytest.raises(IntegrityError, match="no recording"):
        read_recording(path)
