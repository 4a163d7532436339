"""Tracepoints and kprobes for a stop, read as text once it is over.

A kprobe here may read the kernel's own structures: which zone has how many free pages at the very
moment of a decision. Where their members lie, and which argument of a function is which, is taken
from the kernel's type information. A probe that the kernel refuses is not set; the setup's output
says so, and the judge leaves open what only that probe would have told.

Kernel: Documentation/trace/kprobetrace.rst; ``$argN`` needs HAVE_FUNCTION_ARG_ACCESS_API, which
x86_64 and arm64 have.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from harness.errors import MissingSymbolError
from harness.kernel.package import Kernel
from harness.sampling.memory.btf import Btf
from harness.sampling.memory.kernel import image_btf
from harness.tour.evidence import Evidence

TRACEFS = "/sys/kernel/tracing"
INSTANCE = f"{TRACEFS}/instances/mmscope-tour"
GROUP = "mmscope_tour"
FIRST_ARGUMENT = "$arg1"


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelProbe:
    """A kprobe at the entry of a function, and what it notes down."""

    name: str
    function: str
    fetches: tuple[str, ...] = ()
    """``free=+1344($arg1):s64``."""
    condition: str = ""
    """Which hits are kept, in the language of event filters: ``order > 3``."""

    def definition(self) -> str:
        """The line for kprobe_events."""
        return " ".join((f"p:{GROUP}/{self.name}", self.function, *self.fetches))


@dataclass(frozen=True, slots=True, kw_only=True)
class ZoneFields:
    """Where the members of ``struct zone`` lie, and the zones within their node."""

    offsets: dict[str, int]
    zone_bytes: int
    node_zones: int
    """Offset of the first zone in pg_data_t."""
    zone_indexes: dict[str, int]
    """``DMA32`` → 1."""
    free_cma: int
    """Index of NR_FREE_CMA_PAGES in ``vm_stat``."""
    zones: int
    """Indexes in use: __MAX_NR_ZONES."""
    orders: int
    area_bytes: int
    area_nr_free: int

    def at(self, member: str, base: str, *, name: str, start: int = 0, index: int = 0) -> str:
        """A fetch of an 8-byte member of the zone that lies ``start`` bytes behind ``base``."""
        return f"{name}=+{start + self.offsets[member] + 8 * index}({base}):s64"

    def state(self, base: str, *, start: int = 0, suffix: str = "") -> list[str]:
        """Fetches of all that a watermark check looks at: free pages, marks, boost, reserves
        by the request's highest zone (``reserve2``: ZONE_NORMAL)."""
        return [
            self.at("vm_stat", base, name=f"free{suffix}", start=start),
            self.at("vm_stat", base, name=f"cma{suffix}", start=start, index=self.free_cma),
            *(
                self.at("_watermark", base, name=f"{mark}{suffix}", start=start, index=place)
                for place, mark in enumerate(("min", "low", "high"))
            ),
            self.at("watermark_boost", base, name=f"boost{suffix}", start=start),
            self.at("nr_reserved_highatomic", base, name=f"highatomic{suffix}", start=start),
            *(
                self.at(
                    "lowmem_reserve", base, name=f"reserve{place}{suffix}", start=start, index=place
                )
                for place in range(self.zones)
            ),
        ]

    def blocks(self, base: str, *, start: int = 0, suffix: str = "") -> list[str]:
        """Fetches of the number of free blocks of each order: ``b0``, ``b1`` …"""
        first = start + self.offsets["free_area"] + self.area_nr_free
        return [
            f"b{order}{suffix}=+{first + order * self.area_bytes}({base}):s64"
            for order in range(self.orders)
        ]

    def start(self, zone: str) -> int:
        """Bytes from the begin of a node to one of its zones."""
        return self.node_zones + self.zone_indexes[zone] * self.zone_bytes


def kernel_types(kernel: Kernel) -> Btf:
    """The type information in the kernel's image.

    Raises:
        MissingSymbolError: it has none.
    """
    return image_btf(kernel.boot_image.read_bytes(), kernel.release)


def arguments(types: Btf, function: str) -> dict[str, str]:
    """How a probe fetches each parameter of a function: ``order`` → ``$arg2``. Empty where the
    kernel has no such function."""
    try:
        names = types.parameters(function)
    except MissingSymbolError:
        return {}
    return {name: f"$arg{number}" for number, name in enumerate(names, 1)}


def zone_fields(btf: Btf) -> ZoneFields:
    """The layout of zones in this kernel.

    Raises:
        MissingSymbolError: a member that is asked for is not there.
    """
    members = (
        "vm_stat", "free_area", "_watermark", "watermark_boost", "nr_reserved_highatomic",
        "lowmem_reserve", "name",
    )  # fmt: skip
    return ZoneFields(
        offsets={member: btf.offset("zone", member) for member in members},
        zone_bytes=btf.size("zone"),
        node_zones=btf.offset("pglist_data", "node_zones"),
        zone_indexes={
            _zone_name(name): number
            for name, number in btf.enumerators("zone_type").items()
            if name.startswith("ZONE_")
        },
        free_cma=btf.enumerator("zone_stat_item", "NR_FREE_CMA_PAGES"),
        zones=btf.enumerator("zone_type", "__MAX_NR_ZONES"),
        orders=btf.length_of(btf.member("zone", "free_area").type_id),
        area_bytes=btf.size("free_area"),
        area_nr_free=btf.offset("free_area", "nr_free"),
    )


