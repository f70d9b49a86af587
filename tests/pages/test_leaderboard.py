"""Records to the page: fresh and stale pages, tables, ranks, claims, pictures, and text from strangers."""

import io
import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from xml.etree import ElementTree

import pytest
from rich.console import Console
from scipy import stats

from benchmark.declaring.entries import load_suite
from benchmark.declaring.spec import spec_id
from benchmark.errors import BenchError
from benchmark.pages import leaderboard, plots
from benchmark.pages.alike import other_images
from benchmark.pages.claims import declared
from benchmark.pages.comparisons import judge
from benchmark.pages.tables import tabulate
from benchmark.pages.text import amount, escaped
from benchmark.pages.verdicts import verdict
from benchmark.recording import published, style
from benchmark.recording.record import METRIC_VERSION, Record, Score, path_of, write
from tests.record_factory import made, point, save, suites
from tests.records import make_record

PUBLISHED = Path(__file__).parents[2] / "leaderboard" / "published"
HOSTILE = "a|b`c<script>\n# d [e](http://evil.example) $x$ **f** \u202e_g_ @h ![i](j)"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A leaderboard of the mini and small suites, built once."""
    root = tmp_path_factory.mktemp("board")
    leaderboard.build(save(suites(), root / "records"), root, PUBLISHED)
    return root


@pytest.fixture
def board(built: Path, tmp_path: Path) -> Path:
    """A copy of it to spoil."""
    return Path(shutil.copytree(built, tmp_path / "board"))


def problems(root: Path) -> list[str]:
    return leaderboard.stale(root / "records", root, PUBLISHED)


def page(records: Sequence[Record], root: Path) -> str:
    """Build a leaderboard and return its page."""
    leaderboard.build(save(records, root / "records"), root, PUBLISHED)
    assert leaderboard.stale(root / "records", root, PUBLISHED) == []
    return "".join((root / name).read_text(encoding="utf-8") for name in ("README.md", "tables.md"))


def terminal(records: Path, width: int = 120) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(*leaderboard.summary(records, width=width), sep="\n")
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_a_built_page_is_fresh(built: Path) -> None:
    assert problems(built) == []


def test_building_again_changes_no_byte(board: Path) -> None:
    before = {path: path.read_bytes() for path in board.rglob("*") if path.is_file()}
    written = leaderboard.build(board / "records", board, PUBLISHED)
    assert {path: path.read_bytes() for path in board.rglob("*") if path.is_file()} == before
    assert sorted(written) == sorted(path for path in before if path.suffix != ".json")


def test_a_changed_record_makes_page_and_pictures_stale(board: Path) -> None:
    changed = made(1.5, seed=1)
    write(changed, path_of(board / "records", changed.row))
    found = problems(board)
    assert len(found) == 5 and all("benchmark.pages.leaderboard.build" in problem for problem in found)
    assert "README.md is not what the records give, from line" in found[0]
    assert [Path(problem.split()[0]).name for problem in found[1:]] == ["tables.md", "gap.svg", "paired.svg", "curves.svg"]
    leaderboard.build(board / "records", board, PUBLISHED)
    assert problems(board) == []


def test_a_removed_record_removes_its_section_and_pictures(board: Path) -> None:
    shutil.rmtree(board / "records" / "small")
    assert any("belongs to no table any more" in problem for problem in problems(board))
    leaderboard.build(board / "records", board, PUBLISHED)
    assert problems(board) == [] and not (board / "figures" / METRIC_VERSION / "small").exists()
    assert "small on dead" not in (board / "README.md").read_text(encoding="utf-8")


def test_a_missing_or_edited_file_is_stale(board: Path) -> None:
    picture = board / "figures" / METRIC_VERSION / "mini" / "dead_leaves8" / "gap.svg"
    text = picture.read_text(encoding="utf-8")
    picture.unlink()
    assert [problem for problem in problems(board) if "is missing" in problem and "gap.svg" in problem] == problems(board) != []
    picture.write_text(text.replace("sha256:", "sha256:0"), encoding="utf-8")
    assert len(problems(board)) == 1 and "other numbers" in problems(board)[0]
    picture.write_text(text, encoding="utf-8")
    with (board / "README.md").open("a", encoding="utf-8") as file:
        file.write("by hand\n")
    assert len(problems(board)) == 1 and "README.md" in problems(board)[0]
    (board / "README.md").unlink()
    assert len(problems(board)) == 1 and "README.md is missing" in problems(board)[0]


def test_pictures_carry_digest_and_no_date(built: Path) -> None:
    found = plots.pictures(tabulate(suites()))
    assert [picture.kind for picture in found] == ["gap", "paired", "curves", "paired", "curves"]
    for picture in found:
        text = (built / picture.path).read_text(encoding="utf-8")
        ElementTree.fromstring(text)
        assert style.digest_in(built / picture.path) == picture.digest and "<dc:date>" not in text
        assert str(picture.path) in (built / "tables.md").read_text(encoding="utf-8")


def test_the_short_page_has_narrow_tables_one_picture_and_the_claims_last(built: Path) -> None:
    text = (built / "README.md").read_text(encoding="utf-8")
    before, claims = text.split("## Claims")
    opening, rows = before.split("\n## mini on", 1)
    answers, tables = ([line for line in part.splitlines() if line.startswith("|")] for part in (opening, rows))
    assert {line.replace("\\|", "").count("|") for line in tables} == {8}  # seven columns
    assert {line.replace("\\|", "").count("|") for line in answers} <= {7}  # six
    titles = tables[0].strip("| ").split(" | ")
    assert titles[:3] == ["N", "rank", "row"] and all(len(title.split()) <= 3 for title in titles)
    assert text.count("![") == 1 and "![" in before and "[Every table" in before
    row = next(line for line in tables if "| dit_mini<br>local_3x3_head |" in line)
    assert "| 0.770<br>[0.084, 1.456] | −0.253<br>[−0.325, −0.182] |" in row
    assert "**mini-2**" in claims


@pytest.mark.parametrize("width", [80, 120])
def test_no_table_in_the_terminal_breaks_inside_a_word(built: Path, width: int) -> None:
    text = terminal(built / "records", width)
    assert max(map(len, text.splitlines())) <= width
    for word in ("local_3x6_head", "global", "[−0.325,", "−0.182]", "± 0.276", "equal"):
        assert word in text
    assert "…" not in text
    assert text.index("Claims, declared") < text.index("mini on dead_leaves8, in dB") < text.index("small on dead_leaves8, in dB")


def test_long_names_and_words_are_folded_at_80_columns_and_not_cut(tmp_path: Path) -> None:
    rows = [
        made(10.0 + seed, model=model, layout=layout, subset=subset, seed=seed, trajectory=[point(100, 20.0, 10.0)])
        for model, layout in (("dit_mid", "global"), ("dit_mid", "local_star_head_larger"), ("empirical_optimal", "global"))
        for subset in (16, 1000)
        for seed in range(3)
    ]
    text = terminal(save(rows, tmp_path), 80)
    assert "…" not in text and max(map(len, text.splitlines())) <= 80
    table = text[text.index("mini on dead_leaves8, in dB") :]
    for part in ("local_star_ ", "head_larger", "empirical_ ", "optimal "):
        assert part in table


def test_rows_by_hand() -> None:
    table = tabulate(suites())[0]
    assert (table.recipe, table.dataset, table.subset) == ("mini", "dead_leaves8", 16)
    local, base = table.rows
    assert (local.series.layout, base.series.layout) == ("local_3x3_head", "global")
    assert base.psnr_gap.mean == pytest.approx((1.02 + 0.75 + 1.30) / 3) and base.equal_steps is None
    assert local.equal_steps is not None
    assert local.equal_steps.differences == pytest.approx({0: -0.22, 1: -0.27, 2: -0.27})
    # at equal fit: the factory's PSNR train rises by 1 dB a point and ends 0.3 dB lower, so the level lies 0.7 of the
    # way up the baseline's last quarter, where its gap is (0.75 + 0.25 * 0.7) of the final one
    assert local.equal_fit is not None
    assert local.equal_fit.differences == pytest.approx({0: 0.80 - 0.925 * 1.02, 1: 0.48 - 0.925 * 0.75, 2: 1.03 - 0.925 * 1.30})


def test_the_page_shows_the_numbers(built: Path) -> None:
    text = (built / "tables.md").read_text(encoding="utf-8")
    row = next(line for line in text.splitlines() if line.startswith("| 1 | dit_mini | local_3x3_head"))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[5].startswith("0.770 ± 0.276<br>[0.084, 1.456]")
    assert cells[6] == "−0.253<br>[−0.325, −0.182]<br>lower in 3 of 3"  # mean -.7600/3, sd .02887, half width 4.3027 sd/sqrt 3
    assert cells[8:10] == ["119 k", "12.7 M"]
    assert "[2](records/mini/dead_leaves8/dit_mini-local_3x3_head-n16-s2.json)" in cells[10]
    assert (built / "records/mini/dead_leaves8/dit_mini-local_3x3_head-n16-s2.json").is_file()


# The gaps of the small suite in tests/record_factory.py, by placement.
GAPS = {"global": (5.35, 7.17, 6.01), "head": (4.98, 6.81, 5.44), "tail": (5.60, 7.10, 6.20), "mix": (5.52, 7.29, 5.98)}


def test_ranks_are_shared_where_nothing_separates(tmp_path: Path) -> None:
    small = tabulate(suites())[-1]
    # Of six pairs head - mix (-.54 -.48 -.54, p .0015) is separated after Holm's correction, and head - global (-.37 -.36 -.57,
    # p .024, whose interval excludes 0) no more: 5 p = .12
    plain = {(a, b): stats.ttest_1samp([x - y for x, y in zip(GAPS[a], GAPS[b], strict=True)], 0).pvalue for a, b in combinations(GAPS, 2)}
    assert 6 * plain["head", "mix"] < 0.05 < 5 * plain["global", "head"] and plain["global", "head"] < 0.05
    assert sorted(plain.values())[1] == plain["global", "head"]
    assert small.pairs == 6
    assert {row.series.layout: row.rank for row in small.rows} == {
        "local_3x6_head": (1, 3),
        "global": (1, 4),
        "local_3x6_mix": (2, 4),
        "local_3x6_tail": (1, 4),
    }
    assert [row.psnr_gap.mean for row in small.rows] == sorted(row.psnr_gap.mean for row in small.rows)
    same = tabulate([made(gap, seed=seed, layout=layout) for layout in ("global", "twin") for seed, gap in enumerate((1.0, 1.2))])
    assert [row.rank for row in same[0].rows] == [(1, 2), (1, 2)]
    assert "The ranks rest on 6 pairs of rows, corrected for their number (Holm)." in page(suites(), tmp_path)


def test_one_seed_is_shown_and_not_ranked(tmp_path: Path) -> None:
    text = page([made(1.0), made(0.5, layout="local_3x3_head")], tmp_path)
    assert "| – | dit_mini | local_3x3_head | " in text and "not ranked, for want of two seeds" in text
    assert "−0.500<br>(one seed)" in text and "lower in 1 of 1" not in text


def test_not_ranked_records_are_apart(tmp_path: Path) -> None:
    text = page([*(made(1.0, seed=seed) for seed in (0, 1)), made(7.0, layout="odd", ranked=False, recipe="smoke")], tmp_path)
    before, after = text.split("## Not ranked")
    assert "| odd |" not in before and "| odd |" in after and "7.000" not in text
    assert "3 records; 0 rows have a rank." in text and "mini on" in before and "smoke on" not in text


def test_metric_versions_never_share_a_table(tmp_path: Path) -> None:
    records = [made(1.0, seed=0), made(0.5, layout="local_3x3_head", metric_version="psnr-0")]
    tables = tabulate(records)
    assert [(table.metric_version, len(table.rows)) for table in tables] == [("psnr-0", 1), (METRIC_VERSION, 1)]
    text = page(records, tmp_path)
    assert "## mini on dead_leaves8 (metric psnr-0)" in text and "## mini on dead_leaves8\n" in text
    assert all(one.equal_steps is None for one in judge(records))  # and no claim rests on another version


def test_other_images_are_not_paired(tmp_path: Path) -> None:
    records = [made(1.0 + seed, seed=seed) for seed in (0, 1)] + [
        made(0.9, seed=0, layout="x"),
        made(0.1, seed=1, layout="x", images="other"),
    ]
    row = next(row for row in tabulate(records)[0].rows if row.series.layout == "x")
    assert row.equal_steps is not None and row.equal_steps.differences == pytest.approx({0: -0.1}) and row.unpaired == (1,)
    assert "seeds left out of the differences, because global saw other images or ran on another kind of device: 1." in page(
        records, tmp_path
    )


def test_a_seed_of_another_kind_of_device_is_not_paired() -> None:
    def on(record: Record, device: str) -> Record:
        return replace(record, training=replace(record.training, device=device))

    cards = ("cpu: one", "NVIDIA A", "NVIDIA B", "cpu: one")
    others = ("cpu: another", "NVIDIA A", "NVIDIA A", "NVIDIA A")
    records = [on(made(1.0 + seed, seed=seed), card) for seed, card in enumerate(cards)]
    records += [on(made(0.9 + seed, seed=seed, layout="x"), card) for seed, card in enumerate(others)]
    row = next(row for row in tabulate(records)[0].rows if row.series.layout == "x")
    assert row.equal_steps is not None and row.equal_steps.differences.keys() == {0, 1} and row.unpaired == (2, 3)


def with_images(record: Record, **digests: str) -> Record:
    return replace(record, data=replace(record.data, **digests))


def test_different_images_never_share_a_mean(tmp_path: Path) -> None:
    """A fourth seed of another manifest, and a third record of seed 0 whose images are not those of the two others'."""
    rows = [made(gap, seed=seed) for seed, gap in enumerate((1.0, 1.2, 0.8))]
    stranger = with_images(made(9.0, seed=3), manifest_sha256="f" * 64)
    siblings = [made(0.5, layout=layout) for layout in ("x", "y")]
    astray = with_images(made(7.0, layout="z"), train_sha256="e" * 64)
    records = [*rows, stranger, *siblings, astray]
    assert other_images(records) == {stranger.id: "manifest ffffffff", astray.id: "train images eeeeeeee"}
    (table,) = tabulate(records)
    means = {(row.series.layout, row.series.images): (row.psnr_gap.n, row.psnr_gap.mean) for row in table.rows}
    assert means["global", ""] == (3, pytest.approx(1.0)) and means["global", "manifest ffffffff"] == (1, pytest.approx(9.0))
    assert means["z", "train images eeeeeeee"] == (1, pytest.approx(7.0))
    text = page(records, tmp_path)
    assert "| dit_mini | global<br>other images: manifest ffffffff |" in text
    assert "dit_mini global, manifest ffffffff: of other images than the other records" in text
    assert "other images: manifest ffffffff" in " ".join(terminal(tmp_path / "records", 400).split())
    by_n = [*rows, *(made(0.1, seed=seed, subset=64) for seed in range(4)), stranger]
    one = next(one for one in judge(by_n) if one.contrast.title == "global: N=64 < N=16")
    assert one.equal_steps and set(one.equal_steps.differences) == {0, 1, 2}  # no claim rests on it either
    assert all("9" not in str(line["points"]) for line in plots.pictures(tabulate(by_n))[0].numbers["series"].values())


