"""Frames as the venues' documentation shows them, and frames that nobody should send."""

from __future__ import annotations

import importlib
import json
import re
import sys
import tomllib
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tapeline.core.errors import ConfigurationError, InvalidDataError, MissingExtraError
from tapeline.live.adapters import adapter_of
from tapeline.live.book import Book
from tapeline.live.messages import BookSnapshot, BookUpdate, LastTrade, Level, QuoteMessage, Refusal, TradeMessage
from tapeline.live.parsing import decode, moment_us
from tapeline.live.source import LiveSource, parse_source, read_source

from tests.live.world import COINBASE

BIDS = [(45283.5, "0.10000000"), (45283.4, "1.54582015"), (45282.1, "0.10000000"), (45281.0, "0.10000000"),
        (45280.3, "1.54592586"), (45279.0, "0.07990000"), (45277.6, "0.03310103"), (45277.5, "0.30000000"),
        (45277.3, "1.54602737"), (45276.6, "0.15445238")]  # fmt: skip
ASKS = [(45285.2, "0.00100000"), (45286.4, "1.54571953"), (45286.6, "1.54571109"), (45289.6, "1.54560911"),
        (45290.2, "0.15890660"), (45291.8, "1.54553491"), (45294.7, "0.04454749"), (45296.1, "0.35380000"),
        (45297.5, "0.09945542"), (45299.5, "0.18772827")]  # fmt: skip
SIDES = [",".join(f'{{"price":{price},"qty":{size}}}' for price, size in side) for side in (BIDS, ASKS)]
KRAKEN_BOOK = (
    f'{{"channel":"book","type":"snapshot","data":[{{"symbol":"BTC/USD","bids":[{SIDES[0]}],"asks":[{SIDES[1]}],'
    '"checksum":3310070434}]}'
)


def source(adapter: str, /, **more: object) -> LiveSource:
    content = {"name": "x", "source": "x", "adapter": adapter, "symbols": {"A": "a"}, "channels": ["trades", "book"]}
    if adapter == "json":
        content |= {"url": "wss://ws-feed.exchange.coinbase.com", "mapping": COINBASE}
    return parse_source(content | more, "here")


DOCUMENTED = [
    (
        "binance",
        ('{"stream":"bnbbtc@trade","data":{"e":"trade","E":1672515782136,"s":"BNBBTC","t":12345,"p":"0.001","q":"100",'
        '"T":1672515782136,"m":true,"M":true}}'),
        [TradeMessage("BNBBTC", 12345, 1672515782136000, 0.001, 100.0, -1)],
    ),
    (
        "binance",
        '{"e":"trade","E":1672515782136136,"s":"BNBBTC","t":12345,"p":"0.001","q":"100","T":1672515782136136,"m":false}',
        [TradeMessage("BNBBTC", 12345, 1672515782136136, 0.001, 100.0, 1)],
    ),
    (
        "binance",
        '{"e":"depthUpdate","E":1672515782136,"s":"BNBBTC","U":157,"u":160,"b":[["0.0024","10"]],"a":[["0.0026","100"]]}',
        [
            BookUpdate(
                "BNBBTC", 157, 160, 1672515782136000, (Level(0.0024, 10.0, "0.0024", "10"),),
                (Level(0.0026, 100.0, "0.0026", "100"),),
            )
        ],
    ),
    (
        "binance",
        '{"u":400900217,"s":"BNBUSDT","b":"25.35190000","B":"31.21000000","a":"25.36520000","A":"40.66000000"}',
        [QuoteMessage("BNBUSDT", 400900217, None, 25.3519, 31.21, 25.3652, 40.66)],
    ),
    ("binance", '{"result":null,"id":1}', []),
    ("binance", '{"code":2,"msg":"Invalid request: too many parameters"}', [Refusal('{"code": 2, "msg": "Invalid request: too many parameters"}')]),
    (
        "kraken",
        ('{"channel":"trade","type":"update","data":[{"symbol":"MATIC/USD","side":"sell","price":0.5117,"qty":40.0,'
        '"ord_type":"market","trade_id":4665906,"timestamp":"2023-09-25T07:49:37.708706Z"}]}'),
        [TradeMessage("MATIC/USD", 4665906, 1695628177708706, 0.5117, 40.0, -1)],
    ),
    (
        "kraken",
        ('{"channel":"book","type":"update","data":[{"symbol":"MATIC/USD","bids":[{"price":0.5657,"qty":1098.3947558}],'
        '"asks":[],"checksum":2114181697,"timestamp":"2023-10-06T17:35:55.440295Z"}]}'),
        [
            BookUpdate(
                "MATIC/USD", None, None, 1696613755440295, (Level(0.5657, 1098.3947558, "0.5657", "1098.3947558"),), (),
                2114181697,
            )
        ],
    ),
    ("kraken", '{"channel":"heartbeat"}', []),
    (
        "kraken",
        '{"error":"Currency pair not supported BTX/USD","method":"subscribe","success":false}',
        [Refusal("Currency pair not supported BTX/USD")],
    ),
    (
        "json",
        ('{"type":"match","trade_id":10,"sequence":50,"maker_order_id":"ac928c66","taker_order_id":"132fb6ae",'
        '"time":"2014-11-07T08:19:27.028459Z","product_id":"BTC-USD","size":"5.23512","price":"400.23","side":"sell"}'),
        [TradeMessage("BTC-USD", 10, 1415348367028459, 400.23, 5.23512, 1)],
    ),
    (
        "json",
        '{"type":"heartbeat","sequence":90,"last_trade_id":20,"product_id":"BTC-USD","time":"2014-11-07T08:19:28.464459Z"}',
        [LastTrade("BTC-USD", 20)],
    ),
    (
        "json",
        '{"type":"snapshot","product_id":"BTC-USD","bids":[["10101.10","0.45054140"]],"asks":[["10102.55","0.57753524"]]}',
        [
            BookSnapshot(
                "BTC-USD", None, None, (Level(10101.1, 0.4505414, "10101.10", "0.45054140"),),
                (Level(10102.55, 0.57753524, "10102.55", "0.57753524"),),
            )
        ],
    ),
    (
        "json",
        ('{"type":"l2update","product_id":"BTC-USD","time":"2019-08-14T20:42:27.265Z",'
        '"changes":[["buy","10101.80000000","0.162567"]]}'),
        [BookUpdate("BTC-USD", None, None, 1565815347265000, (Level(10101.8, 0.162567, "10101.80000000", "0.162567"),), ())],
    ),
    ("json", '{"type":"error","message":"Failed to subscribe"}', [Refusal("Failed to subscribe")]),
]  # fmt: skip


