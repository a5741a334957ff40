"""The command line: parse, one library call, print."""

from .main import main

__all__ = ["main"]