def test_where_no_half_agrees_nobody_can_tell() -> None:
    assert other_images([made(1.0), made(0.5, layout="x", images="other")]) == {}
    assert other_images([made(1.0, dataset="a"), with_images(made(1.0, dataset="b"), manifest_sha256="f" * 64)]) == {}


def test_other_test_images_are_not_paired_across_n() -> None:
    same, other = ([made(1.0), made(0.5, subset=64, images=images)] for images in ("", "other"))
    found = [next(one for one in judge(records) if one.contrast.title == "global: N=64 < N=16") for records in (same, other)]
    assert found[0].equal_steps is not None and found[1].equal_steps is None


def test_no_common_level_and_no_baseline_are_said(tmp_path: Path) -> None:
    far = [point(1000, 40.0, 0.1), point(2000, 41.0, 0.2)]
    text = page(
        [
            *(made(1.0, seed=s) for s in (0, 1)),
            *(made(0.5, seed=s, layout="x", trajectory=far) for s in (0, 1)),
            made(2.0, model="lone", layout="x"),
        ],
        tmp_path,
    )
    assert "dit_mini x: 2 of 2 pairs share no level of PSNR train." in text
    assert "lone x: no row of this model with the layout global" in text
    assert next(line for line in text.splitlines() if "| dit_mini | x |" in line).count("| – |") == 1


