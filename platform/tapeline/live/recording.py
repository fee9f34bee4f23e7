"""Recordings: every frame of a run in files that a crash cannot spoil.

A run is a sequence of files ``NAME-RUN-NNNN.tlrec``. Each begins with a head and goes on in blocks that stand for themselves, all
little-endian::

    head:  "TLRC" · version u8 · length u32 · CRC-32 u32 · JSON (name, run, part, source)
    block: "TLBK" · bytes u32 · packed bytes u32 · frames u32 · CRC-32 u32 of all of the block but itself · zstd
    frame: kind u8 · tag bytes u16 · data bytes u32 · receive i64 · tag · data

A block is written by one call, so a crash leaves at most the last one torn; a reader leaves that out and says so. Damage anywhere
before it is an error: a recording with a hole would replay to something else.
"""

from __future__ import annotations

import json
import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

from tapeline.core.errors import ConfigurationError, IntegrityError
from tapeline.live.frames import Frame, FrameKind
from tapeline.live.source import LiveSource, parse_source

BLOCK_BYTES_MAX = 1 << 29
HEAD = struct.Struct("<4sBII")
BLOCK = struct.Struct("<4sIIII")
FRAME = struct.Struct("<BHIq")
HEAD_MAGIC, BLOCK_MAGIC, VERSION = b"TLRC", b"TLBK", 1
_HEAD_BYTES_MAX = 1 << 20
NAME = re.compile(r"(?P<name>[a-z][a-z0-9_-]{0,47})-(?P<run>[0-9]{16})-(?P<part>[0-9]{4})\.tlrec")


def block_checksum(raw_bytes: int, packed: bytes, count: int) -> int:
    """CRC-32 of a block."""
    return zlib.crc32(packed, zlib.crc32(BLOCK.pack(BLOCK_MAGIC, raw_bytes, len(packed), count, 0)))


def zstd() -> Any:
    """What packs blocks."""
    return pa.Codec("zstd", compression_level=3)


@dataclass
class Recording:
    """A run that was recorded.

    Attributes
    ----------
    source
        What was listened to.
    run_us
        When it began.
    paths
        Its files in order.
    torn_bytes
        Bytes of a last block that a crash left unfinished; known when the frames were read.
    """

    source: LiveSource
    run_us: int
    paths: list[Path]
    torn_bytes: int = 0

    def frames(self) -> Iterator[Frame]:
        """Its frames in order.

        Raises
        ------
        IntegrityError
            If a file is damaged before its end.
        """
        codec = zstd()
        for place, path in enumerate(self.paths):
            with path.open("rb") as file:
                _read_head(file, path)
                size = path.stat().st_size
                while file.tell() < size:
                    at = file.tell()
                    raw = _read_block(file, path, size, codec)
                    if raw is None:
                        if place + 1 < len(self.paths):
                            raise _damaged(path, at, "its last block is unfinished, and another file follows it")
                        self.torn_bytes = size - at
                        return
                    yield from _frames(raw[0], raw[1], path, at)


def read_recording(path: Path) -> list[Recording]:
    """The runs of a folder, or the run of which a file is the first one.

    Raises
    ------
    ConfigurationError
        If there is nothing of the kind.
    IntegrityError
        If a head is damaged or a file of a run is missing.
    """
    files = sorted(path.glob("*.tlrec")) if path.is_dir() else [path]
    if not path.exists() or not files:
        raise ConfigurationError("there is no recording", where=str(path))
    if not path.is_dir():
        match = NAME.fullmatch(path.name)
        if match is None or match["part"] != "0000":
            raise ConfigurationError(
                "a run is replayed from its first file on",
                where=str(path),
                remedy="Give the file that ends in -0000.tlrec",
            )
        files = sorted(path.parent.glob(f"{match['name']}-{match['run']}-*.tlrec"))
    runs: dict[tuple[int, str], list[tuple[int, Path, Any]]] = {}
    for each in files:
        with each.open("rb") as file:
            head = _read_head(file, each)
        if head is None:
            continue
        runs.setdefault((head["run"], head["name"]), []).append((head["part"], each, head))
    found = []
    for (run, _), parts in sorted(runs.items()):
        numbers = [part for part, _, _ in parts]
        if numbers != list(range(len(parts))):
            raise IntegrityError(f"a file of the run is missing: there are {numbers}", where=str(parts[0][1]))
        source = parse_source(parts[0][2]["source"], str(parts[0][1]))
        found.append(Recording(source, run, [each for _, each, _ in parts]))
    return found


