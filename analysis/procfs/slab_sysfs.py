"""/sys/kernel/slab as one text: a line per attribute, and a line per alias of a merged cache.

The text is what ``grep -r '' /sys/kernel/slab`` prints
(``/sys/kernel/slab/CACHE/attribute:value``), with ``/sys/kernel/slab/ALIAS -> CACHE`` for a name
that is a link.

Kernel: mm/slub.c, slab_attrs and sysfs_slab_add; only CONFIG_SLUB with CONFIG_SYSFS has it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from analysis.errors import ParseError

ROOT = "/sys/kernel/slab/"


@dataclass(frozen=True, slots=True, kw_only=True)
class SlabSysfs:
    caches: Mapping[str, Mapping[str, str]]
    """Directory (``:0000064`` for one that may be merged, else its name) → attribute → value."""
    aliases: Mapping[str, str]
    """Name of a cache → the directory that its link points to."""

    def cache_of(self, name: str) -> Mapping[str, str] | None:
        """The attributes of the cache with a name, merged or not."""
        return self.caches.get(self.aliases.get(name, name))


def parse(text: str, *, source: str = "slab_sysfs") -> SlabSysfs:
    """All attributes and aliases.

    Raises:
        ParseError: a line is neither an attribute nor an alias.
    """
    caches: dict[str, dict[str, str]] = {}
    aliases: dict[str, str] = {}
    rooted = ROOT in text
    for number, line in enumerate(text.splitlines(), 1):
        if rooted and not line.startswith((ROOT, ROOT[1:])):
            raise ParseError(source, number, line, f"{ROOT}… on every line")
        body = line.removeprefix(ROOT).removeprefix(ROOT[1:])
        if body.endswith(":") and "/" not in body:
            continue  # a directory's own heading
        alias, arrow, target = body.partition(" -> ")
        if arrow:
            aliases[alias] = target.rpartition("/")[2]
            continue
        directory, slash, rest = body.partition("/")
        attribute, colon, value = rest.partition(":")
        if not (directory and slash and attribute and colon) or "/" in attribute:
            raise ParseError(source, number, line, "CACHE/attribute:value or ALIAS -> CACHE")
        # of an attribute with several lines (alloc_calls) the first is kept
        caches.setdefault(directory, {}).setdefault(attribute, value.strip())
    for alias in aliases:  # grep follows the links too
        caches.pop(alias, None)
    return SlabSysfs(caches=caches, aliases=aliases)


def from_tree(files: Mapping[str, bytes]) -> str:
    """The text, from ``CACHE/attribute`` → content; a tree without its links loses the aliases."""
    lines = []
    for name, content in sorted(files.items()):
        value = content.decode("utf-8", "surrogateescape").rstrip("\n")
        lines += [f"{ROOT}{name}:{row}" for row in value.split("\n")]
    return "".join(f"{line}\n" for line in lines)