def test_a_name_with_two_meanings_is_refused(tmp_path: Path) -> None:
    records = save([made(1.0), made(1.0, seed=1, steps=100)], tmp_path / "records")
    with pytest.raises(
        BenchError,
        match=r"The recipe 'mini' means two things: steps = 2000 in mini/dead_leaves8/.*-s0.json, 100 in .*-s1.json",
    ):
        leaderboard.build(records, tmp_path, PUBLISHED)
    assert not (tmp_path / "README.md").exists()


def test_an_entry_may_gain_a_field() -> None:
    def with_border(seed: int, border: str) -> Record:
        one = made(1.0, seed=seed)
        spec = one.spec | {"layout": one.spec["layout"] | {"config": {"border": border}}}
        return replace(one, id=spec_id(spec), spec=spec)

    before, after, other = made(1.0), with_border(1, "shifted"), with_border(2, "truncated")
    assert tabulate([before, after])[0].rows[0].psnr_gap.n == 2
    with pytest.raises(BenchError, match="The layout 'global' means two things: border = 'shifted' in .*-s1.json"):
        tabulate([before, after, other])


def test_networks_from_elsewhere_may_estimate_what_they_will() -> None:
    """Rows of one table, scored alike; under one name of a model two conventions are two networks."""

    def elsewhere(model: str, seed: int = 0, **words: object) -> Record:
        one = made(1.0, model=model, seed=seed, recipe="mini_external")
        entry = {"name": "mini_external", "kind": "external", "config": {"psnr_steps": 20, "psnr_images": 128, "ranked": True} | words}
        spec = one.spec | {"recipe": entry}
        return replace(one, id=spec_id(spec), spec=spec)

    rows = [
        elsewhere("dit"),
        elsewhere("sit", convention="sit"),
        elsewhere("diverse", convention="repa"),
        elsewhere("x0", prediction="data"),
    ]
    assert [len(table.rows) for table in tabulate(rows)] == [4]
    for words in ({}, {"convention": "repa"}):
        with pytest.raises(BenchError, match="'mini_external' means two things: convention = 'sit'"):
            tabulate([elsewhere("sit", convention="sit"), elsewhere("sit", 1, **words)])
    with pytest.raises(BenchError, match="means two things: psnr_images"):
        tabulate([elsewhere("dit"), elsewhere("sit", psnr_images=64)])


