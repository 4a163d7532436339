"""How many requests a second the compiled model predicts, beside the plain one and a bare copy.

The window is made by the model itself, playing the kernel: bursts of single movable pages that
come onto LRU lists and are freed again, slabs in between, and blocks of orders 1 to 3, on two
CPUs with the per-cpu lists of a 512 MiB guest.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from random import Random

from analysis.model.allocator.allocator import Allocator, Request
from analysis.model.compiled.pack import pack
from analysis.model.freelist import Migratetype
from analysis.model.release import Release
from analysis.replay.compiled_prediction import CompiledPredictor
from analysis.replay.compiled_state import CompiledState
from analysis.replay.misses import Prediction
from analysis.replay.prediction import Predictor
from analysis.replay.step import Kind, Step
from analysis.replay.step_arrays import ArraySteps, pack_steps
from tests.allocator_model import GFP_KERNEL, GFP_USER_MOVABLE, fill, make_allocator, make_zone
from tests.bench.bench_tables import timed

STEPS = int(os.environ.get("MMSCOPE_BENCH_STEPS", "300000"))
RELEASES = {"6.1": Release(6, 1), "7.3": Release(7, 3)}
TYPES = tuple(Migratetype)
_PAGEBLOCKS = 256
_PLAIN_STEPS = 20_000
_CPUS = 2


def run() -> list[tuple[str, float, str]]:
    """Rows of name, value, unit."""
    rows: list[tuple[str, float, str]] = []
    for name, release in RELEASES.items():
        steps = _window(_allocator(release))
        arrays = pack_steps(steps)
        requests = arrays.rows[arrays.rows["kind"] == Kind.ALLOCATE]
        compiled_s = _fastest(_compiled(release, arrays))
        plain_s = timed(_plain(release, steps[:_PLAIN_STEPS]))[1]
        copy_s = _fastest(arrays.rows.copy)
        rate = len(arrays) / compiled_s
        rows += [
            (f"predict {name}: requests of all kinds", len(arrays), "requests"),
            (f"predict {name}: of these allocations", len(requests), "requests"),
            (f"predict {name}: rate (budget 3 M/s)", rate / 1e6, "M requests/s"),
            (f"predict {name}: plain model", _PLAIN_STEPS / plain_s / 1e6, "M requests/s"),
            (f"predict {name}: ratio to the plain model", rate * plain_s / _PLAIN_STEPS, "x"),
            (f"predict {name}: baseline, copy the requests", copy_s, "s"),
            (f"predict {name}: ratio to copying", compiled_s / copy_s, "x"),
        ]
    return rows


def _fastest(function: Callable[[], object]) -> float:
    """Of five times, in seconds."""
    return min(timed(function)[1] for _ in range(5))


def _allocator(release: Release) -> Allocator:
    zone = make_zone(
        release=release,
        pageblocks=_PAGEBLOCKS,
        watermarks=(700, 900, 1100),
        cpus=_CPUS,
        threshold=20,
    )
    fill(zone, [(pfn, 10, Migratetype.MOVABLE) for pfn in range(0, _PAGEBLOCKS << 9, 1024)])
    return make_allocator(zone, cpus=_CPUS, batch=63, high=378, high_max=4096)


def _window(allocator: Allocator) -> list[Step]:
    """Steps with the answers of the compiled model, from the state of a plain one."""
    random = Random(1)
    kernel = CompiledState(pack(allocator), allocator.cpu_nodes)
    steps: list[Step] = []
    bursts: list[list[tuple[int, int]]] = []
    while len(steps) < STEPS:
        cpu = random.randrange(_CPUS)
        held = sum(1 << order for burst in bursts for _, order in burst)
        if bursts and held > (_PAGEBLOCKS << 9) // 2:
            for pfn, order in bursts.pop(random.randrange(len(bursts))):
                _free(kernel, steps, cpu, pfn, order)
            continue
        movable = random.random() < 0.8
        order = 0 if random.random() < 0.9 else random.randint(1, 3)
        pages = random.randint(16, 4096 if movable else 256) >> order
        bursts.append([_allocate(kernel, steps, cpu, order, movable=movable) for _ in range(pages)])
    return steps


def _allocate(
    kernel: CompiledState, steps: list[Step], cpu: int, order: int, *, movable: bool
) -> tuple[int, int]:
    kind = Migratetype.MOVABLE if movable else Migratetype.UNMOVABLE
    gfp = GFP_USER_MOVABLE if movable else GFP_KERNEL
    request = Request(cpu=cpu, node=0, order=order, gfp=gfp, migratetype=kind)
    choice = kernel.allocate(request)
    assert choice is not None, "the bench holds half of the memory at most"
    step = _step(steps, Kind.ALLOCATE, cpu, choice.pfn, order)
    step.gfp, step.migratetype, step.locked = gfp, int(kind), kernel.moves()[0]
    if movable:
        kernel.mark_movable(choice.pfn, order)
        _step(steps, Kind.ON_LRU, cpu, choice.pfn, 0)
    return choice.pfn, order


def _free(kernel: CompiledState, steps: list[Step], cpu: int, pfn: int, order: int) -> None:
    kernel.free(cpu, pfn, order)
    _step(steps, Kind.FREE, cpu, pfn, order).drained = kernel.moves()[1]


def _step(steps: list[Step], kind: Kind, cpu: int, pfn: int, order: int) -> Step:
    counter = len(steps) + 1
    step = Step(kind, counter, counter, cpu, 100 + cpu, 0)
    step.pfn, step.order, step.number = pfn, order, len(steps)
    steps.append(step)
    return step


def _compiled(release: Release, steps: ArraySteps) -> Callable[[], Prediction]:
    allocator = _allocator(release)
    states = [CompiledState(pack(allocator), allocator.cpu_nodes) for _ in range(6)]
    # Compiled, or taken from numba's cache, before the clock runs.
    _checked(CompiledPredictor(states.pop(), TYPES).run_arrays(steps), len(steps))
    return lambda: CompiledPredictor(states.pop(), TYPES).run_arrays(steps)


def _plain(release: Release, steps: list[Step]) -> Callable[[], Prediction]:
    predictor = Predictor(_allocator(release), TYPES)
    return lambda: predictor.run(steps)


def _checked(result: Prediction, steps: int) -> None:
    if result.exact != result.requests or result.unexplained or not steps:
        raise RuntimeError(f"the window of the bench is not predicted: {result}")
