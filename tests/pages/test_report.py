"""benchmark/report: printed values, verdicts, rank correlations, the page and its pictures, against independent counts."""

import itertools
import json
import math
import random
import re
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
from scipy import stats

from benchmark.contract import Attention, ImageShape
from benchmark.declaring import registry
from benchmark.declaring.entries import load, load_suite
from benchmark.declaring.fields import to_json
from benchmark.declaring.spec import spec_id
from benchmark.errors import BenchError
from benchmark.networks import cost
from benchmark.pages import report
from benchmark.pages.claims import declared
from benchmark.pages.report import drawing, exhibits, gap_against, html, inside, pictures
from benchmark.pages.report.correlation import (
    Drawn,
    Observation,
    correlate,
    every_resample,
    resampled,
    settled,
    settled_p,
    some_resamples,
    spearman,
)
from benchmark.pages.report.evidence import Printed, count, overall, printed_once, weigh
from benchmark.pages.report.paper import paper
from benchmark.pages.text import plain
from benchmark.recording import analyses, style
from benchmark.recording import published as reported
from benchmark.recording.record import Record, Score, read_all
from tests.conftest import Bench
from tests.record_factory import made, save, suites

ROOT = Path(__file__).parents[2] / "leaderboard"
PUBLISHED = ROOT / "published"
PRINTED = json.loads((PUBLISHED / "published.json").read_text())["rows"]
FID = Score(value=1.0, sd=None, samples=50_000, extractor="inception", weights_digest="w", reference_digest="r", version="fid-1")


Numbers = dict[str, dict[str, dict[str, float]]]  # by the record's id and the analysis


def written(records: Sequence[Record], root: Path, numbers: Numbers | None = None) -> str:
    """Save records and their analyses in a folder of their own; return the page's text, nothing drawn."""
    save(records, root / "records")
    for one in records:
        for what, found in (numbers or {}).get(one.id, {}).items():
            analysis = analyses.Analysis(
                what=what,
                schema=1,
                run=one.id,
                spec=one.row._asdict(),
                weights_sha256=one.weights_sha256,
                settings={},
                numbers=found,
                seconds=1.0,
            )
            path = analyses.published_folder(root, one.row) / f"{what}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(analyses.text(analysis))
    return report.compose(report.gather(root / "records", PUBLISHED), root / "records", root / "paper")[0]


