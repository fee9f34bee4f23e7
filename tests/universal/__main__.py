"""``python -m tests.universal [STORE …]``."""

from __future__ import annotations

import sys

from tests.universal.run import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
