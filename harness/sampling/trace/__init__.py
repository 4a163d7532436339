"""Tracing every allocation of a window: what is traced, how it is set up, how it is recorded."""

from harness.sampling.trace.preparation import Preparation, prepare_trace
from harness.sampling.trace.session import TraceSession

__all__ = ["Preparation", "TraceSession", "prepare_trace"]