def _read_head(file: IO[bytes], path: Path) -> Any:
    """What the head says; none if the process was killed before it stood."""
    data = file.read(HEAD.size)
    if not any(data) or (len(data) < HEAD.size and HEAD_MAGIC.startswith(data[:4])):
        return None
    if data[:4] != HEAD_MAGIC:
        raise IntegrityError("the file is no recording", where=str(path))
    _, version, length, checksum = HEAD.unpack(data)
    if version != VERSION:
        raise IntegrityError(
            f"recordings of version {version} are unknown, this program reads {VERSION}", where=str(path)
        )
    body = file.read(length) if length <= _HEAD_BYTES_MAX else b""
    if len(body) != length or zlib.crc32(body) != checksum:
        if not _another_follows(file, 0):
            return None
        raise IntegrityError("the head of the recording is damaged", where=str(path))
    return json.loads(body)


def _read_block(file: IO[bytes], path: Path, size: int, codec: Any) -> tuple[bytes, int] | None:
    """Bytes of a block and its number of frames; none if it is the last one and unfinished."""
    at = file.tell()
    data = file.read(BLOCK.size)
    if len(data) < BLOCK.size:
        return None
    magic, raw_bytes, packed_bytes, count, checksum = BLOCK.unpack(data)
    end = at + BLOCK.size + packed_bytes
    packed = file.read(packed_bytes) if magic == BLOCK_MAGIC and end <= size else b""
    if magic != BLOCK_MAGIC or end > size or block_checksum(raw_bytes, packed, count) != checksum:
        if not _another_follows(file, at):
            return None
        raise _damaged(path, at, "a block's checksum differs")
    if raw_bytes > BLOCK_BYTES_MAX:
        raise _damaged(path, at, f"a block of {raw_bytes} bytes")
    try:
        return codec.decompress(packed, decompressed_size=raw_bytes, asbytes=True), count
    except (OSError, pa.ArrowException) as error:
        raise _damaged(path, at, str(error)) from None


def _another_follows(file: IO[bytes], at: int) -> bool:
    """Whether a whole block stands behind this place: then what is wrong there is damage, and no crash left it."""
    file.seek(at)
    rest = file.read()
    place = rest.find(BLOCK_MAGIC, 1)
    while 0 <= place <= len(rest) - BLOCK.size:
        _, raw_bytes, packed_bytes, count, checksum = BLOCK.unpack_from(rest, place)
        packed = rest[place + BLOCK.size : place + BLOCK.size + packed_bytes]
        if len(packed) == packed_bytes and block_checksum(raw_bytes, packed, count) == checksum:
            return True
        place = rest.find(BLOCK_MAGIC, place + 1)
    return False


def _frames(raw: bytes, count: int, path: Path, at: int) -> Iterator[Frame]:
    place = 0
    for _ in range(count):
        if place + FRAME.size > len(raw):
            raise _damaged(path, at, "a frame is cut short")
        kind, tag_bytes, data_bytes, receive_us = FRAME.unpack_from(raw, place)
        place += FRAME.size
        end = place + tag_bytes + data_bytes
        try:
            frame = Frame(
                FrameKind(kind), receive_us, raw[place + tag_bytes : end], raw[place : place + tag_bytes].decode()
            )
        except ValueError as error:
            raise _damaged(path, at, str(error)) from None
        if end > len(raw):
            raise _damaged(path, at, "a frame is cut short")
        yield frame
        place = end


def _damaged(path: Path, at: int, what: str) -> IntegrityError:
    return IntegrityError(f"the recording is damaged: {what}", where=f"{path}, byte {at}")
