"""Write the feature pages and the type stub again; with ``--check`` only say which of them are out of date."""

from __future__ import annotations

import sys

from docs.tooling.files import generated, outdated, write


def main() -> int:
    if sys.argv[1:] == ["--check"]:
        stale = outdated()
        for path, why in stale.items():
            print(f"{path}: {why}")
        print("Write them again: make docs" if stale else "Every page is current.")
        return int(bool(stale))
    if sys.argv[1:]:
        print(__doc__)
        return 2
    changed, removed = write(generated())
    print(f"{changed} files written, {removed} removed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