def build(root: Path) -> None:
    """Write the page of what lies in a folder, and draw its pictures."""
    report.build(report.gather(root / "records", PUBLISHED), root / "records", root / "paper")


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of made-up rows of the mini and small suites."""
    root = tmp_path_factory.mktemp("own")
    written(suites(), root)
    build(root)
    return root


def table(text: str, start: str) -> list[list[str]]:
    """Return the cells of the lines of a section that begin with a bar."""
    section = text.split(start)[1].split("\n## ")[0]
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in section.splitlines() if line.startswith("|")]


# --------------------------------------------------------------------------------------------------- the committed page


def test_the_committed_page_is_what_the_records_give() -> None:
    material = report.gather(ROOT / "records", PUBLISHED)
    assert report.stale(material, ROOT / "records", ROOT / "paper") == []


def test_every_printed_fid_stands_on_the_page(own: Path) -> None:
    text = (own / "paper" / "README.md").read_text()
    for number, rows in itertools.groupby([row for row in PRINTED if row["metric"] == "fid"], key=lambda row: row["source"]):
        section = text.split(f"## {number}:")[1].split("\n## ")[0]
        values = [row["value"] for row in rows]
        assert values and all(f"{value:.4f}" in section for value in values), number


def test_every_printed_gap_is_drawn() -> None:
    bank, published = pictures.Bank([]), reported.load(PUBLISHED)
    for source, figure in (("Figure 6", pictures.figure6), ("Figure 8", pictures.figure8)):
        drawn = sorted(
            bar["value"] for panel in figure(bank, published)[0].numbers["panels"] for group in panel["groups"] for bar in group["bars"]
        )
        assert drawn == sorted(row["value"] for row in PRINTED if row["source"] == source)
    means = [
        value
        for panel in pictures.figure2(bank, published)[0].numbers["panels"][:2]
        for line in panel["lines"]
        for _, value in line["mean"]
    ]
    assert sorted(means) == sorted(row["value"] for row in PRINTED if row["source"] == "Figure 2")


def printed_counts(sources: Sequence[str], variant: str, baseline: str, subsets: Sequence[int]) -> tuple[int, int, int]:
    """Count by hand how often the variant's printed value lies below, at and above the baseline's."""
    rows = {
        (row["model"], row["dataset"], row["n"], row["variant"], row["layout"]): row["value"]
        for row in PRINTED
        if row["source"] in sources and row["n"] in subsets
    }
    pairs = [(rows[*key[:4], variant], value) for key, value in rows.items() if key[4] == baseline and (*key[:4], variant) in rows]
    return sum(a < b for a, b in pairs), sum(a == b for a, b in pairs), sum(a > b for a, b in pairs)


def test_printed_values_are_counted_as_by_hand(own: Path) -> None:
    assert printed_counts(["Figure 6"], "local_head", "global", [1000, 10_000]) == (24, 0, 0)
    assert printed_counts(["Figure 6"], "local_head", "global", [100_000]) == (0, 12, 0)
    assert printed_counts(["Table 1"], "local_head", "global", [10_000]) == (24, 0, 0)
    assert printed_counts(["Table 2"], "local_head", "local_mix", [10_000]) == (1, 0, 1)
    text = (own / "paper" / "README.md").read_text()
    glance = {re.sub(r"\W*\(.*", "", row[0]).strip("["): row for row in table(text, "## At a glance")[2:]}
    assert glance["Fig. 6"][2] == "24 of 36 agree, 12 equal"
    assert glance["Fig. 1"][2] == "prints none"
    assert glance["Fig. 2"][2] == "7 of 7 agree"  # two readings of its DiT are declared; the printed values count once
    assert glance["Table 1"][2] == "44 of 48 agree, 4 disagree"  # 4 of the 24 at N = 100,000 differ by 10% or more
    assert glance["Table 1"][3] == "not run"
    assert [row[0] for row in table(text, "## At a glance")[2:]] == [f"[{one.name}](#{one.anchor})" for one in paper().exhibit]
    assert all(f'<a id="{one.anchor}"></a>' in text for one in paper().exhibit)


def test_equal_flops_are_said_as_counted() -> None:
    """The note and the claim of Fig. 2 hold what torch counts of the three entries, and both ratios."""
    (two,) = (one for one in paper().exhibit if one.name == "Fig. 2")
    note = next(note for note in two.notes if "printed as equal flops" in note.lower())
    counted = {}
    for name in ("unet", "dit_480", "dit_480_p2"):
        config = load(registry.find("model", name)).config
        network = cost.built_on_meta(config, ImageShape(3, 32), (Attention(),) * config.attention_layers, 1)
        counted[name] = cost.network_flops(network, ImageShape(3, 32)), cost.parameters(network)[0]
    flops = {name: count for name, (count, _) in counted.items()}
    ratios = [f"{flops[name] / flops['unet']:.2f}" for name in ("dit_480", "dit_480_p2")]
    assert ratios == ["4.87", "0.98"] and f"measured {ratios[0]}× and {ratios[1]}×" in note
    for operations, parameters in counted.values():
        assert f"{operations / 1e9:.2f}" in note and f"{parameters / 1e6:.3f}M" in note
    few = next(claim for claim in declared().claim if claim.name == "fig2-few")
    assert "printed as equal FLOPs" in few.statement and all(f"{ratio}x" in few.statement for ratio in ratios)
    assert all(f"{ratio}x" in registry.find("suite", "paper_fig2").description for ratio in ratios)
    assert {row.model for row in load_suite("paper_fig2").rows()} == set(counted)
    # what is printed fits 16 images of the one reading and the parameters of the other
    assert 16 * flops["dit_480_p2"] == pytest.approx(300.49e9, rel=0.02) and 16 * flops["unet"] == pytest.approx(303.17e9, rel=0.002)
    assert counted["dit_480"][1] == pytest.approx(51.16e6, rel=1e-4)


def test_both_readings_of_the_dit_stand_beside_what_fig_2_prints() -> None:
    claims = [claim for claim in declared().claim if claim.name == "fig2-few"]
    found = weigh([], claims, reported.load(PUBLISHED), {})
    by_model = {model: [one.printed for one in found if one.contrast.model == model] for model in ("dit_480", "dit_480_p2")}
    assert by_model["dit_480"] == by_model["dit_480_p2"] and None not in by_model["dit_480"]
    assert len(found) == 4 and len(printed_once(found)) == 2


def test_a_change_that_the_paper_prints_wrongly_is_said(own: Path) -> None:
    fid = {
        (row["dataset"], row["layout"]): row["value"]
        for row in PRINTED
        if (row["source"], row["model"], row["n"], row["variant"]) == ("Table 1", "dit_xs1", 100_000, "default")
    }
    changes = {name: 100 * (fid[f"lsun_{name}", "local_head"] / fid[f"lsun_{name}", "global"] - 1) for name in ("church", "bedroom")}
    assert (round(changes["church"], 2), round(changes["bedroom"], 2)) == (-0.48, -0.97)
    assert "prints −0.97% for LSUN Church" in (own / "paper" / "README.md").read_text()


def test_the_page_lists_every_choice_that_the_papers_rows_rest_on(own: Path) -> None:
    text = (own / "paper" / "README.md").read_text()
    listed = text.split("## What the text leaves open")[1].split("\n## ")[0]
    for axis, name, fields in (
        (
            "recipe",
            "paper",
            {"batches", "flips", "psnr_steps", "sampling", "samples", "reference", "clip", "estimate_clipped", "ema_scored", "ema"},
        ),
        ("layout", "local_mix", {"placement", "border", "windows"}),
        ("layout", "local_star_tail", {"border", "windows"}),
        ("model", "dit_480_p2", {"hidden", "depth", "heads", "patch"}),
        ("suite", "paper_fig2", {"blocks"}),
    ):
        lines = [line[2:].split(": ") for line in listed.splitlines() if line.startswith(f"- {axis} ")]
        said = {field.strip("*") for who, field, *_ in lines if name in who.removeprefix(f"{axis} ").split(", ")}
        assert fields <= said, (name, said)
    assert "the text under review of 2024" in text and "cannot be used for transformers" in text


def test_the_doubtful_bars_of_figure_6_are_marked_and_no_others() -> None:
    published = reported.load(PUBLISHED)
    (six,) = (one for one in paper().exhibit if one.name == "Fig. 6")
    assert "in 12 of 12 pairs" in exhibits.doubt(six, published) and "at smaller N in 0" in exhibits.doubt(six, published)
    moved = replace(
        published,
        rows=tuple(
            replace(row, value=9.0) if (row.source, row.layout, row.n, row.dataset) == ("Figure 6", "global", 100_000, "celeba") else row
            for row in published.rows
        ),
    )
    assert exhibits.doubt(six, moved) == ""
    assert [one.name for one in paper().exhibit if exhibits.doubt(one, published)] == ["Fig. 6"]


# ------------------------------------------------------------------------------------------------------------- evidence


def test_printed_verdicts() -> None:
    claims = {claim.name: claim.contrasts[0] for claim in declared().claim}
    lower, equal = claims["fig6-few"], claims["table1-many"]
    assert [Printed(value, 2.0).verdict(lower) for value in (1.0, 2.0, 3.0)] == ["agrees", "equal", "disagrees"]
    assert [Printed(value, 2.0).verdict(equal) for value in (2.0, 2.19, 2.2)] == ["agrees", "agrees", "disagrees"]
    assert Printed(3.0, 2.0).difference(lower) == 1.0 and Printed(3.0, 2.0).difference(equal) == pytest.approx(50.0)


def test_verdicts_in_words() -> None:
    assert count(["agrees"]) == "agrees" and count(["agrees"] * 3) == "3 of 3 agree"
    assert count(["equal", "agrees", "agrees"]) == "2 of 3 agree, 1 equal"
    assert count(["not separated", "disagrees"]) == "1 of 2 disagrees, 1 not separated"
    assert [
        overall(words)
        for words in (
            [],
            ["not run"],
            ["agrees", "not run"],
            ["agrees", "disagrees"],
            ["not separated", "disagrees"],
            ["agrees", "not separated"],
            ["not separated"],
            ["same direction, one seed"],
            ["no common level"],
        )
    ] == ["not run", "not run", "agrees", "mixed", "disagrees in part", "agrees in part", "not separated", "one seed only", "open"]


def paper_rows(gaps: tuple[float, float], **fields: object) -> list[Record]:
    """Return three seeds of DiT-XS/1 on CelebA at N = 1,000 under the paper's recipe: global, and local in the first layers."""
    return [
        made(
            gap + 0.01 * seed,
            model="dit_xs1",
            layout=layout,
            dataset="celeba",
            subset=1000,
            seed=seed,
            recipe="paper",
            steps=400_000,
            **fields,
        )  # type: ignore[arg-type]
        for layout, gap in zip(("global", "local_head"), gaps, strict=True)
        for seed in range(3)
    ]


