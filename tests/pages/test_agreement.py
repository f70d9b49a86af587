"""Agreement with denoisers in closed form, on the paper page: its numbers against the committed files and against made-up ones."""

import json
import math
import re
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

from benchmark.pages import report
from benchmark.pages.report import agreement, summary
from benchmark.pages.report.analysed import Analyses
from benchmark.recording import analyses
from benchmark.recording.record import Record, read_all
from tests.record_factory import made, save
from tests.records import make_analysis

ROOT = Path(__file__).parents[2] / "leaderboard"
DENOISERS = ("empirical_optimal", "wiener", "local_score", "pca_locality")
SETTINGS = {"version": "theory-1", "images": 16, "split": "test"}


def publish(root: Path, records: list[Record], value: float = 0.5, **settings: object) -> None:
    """Save records and, of each, an analysis whose numbers fall with the seed: value - seed / 100, of samples half of that."""
    save(records, root / "records")
    for one in records:
        r2 = value - one.row.seed / 100
        numbers = {f"r2_{name}_t{t}": r2 for name in DENOISERS for t in (50, 200, 500, 950)}
        numbers |= {f"r2_samples_{name}": r2 / 2 for name in DENOISERS} | {"patch_side_t50": 3.0}
        found = make_analysis(one, "theory", numbers, {**SETTINGS, **settings})
        path = analyses.published_folder(root, one.row) / "theory.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(analyses.text(found))


def gathered(root: Path) -> Analyses:
    return Analyses(read_all(root / "records"), root)


def control(**fields: object) -> list[Record]:
    return [made(recipe="mini_control", seed=seed, **fields) for seed in (6, 7, 8)]  # type: ignore[arg-type]


def rows(text: str) -> list[list[str]]:
    """Return the cells of the section's table."""
    section = text.split(agreement.HEADING)[1].split("\n## ")[0]
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in section.splitlines() if line.startswith("|")][2:]


def test_every_number_on_the_committed_page_is_that_of_the_committed_files() -> None:
    """The files are read here as JSON and nothing else: r² by configuration, denoiser and place, then the mean and the ends."""
    taken: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for path in sorted((ROOT / "analysis").rglob("theory.json")):
        found = json.loads(path.read_text())
        kept = (ROOT / "records" / path.parent.relative_to(ROOT / "analysis")).with_suffix(".json")
        if not kept.exists():  # the page shows what stands beside a record
            continue
        record = json.loads(kept.read_text())
        assert found["weights_sha256"] == record["weights_sha256"]
        of = found["spec"]
        network = f"{of['model']} {of['layout']}, N = {of['subset']}; {of['recipe']}, {of['dataset']}"
        for name in DENOISERS:
            for place in ("t50", "t200", "t500", "t950"):
                taken[network, name][place].append(found["numbers"][f"r2_{name}_{place}"])
            taken[network, name]["samples"].append(found["numbers"][f"r2_samples_{name}"])
            taken[network, name]["seeds"].append(of["seed"])
    shown = rows((ROOT / "paper" / "README.md").read_text())
    assert len(taken) >= 12 and {(row[0], row[1]) for row in shown} == taken.keys()
    for network, name, *cells, seeds, images in shown:
        assert seeds == ", ".join(str(int(seed)) for seed in sorted(taken[network, name]["seeds"])) and images == "16 test"
        for cell, place in zip(cells, ("t50", "t200", "t500", "t950", "samples"), strict=True):
            values = taken[network, name][place]
            ends = f" [{min(values):.2f}, {max(values):.2f}]" if len(values) > 1 else ""
            assert cell == f"{math.fsum(values) / len(values):.2f}{ends}", (network, name, place)


