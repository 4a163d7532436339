"""Prediction with the compiled model: the compiled loop, and decisions where it stops."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from analysis.model.compiled import layout as at
from analysis.model.freelist import Migratetype
from analysis.replay import compiled_run as run
from analysis.replay.compiled_run import Stop, runner
from analysis.replay.compiled_state import CompiledState, MemoryNotes
from analysis.replay.misses import Prediction
from analysis.replay.prediction import Predictor
from analysis.replay.step import Kind
from analysis.replay.step_arrays import ArraySteps
from analysis.replay.steps import Steps

_DRAINS = (Kind.DRAIN_ALL, Kind.DRAIN_BATCH, Kind.DECAY)


class CompiledPredictor(Predictor):
    """Does what ``Predictor`` does, in compiled code wherever model and kernel agree."""

    def __init__(
        self,
        state: CompiledState,
        migratetypes: Sequence[Migratetype],
        *,
        zone_pointers: Mapping[int, int] | None = None,
        node_pointers: Mapping[int, int] | None = None,
        page_shift: int = 12,
    ) -> None:
        super().__init__(
            state,
            migratetypes,
            zone_pointers=zone_pointers,
            node_pointers=node_pointers,
            page_shift=page_shift,
            notes=MemoryNotes(state.memory),
        )
        self._compiled = state
        self._type_numbers = np.array([int(kind) for kind in migratetypes], np.int64)
        self._nodes_by_cpu = np.full(int(state.memory[at.CPUS]), -1, np.int64)
        for cpu, node in state.cpu_nodes.items():
            self._nodes_by_cpu[cpu] = node
        self.stops = dict.fromkeys(Stop, 0)
        """How often the loop stopped, by reason."""

    def run_arrays(self, steps: ArraySteps) -> Prediction:
        """All steps; may be called again with later ones."""
        self.begin(steps)
        return self.advance()

    def begin(self, steps: Steps) -> None:
        """Goes on with these steps, which must be arrays."""
        assert isinstance(steps, ArraySteps), "the compiled loop takes steps as arrays"
        super().begin(steps)
        self._arrays = steps
        self._find_zones(steps)

    def _do(self, end: int) -> None:
        memory, steps = self._compiled.memory, self._arrays
        words = np.zeros(run.RUN_WORDS, np.int64)
        words[run.AT] = self._next
        while True:
            stop = Stop(
                runner()(
                    memory,
                    steps.rows[:end],
                    steps.blocks,
                    self._type_numbers,
                    self._nodes_by_cpu,
                    self._early,
                    self._late_words(),
                    len(self._late),
                    words,
                )
            )
            self.stops[stop] += 1
            if stop is Stop.END:
                break
            self._decide(stop, steps, words)
            words[run.AT] += 1
        self._next = end
        self._count(words)

    def _decide(self, stop: Stop, steps: ArraySteps, words: run.Words) -> None:
        step = steps[int(words[run.AT])]
        answer = int(words[run.ANSWER])
        if stop is Stop.CHOICE:
            choice = self._compiled.choice(answer)
            locked, _ = self.state.moves()
            self._judge_choice(step, choice, locked, turned=bool(words[run.WAS_GIVEN]))
        elif stop is Stop.BULK:
            self._judge_bulk(step, answer)
        elif stop is Stop.DRAINED:
            self._check_drained(step)
        elif stop is Stop.OVERFULL:
            pieces = step.pieces if step.kind is Kind.FREE_RANGE else [(step.pfn, step.order)]
            self._finish_free(step, pieces[answer:])
        else:
            self._take(step)

    def _late_words(self) -> run.Words:
        late = [
            (free.before, free.cpu if by_interrupt else -1, free.pid, free.level)
            for free, by_interrupt in self._late
        ]
        return np.array([*late, (0, 0, 0, 0)], np.int64).reshape(-1)

    def _find_zones(self, steps: ArraySteps) -> None:
        """Notes the zone of every drain of which it is known."""
        for number in np.flatnonzero(np.isin(steps.rows["kind"], _DRAINS)).tolist():
            row = steps.rows[number]
            zone = self._zone_pointers.get(int(row["pointer"]), -1)
            if zone < 0 and row["drained"]:
                first = int(steps.blocks[row["blocks"] + row["locked"]])
                zone = self.state.zone_of(first >> at.MOVE_PFN)
            row["zone"] = zone

    def _count(self, words: run.Words) -> None:
        """Adds what the loop counted."""
        result = self.result
        result.requests += int(words[run.REQUESTS])
        result.exact += int(words[run.EXACT])
        result.ambiguous += int(words[run.AMBIGUOUS])
        result.given += int(words[run.GIVEN])
        result.turned += int(words[run.TURNED])
        result.bulk_pages += int(words[run.BULK_PAGES])
        result.frees += int(words[run.FREES])
        for name, word in (("refills", run.REFILLS), ("drains", run.DRAINS)):
            setattr(result, name, getattr(result, name) + int(words[word]))
            exact = f"{name}_exact"
            setattr(result, exact, getattr(result, exact) + int(words[word]))
        for word, reason in run.UNEXPLAINED.items():
            if words[word]:
                result.unexplained[reason] += int(words[word])
