"""Rules about a single capture: what follows from configuration, sizes and sysctls alone.

One module per part of memory management; each ends with ``RULES``. ``registry`` has them all.
"""