def test_mean_and_spread_over_seeds_stand_on_the_page_in_json_and_in_the_terminal(tmp_path: Path) -> None:
    publish(tmp_path, control())
    found = gathered(tmp_path)
    text, pictures = agreement.agreement(found)
    assert len(rows(text)) == 4
    assert rows(text)[1] == ["dit_mini global, N = 16; mini_control, dead_leaves8", "wiener", *["0.43 [0.42, 0.44]"] * 4] + [
        "0.21 [0.21, 0.22]",
        "6, 7, 8",
        "16 test",
    ]
    wiener = agreement.as_json(found)[1]
    assert wiener["denoiser"] == "wiener" and wiener["subset"] == 16 and "seed" not in wiener
    assert wiener["r2"]["t = 50"] == {"mean": math.fsum((0.44, 0.43, 0.42)) / 3, "by_seed": {"6": 0.44, "7": 0.43, "8": 0.42}}
    (table,) = agreement.tables(found)
    assert table[0] == "r² of dit_mini global, N = 16, mini_control on dead_leaves8, seeds 6, 7, 8"
    assert table[2][1] == ("wiener", *["0.43"] * 4, "0.21 [0.21, 0.22]")
    levels, samples = pictures
    assert [panel["title"] for panel in levels.numbers["panels"]] == list(DENOISERS)
    line = levels.numbers["panels"][1]["lines"][0]
    assert line["mean"] == [[t, 0.43] for t in (50, 200, 500, 950)] and line["seeds"][2][0] == [50, 0.42]
    assert [one["mean"] for one in levels.numbers["panels"][1]["lines"][1:]] == [[], [], []]  # no row of these
    assert samples.numbers["panels"][0]["groups"][1]["bars"] == [{"series": 0, "value": 0.215, "seeds": [0.22, 0.215, 0.21]}]


def test_what_kamb_and_ganguli_report_stands_beside_it(tmp_path: Path) -> None:
    publish(tmp_path, [*control(), *control(model="unet_mini")])
    said = re.sub(r"\s+", " ", agreement.agreement(gathered(tmp_path))[0])
    assert "medians of 0.94 to 0.96 for convolutional networks" in said and "about 0.77 for UNets with attention" in said
    assert "arxiv.org/abs/2412.20292" in said and "no repetition" in said
    ours = "DiT, global (`dit_mini`) 0.21 [0.21, 0.22]; UNet (`unet_mini`) 0.21 [0.21, 0.22]."
    assert f"**Here, `local_score` over samples, N = 16:** {ours}" in said


def test_numbers_of_two_settings_have_no_mean(tmp_path: Path) -> None:
    one, other, third = control()
    publish(tmp_path, [one])
    publish(tmp_path, [other], images=2)
    publish(tmp_path, [third], version="theory-0")
    found = agreement.agreements(gathered(tmp_path))
    assert sorted((agreed.setting.images, agreed.seeds) for agreed in found if agreed.denoiser == "wiener") == [
        (2, [7]),
        (16, [6]),
        (16, [8]),
    ]


def test_one_seed_has_no_spread_and_rows_that_are_not_drawn_leave_the_pictures_out(tmp_path: Path) -> None:
    publish(tmp_path, [made(subset=64)])
    text, pictures = agreement.agreement(gathered(tmp_path))
    assert pictures == [] and "![" not in text and rows(text)[0][2:8] == ["0.50"] * 4 + ["0.25", "0"]


def test_an_analysis_of_other_weights_is_none(tmp_path: Path) -> None:
    (row,) = control()[:1]
    publish(tmp_path, [row])
    save([replace(row, weights_sha256="9" * 64)], tmp_path / "records")
    assert agreement.agreements(gathered(tmp_path)) == []


def test_names_from_records_are_text(tmp_path: Path) -> None:
    publish(tmp_path, [made(model="_m_", dataset="__d__")])
    assert "__d__" not in agreement.agreement(gathered(tmp_path))[0]


def test_the_report_holds_the_section_and_its_pictures(tmp_path: Path) -> None:
    publish(tmp_path, control())
    material = report.gather(tmp_path / "records", ROOT / "published")
    text, shown = report.compose(material, tmp_path / "records", tmp_path / "paper")
    assert len(rows(text)) == 4 and {"agreement-levels", "agreement-samples"} <= {picture.path.stem for picture in shown}
    assert summary.as_json(material)["agreement"] == agreement.as_json(material.analyses)
