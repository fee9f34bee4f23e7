"""A driver of back-fills on a local Ray cluster of two processors: ``python -m tests.compute.ray_driver``.

Reads one order a line as JSON and answers each with a line: what was done, or the error. It ends with its input. A process
of its own, since Ray starts threads and handles signals, and since the tests kill it.
"""

from __future__ import annotations

import json
import sys
from contextlib import redirect_stdout
from typing import Any

import psycopg
from tapeline.compute import backfill_on_ray, ray_cluster
from tapeline.core.errors import TapelineError
from tapeline.features.view import FeatureViewSpec
from tapeline.storage.postgres import connect


def answer(connection: psycopg.Connection[Any], order: dict[str, Any]) -> dict[str, Any]:
    """Fill a view; what was done, and the entities that progress was told of."""
    told: list[int] = []
    spec = FeatureViewSpec.from_definition(order["view"])
    try:
        report = backfill_on_ray(connection, spec, on_entity=told.append, **order["options"])
    except TapelineError as error:
        connection.rollback()
        return {"error": type(error).__name__, "message": str(error), "told": told}
    return {"report": report.as_dict(), "told": told}


def main() -> None:
    """Start the cluster, then do as told."""
    import ray

    out = sys.stdout
    with redirect_stdout(sys.stderr), ray_cluster("local", cpus=2), connect() as connection:  # Ray prints notices
        context = ray.get_runtime_context()
        session = ray._private.worker._global_node.get_session_dir_path()
        print(json.dumps({"session": session, "address": context.gcs_address}), file=out, flush=True)
        for line in sys.stdin:
            print(json.dumps(answer(connection, json.loads(line))), file=out, flush=True)


if __name__ == "__main__":
    main()