def test_rows_at_the_papers_scale_stand_beside_its_printed_values(tmp_path: Path) -> None:
    text = written(paper_rows((7.0, 6.0)), tmp_path)
    line = next(row for row in table(text, "## Fig. 6:") if "fig6-few" in row[0])
    assert line[1:3] == ["local_head &#60; global, N=1000; celeba", "6.56 against 7.49: −0.930 dB; agrees"]
    assert line[3].startswith("−1.000 dB [") and line[3].endswith("; agrees")
    assert "run in part, 6 of 216 rows" in text.split("## Fig. 6:")[1]
    glance = next(row for row in table(text, "## At a glance") if "Fig. 6" in row[0])
    assert glance[3].startswith("**agrees** at equal steps: agrees")
    (picture,) = pictures.figure6(pictures.Bank(read_all(tmp_path / "records")), reported.load(PUBLISHED))
    bars = picture.numbers["panels"][0]["groups"][0]["bars"]
    assert [bar["value"] for bar in bars] == [7.49, 6.56] and bars[1]["seeds"] == pytest.approx([6.0, 6.01, 6.02])
    text = written(paper_rows((6.0, 7.0)), tmp_path / "against")
    assert next(row for row in table(text, "## Fig. 6:") if "fig6-few" in row[0])[3].endswith("; disagrees")


