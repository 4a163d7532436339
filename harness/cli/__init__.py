"""The ``mmscope`` command: the only place that prints, and the only bridge to analysis."""

from harness.cli.app import main

__all__ = ["main"]