def test_hostile_text_is_escaped(tmp_path: Path) -> None:
    score = Score(value=1.0, sd=None, samples=512, extractor=HOSTILE, weights_digest=None, reference_digest="0", version=HOSTILE)
    records = [
        made(
            1.0,
            seed=seed,
            metric_version=HOSTILE,
            scores={HOSTILE: score},
            overrides=(HOSTILE,),
            assumed=(HOSTILE, f"model.x: {HOSTILE}"),
        )
        for seed in (0, 1)
    ]
    text = page(records, tmp_path)
    assert text.count("a&#124;b") >= 6
    for raw in (
        "<script",
        "a|b",
        "b`c",
        "\n# d",
        "[e](",
        "http://",
        "$x$",
        "**f**",
        "\u202e",
        "&#8238;",
        "@h",
        "![i]",
        " _g_ ",
    ):
        assert raw not in text
    table = [line for line in text.splitlines() if line.startswith("| ") and line.split("|")[2].strip() == "dit_mini"]
    assert len(table) == 1 and table[0].count("|") == 13  # 12 columns
    assert "a|b`c<script> # d [e](http://evil.example)" in terminal(tmp_path / "records", 4000).replace("\n", " ")
    for svg in (tmp_path / "figures").rglob("*.svg"):
        ElementTree.fromstring(svg.read_text(encoding="utf-8"))
        assert re.fullmatch(r"[\w./-]+", str(svg.relative_to(tmp_path)), re.ASCII)


