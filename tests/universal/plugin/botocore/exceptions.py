"""The exception."""


class BotoCoreError(Exception):
    """Never raised here."""
