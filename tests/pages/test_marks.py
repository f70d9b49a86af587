"""Contested and withdrawn rows: kept, marked and shown; a withdrawn one has no rank, and nothing rests on it."""

from pathlib import Path

import pytest

from benchmark.errors import BenchError
from benchmark.files import PUBLISHED
from benchmark.pages import leaderboard, site
from benchmark.pages.tables import tabulate
from benchmark.recording import marks
from benchmark.recording.marks import Mark, Marks
from benchmark.recording.record import Record
from tests.record_factory import made, save

GAPS = {"global": 2.0, "local_3x3_head": 1.5, "doubted": 1.0, "gone": 0.5}
REASON = "its <b>images</b> were the test images"


def board() -> list[Record]:
    return [made(gap + 0.01 * seed, layout=layout, seed=seed) for layout, gap in GAPS.items() for seed in range(3)]


def mark(layout: str, state: str, **fields: object) -> Mark:
    names = {"recipe": "mini", "dataset": "dead_leaves8", "model": "dit_mini", "layout": layout, "subset": 16}
    return Mark(**names | {"state": state, "reason": REASON, "day": "2026-11-26"} | fields)


def written(folder: Path, *found: Mark) -> Path:
    records = save(board(), folder / "leaderboard" / "records")
    lines = ["[[mark]]\n" + "".join(f"{name} = {value!r}\n" for name, value in vars(one).items()) for one in found]
    (records.parent / marks.FILE).write_text("\n".join(lines))
    return records


def test_a_withdrawn_row_is_shown_without_a_rank_and_the_others_are_ranked_without_it() -> None:
    (plain,), (table,) = tabulate(board()), tabulate(board(), Marks([mark("gone", "withdrawn"), mark("doubted", "contested")]))
    (without,) = tabulate([one for one in board() if one.row.layout != "gone"])
    rows = {row.series.layout: row for row in table.rows}
    assert [row.series.layout for row in plain.rows][0] == "gone" and table.rows[-1].series.layout == "gone"
    assert rows["gone"].rank is None and rows["gone"].equal_steps is None and rows["gone"].mark.state == "withdrawn"
    assert rows["gone"].psnr_gap == plain.rows[0].psnr_gap  # its own numbers stay
    assert {row.series.layout: row.rank for row in without.rows} == {name: row.rank for name, row in rows.items() if name != "gone"}
    assert rows["doubted"].rank is not None and rows["doubted"].mark.state == "contested" and rows["global"].mark is None


def test_nothing_is_compared_with_a_withdrawn_baseline() -> None:
    (table,) = tabulate(board(), Marks([mark("global", "withdrawn")]))
    assert all(row.equal_steps is None and row.equal_fit is None for row in table.rows)


def test_the_pages_show_the_mark_and_the_reason_as_text(tmp_path: Path) -> None:
    records = written(tmp_path, mark("gone", "withdrawn"), mark("doubted", "contested"))
    out = records.parent
    leaderboard.build(records, out, PUBLISHED)
    short, tables = ((out / name).read_text() for name in (leaderboard.PAGE, leaderboard.TABLES))
    assert "gone<br>**withdrawn**" in short and "doubted<br>**contested**" in short
    assert "**withdrawn** (2026-11-26): its &#60;b&#62;images" in tables and "<b>" not in tables
    found = {row["layout"]: row["mark"] for row in leaderboard.as_json(records)["tables"][0]["rows"]}
    assert found["gone"]["state"] == "withdrawn" and found["gone"]["reason"] == REASON and found["global"] is None
    site.build(site.Sources(records, tmp_path / "submissions", PUBLISHED, PUBLISHED.parent / "RULES.md"), tmp_path / "site")
    page = (tmp_path / "site/rows/mini/dead_leaves8/dit_mini-gone-n16.html").read_text()
    assert '<span class="badge withdrawn">withdrawn</span>' in page and "&lt;b&gt;images" in page and "no claim rests on it" in page
    assert "gone" not in (tmp_path / "site/index.html").read_text()  # neither first nor in the headline
    rules = (tmp_path / "site/rules.html").read_text()
    assert "A row is never deleted" in rules and "it has no rank, and no comparison and no claim rests on it" in rules
    other = (tmp_path / "site/rows/mini/dead_leaves8/dit_mini-doubted-n16.html").read_text()
    assert '<span class="badge contested">contested</span>' in other and "keeps its rank" in other


def test_claims_rest_on_what_stands() -> None:
    records = board()
    gone = Marks([mark("local_3x3_head", "withdrawn")])
    assert {one.row.layout for one in gone.standing(records)} == GAPS.keys() - {"local_3x3_head"}
    assert Marks([mark("doubted", "contested")]).standing(records) == records


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ((mark("nowhere", "contested"),), "no record is of dit_mini nowhere on dead_leaves8, N = 16"),
        ((mark("gone", "contested"), mark("gone", "withdrawn")), "marked twice"),
    ],
)
def test_a_mark_names_one_row_that_is_there(tmp_path: Path, found: tuple[Mark, ...], said: str) -> None:
    records = written(tmp_path, *found)
    with pytest.raises(BenchError, match=said):
        marks.read(records.parent, board())


@pytest.mark.parametrize("text", ["[[mark]]\nstate = 'contested'", "no toml", "[[mark]]\nmodel = 3"])
def test_what_is_no_mark_is_refused_by_name(tmp_path: Path, text: str) -> None:
    (tmp_path / marks.FILE).write_text(text)
    with pytest.raises(BenchError, match=r"marks\.toml are not valid"):
        marks.read(tmp_path, [])
