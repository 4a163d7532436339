"""``mmscope replay --what-if`` and ``--export`` on a made request stream, as a user types them."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from analysis.replay.request_stream import follow
from analysis.replay.stream_columns import REQUESTS, STATE
from analysis.replay.stream_files import DESCRIPTION, REQUESTS_FILE, read_stream, write_stream
from harness.cli.app import app
from tests.made_stream import made_stream

run = CliRunner()
HISTORY = [(number % 11, number * 37) for number in range(60)]


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    stream, _ = made_stream(HISTORY[:20], HISTORY)
    write_stream(stream, follow(stream), tmp_path / "w.requests")
    return tmp_path / "w.requests"


def test_an_exported_stream_is_predicted(exported: Path) -> None:
    done = run.invoke(app, ["replay", str(exported), "--json"])
    assert done.exit_code == 0, done.output
    (window,) = json.loads(done.stdout)["windows"]
    assert window["pfn_match_pct"] == 100.0
    assert window["lists_in_order"] is True
    assert window["unusable_index_error"] == 0.0
    assert window["null_error"] > 0.0


def test_what_if_shows_three_states_and_draws(exported: Path) -> None:
    done = run.invoke(app, ["replay", str(exported), "--what-if", "mobility=off", "--json"])
    assert done.exit_code == 0, done.output
    (found,) = json.loads(done.stdout)["what_if"]
    assert found["options"] == ["mobility=off"]
    assert found["drift"] == {"pages_differing": 0, "lists_differing": 0, "same_page_pct": 100.0}
    (zone,) = found["zones"]
    assert zone["real"] == zone["as_recorded"]
    assert zone["what_if"]["free_blocks"] != zone["real"]["free_blocks"]
    assert zone["what_if"]["unusable_index"].keys() == {"4", "9"}
    assert "unusable share" in Path(found["figure"]).read_text(encoding="utf-8")


def test_what_if_as_a_table(exported: Path) -> None:
    path = exported / REQUESTS_FILE
    args = ["replay", str(path), "--what-if", "pcp=off", "--what-if", "steal=never", "--no-figures"]
    done = run.invoke(app, args)
    assert done.exit_code == 0, done.output
    rows = [line.split() for line in done.stdout.splitlines() if "node 0 DMA32" in line]
    assert [row[3] for row in rows] == ["kernel", "as", "what"]
    assert rows[2][6] == "0"
    assert not (exported / "figures").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--what-if", "mobilty=off"], "mobility=off, fallback=reversed"),
        (["--what-if", "steal=maybe"], "never|always"),
        (["--what-if", "pcp=off", "--export", "x"], "two things"),
    ],
)
def test_wrong_use_is_told(exported: Path, options: list[str], said: str) -> None:
    done = run.invoke(app, ["replay", str(exported), *options])
    assert done.exception is not None
    assert said in str(done.exception) or said in done.output


def test_every_column_says_its_unit_and_meaning(exported: Path) -> None:
    tables = {exported / REQUESTS_FILE: REQUESTS}
    tables |= {exported / "begin" / f"{name}.parquet": columns for name, columns in STATE.items()}
    for path, columns in tables.items():
        schema = pq.read_schema(path)
        assert schema.names == list(columns)
        for name, (unit, meaning) in columns.items():
            assert schema.field(name).metadata == {
                b"unit": unit.encode(),
                b"meaning": meaning.encode(),
            }
    readme = (exported / "README.md").read_text(encoding="utf-8")
    document = (Path(__file__).parents[2] / "docs/request-stream.md").read_text(encoding="utf-8")
    for name in REQUESTS:
        assert f"| {name} |" in readme
        assert f"`{name}`" in document


@pytest.mark.parametrize("spoiled", [REQUESTS_FILE, DESCRIPTION, "begin/blocks.parquet"])
def test_a_damaged_stream_is_refused(exported: Path, spoiled: str) -> None:
    (exported / spoiled).write_bytes((exported / spoiled).read_bytes()[:40])
    with pytest.raises(Exception, match="not a request stream"):
        read_stream(exported)


def test_nothing_of_others_is_written_over(exported: Path) -> None:
    (exported / "thesis.tex").write_text("years of work")
    done = run.invoke(app, ["replay", str(exported), "--export", str(exported)])
    assert "other files" in str(done.exception) or "other files" in done.output
