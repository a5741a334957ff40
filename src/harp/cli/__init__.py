"""The command line: parse, one library call, print."""

from harp.cli.main import main

__all__ = ["main"]
