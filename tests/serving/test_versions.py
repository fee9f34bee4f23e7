"""Two versions of a view served side by side: each bundle keeps its own, whatever is promoted meanwhile."""

from __future__ import annotations

import dataclasses
import threading
from pathlib import Path

import numpy as np
import psycopg
import pytest
import redis
from tapeline.core.errors import VersionStateError
from tapeline.core.settings import Settings
from tapeline.features.request import FeatureRequest
from tapeline.storage.view_decisions import promote, retire, rollback
from tapeline_client import Client, Prediction

from tests.serving import world
from tests.serving.test_lifecycle import refused

V1 = world.DAILY
V2 = dataclasses.replace(V1, version=2, features=(FeatureRequest.of("SMA", timeperiod=9), *V1.features[1:]))
SPECS = {"one": V1, "two": V2}


@pytest.mark.timeout(180)
def test_each_bundle_keeps_its_version_through_promote_and_rollback(
    settings: Settings, connection: psycopg.Connection, tmp_path: Path
) -> None:
    history = world.bar_history(1, 60)
    with redis.Redis.from_url(str(settings.redis_url)) as store:
        for spec in SPECS.values():
            world.put_bars(store, "tapeline", "AAA", history, 60, spec)
    for model, spec in SPECS.items():
        world.register_model(settings, tmp_path, (spec,), model)
    expected = {model: history.batch(spec, 60)[0][-1] for model, spec in SPECS.items()}
    assert not np.array_equal(expected["one"], expected["two"])
    with (
        world.running_server(settings, tmp_path, "one") as first,
        world.running_server(settings, tmp_path, "two") as second,
        Client(first.target) as one,
        Client(second.target) as two,
    ):
        over = threading.Event()
        answers: dict[str, list[Prediction]] = {"one": [], "two": []}

        def ask(model: str, client: Client) -> None:
            while not over.is_set() or not answers[model]:
                answers[model] += client.predict(["AAA"], include_features=True)

        threads = [threading.Thread(target=ask, args=(model, client)) for model, client in (("one", one), ("two", two))]
        for thread in threads:
            thread.start()
        for _ in range(20):
            promote(connection, V1.name, 2)
            rollback(connection, V1.name)
        over.set()
        for thread in threads:
            thread.join()
        for model, spec in SPECS.items():
            for answer in answers[model]:
                assert [(view.view, view.version) for view in answer.views] == [(spec.name, spec.version)]
                values = np.array(list(answer.features.values()))
                assert values.tobytes() == expected[model].tobytes()

        # Once nothing names a model of version 1, it may be retired: what runs goes on, nothing new is deployed on it.
        promote(connection, V1.name, 2)
        with pytest.raises(VersionStateError, match=r"model one@1\.0\.0 \(latest\)"):
            retire(connection, V1.name, 1)
        world.register_model(settings, tmp_path, (V2,), "one")
        retire(connection, V1.name, 1)
        (answer,) = one.predict(["AAA"], include_features=True)
        assert (answer.version, answer.views[0].version) == ("1.0.0", 1)
        done = refused(settings, "one@1.0.0")
        assert done.returncode == 1
        assert "daily_small@1 is retired (model one@1.0.0). Its successor is daily_small@2" in done.stderr
