"""What kswapd's steps do to a model: boosts, thresholds, and whether it waits to be woken."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from analysis.replay.model_state import ModelState
from analysis.replay.step import Kind, Step


class Kswapds:
    """The daemons of all nodes, as far as the allocator notices them.

    Kernel: mm/vmscan.c, ``balance_pgdat`` and ``kswapd_try_to_sleep``; 6.1 to 7.3.

    Ignores: which pages they free, which is taken from the trace.
    """

    def __init__(
        self, state: ModelState, node_pointers: Mapping[int, int], page_shift: int
    ) -> None:
        self._state = state
        self._node_pointers = node_pointers
        self._page_shift = page_shift
        self._boosts: dict[int, list[tuple[int, int]]] = {}
        """By pid: zones that it balances, and their boosts when it began."""
        self._begun: dict[int, Step] = {}
        """The begin of kswapd's balancing, by zone, while that lasts."""
        self.act: Mapping[Kind, Callable[[Step], object]] = {
            Kind.BALANCE_BEGIN: self._begin,
            Kind.BOOST_END: self._end_boost,
            Kind.BALANCE_END: self._end,
            Kind.KSWAPD_WAKE: lambda step: state.set_kswapd(step.node, awake=True),
            Kind.KSWAPD_SLEEP: lambda step: state.set_kswapd(step.node, awake=False),
            Kind.THRESHOLD: self._set_threshold,
        }

    def may_not_have_begun(self, zone: int, step: Step) -> bool:
        """Whether one on another CPU may not have set ZONE_RECLAIM_ACTIVE before this step.

        It is set a while after the probe at the entry, and per-cpu lists are cut short by it.
        Kernel: mm/vmscan.c, ``set_reclaim_active``.
        """
        begin = self._begun.get(zone)
        return begin is not None and begin.cpu != step.cpu and begin.before > step.effect

    def _node(self, step: Step) -> int | None:
        return step.node if step.node >= 0 else self._node_pointers.get(step.pointer)

    def _zones(self, step: Step) -> list[int]:
        node = self._node(step)
        nodes = self._state.zone_nodes
        return [zone for zone, its in enumerate(nodes) if node is None or its == node]

    def _begin(self, step: Step) -> None:
        zones = self._zones(step)
        self._boosts[step.pid] = [(zone, self._state.begin_balance(zone)) for zone in zones]
        self._begun.update(dict.fromkeys(zones, step))

    def _end_boost(self, step: Step) -> None:
        for zone, boost in self._boosts.pop(step.pid, []):
            self._state.end_balance(zone, boost)
            self._begun.pop(zone, None)

    def _end(self, step: Step) -> None:
        self._end_boost(step)
        node = self._node(step)
        if node is not None and step.count:
            self._state.set_kswapd(node, awake=False)

    def _set_threshold(self, step: Step) -> None:
        for zone in self._zones(step):
            self._state.set_threshold(zone, self._page_shift, under_pressure=bool(step.count))