@pytest.mark.parametrize(("adapter", "frame", "said"), DOCUMENTED)
def test_documented_frames(adapter: str, frame: str, said: list[object]) -> None:
    assert adapter_of(source(adapter)).parse(decode(frame.encode())) == said


def test_documented_history_of_kraken() -> None:
    page = (
        '{"error":[],"result":{"XXBTZUSD":[["30243.40000","0.34507674",1688669597.8277369,"b","m","",61044952],'
        '["30243.30000","0.00376960",1688669598.2804112,"s","l","",61044953]],"last":"1688671969993150842"}}'
    )
    found = adapter_of(source("kraken")).parse_trades("BTC/USD", decode(page.encode()))
    assert found.cursor == "1688671969993150842"
    assert found.trades == (
        TradeMessage("BTC/USD", 61044952, 1688669597827736, 30243.4, 0.34507674, 1),
        TradeMessage("BTC/USD", 61044953, 1688669598280411, 30243.3, 0.0037696, -1),
    )


def test_the_checksum_of_krakens_guide() -> None:
    [snapshot] = adapter_of(source("kraken")).parse(decode(KRAKEN_BOOK.encode()))
    assert isinstance(snapshot, BookSnapshot)
    book = Book(10)
    book.apply(snapshot.bids, snapshot.asks)
    assert book.checksum() == snapshot.checksum == 3310070434
    book.apply([], [Level(45285.2, 0.00100001, "45285.2", "0.00100001")])
    assert book.checksum() != 3310070434


@pytest.mark.parametrize(
    ("value", "unit", "expected"),
    [
        ("1688669597.8277369", "s", 1688669597827736),
        (1688669597, "s", 1688669597000000),
        (1688669597827736999, "ns", 1688669597827736),
        ("2023-07-06T18:53:17.827736999Z", "iso8601", 1688669597827736),
        ("2023-07-06T20:53:17.5+02:00", "iso8601", 1688669597500000),
    ],
)
def test_times_are_exact(value: object, unit: str, expected: int) -> None:
    assert moment_us(value, unit, "time") == expected  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "value", ["", "nan", "1_0", "0x10", "-5", "1e400", "2023-07-06T18:53:17", None, True, 10**30, [1], "9" * 50]
)
@pytest.mark.parametrize("unit", ["ms", "iso8601"])
def test_what_is_no_time_is_refused(value: object, unit: str) -> None:
    with pytest.raises(InvalidDataError):
        moment_us(value, unit, "time")  # type: ignore[arg-type]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)


def _spoiled(value: object, path: int, replacement: object) -> object:
    """A frame with one of its parts replaced."""
    parts: list[tuple[object, object]] = []

    def walk(each: object) -> None:
        items = each.items() if isinstance(each, dict) else enumerate(each) if isinstance(each, list) else ()
        for key, inner in list(items):
            parts.append((each, key))
            walk(inner)

    walk(value)
    if not parts:
        return replacement
    container, key = parts[path % len(parts)]
    container[key] = replacement  # type: ignore[index]
    return value


