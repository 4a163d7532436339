"""Tables against the strict parsers, and on disk and back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from analysis.bundle import Mark, Sample, open_bundle
from analysis.errors import BundleError, ParseError, TableError
from analysis.procfs import buddyinfo, fragindex, pagetypeinfo, slabinfo, vmstat, zoneinfo
from analysis.tables import TABLES, build_tables, read_tables, write_tables
from harness.record.frames import FrameType
from tests.bench.bench_tables import varied_rounds
from tests.recorded_run import FIXTURES, fixture_round, stream, write_run

KERNEL = "6.1-x86_64-3nodes"


@dataclass(frozen=True, slots=True, kw_only=True)
class Texts:
    """Samples without a run directory."""

    rounds: Sequence[Mapping[str, bytes]]
    marks: Sequence[Mark] = ()
    release: str | None = "6.1.0-56-amd64"

    @property
    def complete_rounds(self) -> Sequence[int]:
        return range(len(self.rounds))

    def samples(self) -> Iterator[Sample]:
        t_ns = 0
        for number, texts in enumerate(self.rounds):
            for name, payload in texts.items():
                t_ns += 10
                yield Sample(
                    name=name, round=number, start_ns=t_ns, end_ns=t_ns + 7, payload=payload
                )


def tables_of(*rounds: Mapping[str, bytes]) -> dict[str, pd.DataFrame]:
    return build_tables(Texts(rounds=rounds))


@pytest.fixture(scope="module")
def tables() -> dict[str, pd.DataFrame]:
    rounds = [fixture_round(KERNEL), fixture_round(KERNEL, 1)]
    rounds[1] = {name: text for name, text in rounds[1].items() if name != "slabinfo"}
    del rounds[1]["pagetypeinfo"]
    marks = [Mark(round=1, t_ns=400, label="null/0/idle")]
    return build_tables(Texts(rounds=rounds, marks=marks))


def test_all_tables_are_made_and_as_declared(tables: dict[str, pd.DataFrame]) -> None:
    assert list(tables) == list(TABLES)
    for name, frame in tables.items():
        schema = TABLES[name]
        assert list(frame.columns) == [column.name for column in schema.columns]
        for column in schema.columns:
            assert str(frame[column.name].dtype) == column.dtype, (name, column.name)
        assert len(frame), name
        if name != "slabinfo":
            assert not frame.duplicated(list(schema.key)).any(), name
        for label in set(frame.columns) - {"unit"}:
            assert frame[label].notna().all(), (name, label)


def test_every_column_tells_its_unit_and_meaning() -> None:
    for schema in TABLES.values():
        assert schema.about
        assert set(schema.key) <= {column.name for column in schema.columns}
        for column in schema.columns:
            assert column.about
            assert bool(column.unit) == (column.dtype in ("Int64", "Float64"))
    assert TABLES["slabinfo"].column("objsize").unit == "bytes"
    assert TABLES["slabinfo"].column("allochit").dtype == "Int64"
    with pytest.raises(KeyError):
        TABLES["vmstat"].column("none")


def test_rows_are_in_the_order_of_reading(tables: dict[str, pd.DataFrame]) -> None:
    for name, frame in tables.items():
        assert frame["t_ns"].is_monotonic_increasing, name
        assert frame.index.equals(pd.RangeIndex(len(frame))), name


def test_rounds_and_marks(tables: dict[str, pd.DataFrame]) -> None:
    rounds = tables["rounds"]
    assert rounds["round"].tolist() == [0, 1]
    assert rounds["sparse"].tolist() == [True, False]
    sources = len(fixture_round(KERNEL))
    assert rounds["t_ns"].tolist() == [10, 10 * (sources + 1)]
    assert rounds["t_end_ns"].tolist() == [10 * sources + 7, 10 * (2 * sources - 2) + 7]
    assert tables["marks"].to_dict("records") == [{"round": 1, "t_ns": 400, "label": "null/0/idle"}]


def expected_numbers(texts: Mapping[str, bytes]) -> dict[str, list[int]]:
    """The value columns that the strict parsers give for one round, by table."""
    decoded = {name: text.decode() for name, text in texts.items()}
    info = zoneinfo.parse(decoded["zoneinfo"])
    page = pagetypeinfo.parse(decoded["pagetypeinfo"])
    return {
        "buddyinfo": [
            count
            for name in ("buddyinfo", "buddyinfo.after")
            for row in buddyinfo.parse(decoded[name])
            for count in row.free_blocks
        ],
        "pagetypeinfo": [count for row in page.free for count in row.free_blocks],
        "pageblocks": [count for row in page.blocks for count in row.blocks.values()],
        "zoneinfo": [value for zone in info.zones for value in zone.fields.values()],
        "zone_cpus": [
            value for zone in info.zones for cpu in zone.cpus for value in cpu.fields.values()
        ],
        "node_stats": [v for stats in info.node_stats.values() for v in stats.values()],
        "slabinfo": [
            value for cache in slabinfo.parse(decoded["slabinfo"]).caches for value in cache.values
        ],
        "vmstat": list(vmstat.parse(decoded["vmstat"]).values.values()),
        "fragindex": [
            value
            for name in ("unusable_index", "extfrag_index")
            for row in fragindex.parse(decoded[name])
            for value in row.values_milli
        ],
    }


def test_fast_reading_equals_strict_parsing() -> None:
    """Rounds whose numbers all differ, in kernels with different fields, one after another."""
    rounds = [
        texts
        for kernel in (KERNEL, "7.2-x86_64-3nodes", KERNEL)
        for texts in varied_rounds(kernel, 3, seed=5)
    ]
    made = tables_of(*rounds)
    for number, texts in enumerate(rounds):
        for name, numbers in expected_numbers(texts).items():
            frame = made[name][made[name]["round"] == number]
            found = frame[[c for c in frame.columns if c not in _LABELS]].to_numpy(np.int64)
            assert found.ravel().tolist() == numbers, (name, number)


_LABELS = {
    *("round", "t_ns", "t_end_ns", "bracket", "node", "zone", "order", "migratetype"),
    *("is_bound", "field", "cpu", "cache", "index"),
}


def test_labels_stand_beside_their_numbers() -> None:
    made = tables_of(*varied_rounds(KERNEL, 2))
    second = list(varied_rounds(KERNEL, 2))[1]
    info = zoneinfo.parse(second["zoneinfo"].decode())
    frame = made["zoneinfo"][made["zoneinfo"]["round"] == 1]
    found = frame.set_index(["node", "zone", "field"])["value"].to_dict()
    assert found == {
        (zone.node, zone.zone, field): value
        for zone in info.zones
        for field, value in zone.fields.items()
    }
    caches = slabinfo.parse(second["slabinfo"].decode())
    slabs = made["slabinfo"][made["slabinfo"]["round"] == 1]
    assert slabs["cache"].tolist() == [cache.name for cache in caches.caches]
    place = caches.columns.index("objsize")
    assert slabs["objsize"].tolist() == [cache.values[place] for cache in caches.caches]


def test_a_digit_in_a_name_is_part_of_the_name() -> None:
    """Two texts that differ only in digits may still name different things."""
    row = b" 1 1 64 64 1 : tunables 0 0 0 : slabdata 1 1 0\n"
    head = b"".join(fixture_round(KERNEL)["slabinfo"].splitlines(keepends=True)[:2])
    names = [b"kmalloc-64", b"kmalloc-96", b"kmalloc-64"]
    made = tables_of(*({"slabinfo": head + name + row} for name in names))
    assert made["slabinfo"]["cache"].tolist() == [name.decode() for name in names]


def test_fields_that_come_and_go() -> None:
    made = tables_of({"vmstat": b"a 1\n"}, {"vmstat": b"a 2\nb 3\n"}, {"vmstat": b"a 4\n"})
    assert made["vmstat"][["round", "field", "value"]].to_numpy().tolist() == [
        [0, "a", 1],
        [1, "a", 2],
        [1, "b", 3],
        [2, "a", 4],
    ]


def test_bounds_and_statistics() -> None:
    synthetic = FIXTURES / "synthetic"
    made = tables_of(
        {"pagetypeinfo": (synthetic / "pagetypeinfo-bounds").read_bytes()},
        {
            "slabinfo": (synthetic / "slabinfo-statistics").read_bytes(),
            "extfrag_index": (synthetic / "extfrag_index-negative").read_bytes(),
        },
        {"slabinfo": fixture_round(KERNEL)["slabinfo"]},
    )
    page = made["pagetypeinfo"]
    assert page[page["is_bound"]]["free_blocks"].tolist() == [100000] * 4
    slab = made["slabinfo"]
    first = slab[slab["round"] == 1].iloc[0]
    assert (first["cache"], first["allochit"]) == ("dentry", 8400)
    assert slab[slab["round"] == 2]["allochit"].isna().all()
    assert made["fragindex"]["value_milli"].min() == -1000


def test_missing_units_are_missing(tables: dict[str, pd.DataFrame]) -> None:
    meminfo = tables["meminfo"]
    assert set(meminfo.loc[meminfo["field"] == "MemTotal", "unit"]) == {"kB"}
    assert meminfo.loc[meminfo["field"] == "HugePages_Total", "unit"].isna().all()


def test_threads(tables: dict[str, pd.DataFrame]) -> None:
    threads = tables["kthreads"]
    assert set(threads["thread"]) == {"kswapd0", "kcompactd0"}
    assert threads["node"].tolist() == [0] * 4
    assert (threads["t_end_ns"] - threads["t_ns"]).tolist() == [27] * 4
    alone = tables_of({"kswapd12/schedstat": b"5 6 7\n"})["kthreads"]
    assert alone["node"].tolist() == [12]
    assert alone["run_ns"].tolist() == [5]
    assert alone["utime_ticks"].isna().all()


@pytest.mark.parametrize(
    ("rounds", "where"),
    [
        ([{"vmstat": b"a 1\n"}, {"vmstat": b"a x\n"}], r"vmstat \(round 1\):1"),
        ([{"vmstat": b"a 1\n"}, {"vmstat": b"a 1"}], r"vmstat \(round 1\):1"),
        ([{"vmstat": b"a 1\nb 2\n"}, {"vmstat": b"a 1 2\nb\n"}], r"vmstat \(round 1\):1"),
        ([{"vmstat": b"a 1\n"}, {"vmstat": b"a 9223372036854775808\n"}], "63 bits"),
        ([{"vmstat": b"a 18446744073709551615\n"}], "63 bits"),
        ([{"extfrag_index": b"Node 0, zone DMA x \n"}], r"extfrag_index \(round 0\):1"),
        ([{"pressure/io": b"some\n"}], r"pressure/io \(round 0\):1"),
        ([{"kswapd0/stat": b"\n"}], r"kswapd0/stat \(round 0\):1"),
    ],
)
def test_malformed_sample(rounds: list[dict[str, bytes]], where: str) -> None:
    with pytest.raises(ParseError, match=where) as caught:
        tables_of(*rounds)
    assert caught.value.release == "6.1.0-56-amd64"


def test_largest_number() -> None:
    rounds = [{"vmstat": b"a 1\n"}, {"vmstat": b"a 9223372036854775807\n"}]
    assert tables_of(*rounds)["vmstat"]["value"].tolist() == [1, 2**63 - 1]


def test_source_without_a_table() -> None:
    with pytest.raises(BundleError, match="source 'softirqs': no table"):
        tables_of({"softirqs": b"1\n"})


def test_cut_off_round_is_not_a_round(tmp_path: Path) -> None:
    frames = list(stream([fixture_round(KERNEL), fixture_round(KERNEL)], end=False))
    cut = [f for f in frames if not (f.seq == 1 and f.type is FrameType.ROUND_END)][:-5]
    write_run(tmp_path, iter(cut))
    made = build_tables(open_bundle(tmp_path))
    assert made["rounds"]["round"].tolist() == [0]
    assert set(made["buddyinfo"]["round"]) == {0, 1}


def test_absent_source_has_no_table() -> None:
    assert tables_of({"vmstat": b"a 1\n"}).keys() == {"vmstat", "marks", "rounds"}
    made = tables_of({"vmstat": b"a 1\n"})
    assert str(made["marks"]["label"].dtype) == "category"


def test_disk_and_back(tables: dict[str, pd.DataFrame], tmp_path: Path) -> None:
    paths = write_tables(tables, tmp_path / "tables")
    assert sorted(path.name for path in paths) == sorted(f"{name}.parquet" for name in TABLES)
    assert sorted((tmp_path / "tables").iterdir()) == sorted(paths)
    back = read_tables(tmp_path / "tables")
    assert list(back) == list(tables)
    for name, frame in tables.items():
        pd.testing.assert_frame_equal(back[name], frame)


def test_files_tell_units_and_are_compressed(
    tables: dict[str, pd.DataFrame], tmp_path: Path
) -> None:
    write_tables(tables, tmp_path)
    file = pq.ParquetFile(tmp_path / "slabinfo.parquet")
    assert file.schema_arrow.field("objsize").metadata[b"unit"] == b"bytes"
    assert b'"key": ["round", "cache"]' in file.schema_arrow.metadata[b"mmscope"]
    assert file.metadata.row_group(0).column(3).compression == "ZSTD"


def test_empty_tables_come_back_too(tmp_path: Path) -> None:
    write_tables(tables_of({"vmstat": b"a 1\n"}), tmp_path)
    back = read_tables(tmp_path)
    assert back.keys() == {"vmstat", "marks", "rounds"}
    assert len(back["marks"]) == 0


def test_tables_of_an_older_analysis_go(tables: dict[str, pd.DataFrame], tmp_path: Path) -> None:
    write_tables(tables, tmp_path)
    write_tables(tables_of({"vmstat": b"a 1\n"}), tmp_path)
    assert read_tables(tmp_path).keys() == {"vmstat", "marks", "rounds"}


def test_what_is_not_a_table_is_not_written(
    tables: dict[str, pd.DataFrame], tmp_path: Path
) -> None:
    with pytest.raises(TableError, match="'other': none of that name"):
        write_tables({"other": tables["vmstat"]}, tmp_path)
    with pytest.raises(TableError, match="table vmstat: columns"):
        write_tables({"vmstat": tables["meminfo"]}, tmp_path)
    with pytest.raises(TableError, match="column value is float64; expected Int64"):
        write_tables({"vmstat": tables["vmstat"].astype({"value": "float64"})}, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_read_back(tables: dict[str, pd.DataFrame], tmp_path: Path) -> None:
    with pytest.raises(TableError, match=r"marks\.parquet: no such table") as caught:
        read_tables(tmp_path)
    assert caught.value.fix
    write_tables(tables, tmp_path)
    whole = (tmp_path / "vmstat.parquet").read_bytes()
    (tmp_path / "vmstat.parquet").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(TableError, match=r"vmstat\.parquet: not a Parquet file"):
        read_tables(tmp_path)


def test_where_nothing_can_be_written(tables: dict[str, pd.DataFrame], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TableError, match="file"):
        write_tables(tables, tmp_path / "file" / "tables")
