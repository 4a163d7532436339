"""Raw ftrace rings → typed event arrays in one order across CPUs.

``open_window`` decodes a traced window of a run; ``decode`` does it for rings from anywhere.
"""

from analysis.trace.events import EventStream, Gap, KernelLoss, Merged, Summary, decode
from analysis.trace.format import Formats, read_formats
from analysis.trace.ring import RingDamage

__all__ = [
    "EventStream",
    "Formats",
    "Gap",
    "KernelLoss",
    "Merged",
    "RingDamage",
    "Summary",
    "decode",
    "read_formats",
]