@given(st.sampled_from(DOCUMENTED), st.integers(0, 100), json_values)
def test_a_spoiled_frame_is_read_or_refused(case: tuple[str, str, object], path: int, replacement: object) -> None:
    adapter, frame, _ = case
    spoiled = json.dumps(_spoiled(json.loads(frame), path, replacement)).encode()
    known = (TradeMessage, QuoteMessage, BookUpdate, BookSnapshot, LastTrade, Refusal)
    with suppress(InvalidDataError):
        assert all(isinstance(said, known) for said in adapter_of(source(adapter)).parse(decode(spoiled)))


@pytest.mark.parametrize("data", [b"", b"{", b"\xff\xfe", b"[NaN]", b"[" * 100_000, b'{"a":Infinity}', b"1" * 10_000])
def test_what_is_no_json_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidDataError):
        decode(data)


FAULTY = [
    ({"adapter": "bitmex"}, "adapter: Input should be 'binance', 'kraken' or 'json'"),
    ({"url": "https://x"}, "url: it begins with wss://"),
    ({"symbols": {}}, "symbols"),
    ({"symbols": {"A": "a", "B": "a"}}, "have the same name here"),
    ({"lag": "soon"}, "lag: 'soon' is not a duration"),
    ({"channels": ["trades", "trades"]}, "channels names one twice"),
    ({"colour": "red"}, "colour: there is no such key"),
    ({"mapping": COINBASE}, "the adapter json needs a mapping, and only it takes one"),
    ({"timing": {"ping_s": 0}}, "timing.ping_s"),
    ({"rest_symbols": {"B": "b"}}, "rest_symbols names B"),
]


@pytest.mark.parametrize(("change", "words"), FAULTY)
def test_a_faulty_declaration_is_refused_by_name(change: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        source("binance", **change)
    assert words in str(caught.value)


MAPPINGS = [
    ({"messages": []}, "mapping.messages"),
    ({"messages": [{"kind": "trades", "match": {"a": 1}, "symbol": "s"}]}, "needs event, price, size"),
    ({"messages": [{**COINBASE["messages"][0], "price": "a..b"}]}, "is no path"),  # type: ignore[dict-item]
    ({"messages": [{"kind": "book", "match": {"a": 1}, "symbol": "s"}]}, "bids and asks (or changes)"),
    ({"messages": COINBASE["messages"][:1] + COINBASE["messages"][3:]}, "a book needs snapshots"),  # type: ignore[index]
    ({"history": {"url": "https://x/{symbol}", **COINBASE["messages"][0]}}, "history.kind"),  # type: ignore[dict-item]
]


@pytest.mark.parametrize(("change", "words"), MAPPINGS)
def test_a_faulty_mapping_is_refused_by_name(change: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        source("json", mapping=COINBASE | change)
    assert words in str(caught.value)


def test_depths_that_kraken_does_not_have_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="no books of depth 20"):
        adapter_of(source("kraken", depth=20))


def test_the_sources_of_the_how_to_read_the_documented_frames() -> None:
    page = (Path(__file__).parents[2] / "docs/how-to/live.md").read_text()
    shown = [
        parse_source(tomllib.loads(block), "the page") for block in re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    ]
    assert [each.adapter for each in shown] == ["binance", "json"]
    read = 0
    for each in shown:
        for adapter, frame, said in DOCUMENTED:
            if adapter == each.adapter:
                assert adapter_of(each).parse(decode(frame.encode())) == said
                read += 1
    assert read > 8
    request = adapter_of(shown[1]).trades_request("BTC-USD", 5, 9, 0, "")
    assert request is not None
    assert request.url == "https://api.exchange.coinbase.com/products/BTC-USD/trades?after=10&limit=5"


def test_toml_and_yaml_say_the_same(tmp_path: Path) -> None:
    toml, yaml = tmp_path / "a.toml", tmp_path / "a.yaml"
    toml.write_text('name = "x"\nsource = "s"\nadapter = "kraken"\n[symbols]\n"BTC/USD" = "BTC"\n')
    yaml.write_text("name: x\nsource: s\nadapter: kraken\nsymbols:\n  BTC/USD: BTC\n")
    assert read_source(toml) == read_source(yaml)
    toml.write_text("name = ")
    with pytest.raises(ConfigurationError, match="no TOML"):
        read_source(toml)
    yaml.write_text("a: [")
    with pytest.raises(ConfigurationError, match="no YAML"):
        read_source(yaml)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_source(tmp_path / "none.toml")


@pytest.mark.parametrize(("module", "package"), [("connection", "websockets"), ("fetching", "requests")])
def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, module: str, package: str) -> None:
    for name in list(sys.modules):
        if name == f"tapeline.live.{module}" or name.partition(".")[0] == package:
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=rf"{package} is not installed.*tapeline\[live\]"):
        importlib.import_module(f"tapeline.live.{module}")
