"""``python -m tests.streaming.kills``: see :mod:`tests.support.trials`."""

import sys

from tests.streaming.kills.trial import Servers, Trials
from tests.support.trials import run_trials

if __name__ == "__main__":
    sys.exit(run_trials("tests.streaming.kills", Servers, Trials))
