"""Laws that tie numbers of /proc and sysfs together, and why each is exact.

Three kinds are told apart. Numbers that the kernel computes from one another in one reading
(``meminfo``), or that do not change after boot, are equal without exception. Numbers that come
from counters with a private share per CPU may differ by that share (``analysis.model.drift``).
Numbers of two files are equal at one moment, and only a second reading can show that the moment
was one.
"""