@pytest.mark.parametrize("text", ["plain_name-1.0", "a, b: c (d) = 1/2 ± 3%"])
def test_plain_text_stays_readable(text: str) -> None:
    assert escaped(text) == text


def test_names_that_matplotlib_might_interpret(tmp_path: Path) -> None:
    records = [
        made(1.0 + seed, seed=seed, subset=subset, layout=layout)
        for seed in (0, 1)
        for subset in (16, 64)
        for layout in ("global", "_hidden")
    ]
    for picture in plots.pictures(tabulate(records)):
        assert "_hidden" in plots.draw(picture)  # as the comment that stands with the drawn letters of a label


def test_published_values_stand_beside_the_paper_recipe_only(tmp_path: Path) -> None:
    same = {"model": "dit_xs1", "layout": "local_head", "dataset": "celeba", "subset": 10_000, "steps": 400_000}
    paper, mini, changed = (
        made(0.6, recipe="paper", **same),
        made(0.6, recipe="mini", **same),
        made(0.6, recipe="paper", overrides=("recipe.steps=10",), **same),
    )
    facts = published.load(PUBLISHED)
    assert {(row.value, row.source) for row in facts.beside(paper, "psnr_gap")} == {
        (0.57, "Figure 6"),
        (0.57, "Figure 8"),
    }
    assert facts.beside(mini, "psnr_gap") == facts.beside(changed, "psnr_gap") == ()
    text = page([paper, mini], tmp_path)
    assert "0.570 (Figure 6, Figure 8)" in text.split("\n## paper on celeba")[-1]
    assert "reported by the paper" not in text.split("\n## mini on celeba")[-1].split("\n## paper on celeba")[0]
    assert "The recipe mini is not the paper's" in text and "The recipe paper is not" not in text