def test_a_measured_fid_stands_below_the_printed_one(tmp_path: Path) -> None:
    fid = replace(FID, sampling="ancestral, 250 steps, seed 0", reference_samples=26_000, reference_trained_on=0)
    rows = [
        made(
            1.0, model="dit_xs1", layout=layout, dataset="celeba", subset=10_000, recipe="paper", scores={"fid": replace(fid, value=value)}
        )
        for layout, value in (("global", 10.0), ("local_head", 9.0))
    ]
    text = written(rows, tmp_path)
    said = "- CelebA: 50,000 samples, ancestral, 250 steps, seed 0, against 26,000 images, none trained on (fid-1)"
    assert all(said in text.split(f"## Table {number}:")[1].split("\n## ")[0] for number in (1, 2))
    other = replace(rows[0].scores["fid"], version="fid-2", value=30.0)
    mixed = [*rows, made(1.0, model="dit_xs1", dataset="celeba", subset=10_000, recipe="paper", seed=1, scores={"fid": other})]
    assert "ours: 10.0000" not in written(mixed, tmp_path / "mixed")  # seeds of two makings have no mean
    assert "9.6932 → 8.4580 (−12.74%)<br>ours: 10.0000 → 9.0000 (−10.00%)" in text
    assert "8.4580<br>ours: 9.0000" in text.split("## Table 2:")[1]
    line = next(row for row in table(text, "## Table 1:") if "table1-few" in row[0])
    assert line[2:] == ["8.4580 against 9.6932: −12.74%; agrees", "−10.00% (one seed); same direction, one seed", "–"]
    assert "run in part, 2 of 96 rows" in text


def test_stand_ins_are_labelled_and_judged_by_the_leaderboards_rule(own: Path) -> None:
    text = (own / "paper" / "README.md").read_text()
    line = next(row for row in table(text, "## Fig. 6:") if "mini-2" in row[0])
    assert line[0].startswith("**mini-2**, stand-in.") and line[2] == "–"
    assert line[3] == "−0.253 dB [−0.325, −0.182]; p 0.004, Holm 0.047; agrees"
    assert line[4].endswith("; p 0.013, Holm 0.065; not separated (interval alone: agrees)")
    records = suites()
    (one,) = weigh(records, [claim for claim in declared().claim if claim.name == "mini-2"], reported.load(PUBLISHED), {})
    assert one.printed is None and one.verdict(one.judged.equal_fit) == "agrees"
    assert "0 records at the paper's scale" in text
    assert "**Stand-in, at equal steps:** agrees: Fig. 6; agrees in part: Fig. 7; one seed only: Fig. 2; not run: Fig. 1" in text


# ----------------------------------------------------------------------------------------------------- rank correlation


def test_spearman_is_one_for_what_rises_and_agrees_with_the_closed_form_and_with_scipy() -> None:
    x = [0.1, 0.5, 2.0, 7.0]
    assert spearman(x, [math.exp(value) for value in x]) == pytest.approx(1.0)
    assert spearman(x, [-value for value in x]) == pytest.approx(-1.0)
    assert spearman([1.0, 1.0, 1.0], [1.0, 2.0, 3.0]) is None
    draw = random.Random(1)
    ranks = draw.sample(range(12), 12)
    closed = 1 - 6 * sum((i - rank) ** 2 for i, rank in enumerate(ranks)) / (12 * (12**2 - 1))  # no ties
    assert spearman(range(12), ranks) == pytest.approx(closed)  # type: ignore[arg-type]
    tied = [draw.randrange(4) / 2 for _ in range(30)], [draw.randrange(5) / 2 for _ in range(30)]
    assert spearman(*tied) == pytest.approx(stats.spearmanr(*tied).statistic)


def points(values: Sequence[tuple[float, float]], each: int = 1) -> list[Observation]:
    return [Observation(x, y, f"c{i:02d}") for i, (x, y) in enumerate(values) for _ in range(each)]


