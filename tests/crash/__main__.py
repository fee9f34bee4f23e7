"""``python -m tests.crash``: see :mod:`tests.support.trials`."""

import sys

from tests.crash.trial import Trials
from tests.crash.world import Server
from tests.support.trials import run_trials

if __name__ == "__main__":
    sys.exit(run_trials("tests.crash", Server, Trials))
