"""One pure parser per kernel file: text in, frozen records out.

Every module has ``parse(text, *, source=…)``; most have ``render(record)``, its inverse. They
know the grammar of the kernel's printing code and nothing of its vocabulary: orders, migrate
types, zones and field names are what the text says, in its order, and what is unknown is kept.
"""