def test_the_listed_resamples_are_all_that_can_be_drawn() -> None:
    """With four configurations the 4^4 resamples can be drawn one by one: the same values, quantiles and p."""
    one = [*points([(1, 2), (2, 1), (3, 4), (4, 3)]), Observation(2, 3, "c01")]
    groups = [[seen for seen in one if seen.configuration == name] for name in ("c00", "c01", "c02", "c03")]
    drawn = [[seen for group in chosen for seen in group] for chosen in itertools.product(groups, repeat=4)]
    every = [spearman([seen.x for seen in seeds], [seen.y for seen in seeds]) for seeds in drawn]
    counts, chances = every_resample(4)
    assert len(counts) == 35 and chances.sum() == pytest.approx(1)
    values = resampled(one, counts)
    for value in {round(value, 9) for value in every if value is not None}:
        share = sum(known is not None and abs(known - value) < 1e-8 for known in every) / 256
        assert chances[abs(values - value) < 1e-8].sum() == pytest.approx(share)
    defined = sorted(value for value in every if value is not None)
    found = correlate(one)
    assert found and found.undefined == pytest.approx(every.count(None) / 256) and found.undefined > 0
    assert found.low and found.high and found.p
    assert found.low.value == pytest.approx(defined[math.ceil(0.025 * len(defined)) - 1])
    assert found.high.value == pytest.approx(defined[math.ceil(0.975 * len(defined)) - 1])
    assert (found.high.least, found.high.most) == (found.high.value, found.high.value)  # nothing was drawn
    beyond = min(sum(value <= 1e-12 for value in defined), sum(value >= -1e-12 for value in defined))
    assert found.p.value == pytest.approx(min(1, 2 * beyond / len(defined)))


def test_drawn_resamples_give_the_digits_of_the_listed_ones() -> None:
    draw = random.Random(2)
    one = points([(x := draw.gauss(0, 1), x + draw.gauss(0, 1)) for _ in range(8)], each=2)
    listed, drawn = correlate(one), correlate(one, listed=0, drawn=200_000)
    assert listed and drawn
    for name in ("low", "high", "p"):
        exact, found = getattr(listed, name).value, getattr(drawn, name)
        assert found.least <= exact <= found.most and found.most - found.least < 0.05
        assert settled(found) in (plain(exact), f"{exact:.2f}".replace("-", "−"), f"{exact:.1f}".replace("-", "−"))
    counts, _ = some_resamples(8, 50_000, seed=1)
    assert (counts.sum(axis=1) == 8).all() and counts.mean(axis=0) == pytest.approx([1] * 8, abs=0.02)
    assert counts.var(axis=0) == pytest.approx([7 / 8] * 8, abs=0.03)  # of a binomial of 8 draws


def test_seeds_of_one_configuration_do_not_narrow_the_interval() -> None:
    draw = random.Random(3)
    values = [(x := draw.gauss(0, 1), x + draw.gauss(0, 1)) for _ in range(10)]
    once, thrice = correlate(points(values)), correlate(points(values, each=3))
    assert once and thrice
    assert thrice.rho == pytest.approx(once.rho) and thrice.low and thrice.high and once.low and once.high
    assert (thrice.low.value, thrice.high.value) == pytest.approx((once.low.value, once.high.value))
    assert (once.rows, thrice.rows, thrice.configurations) == (10, 30, 10)
    alone = correlate([replace(one, configuration=str(i)) for i, one in enumerate(points(values, each=3))])
    assert alone and alone.low and alone.high
    assert alone.high.value - alone.low.value < 0.75 * (thrice.high.value - thrice.low.value)


def test_the_interval_covers_the_rank_correlation_of_two_gaussians() -> None:
    """For a bivariate normal, rho_S = 6 / pi asin(rho / 2) (Pearson 1907)."""
    draw, rho, covered = random.Random(5), 0.6, 0
    truth = 6 / math.pi * math.asin(rho / 2)
    for _ in range(60):
        pairs = [(x := draw.gauss(0, 1), rho * x + math.sqrt(1 - rho**2) * draw.gauss(0, 1)) for _ in range(40)]
        found = correlate(points(pairs), drawn=2000)
        assert found and found.low and found.high
        covered += found.low.value <= truth <= found.high.value
    assert covered >= 50  # 57 expected; below 50 has a probability under 0.002


def test_too_few_configurations_have_no_interval() -> None:
    found = correlate(points([(1, 1), (2, 2), (3, 0)], each=4))
    assert found and found.low is None and found.configurations == 3
    assert correlate(points([(1, 1), (1, 2)])) is None


# ------------------------------------------------------------------------------------------------- analyses on the page


