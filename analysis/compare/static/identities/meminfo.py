"""Laws of /proc/meminfo alone, with sysctls and files that do not change by themselves."""

from __future__ import annotations

import re
from collections.abc import Iterator

from analysis.capture.snapshot import Snapshot
from analysis.compare.claim import Claim, Scope
from analysis.compare.rule import Rule, exact, unknown
from analysis.errors import MissingInputError
from analysis.model.identities import meminfo as model

FILE = "proc/meminfo"
VMSTAT = "proc/vmstat"
_POOL = re.compile(r"sys/kernel/mm/hugepages/hugepages-(\d+)kB/nr_hugepages$")
_SIZE = re.compile(r"(\d+)([kKmMgG]?)$")


def line_of(snapshot: Snapshot, name: str) -> int:
    """A line of meminfo.

    Raises:
        MissingInputError: this kernel does not print it.
    """
    value = snapshot.meminfo.values.get(name)
    if value is None:
        raise MissingInputError(f"{name} of {FILE}")
    return value


def huge_kib(snapshot: Snapshot) -> int:
    """KiB of a transparent huge page; 0 where the architecture is not described."""
    pae = snapshot.arch != "i386" or snapshot.config.on("X86_PAE")
    try:
        return model.default_hugepage_kib(snapshot.arch, snapshot.page_size_bytes, pae=pae)
    except ValueError:
        return 0


def beyond_whole_pages(
    rule_id: str, scope: Scope, snapshot: Snapshot, line: model.Line, shown_kib: int
) -> Claim | None:
    """The claim that fails where a line that counts pages is no multiple of a page."""
    left = shown_kib % snapshot.page_kib if line.unit != "KiB" else 0
    if not left:
        return None
    return exact(
        rule_id,
        scope,
        predicted=0,
        observed=left,
        unit="KiB beyond whole pages",
        working=[f"{shown_kib} KiB are {left} KiB more than pages of {snapshot.page_kib} KiB"],
    )


def _sums(snapshot: Snapshot) -> Iterator[Claim]:
    lines = snapshot.meminfo.values
    for name, parts in (
        ("Active", ("Active(anon)", "Active(file)")),
        ("Inactive", ("Inactive(anon)", "Inactive(file)")),
        ("Slab", ("SReclaimable", "SUnreclaim")),
    ):
        if name in lines and all(part in lines for part in parts):
            terms = [lines[part] for part in parts]
            yield exact(
                "meminfo_sums",
                {"line": name},
                predicted=model.together(*terms),
                observed=lines[name],
                unit="KiB",
                working=[f"{' + '.join(parts)} = {' + '.join(map(str, terms))}"],
            )
    for name, total, high in (
        ("LowTotal", "MemTotal", "HighTotal"),
        ("LowFree", "MemFree", "HighFree"),
    ):
        if all(line in lines for line in (name, total, high)):
            yield exact(
                "meminfo_sums",
                {"line": name},
                predicted=model.lowmem(lines[total], lines[high]),
                observed=lines[name],
                unit="KiB",
                working=[f"{total} - {high} = {lines[total]} - {lines[high]}"],
            )


def _commit_limit(snapshot: Snapshot) -> Iterator[Claim]:
    page_kib = snapshot.page_kib
    total = line_of(snapshot, "MemTotal") // page_kib
    lines = snapshot.meminfo.values
    hugetlb_kib = lines.get("Hugetlb")
    if hugetlb_kib is None:
        if lines.get("HugePages_Total"):
            yield unknown(
                "commit_limit", why="this kernel does not print Hugetlb, all sizes of huge pages"
            )
            return
        hugetlb_kib = 0
    swap = line_of(snapshot, "SwapTotal") // page_kib
    ratio = snapshot.sysctl_number("vm/overcommit_ratio")
    kbytes = snapshot.sysctl_number("vm/overcommit_kbytes")
    predicted = model.commit_limit_pages(
        total_pages=total,
        hugetlb_pages=hugetlb_kib // page_kib,
        swap_pages=swap,
        overcommit_ratio=ratio,
        overcommit_kbytes=kbytes,
        page_size_bytes=snapshot.page_size_bytes,
    )
    share = (
        f"overcommit_kbytes {kbytes} / {page_kib}"
        if kbytes
        else f"({total} - {hugetlb_kib // page_kib} of hugetlb) * {ratio} / 100"
    )
    yield exact(
        "commit_limit",
        {},
        predicted=predicted * page_kib,
        observed=line_of(snapshot, "CommitLimit"),
        unit="KiB",
        working=[
            f"pages of {page_kib} KiB: {share} + {swap} of swap = {predicted}",
            f"{predicted} * {page_kib} KiB = {predicted * page_kib} KiB",
        ],
    )


def _pools(snapshot: Snapshot) -> dict[int, int]:
    names = ((name, _POOL.search(name)) for name in snapshot.source.files)
    return {int(match[1]): snapshot.number(name) for name, match in names if match}


def _hugetlb(snapshot: Snapshot) -> Iterator[Claim]:
    pools = _pools(snapshot)
    if not pools:
        raise MissingInputError("sys/kernel/mm/hugepages/*/nr_hugepages")
    yield exact(
        "hugetlb_total",
        {},
        predicted=model.hugetlb_kib(pools),
        observed=line_of(snapshot, "Hugetlb"),
        unit="KiB",
        working=[
            " + ".join(f"{n} * {size} KiB" for size, n in sorted(pools.items()))
            + f" = {model.hugetlb_kib(pools)} KiB"
        ],
    )
    size = line_of(snapshot, "Hugepagesize")
    if size in pools:
        yield exact(
            "hugetlb_total",
            {"size_kib": size},
            predicted=pools[size],
            observed=line_of(snapshot, "HugePages_Total"),
            unit="huge pages",
            working=[f"the pool of {size} KiB, the default size, has {pools[size]}"],
        )


