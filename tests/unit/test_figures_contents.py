"""What the figures say, held against the tables that they were drawn from."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from analysis.figures import (
    activity,
    free_orders,
    kthreads,
    stimulus,
    style,
    unusable,
    watermarks,
)
from analysis.figures.facts import FigureFacts
from analysis.figures.files import svg_bytes
from analysis.figures.stimulus import step_label
from analysis.figures.timeline import read_timeline, turning_points
from analysis.figures.zones import Zone, memoryless_nodes, populated_zones
from tests.synthetic_tables import NUMA2, NUMA4, UMA, Shape, make_tables

FACTS = FigureFacts(kernel="6.1.0-37-arm64", arch="arm64", page_size_bytes=4096)


def headline(figure: Figure) -> str:
    return figure.texts[0].get_text().replace("\n", " ")


def remarks(figure: Figure) -> str:
    titles = [axes.get_title(loc) for axes in figure.axes for loc in ("left", "right")]
    return " | ".join(titles)


def marks(*labels: tuple[float, str]) -> dict[str, pd.DataFrame]:
    """Tables of a run of ten seconds with these marks, times in seconds."""
    return {
        "rounds": pd.DataFrame({"round": [0, 1], "t_ns": [5_000_000_000, 15_000_000_000]}),
        "marks": pd.DataFrame(
            {
                "round": range(len(labels)),
                "t_ns": [5_000_000_000 + int(at_s * 1e9) for at_s, _ in labels],
                "label": [label for _, label in labels],
            }
        ),
    }


def test_phases_are_read_from_their_marks() -> None:
    timeline = read_timeline(
        marks((1, "settle/end"), (2, "null/begin"), (3, "null/1/idle"), (4, "null/end"))
    )
    assert [(p.name, p.start_s, p.end_s) for p in timeline.phases] == [
        ("settle", 0.0, 1.0),
        ("null", 2.0, 4.0),
    ]
    assert timeline.marks_s == (3.0,)
    assert timeline.end_s == 10.0


def test_a_phase_without_its_end_lasts_to_the_end_and_says_so() -> None:
    (phase,) = read_timeline(marks((4, "anon/begin"))).phases
    assert (phase.start_s, phase.end_s, phase.ended) == (4.0, 10.0, False)
    assert phase.label == "anon (cut short)"


@pytest.mark.parametrize("phases", [8, 11])
def test_short_phases_are_named_or_counted(phases: int) -> None:
    names = [f"workload-{i}" for i in range(phases)]
    labels = [(4 + i / 10, f"{name}/begin") for i, name in enumerate(names)]
    labels += [(4.1 + i / 10, f"{name}/end") for i, name in enumerate(names)]
    tables = make_tables(Shape(zones=UMA, rounds=40)) | marks(*labels)
    svg = svg_bytes(watermarks.draw(tables, FACTS)).decode()
    named = sum(f">{name}<" in svg for name in names)
    assert named >= 8
    assert (f"+{phases - named} more" in svg) == (named < phases)


def test_thinning_keeps_every_corner() -> None:
    values = np.array([[1.0], [1.0], [1.0], [2.0], [2.0], [2.0], [2.0]])
    assert turning_points(values).tolist() == [0, 2, 3, 6]
    rng = np.random.default_rng(3)
    ragged = rng.integers(0, 2, (200, 3)).astype(float)
    kept = turning_points(ragged)
    for column in ragged.T:
        assert np.array_equal(np.interp(np.arange(200), kept, column[kept]), column)


def test_labels_are_spread_but_keep_their_order() -> None:
    placed = style.spread([0.5, 0.5, 0.52, 0.0], 0.1, 0.0, 1.0)
    assert sorted(range(4), key=lambda i: placed[i]) == [3, 0, 1, 2]
    ranked = sorted(placed)
    assert all(b - a >= 0.1 - 1e-6 for a, b in itertools.pairwise(ranked))
    assert style.spread([0.2, 0.8], 0.1, 0.0, 1.0) == [0.2, 0.8]


def test_zones_without_pages_are_left_out() -> None:
    tables = make_tables(Shape(zones=NUMA4, rounds=3))
    zones = populated_zones(tables, tables["zoneinfo"])
    assert Zone(node=3, zone="Normal") not in zones
    assert [zone.label for zone in zones[:3]] == ["node 0 DMA", "node 0 DMA32", "node 1 DMA32"]
    assert memoryless_nodes(tables) == [3]
    assert "no memory on node 3" in watermarks.draw(tables, FACTS).texts[1].get_text()


def test_free_memory_is_the_sum_over_zones_and_orders() -> None:
    tables = make_tables(Shape(zones=NUMA2, rounds=30))
    frame = tables["buddyinfo"]
    frame = frame[frame["bracket"] == "before"]
    pages = (frame["free_blocks"] * 2 ** frame["order"]).groupby(frame["round"]).sum()
    mib = (pages * 4 / 1024).to_numpy(dtype=float)
    assert headline(free_orders.draw(tables, FACTS)) == (
        f"Free memory went from {mib[0]:,.0f} to {mib[-1]:,.0f} MiB, "
        f"at the lowest {mib.min():,.0f} MiB"
    )


def test_larger_pages_make_more_mib() -> None:
    tables = make_tables(Shape(zones=UMA, rounds=3))
    large = FigureFacts(kernel="6.1", arch="arm64", page_size_bytes=65536)
    svg = svg_bytes(free_orders.draw(tables, large)).decode()
    assert "order, 64 KiB" in svg
    assert "64 MiB blocks" in svg


def test_unusable_headline_leaves_out_tiny_zones() -> None:
    tables = make_tables(Shape(zones=UMA, rounds=40))
    frame = tables["fragindex"]
    worst = frame[
        (frame["index"] == "unusable") & (frame["zone"] == "DMA32") & (frame["order"] == 10)
    ]["value_milli"].max()
    assert headline(unusable.draw(tables, FACTS)) == (
        f"At the worst moment {worst / 1000:.0%} of the free memory in node 0 DMA32 "
        "could not serve order 10"
    )


def test_watermarks_count_the_rounds_below_low() -> None:
    tables = make_tables(Shape(zones=UMA, rounds=20, phases=()))
    zoneinfo = tables["zoneinfo"].copy()
    hit = (
        (zoneinfo["zone"] == "DMA32")
        & (zoneinfo["field"] == "free")
        & zoneinfo["round"].isin([4, 5, 6])
    )
    low = int(
        zoneinfo[(zoneinfo["zone"] == "DMA32") & (zoneinfo["field"] == "low")]["value"].iloc[0]
    )
    zoneinfo.loc[hit, "value"] = low - low // 10
    figure = watermarks.draw(tables | {"zoneinfo": zoneinfo}, FACTS)
    assert "below low in 3 rounds" in remarks(figure)
    assert headline(figure) == "node 0 DMA32 fell to 90% of its low watermark"


def test_a_boost_is_told() -> None:
    figure = watermarks.draw(make_tables(Shape(zones=UMA, rounds=60)), FACTS)
    assert "boost up to" in remarks(figure)


def test_threads_are_added_up_over_the_run() -> None:
    tables = make_tables(Shape(zones=NUMA2, rounds=60))
    frame = tables["kthreads"]
    used = frame.groupby("thread", observed=True)["run_ns"].agg(
        lambda run_ns: run_ns.iloc[-1] - run_ns.iloc[0]
    )
    kswapd_ms = (used["kswapd0"] + used["kswapd1"]) / 1e6
    assert f"kswapd {kswapd_ms:,.0f} ms" in headline(kthreads.draw(tables, FACTS))


def test_threads_without_schedstat_are_read_in_ticks() -> None:
    tables = make_tables(Shape(zones=UMA, rounds=60))
    frame = tables["kthreads"].assign(run_ns=pd.array([pd.NA] * 120, dtype="Int64"))
    ticks = frame[frame["thread"] == "kswapd0"]["stime_ticks"]
    ms = (ticks.iloc[-1] - ticks.iloc[0]) * 10
    assert f"kswapd {ms:,.0f} ms" in headline(kthreads.draw(tables | {"kthreads": frame}, FACTS))


def test_a_thread_without_samples_is_named() -> None:
    figure = kthreads.draw(make_tables(Shape(zones=UMA, rounds=5, kcompactd=False)), FACTS)
    assert "kcompactd0: no samples" in remarks(figure)


def test_activity_adds_up_the_zones_of_an_event() -> None:
    tables = make_tables(Shape(zones=UMA, rounds=20))
    frame = tables["vmstat"]
    rows = frame[frame["field"].str.startswith("pgalloc_")].groupby("round")["value"].sum()
    assert f"{rows.iloc[-1] - rows.iloc[0]:,} allocated" in headline(activity.draw(tables, FACTS))


def test_an_exact_stimulus_is_called_exact() -> None:
    figure = stimulus.draw(make_tables(Shape(zones=NUMA2, rounds=5)), FACTS)
    assert headline(figure) == (
        "Kernel and model agree to the block at orders ≥ 5: all 264 counts equal"
    )


def test_a_single_block_off_is_seen() -> None:
    figure = stimulus.draw(make_tables(Shape(zones=UMA, rounds=5, off_blocks=3)), FACTS)
    assert headline(figure) == (
        "Kernel and model differ in 1 of 132 counts at orders ≥ 5, by at most 3"
    )
    assert any(text.get_text() == "+3" for axes in figure.axes for text in axes.texts)


def test_what_the_model_does_not_predict_is_not_counted_as_equal() -> None:
    tables = make_tables(Shape(zones=UMA, rounds=5))
    silent = tables["stimulus"].assign(predicted_blocks=pd.array([pd.NA] * 242, dtype="Int64"))
    figure = stimulus.draw(tables | {"stimulus": silent}, FACTS)
    assert "says nothing" in headline(figure)


@pytest.mark.parametrize(
    ("label", "short"),
    [
        ("pktring/0/before", "before"),
        ("pktring/1/take/64/5", "take 64\N{MULTIPLICATION SIGN}o5"),
        ("pktring/1/take/64/5/1", "take 64\N{MULTIPLICATION SIGN}o5 n1"),
        ("pktring/4/drop/1", "drop step 1"),
        ("something else", "something else"),
    ],
)
def test_steps_are_named_shortly(label: str, short: str) -> None:
    assert step_label(label) == short


def test_steps_stand_under_their_phase() -> None:
    tables = make_tables(Shape(zones=UMA, rounds=5))
    frame = tables["stimulus"].copy()
    later = frame["step"] > 5
    frame["label"] = frame["label"].astype(str)
    frame.loc[later, "label"] = frame["label"].str.replace("pktring", "second-ring")
    figure = stimulus.draw(tables | {"stimulus": frame}, FACTS)
    said = [text.get_text() for text in figure.axes[1].texts]
    assert {"pktring", "second-ring"} <= set(said)


def test_names_from_the_guest_are_plain_text() -> None:
    tables = make_tables(Shape(zones=UMA, rounds=5)) | marks(
        (1, "<script>$x^2$/begin"), (9, "<script>$x^2$/end")
    )
    tables["rounds"] = make_tables(Shape(zones=UMA, rounds=5))["rounds"]
    svg = svg_bytes(free_orders.draw(tables, FACTS)).decode()
    assert "<script>" not in svg
    assert "&lt;script&gt;$x^2$" in svg