def analysed(root: Path) -> tuple[str, list[Record]]:
    """Build a page with made-up analyses of every mini row: locality and harmonicity that fall and rise with the gap."""
    records = [one for one in suites() if one.row.recipe == "mini"]
    records += [made(2.0 + 0.1 * seed, model="unet_mini", seed=seed) for seed in range(3)]
    numbers = {
        one.id: {
            "attention": {
                "distance": 1 + one.psnr_gap,
                "distance_layer1": 1.0,
                "distance_layer2": 2.0,
                "position_invariance": one.psnr_gap,
            },
            "jacobian": {
                f"{name}_t{t}": sign * one.psnr_gap + t
                for name, sign in (("harmonicity", 1), ("sparsity", -1), ("leading_share", 1))
                for t in (50, 200, 500, 950)
            },
        }
        for one in records
    }
    for one in records:
        if one.row.model == "unet_mini":
            del numbers[one.id]["attention"]
    return written(records, root, numbers), records


def test_claims_about_what_networks_do_inside_are_judged_by_the_published_analyses(tmp_path: Path) -> None:
    text, _ = analysed(tmp_path)
    line = next(row for row in table(text, "## Fig. 1:") if "fig1-harmonic-t200" in row[0])
    assert line[3].startswith("+1.077 [") and line[3].endswith("; p 0.016, Holm 0.11; not separated (interval alone: agrees)")
    lines = [row for row in table(text, "## Fig. 4:") if "dead_leaves8" in row[1]]
    assert [row[3] for row in lines][:3] == [f"{value} (one seed); same direction, one seed" for value in ("−0.935", "−0.081", "−1.016")]
    build(tmp_path)
    assert {path.stem for path in (tmp_path / "paper" / "figures").glob("*.svg")} >= {"fig3", "fig4", "gap-against-insides"}


def test_a_decimal_that_another_draw_could_change_is_not_printed() -> None:
    ends = ((-0.5646, -0.5646, -0.5646), (-0.5612, -0.5622, -0.5604), (-0.5646, -0.5659, -0.5633))
    assert [settled(Drawn(*one)) for one in ends] == ["−0.565", "−0.56", "−0.6"]
    values = ((0.0001, 0.0, 0.0002), (0.0141, 0.0131, 0.0147), (0.0045, 0.0031, 0.0059), (0.12, 0.114, 0.133), (0.048, 0.044, 0.052))
    assert [settled_p(Drawn(*one)) for one in values] == ["< 0.001", "0.01", "< 0.01", "0.1", "< 0.1"]


def test_lines_of_one_table_hold_trained_networks_alone(tmp_path: Path) -> None:
    records = [made(gap, layout=f"l{place}") for place, gap in enumerate((1.0, 2.0, 3.0, 4.0, 5.0))]
    records += [made(9.0, model="reference", steps=1)]
    records[-1] = replace(records[-1], training=replace(records[-1].training, steps=0))
    numbers = {one.id: {"jacobian": {"harmonicity_t200": (-1.0 if one.training.steps else 9.0) * one.psnr_gap}} for one in records}
    rows = table(written(records, tmp_path, numbers), "## What the paper does not have")[2:]
    assert [(row[1], row[2], row[6]) for row in rows] == [
        ("all", "−0.143", "6 (6)"),
        ("trained networks", "−1.000", "5 (5)"),
        ("trained networks, dead_leaves8, mini, N = 16", "−1.000", "5 (5)"),
    ]
    p = [correlate(points([(-g, g) for g in range(1, 6)])), correlate(points([*((-g, g) for g in range(1, 6)), (9, 9)]))]
    assert p[0] and p[1] and p[0].p and p[1].p and p[0].p.value < 1e-12  # no resample of a falling line rises
    assert [row[4:6] for row in rows[1:]] == [["&#60; 0.001", "&#60; 0.001"]] * 2


def test_only_images_of_one_size_are_correlated_and_a_size_that_nobody_declares_is_left_out_and_said(tmp_path: Path) -> None:
    """digits8 and the permuted images do not say their size in a record: their entries do. An unknown kind says it nowhere."""
    records = [made(1.0 + place, layout=f"l{place}") for place in range(3)]
    kept = load(registry.find("dataset", "dead_leaves8_permuted", registry.roots()))
    larger = load(registry.find("dataset", "natural16", registry.roots()))
    permuted = {"name": "p", "kind": "permuted", "config": to_json(kept.config)}
    of_larger = permuted | {"config": permuted["config"] | {"of": to_json(larger)}}
    datasets = (
        {"name": "d", "kind": "digits", "config": {"channels": 1}},
        permuted,
        of_larger,
        {"name": "x", "kind": "unheard", "config": {}},
    )
    of_dataset = [one_on(dataset, seed) for seed, dataset in enumerate(datasets)]
    assert [gap_against._side(one) for one in [records[0], *of_dataset]] == [8, 8, 8, 16, None]
    numbers = {one.id: {"attention": {"distance": one.psnr_gap}} for one in [*records, of_dataset[-1]]}
    text = written([*records, of_dataset[-1]], tmp_path, numbers)
    assert table(text, "## What the paper does not have")[2][6] == "3 (3)"
    assert "1 analysed row is left out, the size of the images being declared nowhere here: x." in text