def test_dagger_values_belong_to_the_dagger_recipe() -> None:
    dagger = made(0.6, recipe="paper_dagger", model="dit_xs1", dataset="celeba", subset=10_000)
    assert {(row.value, row.variant) for row in published.load(PUBLISHED).beside(dagger, "fid")} == {(10.5432, "dagger")}


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("[]", "must be a JSON table"),
        ("{", "must be a JSON table"),
        ('{"source": "x", "rows": [{"metric": 1}]}', "not valid: rows"),
        ('{"source": "x"}', "'rows'"),
    ],
)
def test_bad_published_values_are_refused(tmp_path: Path, content: str, problem: str) -> None:
    (tmp_path / "p.json").write_text(content, encoding="utf-8")
    with pytest.raises(BenchError, match=problem):
        published.load(tmp_path / "p.json")
    with pytest.raises(BenchError, match="no published values"):
        published.load(tmp_path / "absent.json")


def test_scores_of_different_making_have_their_own_columns(tmp_path: Path) -> None:
    def fid(value: float, samples: int) -> dict[str, Score]:
        return {
            "fid": Score(
                value=value,
                sd=None,
                samples=samples,
                extractor="inception",
                weights_digest="abcdefghij",
                reference_digest="0",
                version="fid-1",
            )
        }

    text = page(
        [
            made(1.0, scores=fid(10.0, 50_000)),
            made(1.0, seed=1, scores=fid(12.0, 50_000)),
            made(1.0, seed=2, scores=fid(99.0, 100)),
        ],
        tmp_path,
    )
    titles, values = (
        next(line for line in text.splitlines() if line.startswith(start)).split("|") for start in ("| rank", "| – | dit_mini")
    )
    cells = {title.strip(): value.strip() for title, value in zip(titles, values, strict=True)}
    assert (
        cells["FID (50,000 samples, inception, weights abcdefgh, reference 0, fid-1)"]
        == "11.000 ± 1.414<br>[−1.706, 23.706]<br>2 of 3 seeds"
    )
    assert cells["FID (100 samples, inception, weights abcdefgh, reference 0, fid-1)"] == "99.000<br>1 of 3 seeds"
    assert "FID) was not measured" not in text


