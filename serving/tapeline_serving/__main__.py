"""``python -m tapeline_serving MODEL[@VERSION|@ALIAS]``: serve one model until SIGTERM."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence

from tapeline.core.errors import TapelineError
from tapeline.core.settings import get_settings


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line and serve; the exit code is that of the error, if any."""
    parser = argparse.ArgumentParser(
        prog="python -m tapeline_serving", description="Serve a registered model over gRPC."
    )
    parser.add_argument("model", help="name, name@version or name@alias")
    parser.add_argument("--host", help="address to bind (setting serve_host)")
    parser.add_argument("--port", type=int, help="port to bind, 0 for a free one (setting serve_port)")
    parser.add_argument("--metrics-port", type=int, help="loopback port for Prometheus")
    parser.add_argument(
        "--prepare",
        action="store_true",
        help="verify the bundle and compile its kernels, then exit: a step of deployment",
    )
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # what matters of it is an error of ours
    # gRPC's older listener reads a request in the thread that waits for it, instead of handing it through a pool of threads
    # first: each hand-over costs a wake-up, and all of them together a sixth of a small request.
    os.environ.setdefault("GRPC_EXPERIMENTS", "-event_engine_listener")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        settings = get_settings()
        given = {"serve_host": options.host, "serve_port": options.port}
        settings = settings.replaced(**{name: value for name, value in given.items() if value is not None})
        if options.prepare:
            from tapeline_serving.loading import load

            plan = load(settings, options.model).plan
            print(f"prepared: {plan.manifest.model}@{plan.manifest.version}, bundle {plan.bundle_sha256}")
        else:
            from tapeline_serving.transport.server import serve

            serve(settings, options.model, metrics_port=options.metrics_port)
    except TapelineError as error:
        print(f"error: {type(error).__name__}: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