def one_on(dataset: dict[str, object], seed: int) -> Record:
    one = made(2.0 + seed, seed=seed)
    spec = one.spec | {"dataset": dataset}
    return replace(one, spec=spec, id=spec_id(spec))


def test_every_gap_of_windows_that_come_first_stands_in_for_figure_6() -> None:
    """Not only those that agree: whatever the dataset and N, global attention against the same model's windows in the first layers."""
    for claim in declared().own:
        pairs = [(one.variant, one.baseline) for one in claim.contrasts if one.quantity == "psnr_gap" and not one.than_on]
        first = any("head" in mine.layout and theirs.layout == "global" and not theirs.model for mine, theirs in pairs)
        if first and claim.expected == "lower":
            assert "Fig. 6" in claim.shows, claim.name


def test_no_two_lines_of_a_picture_look_alike(tmp_path: Path) -> None:
    """What is not published takes no colour; beyond the palette lines are broken."""
    looks = [(style.colour(look), style.marker(look), style.stroke(look, dashed=False)) for look in range(14)]
    assert len({look[0::2] for look in looks}) == len(looks) == len(set(looks))
    seed = {"jacobian": {f"harmonicity_t{t}": 0.5 for t in (50, 200)}}
    patches = made(1.0, model="dit_mid", dataset="patches16", recipe="mid", seed=1)
    mini = made(1.0)
    written([mini, patches], tmp_path, {mini.id: seed, patches.id: seed})
    material = report.gather(tmp_path / "records", PUBLISHED)
    _, (picture,) = inside.spectra(material.analyses, tmp_path)
    drawn = {line["label"]: line["look"] for line in picture.numbers["panels"][0]["lines"]}
    assert drawn["DiT, N = 16, patches at 16×16"] == 6 and len(set(drawn.values())) == len(drawn) == 7


def test_correlations_on_the_page_are_those_of_the_numbers(tmp_path: Path) -> None:
    text, records = analysed(tmp_path)
    rows = table(text, "## What the paper does not have")[2:]
    assert rows[0][:3] == ["mean attention distance (pixels)", "all", "1.000"] and rows[0][6] == "10 (6)"
    assert rows[1][:3] == ["harmonicity at t = 50", "all", "1.000"] and rows[1][6] == "13 (7)"
    assert not any("N = 64" in row[1] for row in rows)  # two configurations there
    weights = next(one for one in records if one.row.model == "unet_mini")
    path = analyses.published_folder(tmp_path, weights.row) / "jacobian.json"
    path.write_text(path.read_text().replace(weights.weights_sha256, "9" * 64))
    material = report.gather(tmp_path / "records", PUBLISHED)
    assert len(material.analyses) == 10 * 2 + 2  # an analysis of other weights is none


def test_without_analyses_the_page_says_so(own: Path) -> None:
    text = (own / "paper" / "README.md").read_text()
    assert text.count("No analysis of these rows is published: `bench analyze RUN --what") == 5
    assert "0 analyses of their networks" in text


# ---------------------------------------------------------------------------------------------------- the page as a file