def _zone_name(enumerator: str) -> str:
    name = enumerator.removeprefix("ZONE_")
    return name if name.startswith("DMA") else name.capitalize()


_FIND = """
grep -q ' {symbol}$' /proc/kallsyms && exit 0
mkdir -p {instance} && cd {instance} && echo 0 > tracing_on || exit 1
echo 'p:{group}/where {function} at={fetch}:x64' >> {tracefs}/kprobe_events || exit 1
echo 1 > events/{group}/where/enable && echo 1 > tracing_on
{work}
echo 0 > tracing_on && echo 0 > events/enable
sed -n 's/.* at=\\(0x[0-9a-f]*\\).*/\\1/p' trace | head -n 1
cd / && rmdir {instance} && echo > {tracefs}/kprobe_events
"""
"""Shell: the address that a function is given while a little work is done; nothing where the
kernel's symbols tell where its data lies."""
_TOUCH = "head -c 4194304 /dev/zero > /tmp/where && rm /tmp/where"


def _find(evidence: Evidence, symbol: str, function: str, fetch: str, work: str) -> int | None:
    script = _FIND.format(
        symbol=symbol, function=function, fetch=fetch, work=work, instance=INSTANCE, group=GROUP,
        tracefs=TRACEFS,
    )  # fmt: skip
    found = evidence.shell(f"where-{symbol}", script, check=False).strip()
    return int(found, 16) if found.startswith("0x") else None


def node_0(evidence: Evidence, types: Btf) -> str:
    """As base of a fetch: the only node of the machine, to whose pg_data_t a pointer leads. Kernels
    that list functions only do not tell where node_data lies; each zone has such a pointer too."""
    zone = _find(evidence, "node_data", "__mod_zone_page_state", "$arg1", _TOUCH)
    if zone is None:
        return "@node_data"
    return f"@{zone + types.offset('zone', 'zone_pgdat'):#x}"


def sysctl_number(evidence: Evidence, types: Btf, *, symbol: str, handler: str, path: str) -> str:
    """A fetch of a sysctl's value, found by its handler where symbols do not tell."""
    data = f"+{types.offset('ctl_table', 'data')}($arg1)"
    at = _find(evidence, symbol, handler, data, f"cat {path} > /dev/null")
    return f"@{symbol if at is None else hex(at)}:u32"


@contextlib.contextmanager
def traced(
    evidence: Evidence,
    name: str,
    events: Sequence[str],
    probes: Sequence[KernelProbe] = (),
    *,
    buffer_kb: int = 4096,
) -> Iterator[str]:
    """Traces while the block runs, which gets the path of the trace. Keeps ``NAME.txt``, and of
    each CPU's losses ``NAME-stats.txt``.

    ``events``: ``vmscan/mm_vmscan_kswapd_wake``. The clock is monotonic, in seconds.

    A probe that the kernel refuses is left out: ``NAME-setup.txt`` has ``refused PROBE FUNCTION``.

    Raises:
        WorkloadFailedError: the kernel refuses an event.
    """
    lines = [f"mkdir -p {INSTANCE} && cd {INSTANCE} && echo 0 > tracing_on"]
    lines += ["echo mono > trace_clock", f"echo {buffer_kb} > buffer_size_kb"]
    lines += [f"echo 1 > events/{event}/enable" for event in events]
    lines += [_set_probe(probe) for probe in probes]
    lines += ["echo > trace", "echo 1 > tracing_on"]
    evidence.shell(f"{name}-setup", " &&\n".join(lines))
    yield f"{INSTANCE}/trace"
    evidence.shell(
        name, f"cd {INSTANCE} && echo 0 > tracing_on && echo 0 > events/enable && cat trace"
    )
    evidence.shell(
        f"{name}-stats",
        f"cd {INSTANCE} && for cpu in per_cpu/cpu*; do echo ${{cpu##*/}}; cat $cpu/stats; done",
    )
    evidence.shell(
        f"{name}-teardown",
        f"rmdir {INSTANCE} && echo > {TRACEFS}/kprobe_events",
    )


def _set_probe(probe: KernelProbe) -> str:
    """Shell that sets a probe and switches it on, or says that the kernel does not have it."""
    event = f"events/{GROUP}/{probe.name}"
    steps = [f"echo '{probe.definition()}' >> {TRACEFS}/kprobe_events"]
    if probe.condition:
        steps.append(f"echo '{probe.condition}' > {event}/filter")
    steps.append(f"echo 1 > {event}/enable")
    return f"{{ {{ {' && '.join(steps)}; }} || echo 'refused {probe.name} {probe.function}'; }}"
