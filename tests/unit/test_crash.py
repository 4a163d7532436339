"""Console lines that real kernels print when they die, and lines that only look like it."""

from __future__ import annotations

import pytest

from harness.machine.crash import FindingKind, LockupReports, recognise


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        (
            "[    1.2] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block",
            FindingKind.PANIC,
        ),
        (
            "[   70.1] Kernel panic - not syncing: System is deadlocked on memory",
            FindingKind.PANIC,
        ),
        (
            "[   12.0] Out of memory: Killed process 312 (stress-ng-vm) total-vm:270336kB",
            FindingKind.OOM_KILL,
        ),
        (
            "[    9.9] BUG: unable to handle page fault for address: ffffc90000dead00",
            FindingKind.OOPS,
        ),
        (
            "[    3.0] Unable to handle kernel NULL pointer dereference at virtual address 0",
            FindingKind.OOPS,
        ),
        ("[    3.0] kernel BUG at mm/page_alloc.c:1234!", FindingKind.OOPS),
        (
            "[   60.0] watchdog: BUG: soft lockup - CPU#1 stuck for 26s! [kswapd0:33]",
            FindingKind.LOCKUP,
        ),
        (
            "[   26.0] rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:",
            FindingKind.LOCKUP,
        ),
        (
            "[   26.0] rcu: INFO: rcu_preempt detected expedited stalls on CPUs/tasks: { 1-.... }",
            FindingKind.LOCKUP,
        ),
        ("rcu: INFO: rcu_sched self-detected stall on CPU", FindingKind.LOCKUP),
        (
            "[  242.7] INFO: task kworker/u4:2:34 blocked for more than 120 seconds.",
            FindingKind.LOCKUP,
        ),
        (
            "[  242.7] INFO: task Web Content:931 blocked in I/O wait for more than 122 seconds.",
            FindingKind.LOCKUP,
        ),
        (
            "[   60.0] BUG: workqueue lockup - pool cpus=0 node=0 flags=0x0 nice=0 stuck for 33s!",
            FindingKind.LOCKUP,
        ),
        (
            "[   60.0] watchdog: Watchdog detected hard LOCKUP on cpu 0",
            FindingKind.LOCKUP,
        ),
        ("mmscope: failed: no disk with serial mmscope-root", FindingKind.INIT_FAILED),
    ],
)
def test_findings(line: str, kind: FindingKind) -> None:
    finding = recognise(line)
    assert finding is not None
    assert finding.kind is kind
    assert finding.line == line


@pytest.mark.parametrize(
    "line",
    [
        "[    0.0] Kernel command line: console=ttyS0 panic=-1",
        "[    0.1] printk: debug: ignoring loglevel setting.",
        "[    0.5] page_owner is disabled",
        "mmscope: ready",
        "echo mmscope: failed: typed by a person",
    ],
)
def test_harmless_lines(line: str) -> None:
    assert recognise(line) is None


def test_only_a_dying_guest_is_fatal() -> None:
    oom = recognise("Out of memory: Killed process 1 (x)")
    panic = recognise("Kernel panic - not syncing: x")
    assert oom is not None
    assert panic is not None
    assert (oom.is_fatal, panic.is_fatal) == (False, True)


def test_a_report_of_a_lockup_is_told_from_what_else_is_printed() -> None:
    lines = [
        ("[   25.9] virtio_blk virtio1: 2/0/0 default/read/poll queues", False),
        ("mmscope# [   26.045061] rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:", True),
        ("[   26.048014] rcu: All QSes seen, last rcu_preempt kthread activity 5252", True),
        ("a program's line, without a time", False),
        ("[   26.9] RIP: 0010:__alloc_pages+0x20f/0x330", True),
        ("[   36.1][    C1] rcu: rcu_preempt kthread starved for 5252 jiffies!", True),
        ("[    0.000000] Linux version 6.1", False),
        ("[   38.1] EXT4-fs (vda): mounted filesystem", False),
        ("[   60.420970] watchdog: BUG: soft lockup - CPU#0 stuck for 52s! [dd:104]", True),
        ("[   72.5] random: crng init done", False),
    ]
    reports = LockupReports()
    assert [(line, reports.covers(line, recognise(line))) for line, _ in lines] == lines


def test_without_times_a_report_has_so_many_lines() -> None:
    reports = LockupReports()
    headline = "watchdog: BUG: soft lockup - CPU#0 stuck for 52s! [dd:104]"
    expected = [reports.expects_lines]
    assert reports.covers(headline, recognise(headline))
    expected.append(reports.expects_lines)
    stack = [reports.covers("  ? vfs_read+0xa2/0x310", None) for _ in range(200)]
    expected.append(reports.expects_lines)
    assert stack == [True] * sum(stack) + [False] * (200 - sum(stack))
    assert 60 < sum(stack) < 200
    assert expected == [False, True, False]
