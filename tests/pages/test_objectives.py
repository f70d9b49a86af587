"""benchmark/pages/objectives.py: recipes of one budget that differ in their objective alone share a table."""

import statistics
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from benchmark.declaring.spec import spec_id
from benchmark.pages import page, terminal
from benchmark.pages.claims import declared
from benchmark.pages.comparisons import judge, of_the_board
from benchmark.pages.document import document
from benchmark.pages.objectives import siblings, verdicts
from benchmark.pages.short import Beside, write_short
from benchmark.recording.published import Published
from benchmark.recording.record import Curves, Record
from tests.record_factory import made

FLOW = {"prediction": "flow", "weighting": "flow", "noise_schedule": "straight"}
SEEDS = (6, 7, 8, 9, 10, 11)


def row(recipe: str, gap: float, seed: int, opens: float = 1.0, **objective: object) -> Record:
    """One record whose gap without the clip is `opens` times its gap."""
    plain = made(gap, recipe=recipe, seed=seed)
    spec = plain.spec | {"recipe": plain.spec["recipe"] | {"config": plain.spec["recipe"]["config"] | objective}}
    clipped = plain.psnr.clipped
    test = tuple(a - opens * (a - b) for a, b in zip(clipped.train, clipped.test, strict=True))
    psnr = replace(plain.psnr, unclipped=Curves(train=clipped.train, test=test))
    return replace(plain, id=spec_id(spec), spec=spec, psnr=psnr)


def four() -> list[Record]:
    found = []
    for seed in SEEDS:
        extra = 0.01 * seed
        found += [
            row("mini_flow_matching", 1.5 + extra, seed, opens=2.0, **FLOW),
            row("mini_noise", 1.0 + extra, seed, opens=3.0, weighting="min_snr"),
            row("mini_control", 0.8 + 2 * extra, seed, opens=4.0),
            row("mini_data", 1.3 + extra, seed, prediction="data", weighting="min_snr"),
        ]
    return found


def test_siblings_stand_in_one_table_with_their_differences_by_seed() -> None:
    (table,) = siblings(four())
    assert [line.recipe for line in table.lines] == ["mini_control", "mini_noise", "mini_data", "mini_flow_matching"]
    first, noise, data, flow = table.lines
    assert first.equal_steps is None and first.objective.weighed_by == "noise" and noise.objective.weighed_by == "min-SNR, gamma 5"
    gaps = {line.recipe: [run.psnr_gap for run in line.series.runs.values()] for line in table.lines}
    for line in (noise, data, flow):
        differences = [a - b for a, b in zip(gaps[line.recipe], gaps["mini_control"], strict=True)]
        assert list(line.equal_steps.differences.values()) == pytest.approx(differences)
        assert line.equal_steps.estimate.mean == pytest.approx(statistics.mean(differences))
        assert line.equal_steps.estimate.low < line.equal_steps.estimate.mean < line.equal_steps.estimate.high
    assert flow.unclipped.mean == pytest.approx(2 * statistics.mean(gaps["mini_flow_matching"]), rel=1e-6)
    apart = [2 * a - 4 * b for a, b in zip(gaps["mini_flow_matching"], gaps["mini_control"], strict=True)]
    assert flow.unclipped_steps.estimate.mean == pytest.approx(statistics.mean(apart), rel=1e-6)
    tests = {line.recipe: {seed: run.psnr_test for seed, run in line.series.runs.items()} for line in table.lines}
    assert first.test_steps is None
    for line in (noise, data, flow):
        expected = {seed: tests[line.recipe][seed] - tests["mini_control"][seed] for seed in SEEDS}
        assert line.test_steps.differences == pytest.approx(expected) and any(abs(value) > 1e-3 for value in expected.values())


def test_another_budget_or_other_images_are_no_sibling() -> None:
    plain, flow = row("mini_control", 1.0, 6), row("mini_flow", 1.0, 6, **FLOW)
    assert siblings([plain]) == [] and siblings([flow]) == []
    longer = row("long_flow", 1.0, 6, **FLOW, batch=16)
    assert siblings([plain, longer]) == []
    same = row("mini_again", 1.0, 6)  # the same objective under another name is no table of objectives
    assert siblings([plain, same]) == []
    assert len(siblings([plain, flow])[0].lines) == 2


def test_page_terminal_and_json_show_them(tmp_path: Path) -> None:
    records = four()
    text, _ = page.write_page(records, Published(rows=()), Path("records"))
    section = text[text.index("## What is estimated: dit") :]
    assert section.index("mini_control") < section.index("mini_flow_matching") and "gap not clipped, dB" in section
    short = write_short(records, [], Beside("tables.md", "", ""))
    shown = short[short.index("## What is estimated: dit") :]
    (row,) = [line for line in shown.splitlines() if line.startswith("| mini_flow")]
    assert row.startswith("| mini_flow_matching<br>flow, straight,<br>by flow | 1.585<br>[") and row.count(" | ") == 6
    for width in (80, 120):
        console = Console(width=width, record=True, file=(tmp_path / "out").open("w"))
        for part in terminal.render(records, width=width):
            console.print(part)
        shown = console.export_text()
        assert max(map(len, shown.splitlines())) <= width and "…" not in shown[shown.index("What is estimated") :]
        assert "flow, straight," in shown and "by min-SNR, gamma 5" in shown
    (found,) = document(records)["objectives"]
    assert [one["prediction"] for one in found["rows"]] == ["noise", "noise", "data", "flow"]
    assert found["rows"][3]["gap_minus_first_at_equal_steps"]["by_seed"].keys() == {str(seed) for seed in SEEDS}


def test_each_recipe_has_the_verdicts_of_the_claims_about_it() -> None:
    """By the rules of the claims: corrected within their suite, and none before every declared seed is run."""
    records = four()
    judged = of_the_board(judge(records))
    lines = {line.recipe: line for line in siblings(records)[0].lines}
    found = {recipe: verdicts(line, judged) for recipe, line in lines.items()}
    assert found["mini_control"] == [] and "gap: higher than mini_noise, shown" in found["mini_data"]
    assert "gap, estimate not clipped: lower than mini_noise, shown" in found["mini_data"]  # 1.3 without the clip, against 3 times 1.0
    assert "gap: lower than mini_control, contradicted" in found["mini_noise"]
    early = [one for one in records if one.row.seed < 9]
    line = next(line for line in siblings(early)[0].lines if line.recipe == "mini_data")
    assert "gap: higher than mini_noise, unfinished" in verdicts(line, of_the_board(judge(early)))
    (row,) = [line for line in page.objectives(records).splitlines() if line.startswith("| mini_data<br>data, linear,<br>by min-SNR")]
    assert "gap: higher than mini_noise, shown<br>" in row and row.count("[") == 8  # an interval in each column of numbers


def test_a_claim_may_compare_two_recipes() -> None:
    claims = [claim for claim in declared().claim if claim.suite == "mini_objectives"]
    judged = {(one.claim.name, one.contrast.variant.subset, one.contrast.variant.recipe): one for one in judge(four(), claims)}
    found = judged["objectives-data", 16, "mini_data"]
    assert found.contrast.title == "mini_data > mini_noise, global, N=16"
    assert found.equal_steps.estimate.mean == pytest.approx(0.3, abs=1e-6)
    assert judged["objectives-data", 64, "mini_data"].equal_steps is None
    unclipped = judged["objectives-unclipped", 16, "mini_data"].equal_steps.estimate.mean
    assert unclipped == pytest.approx(statistics.mean(1.3 + 0.01 * s - 3 * (1.0 + 0.01 * s) for s in SEEDS), rel=1e-5)
