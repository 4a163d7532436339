"""Tracing every allocation of a window: what is traced, how it is set up, how it is recorded."""

from harness.sampling.trace.session import TraceSession

__all__ = ["TraceSession"]
