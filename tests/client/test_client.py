"""The client by itself: what it refuses to send, and how it names what went wrong. The server's tests use it throughout."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tapeline_client import Bar, Client, DeadlineError, UnavailableError
from tapeline_client._generated import serving_pb2
from tapeline_client.client import _bar_columns, _integers

ROOT = Path(__file__).parents[2]
GOOD = {"event_us": 5, "open": 1, "high": 2, "low": 1, "close": 2, "volume": 3}


def test_bar_from_mapping() -> None:
    bar = Bar.from_mapping(GOOD | {"start_us": 1, "split_ratio": "2"})
    assert bar == Bar(event_us=5, open=1.0, high=2.0, low=1.0, close=2.0, volume=3.0, start_us=1, split_ratio=2.0)
    assert isinstance(bar.volume, float)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"colour": 1}, "a bar has no colour"),
        ({"open": "much"}, "could not convert"),
        ({"event_us": "x"}, "invalid literal"),
    ],
)
def test_bar_from_wrong_mapping(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Bar.from_mapping(GOOD | change)
    with pytest.raises(ValueError, match="not complete"):
        Bar.from_mapping({"event_us": 5})


def test_columns_are_whole_or_absent() -> None:
    first, second = Bar.from_mapping(GOOD), Bar.from_mapping(GOOD | {"available_us": 9, "split_ratio": 2})
    message = _bar_columns([first, first])
    assert (list(message.split_ratio), list(message.available_us)) == ([], [])
    assert list(_bar_columns([second, second]).split_ratio) == [2.0, 2.0]
    with pytest.raises(ValueError, match="available_us is given for some bars only"):
        _bar_columns([first, second])
    with pytest.raises(ValueError, match="whole numbers"):
        _integers([1.5])


def test_live_rows_of_strangers_are_refused_before_sending() -> None:
    with Client("127.0.0.1:1") as client, pytest.raises(ValueError, match="live rows for BBB"):
        client.predict(["AAA"], live_bars={"BBB": [Bar.from_mapping(GOOD)]})


def test_no_server() -> None:
    with Client("127.0.0.1:1", timeout_s=0.3) as client:
        with pytest.raises(UnavailableError, match=r"no server answers at 127\.0\.0\.1:1"):
            client.predict(["AAA"])
        with pytest.raises(DeadlineError, match="in time"):
            client.model_info(wait_for_ready=True)


def test_client_needs_numpy_and_grpc_only() -> None:
    probe = "import sys, tapeline_client; print(*sorted({m.partition('.')[0] for m in sys.modules}))"
    listed = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True).stdout.split()
    known = set(sys.stdlib_module_names) | {
        "grpc",
        "google",
        "numpy",
        "tapeline_client",
        "_distutils_hack",
        "typing_extensions",
    }
    heavy = {m for m in listed if not m.startswith(("_", "cython"))} - known
    assert not {
        m for m in heavy if m in {"tapeline", "tapeline_serving", "pandas", "pydantic", "numba", "redis", "psycopg"}
    }


def test_committed_stubs_are_those_of_the_proto(tmp_path: Path) -> None:
    pytest.importorskip("grpc_tools")
    subprocess.run([sys.executable, ROOT / "proto" / "generate.py", tmp_path], check=True, capture_output=True)
    fresh = (tmp_path / "serving_pb2.py").read_text()
    blob = serving_pb2.DESCRIPTOR.serialized_pb
    # The text differs between compilers; the serialised descriptor inside it must not.
    namespace: dict[str, bytes] = {}
    line = next(line for line in fresh.splitlines() if "AddSerializedFile(" in line)
    exec("blob = " + line.partition("AddSerializedFile(")[2].rstrip()[:-1], namespace)
    assert namespace["blob"] == blob
