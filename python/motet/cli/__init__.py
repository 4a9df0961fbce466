"""The command `motet`."""

from motet.cli.command import main

__all__ = ["main"]
