"""What explain tells of a plan is true, and a plan cut down gives the same bits."""

from __future__ import annotations

import numpy as np
import pytest
from tapeline.core.errors import ParameterError, UnknownNameError
from tapeline.features import FeaturePlan, FeatureRequest
from tapeline.features.explain import explain_plan
from tapeline.features.request_text import parse_requests

from tests.indicators.market import compute, goog, same_bits

_of = FeatureRequest.of
REQUESTS = (_of("RSI"), _of("CMO"), _of("MACD"), _of("BBANDS"), _of("STOCH"))


def test_a_cut_plan_gives_the_same_bits_from_less_state() -> None:
    whole = FeaturePlan.of(REQUESTS)
    kept = ["stoch_k_5_3_3", "macd_hist_12_26_9", "bbands_middle_20_2_2"]
    cut = whole.cut(kept)
    assert cut.outputs == tuple(kept)
    assert [request.name for request in cut.requests] == ["MACD", "BBANDS", "STOCH"]
    assert cut.state_size < whole.state_size
    assert cut.hash != whole.hash
    places = [whole.outputs.index(name) for name in kept]
    assert cut.units == tuple(whole.units[place] for place in places)
    assert cut.warm_up == tuple(whole.warm_up[place] for place in places)
    assert same_bits(compute(cut, goog()), np.ascontiguousarray(compute(whole, goog())[:, places]))
    assert whole.cut(whole.outputs).hash == whole.hash


@pytest.mark.parametrize(
    ("kept", "error", "told"),
    [
        ([], ParameterError, "Name the outputs"),
        (["rsi_14", "rsi_14"], ParameterError, "twice"),
        (["rsi_15"], UnknownNameError, "rsi_14"),
    ],
)
def test_a_cut_that_makes_no_sense_is_refused(kept: list[str], error: type[Exception], told: str) -> None:
    with pytest.raises(error, match=told):
        FeaturePlan.of(REQUESTS).cut(kept)


def test_shared_steps_and_sizes_are_counted() -> None:
    rsi, cmo = (FeaturePlan.of([request]) for request in REQUESTS[:2])
    both = FeaturePlan.of(REQUESTS[:2])
    told = explain_plan(both)
    assert {part.step: part.features for part in told.shared} == {
        "gain_and_loss(close)": ("rsi_14", "cmo_14"),
        "wilder_mean(gain_and_loss(close)[1], 14)": ("rsi_14", "cmo_14"),
        "wilder_mean(gain_and_loss(close)[2], 14)": ("rsi_14", "cmo_14"),
    }
    # close, gains, two means and their sum are in both; each has a quotient and a product, CMO a difference
    assert (told.operations_alone, told.operations) == (7 + 8, 5 + 2 + 3)
    assert told.state_bytes == 8 * both.state_size == 8 * rsi.state_size
    assert told.state_bytes_alone == 8 * (rsi.state_size + cmo.state_size)
    assert told.outputs == (("rsi_14", "percent", 15), ("cmo_14", "percent", 15))
    assert told.inputs == ("close", "split_ratio")


def test_a_cut_plan_is_explained_as_it_is() -> None:
    told = explain_plan(FeaturePlan.of(REQUESTS).cut(["rsi_14"]))
    alone = explain_plan(FeaturePlan.of(REQUESTS[:1]))
    assert told == alone
    assert told.shared == ()
    assert told.operations == told.operations_alone


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("rsi", ["rsi_14"]),
        ("RSI( 5 )", ["rsi_5"]),
        ("rsi(5), Rsi(timeperiod = 6)", ["rsi_5", "rsi_6"]),
        ("bbands(10, nbdevup=1.5)", ["bbands_upper_10_1p5_2", "bbands_middle_10_1p5_2", "bbands_lower_10_1p5_2"]),
        ("return(5),obv()", ["return_5", "obv"]),
    ],
)
def test_requests_are_read_as_people_write_them(text: str, columns: list[str]) -> None:
    assert [column for request in parse_requests(text) for column in request.columns] == columns


@pytest.mark.parametrize(
    ("text", "error", "told"),
    [
        ("", ParameterError, "no feature"),
        ("rsi(14", ParameterError, "no feature"),
        ("rsi 14", ParameterError, "no feature"),
        ("rsi(x)", ParameterError, "'x' is no number"),
        ("rsi(,)", ParameterError, "'' is no number|takes 1"),
        ("rsi(14, 15)", ParameterError, "takes 1 parameters"),
        ("rsi(14, timeperiod=15)", ParameterError, "given twice"),
        ("rsi(1)", ParameterError, "out of bounds"),
        ("rsi(timperiod=5)", UnknownNameError, "timeperiod"),
        ("rsx", UnknownNameError, "RSI"),
    ],
)
def test_what_is_no_request_is_refused(text: str, error: type[Exception], told: str) -> None:
    with pytest.raises(error, match=told):
        parse_requests(text)