@pytest.mark.parametrize(
    ("field", "other", "words"),
    [
        ("reference_digest", "deadbeef99", "reference deadbeef"),
        ("reference_samples", 2048, "2,048 images"),
        ("reference_trained_on", 7, "330 images, 7 of them trained on"),
        ("reference_trained_on", 0, "330 images, none trained on"),
        ("sampling", "ddim, 50 steps, seed 0", "ddim, 50 steps, seed 0"),
        ("small", True, "too few to compare"),
        ("version", "fd_randconv-2", "fd_randconv-2"),
        ("weights_digest", "0123456789", "weights 01234567"),
        ("extractor", "else", "else"),
    ],
)
def test_whatever_a_score_depends_on_parts_it_from_the_others(tmp_path: Path, field: str, other: object, words: str) -> None:
    score = Score(
        value=0.5,
        sd=None,
        samples=1024,
        extractor="randconv",
        weights_digest="abcdefghij",
        reference_digest="0",
        reference_samples=330,
        version="fd_randconv-1",
    )
    scores = [score, replace(score, value=0.7), replace(score, value=9.0, **{field: other})]
    text = page([made(1.0, seed=seed, scores={"fd_randconv": one}) for seed, one in enumerate(scores)], tmp_path)
    titles = [cell for cell in text.splitlines()[_first(text, "| rank")].split("|") if "not FID" in cell]
    assert len(titles) == 2
    assert sum(words in title for title in titles) == 1
    row = text.splitlines()[_first(text, "| – | dit_mini")]
    assert "0.600 ± 0.141" in row
    assert "9.000" in row


def test_a_ratio_stands_beside_its_null_and_one_without_a_null_says_so(tmp_path: Path) -> None:
    plain = Score(value=1.2, sd=None, samples=64, extractor="pixels", weights_digest=None, reference_digest="", version="memorisation-1")
    over = replace(plain, version="memorisation-2", value=0.9, null=1.15)
    scores = [plain, over, replace(over, value=0.7, null=1.25)]
    text = page([made(1.0, seed=seed, scores={"memorisation_ratio_test": one}) for seed, one in enumerate(scores)], tmp_path)
    titles, row = (text.splitlines()[_first(text, start)].split(" | ") for start in ("| rank", "| – | dit_mini"))
    cells = {title: cell for title, cell in zip(titles, row, strict=True) if "nearest training" in title}
    assert list(cells.values()) == ["1.200<br>1 of 3 seeds", "0.800 ± 0.141<br>[−0.471, 2.071]<br>null 1.200<br>2 of 3 seeds"]
    assert [next(word for word in ("its null not taken", "over that of held-out images") if word in title) for title in cells] == [
        "its null not taken",
        "over that of held-out images",
    ]


def _first(text: str, start: str) -> int:
    return next(number for number, line in enumerate(text.splitlines()) if line.startswith(start))


def test_claims_are_rows_of_their_suites() -> None:
    for claim in (*declared().claim, *declared().not_claimed):
        rows = [(row.recipe, row.dataset, row.model, row.layout, row.subset) for row in load_suite(claim.suite).rows()]
        for contrast in claim.contrasts:
            for side in (contrast.variant, contrast.baseline):
                assert (contrast.recipe, contrast.dataset, side.model or contrast.model, side.layout, side.subset) in rows
    assert not any("mix" in row.layout or "tail" in row.layout for row in load_suite("mini").rows())


def test_the_page_lists_every_claim_once_and_what_is_not_claimed(built: Path) -> None:
    text = (built / "README.md").read_text(encoding="utf-8")
    section = text.split("## Claims")[1].split("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| ")][2:]
    run = {claim.name for claim in declared().own if any(one.equal_steps for one in judge(suites(), [claim]))}
    assert {"mini-1", "mini-2", "small-1"} <= run
    assert len(rows) == sum(len(claim.contrasts) for claim in declared().own if claim.name in run)
    waiting = section.split("Declared, and not run: ")[1].split(".")[0].split(", ")
    assert waiting == [claim.name for claim in declared().own if claim.name not in run] and "natural8" in waiting
    mini_2 = next(row for row in rows if "**mini-2**" in row)
    assert "| gap | −0.253 dB [−0.325, −0.182]; p 0.004, Holm 0.047; shown, lower in 3 of 3 seeds |" in mini_2
    assert "not separated (interval alone: shown)" in mini_2  # at equal PSNR train: p 0.013 in a family of five
    assert "At equal steps the plain intervals of 3 comparisons lie where they were claimed; corrected within their suites 3 are" in section
    # .0015 .0043 .024 .057 in a family of four: 4 p, 3 p, 2 p, p
    assert "Corrected over all 4 comparisons of this page that were run, as if it were one suite, 3 would be." in section
    assert not [row for row in rows if "natural8" in row]
    assert "- mini-2: −0.253 dB at equal steps, −0.177 dB at equal PSNR train, sd of the gap of global over" in section
    listed = text.split("## What these suites do not show")[1].split("\n## ")[0]
    of_these = {claim.suite for claim in declared().own if claim.name in run}
    assert [line.split(".")[0][2:] for line in listed.splitlines() if line.startswith("- ")] == [
        claim.name for claim in declared().not_claimed if claim.suite in of_these
    ]
    assert "local_3x6_tail &#62; global, N=8: +0.123 dB [−0.299, +0.546], higher in 2 of 3 seeds" in listed


