"""The model's choices held against a kernel's: what counts as exact, ambiguous, given, a miss."""

from __future__ import annotations

from analysis.model.allocator.allocator import Allocator
from analysis.model.freelist import Migratetype
from analysis.model.release import Release
from analysis.replay.misses import Miss, Prediction
from analysis.replay.prediction import Predictor
from analysis.replay.step import Kind, Step
from tests.allocator_model import GFP_KERNEL, fill, make_allocator, make_zone

U, M = Migratetype.UNMOVABLE, Migratetype.MOVABLE
TYPES = tuple(Migratetype)


def machine(release: Release | None = None, **options: int) -> Allocator:
    zone = make_zone(release=release or Release(6, 1))
    fill(zone, [(1024, 10, U)])
    return make_allocator(zone, **options)  # type: ignore[arg-type]


def step(kind: Kind, at: int, pfn: int, **more: object) -> Step:
    made = Step(kind, at, at, 0, 7, 0)
    made.pfn, made.gfp, made.migratetype = pfn, GFP_KERNEL, int(U)
    made.after, made.before = at - 1, at + 1
    for name, value in more.items():
        setattr(made, name, value)
    return made


def refill(first: int, count: int = 7) -> list[tuple[int, int]]:
    return [(pfn, 0) for pfn in range(first, first + count)]


def run(allocator: Allocator, *steps: Step) -> Prediction:
    return Predictor(allocator, TYPES).run(list(steps))


def test_the_very_page_and_refill_are_exact() -> None:
    result = run(
        machine(),
        step(Kind.ALLOCATE, 1, 1024, locked=refill(1024)),
        step(Kind.ALLOCATE, 2, 1025),
        step(Kind.FREE, 3, 1024),
        step(Kind.ALLOCATE, 4, 1024),
    )
    assert (result.requests, result.exact, result.match_pct) == (3, 3, 100.0)
    assert (result.refills, result.refills_exact) == (1, 1)
    assert result.first_divergence is None


def test_another_page_is_a_miss_and_does_not_spread() -> None:
    allocator = machine()
    result = run(
        allocator,
        step(Kind.ALLOCATE, 1, 1024, locked=refill(1024)),
        step(Kind.ALLOCATE, 2, 1027),  # nothing freed it to the head: the model cannot know
        step(Kind.ALLOCATE, 3, 1025),
        step(Kind.ALLOCATE, 4, 1026),
        step(Kind.ALLOCATE, 5, 1028),
    )
    assert result.exact == 4
    assert sum(result.misses.values()) == 1
    assert result.match_pct == 80.0
    assert result.first_misses[0].model_pfn == 1025
    assert allocator.pcps[0, 0].count == 2


def test_another_refill_is_a_divergence_before_any_wrong_page() -> None:
    blocks = [(1024, 0), (1025, 0), *refill(1100, 5)]
    allocator = machine()
    result = run(allocator, step(Kind.ALLOCATE, 1, 1024, locked=blocks))
    assert (result.exact, result.refills_exact, result.first_divergence) == (1, 0, 1)
    assert list(allocator.pcps[0, 0].lists[0]) == [pfn for pfn, _ in blocks[1:]]
    assert allocator.zones[0].free.free_pages == 1024 - 7


def test_an_unseen_taker_costs_one_miss() -> None:
    result = run(
        machine(),
        step(Kind.ALLOCATE, 1, 1024, locked=refill(1024)),
        step(Kind.ALLOCATE, 2, 1026),
        step(Kind.ALLOCATE, 3, 1027),
    )
    assert result.misses == {Miss.UNSEEN: 1}


def test_an_interrupt_between_choice_and_event_is_ambiguous() -> None:
    result = run(
        machine(),
        step(Kind.ALLOCATE, 1, 1024, locked=refill(1024)),
        step(Kind.ALLOCATE, 2, 1026, level=1, after=-1),
        step(Kind.ALLOCATE, 3, 1025, after=1),
    )
    # Neither of the two can be judged: in the other order both pages are the model's own.
    assert (result.requests, result.exact, result.ambiguous) == (3, 1, 2)
    assert not result.misses


def test_pages_freed_by_an_interrupt_may_lie_above_the_choice() -> None:
    result = run(
        machine(),
        step(Kind.ALLOCATE, 1, 1024, locked=refill(1024)),
        step(Kind.FREE, 2, 1024, level=1, after=-1),
        step(Kind.ALLOCATE, 3, 1025, after=1),
        step(Kind.ALLOCATE, 4, 1024),
    )
    assert (result.exact, result.ambiguous) == (2, 1)
    assert not result.misses


def test_without_an_interrupt_the_same_is_a_miss() -> None:
    result = run(
        machine(),
        step(Kind.ALLOCATE, 1, 1024, locked=refill(1024)),
        step(Kind.FREE, 2, 1024),
        step(Kind.ALLOCATE, 3, 1025, after=2),
    )
    assert result.ambiguous == 0
    assert sum(result.misses.values()) == 1


