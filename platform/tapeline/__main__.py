"""``python -m tapeline``: the same as the ``tapeline`` command."""

from tapeline.cli import main

main()