def _hugepage_size(snapshot: Snapshot) -> Iterator[Claim]:
    observed = line_of(snapshot, "Hugepagesize")
    given = snapshot.cmdline.last("default_hugepagesz")
    if given is not None:
        match = _SIZE.match(given)
        if match is None:
            yield unknown("hugepage_size", why=f"default_hugepagesz={given} is no size")
            return
        predicted = int(match[1]) << {"": 0, "k": 10, "m": 20, "g": 30}[match[2].lower()]
        predicted //= 1024
        working = f"default_hugepagesz={given} is {predicted} KiB"
        if predicted not in _pools(snapshot):
            yield unknown("hugepage_size", why=f"this machine may not have {given}")
            return
    else:
        pae = snapshot.arch != "i386" or snapshot.config.on("X86_PAE")
        try:
            predicted = model.default_hugepage_kib(snapshot.arch, snapshot.page_size_bytes, pae=pae)
        except ValueError as error:
            yield unknown("hugepage_size", why=str(error))
            return
        entry = 8 if pae else 4
        working = (
            f"a page of {snapshot.page_size_bytes} B holds {snapshot.page_size_bytes // entry} "
            f"entries of {entry} B, each for a page: {predicted} KiB"
        )
    yield exact(
        "hugepage_size",
        {},
        predicted=predicted,
        observed=observed,
        unit="KiB",
        working=[working],
    )


def _hugepages_nest(snapshot: Snapshot) -> Iterator[Claim]:
    total, free, reserved, surplus = (
        line_of(snapshot, f"HugePages_{name}") for name in ("Total", "Free", "Rsvd", "Surp")
    )
    law = "reserved <= free <= total, surplus <= total"
    nests = model.hugepages_nest(total=total, free=free, reserved=reserved, surplus=surplus)
    yield exact(
        "hugepages_nest",
        {},
        predicted=law,
        observed=law
        if nests
        else f"reserved {reserved}, free {free}, total {total}, surplus {surplus}",
        unit="huge pages",
        working=[f"{reserved} <= {free} <= {total}, {surplus} <= {total}"],
    )


def _swap(snapshot: Snapshot) -> Iterator[Claim]:
    text = snapshot.text("proc/swaps")
    rows = [line.split() for line in text.splitlines()[1:]]
    sizes = [int(row[-3]) for row in rows if len(row) >= 5 and row[-3].isdecimal()]
    if len(sizes) != len(rows):
        yield unknown("swap_total", why="proc/swaps has a line without a size")
        return
    yield exact(
        "swap_total",
        {},
        predicted=model.together(*sizes),
        observed=line_of(snapshot, "SwapTotal"),
        unit="KiB",
        working=[f"{len(sizes)} swap areas: {' + '.join(map(str, sizes)) or 0} KiB"],
    )


RULES: tuple[Rule, ...] = (
    Rule(
        id="meminfo_sums",
        says=(
            "meminfo reads each counter once and prints sums from the same values: Active and "
            "Inactive add anon and file, Slab adds what can be reclaimed and what cannot, "
            "low memory is what is not highmem. So these lines are exact whatever happens "
            "meanwhile."
        ),
        inputs=(FILE,),
        observed="meminfo: Active, Inactive, Slab, LowTotal, LowFree",
        model=(model.together, model.lowmem),
        judge=_sums,
    ),
    Rule(
        id="commit_limit",
        says=(
            "What may be committed under vm.overcommit_memory=2: the share "
            "vm.overcommit_ratio of the memory without huge pages, or vm.overcommit_kbytes where "
            "that is set, and all of swap. It is computed, and printed, whatever the policy is."
        ),
        inputs=(FILE, "proc/sys/vm/overcommit_ratio", "proc/sys/vm/overcommit_kbytes"),
        observed="meminfo, CommitLimit",
        model=(model.commit_limit_pages,),
        judge=_commit_limit,
    ),
    Rule(
        id="hugetlb_total",
        says="Hugetlb is the memory in the pools of huge pages of all sizes.",
        inputs=("sys/kernel/mm/hugepages/*/nr_hugepages",),
        observed="meminfo: Hugetlb, HugePages_Total",
        model=(model.hugetlb_kib,),
        judge=_hugetlb,
    ),
    Rule(
        id="hugepage_size",
        says=(
            "The default huge page is what one entry of the table above the last one maps: as "
            "many pages as entries fit into a page. default_hugepagesz= chooses another size."
        ),
        inputs=("config", "proc/cmdline"),
        observed="meminfo, Hugepagesize",
        model=(model.default_hugepage_kib,),
        judge=_hugepage_size,
    ),
    Rule(
        id="hugepages_nest",
        says=(
            "Reserved huge pages are backed by free ones, free and surplus ones are part of the "
            "pool."
        ),
        inputs=(FILE,),
        observed="meminfo, HugePages_*",
        model=(model.hugepages_nest,),
        judge=_hugepages_nest,
    ),
    Rule(
        id="swap_total",
        says="SwapTotal is the sum of the sizes of all swap areas that are switched on.",
        inputs=("proc/swaps",),
        observed="meminfo, SwapTotal",
        model=(model.together,),
        judge=_swap,
    ),
)