class Reader(HTMLParser):
    """What a browser would load, and which tags are left open."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sources: list[str] = []
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.sources += [found["src"] or ""] if "src" in found else []
        self.links += [found["href"] or ""] if "href" in found else []
        self.anchors |= {found["id"] or ""} if "id" in found else set()
        if tag not in ("meta", "img", "br", "hr"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_html_opens_by_itself_and_says_what_the_markdown_says(own: Path) -> None:
    reader = Reader()
    reader.feed((own / "paper" / "index.html").read_text())
    assert reader.open == [] and len(reader.sources) == 5
    assert all(source.startswith("data:image/svg+xml;base64,") for source in reader.sources)
    inside = [link[1:] for link in reader.links if link.startswith("#")]
    assert len(inside) == len(paper().exhibit) and set(inside) <= reader.anchors
    assert "local_3x3_head < global, N=16; dead_leaves8" in reader.text and "Local*" in reader.text


def test_the_links_of_the_page_lead_somewhere(own: Path) -> None:
    text = (own / "paper" / "README.md").read_text()
    targets = re.findall(r"\]\(([^)#]+)\)", text)
    assert {"comparisons.md", "figures/fig2.svg"} < set(targets)
    assert all((own / "paper" / target).exists() for target in targets if "README" not in target)


def test_pictures_are_valid_repeatable_and_legible(own: Path) -> None:
    drawn = sorted((own / "paper" / "figures").glob("*.svg"))
    assert [path.stem for path in drawn] == ["fig2-curves", "fig2", "fig6", "fig7", "fig8"]
    for path in drawn:
        root = ElementTree.parse(path).getroot()
        assert 400 < float(root.attrib["width"].removesuffix("pt")) < 620  # as wide as a page
    before = {path: path.read_text() for path in drawn}
    report.build(report.gather(own / "records", PUBLISHED), own / "records", own / "paper")
    assert {path: path.read_text() for path in drawn} == before


def test_no_title_of_a_picture_is_clipped(own: Path) -> None:
    _, shown = report.compose(report.gather(own / "records", PUBLISHED), own / "records", own / "paper")
    for picture in shown:
        with style.styled("titles") as figure:
            drawing.DRAW[picture.kind](figure, picture.numbers)
            figure.draw_without_rendering()
            for axes in figure.axes:
                box = axes.title.get_window_extent()
                assert box.x0 >= 0 and box.x1 <= figure.bbox.x1, f"{picture.path}: {axes.get_title()}"


def test_every_comparison_has_a_line(own: Path) -> None:
    lines = [line for line in (own / "paper" / "comparisons.md").read_text().splitlines() if line.startswith("| ")]
    assert len(lines) - 2 == sum(len(claim.contrasts) for claim in declared().claim)


def test_stale_pages_are_told(own: Path, tmp_path: Path) -> None:
    material = report.gather(own / "records", PUBLISHED)
    out = own / "paper"
    assert report.stale(material, own / "records", out) == []
    page, picture, other = out / "README.md", out / "figures" / "fig6.svg", out / "figures" / "fig9.svg"
    kept = page.read_text(), picture.read_text()
    page.write_text(kept[0] + "x")
    picture.write_text(kept[1].replace("sha256:", "sha256:0"))
    foreign = out / "figures" / "logo.svg"
    other.write_text(kept[1])  # made here, of no figure any more
    foreign.write_text("<svg/>")
    assert [problem.split(" ")[0] for problem in report.stale(material, own / "records", out)] == [str(page), str(picture), str(other)]
    report.build(material, own / "records", out)
    assert report.stale(material, own / "records", out) == [] and not other.exists() and foreign.exists()


def test_another_readme_is_not_overwritten(own: Path, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("# Mine\n")
    with pytest.raises(BenchError, match="is not a page of this report"):
        report.build(report.gather(own / "records", PUBLISHED), own / "records", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]


def test_names_from_records_are_text_on_the_page(tmp_path: Path) -> None:
    rows = [made(1.0 + i, model=f"_m{i}_", dataset="__d__", subset=4) for i in range(4)]
    text = written(rows, tmp_path, {one.id: {"attention": {"distance": 1.0 + i}} for i, one in enumerate(rows)})
    assert "&#95;d&#95;" in text and "__d__" not in text
    reader = Reader()
    reader.feed(html.page(text, tmp_path))
    assert "__d__, mini, N = 4" in reader.text


# ---------------------------------------------------------------------------------------------------------- the command


def test_the_command_writes_the_page_and_prints_the_glance(bench: Bench, home: Path) -> None:
    save(suites(), home / "leaderboard" / "records")
    done = bench("report", "paper", "--json")
    found = json.loads(done.stdout)
    assert [one["exhibit"] for one in found["at_a_glance"]] == [one.name for one in paper().exhibit]
    mini = next(one for one in found["comparisons"] if one["claim"] == "mini-2")
    assert mini["verdict_at_equal_steps"] == "agrees" and mini["at_equal_steps"]["by_seed"].keys() == {"0", "1", "2"}
    assert (home / "leaderboard" / "paper" / "README.md").is_file()
    assert bench("report", "paper", "--check").returncode == 0
    few = bench("report", "paper", "--suite", "small", "--out", str(home / "few"))
    assert "The paper, figure by figure" in few.stdout and few.returncode == 0
    assert "12 records that may stand in" in (home / "few" / "README.md").read_text()


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ([], 2, "bench sweep mini"),
        (["--suite", "minni", "--out", "x"], 2, "Did you mean 'mini'"),
        (["--suite", "mini"], 2, "--out DIR"),
    ],
)
def test_a_wrong_call_is_one_paragraph(bench: Bench, home: Path, words: list[str], code: int, message: str) -> None:
    if words:
        (home / "leaderboard" / "records").mkdir(parents=True)
    done = bench("report", "paper", *words)
    assert (done.returncode, done.stdout) == (code, "") and message in done.stderr and "Traceback" not in done.stderr