def test_drains_are_held_against_the_kernels() -> None:
    allocator = machine(batch=2, high=4)
    taken = [1024, 1025, 1026, 1027]
    steps = [
        step(Kind.ALLOCATE, at + 1, pfn, locked=[(pfn, 0), (pfn + 1, 0)] if not at % 2 else [])
        for at, pfn in enumerate(taken)
    ]
    steps += [step(Kind.FREE, 10 + at, pfn) for at, pfn in enumerate(taken[:3])]
    steps.append(step(Kind.FREE, 20, 1027, drained=[(1024, 0), (1025, 0)]))
    result = run(allocator, *steps)
    assert (result.drains, result.drains_exact) == (1, 1)
    assert result.first_divergence is None


def test_another_drain_is_set_right() -> None:
    allocator = machine(batch=2, high=4)
    taken = [1024, 1025, 1026, 1027]
    steps = [
        step(Kind.ALLOCATE, at + 1, pfn, locked=[(pfn, 0), (pfn + 1, 0)] if not at % 2 else [])
        for at, pfn in enumerate(taken)
    ]
    steps += [step(Kind.FREE, 10 + at, pfn) for at, pfn in enumerate(taken[:3])]
    steps.append(step(Kind.FREE, 20, 1027, drained=[(1025, 0), (1026, 0)]))
    result = run(allocator, *steps)
    assert result.drains_exact == 0
    assert result.first_divergence == 20
    assert sorted(allocator.pcps[0, 0].lists[0]) == [1024, 1027]


def test_a_free_may_come_before_kswapd_cuts_the_lists_short() -> None:
    def diverges(**begin: int) -> bool:
        allocator = machine(batch=1, high=20)
        taken = [1024, 1025, 1026, 1027]
        steps = [
            step(Kind.ALLOCATE, at + 1, pfn, locked=[(pfn, 0)]) for at, pfn in enumerate(taken)
        ]
        steps += [step(Kind.FREE, 10 + at, pfn) for at, pfn in enumerate(taken[:3])]
        steps.append(step(Kind.BALANCE_BEGIN, 20, -1, node=0, **begin))
        steps.append(step(Kind.FREE, 22, 1027))
        result = run(allocator, *steps)
        assert sorted(allocator.pcps[0, 0].lists[0]) == taken
        assert allocator.zones[0].reclaim_active
        return result.first_divergence == 22

    assert not diverges(cpu=1, before=23)
    assert diverges(cpu=1, before=21), "kswapd did something since: the flag is set"
    assert diverges(cpu=0, before=23), "kswapd has the CPU, and went on before this free"


def test_frees_of_pages_that_nobody_holds_are_unexplained() -> None:
    result = run(
        machine(),
        step(Kind.ALLOCATE, 1, 1024, locked=refill(1024)),
        step(Kind.FREE, 2, 1025),
    )
    assert sum(result.unexplained.values()) == 1


def test_captured_blocks_never_reach_a_list() -> None:
    zone = make_zone()
    allocator = make_allocator(zone)
    free = step(Kind.FREE_DIRECT, 1, 2048, order=5, captured={2048: 5})
    result = run(allocator, free, step(Kind.CAPTURED, 2, 2048, order=5))
    assert (result.given, result.requests) == (1, 0)
    assert zone.free.free_pages == 0


def test_a_list_that_compaction_turned_is_taken_as_found_and_not_judged() -> None:
    zone = make_zone()
    fill(zone, [(pfn, 4, M) for pfn in (512, 1024, 1536)])
    allocator = make_allocator(zone)
    ask = {"order": 4, "migratetype": int(M)}
    result = run(
        allocator,
        step(Kind.COMPACTION, 1, 0),
        step(Kind.ALLOCATE, 2, 1024, locked=[(1024, 4)], **ask),
        step(Kind.ALLOCATE, 3, 1536, locked=[(1536, 4)], **ask),
        step(Kind.ALLOCATE, 4, 512, locked=[(512, 4)], **ask),
    )
    assert (result.turned, result.rotations, result.exact) == (1, 1, 2)
    assert result.match_pct == 100.0


def test_dirty_pages_may_go_to_another_node_as_the_kernel_says() -> None:
    near = make_zone(number=0, node=0, cpus=2)
    far = make_zone(number=1, node=1, start_pfn=1 << 16, cpus=2)
    fill(near, [(1024, 10, U)])
    fill(far, [(1 << 16, 10, U)])
    allocator = make_allocator(near, far, cpus=2)
    far_pages = [((1 << 16) + n, 0) for n in range(7)]
    result = run(
        allocator,
        step(Kind.ALLOCATE, 1, 1 << 16, locked=far_pages, gfp=GFP_KERNEL | 0x1000, node=0),
    )
    assert (result.turned, result.exact, sum(result.misses.values())) == (1, 0, 0)
