"""What the running kernel wrote about itself for crash dumps: release, symbols, offsets.

Kernel: crash_save_vmcoreinfo_init in kernel/crash_core.c (6.1) and kernel/vmcore_info.c (from
6.12), with the architecture's part in arch/x86/kernel/crash_core_64.c and
arch/arm64/kernel/crash_core.c; needs CONFIG_CRASH_CORE or CONFIG_VMCORE_INFO, and CONFIG_KEXEC
or CONFIG_PROC_KCORE to be there at all. The text stands in RAM twice: in the buffer it was
composed in, and as an ELF note. KASLR does not matter: addresses in it are those after
relocation.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from harness.errors import MissingSymbolError, NotLinuxError

_MARK = b"OSRELEASE="
_MAX_BYTES = 16 << 10
"""The kernel gives the text one page (a few, on the newest releases)."""
_LINE = re.compile(r"^(?:(SYMBOL|NUMBER|OFFSET|SIZE|LENGTH)\(([^)]+)\)|([A-Z0-9_-]+))=(.*)$")


@dataclass(frozen=True, slots=True, kw_only=True)
class VmcoreInfo:
    """The text's lines, by kind."""

    release: str
    build_id: str
    """Hexadecimal, empty where the kernel does not say (before 5.14, or built without)."""
    page_size_bytes: int
    symbols: Mapping[str, int]
    numbers: Mapping[str, int]
    offsets: Mapping[str, int]
    sizes: Mapping[str, int]
    lengths: Mapping[str, int]

    def symbol(self, name: str) -> int:
        """Virtual address (of a pointer to an array: what it points to).

        Raises:
            MissingSymbolError: the kernel does not say it.
        """
        return self._get(self.symbols, "SYMBOL", name)

    def number(self, name: str) -> int:
        return self._get(self.numbers, "NUMBER", name)

    def length(self, name: str) -> int:
        return self._get(self.lengths, "LENGTH", name)

    def _get(self, table: Mapping[str, int], kind: str, name: str) -> int:
        try:
            return table[name]
        except KeyError:
            raise MissingSymbolError(
                f"kernel {self.release} does not give {kind}({name}) in its vmcoreinfo"
            ) from None


def parse_vmcoreinfo(text: bytes) -> VmcoreInfo | None:
    """The parsed text, or None when this is not the whole of one (a format string, a stale bit)."""
    named: dict[str, dict[str, int]] = {
        kind: {} for kind in ("SYMBOL", "NUMBER", "OFFSET", "SIZE", "LENGTH")
    }
    plain: dict[str, str] = {}
    try:
        for line in text.decode("ascii").splitlines():
            match = _LINE.match(line)
            if match is None:
                return None
            kind, name, key, value = match.groups()
            if kind is None:
                plain[key] = value
            else:
                named[kind][name] = _number(value, hexadecimal=kind == "SYMBOL")
        page_size_bytes = int(plain["PAGESIZE"])
        release = plain["OSRELEASE"]
    except (UnicodeDecodeError, ValueError, KeyError):
        return None
    if not {"swapper_pg_dir", "init_uts_ns", "_stext"} <= named["SYMBOL"].keys():
        return None
    return VmcoreInfo(
        release=release,
        build_id=plain.get("BUILD-ID", ""),
        page_size_bytes=page_size_bytes,
        symbols=named["SYMBOL"],
        numbers=named["NUMBER"],
        offsets=named["OFFSET"],
        sizes=named["SIZE"],
        lengths=named["LENGTH"],
    )


def find_vmcoreinfo(used: Iterable[tuple[int, bytes]]) -> Iterator[VmcoreInfo]:
    """Every distinct one in the chunks of ``Ram.used()``, in the order of physical addresses.

    A guest may hold several: the running kernel's twice, an older one's in memory that was not
    cleared since. The caller takes the first that its own page tables confirm.

    Raises:
        NotLinuxError: at the end, when there was none.
    """
    seen: list[VmcoreInfo] = []
    searched_bytes = 0
    tail, tail_end = b"", -1
    for address, chunk in used:
        joined = tail + chunk if tail_end == address else chunk
        searched_bytes += len(chunk)
        at = joined.find(_MARK)
        while at >= 0:
            text, end, _ = joined[at : at + _MAX_BYTES].partition(b"\0")
            info = parse_vmcoreinfo(text) if end else None
            if info is not None and info not in seen:
                seen.append(info)
                yield info
            at = joined.find(_MARK, at + 1)
        # a text may begin in one chunk and end in the next
        tail, tail_end = joined[-_MAX_BYTES:], address + len(chunk)
    if not seen:
        raise NotLinuxError(
            "no Linux kernel was found in the guest's memory",
            details={"searched": f"{searched_bytes} bytes that the guest has written"},
            fix="sample after the guest has booted a kernel with CONFIG_KEXEC or "
            "CONFIG_PROC_KCORE, which every stock kernel has",
        )


def _number(value: str, *, hexadecimal: bool) -> int:
    return int(value, 16 if hexadecimal or value.startswith("0x") else 10)