def test_verdicts_follow_the_rule() -> None:
    said = {(one.claim.name, one.contrast.title): verdict(one, one.equal_steps) for one in judge(suites())}
    assert said["mini-1", "global: N=64 < N=16"] == "lower"
    assert said["mini-2", "local_3x3_head < global, N=16"] == "shown, lower in 3 of 3 seeds"
    assert said["natural8", "local_3x3_head < global, N=16"] == "not run"
    assert said["small-2", "local_3x6_head < local_3x6_tail, N=8"] == "not separated, lower in 3 of 3 seeds"
    higher = [
        made(gap + rise, seed=seed, layout=layout)
        for layout, rise in (("global", 0.0), ("local_3x3_head", 0.5))
        for seed, gap in enumerate((1.0, 2.0, 1.5))
    ]
    against = next(one for one in judge(higher, [one for one in declared().claim if one.name == "mini-2"]))
    assert verdict(against, against.equal_steps) == "contradicted, lower in 0 of 3 seeds"


def test_a_claim_without_a_common_level_says_so() -> None:
    far = [point(2000, 41.0, 0.2)]
    records = [made(1.0, seed=s) for s in (0, 1)] + [made(0.5, seed=s, layout="local_3x3_head", trajectory=far) for s in (0, 1)]
    one = next(one for one in judge(records) if one.claim.name == "mini-2")
    assert one.equal_fit is None and verdict(one, one.equal_fit) == "not available: no common level"


def test_terminal_and_json_show_the_pairs(built: Path) -> None:
    text = terminal(built / "records")
    assert "mini-2" in text and "(−0.220 −0.270 −0.270)" in " ".join(text.split()) and "What these suites do not show" in text
    assert "natural8" not in text  # nothing of it was run
    found = leaderboard.as_json(built / "records")
    claim = next(one for one in found["claims"] if one["claim"] == "mini-2")
    assert claim["at_equal_steps"]["by_seed"] == pytest.approx({"0": -0.22, "1": -0.27, "2": -0.27})
    row = next(row for row in found["tables"][0]["rows"] if row["layout"] == "local_3x3_head")
    assert row["rank"] == (1, 1) and row["equal_psnr_train"]["0"] == pytest.approx(23.2 - 0.3)


def test_an_empty_leaderboard_says_so(tmp_path: Path) -> None:
    text = page([], tmp_path)
    assert "There is no record yet" in text and "not run" not in text and "## Claims" not in text and not (tmp_path / "figures").exists()
    assert "No ranked record yet" in terminal(tmp_path / "records")


@pytest.mark.parametrize(("count", "words"), [(999, "999"), (119_232, "119 k"), (14_278_575, "14.3 M"), (5_040_000_000, "5.04 G")])
def test_amounts(count: int, words: str) -> None:
    assert amount(count) == words


def test_published_samples_stand_on_the_page_and_make_it_stale_until_it_is_written(tmp_path: Path) -> None:
    one = make_record(layout="local_head", seed=1)
    write(one, path_of(tmp_path / "records", one.row))
    leaderboard.build(tmp_path / "records", tmp_path, PUBLISHED)
    assert "## Samples" not in (tmp_path / "tables.md").read_text()
    grid = tmp_path / "samples" / "mini" / "dead_leaves8" / "dit_mini-local_head-n16-s1.png"
    grid.parent.mkdir(parents=True)
    grid.write_bytes(b"png")
    assert problems(tmp_path)
    leaderboard.build(tmp_path / "records", tmp_path, PUBLISHED)
    assert problems(tmp_path) == []
    text = (tmp_path / "tables.md").read_text()
    assert "| dit_mini local_head, seed 1 | ![samples](samples/mini/dead_leaves8/dit_mini-local_head-n16-s1.png) |" in text
