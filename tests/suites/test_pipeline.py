"""benchmark/suites/pipeline.py: suites to DVC stages, and the files at the top of the project."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import yaml

from benchmark.declaring import equivalence, registry
from benchmark.declaring.entries import load_suite
from benchmark.declaring.registry import STOCK
from benchmark.declaring.row import Row
from benchmark.declaring.spec import AXES, resolve
from benchmark.suites import pipeline

ROOT = STOCK.parent
MINI = Row("dit_mini", "local_3x3_head", "dead_leaves8", 16, 0, "mini")
PAPER = {"paper_fig2", "paper_fig6", "paper_fig7", "paper_fig8", "paper_table1", "paper_table2", "paper_table3"}
LAYOUTS = {  # of the published tables and figures, by suite
    "paper_table2": ("Table 2",),
    "paper_table3": ("Table 3",),
    "paper_table1": ("Table 1",),
    "paper_fig6": ("Figure 6",),
    "paper_fig8": ("Figure 8",),
}


def test_the_committed_files_are_what_the_suites_give() -> None:
    assert pipeline.stale(ROOT) == []


def test_every_row_is_one_stage_and_no_file_has_too_many() -> None:
    owned: list[Row] = []
    for one in pipeline.pipelines(ROOT):
        assert len(one.rows) + len(one.packs) + bool(one.page_of) <= 100
        owned += one.rows
    declared = {row for name in registry.entries("suite") for row in load_suite(name).rows()}
    assert len(owned) == len(set(owned))
    assert set(owned) == declared


def test_params_hold_the_rows_as_yaml_reads_them() -> None:
    for one in pipeline.pipelines(ROOT):
        params = yaml.safe_load(pipeline.files_of(ROOT, one.suite)[one.folder / "params.yaml"]) or {}
        rows = [Row(**fields) for fields in params.get("run", {}).values()]
        assert sorted(rows) == sorted(one.rows)
        assert params.get("pack", []) == list(one.packs)


def test_every_dependency_but_images_and_verdicts_is_there() -> None:
    """A stage of the default suite names no file that the checkout lacks, and its rows' code is what their numbers rest on."""
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    code = stages["code"]["deps"]
    assert {"benchmark/training/loop.py", "benchmark/scoring/psnr.py", "benchmark/networks/attention/bands.py"} <= set(code)
    assert {"registry/backbones/attention.py", str(equivalence.LEDGER)} <= set(code)
    assert all((ROOT / dep).exists() for dep in [*code, *(dep for dep in stages["run"]["do"]["deps"] if "$" not in dep)])
    assert set(stages["code"]["outs"]) == {f"build/code/mini/{pipeline.code_name(row)}" for row in load_suite("mini").rows()}
    assert stages["leaderboard"]["deps"] == [
        f"build/verdicts/mini/dead_leaves8/{r.model}-{r.layout}-n{r.subset}-s{r.seed}.json" for r in load_suite("mini").rows()
    ]


def test_a_suite_is_written_with_those_that_own_some_of_its_rows(tmp_path: Path) -> None:
    for folder in ("benchmark", "registry"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    written = pipeline.write(tmp_path, "mini_scale")
    assert {str(path) for path in written} >= {"pipelines/mini_scale/dvc.yaml", "pipelines/mini_biases/dvc.yaml", "dvc.yaml"}
    assert not any("paper" in str(path) for path in written)
    assert pipeline.stale(tmp_path, "mini_scale") == [] and pipeline.write(tmp_path, "mini_scale") == []


def test_the_digests_of_the_code_follow_an_edit_and_a_proof(tmp_path: Path) -> None:
    for folder in ("benchmark", "registry"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / equivalence.LEDGER).write_text("")
    before = {path.name: path.read_text() for path in pipeline.write_code("mini", tmp_path)}
    spec = resolve({axis: getattr(MINI, axis) for axis in AXES}, subset=16, seed=0)
    kernel = tmp_path / "benchmark/networks/attention/windows.py"
    kernel.write_text(kernel.read_text() + "# said again\n")
    assert {path.name: path.read_text() for path in pipeline.write_code("mini", tmp_path)} == before
    kernel.write_text(kernel.read_text() + "OTHER = 1\n")
    after = {path.name: path.read_text() for path in pipeline.write_code("mini", tmp_path)}
    assert set(after) == set(before) and all(after[name] != before[name] for name in before)
    family, name = equivalence.family_name(spec.to_json()), pipeline.code_name(MINI)
    proof = equivalence.Proof(
        family=family, before=before[name].strip(), after=after[name].strip(), row="a row", weights_sha256="1", curves_sha256="2",
        apart=0.0, torch="2", processor="a processor", date="2026-01-01",
    )  # fmt: skip
    equivalence.add([proof], tmp_path)
    joined = {path.name: path.read_text() for path in pipeline.write_code("mini", tmp_path)}
    assert joined[name] == before[name], "shown to be equivalent: its stages stay as they are"
    assert all(joined[other] == after[other] for other in after if other != name), "a proof speaks for its family only"


def test_the_paper_suites_are_the_rows_that_it_prints() -> None:
    published = json.loads((ROOT / "leaderboard/published/published.json").read_text())["rows"]
    assert set(registry.entries("suite")) >= PAPER
    for suite, sources in LAYOUTS.items():
        wanted = {(one["model"], one["layout"], one["dataset"], one["n"], one["variant"]) for one in published if one["source"] in sources}
        if suite == "paper_table2":
            assert ("dit_xs1", "local_star_tail", "imagenet", 100_000, "default") in wanted
        rows = {
            (row.model, row.layout, row.dataset, row.subset, "dagger" if row.recipe == "paper_dagger" else "default")
            for row in load_suite(suite).rows()
        }
        assert rows == wanted, suite
    shuffles = {(row.subset, row.seed) for row in load_suite("paper_fig2").rows()}
    assert shuffles == {(n, seed) for n in (1_000, 10_000, 100_000) for seed in (0, 1, 2)} | {(10, 0)}


def test_data_dvc_pins_the_manifests_as_they_are() -> None:
    """DVC's digest of a folder, computed here: the md5 of the sorted list of its files and their md5s."""
    pinned = yaml.safe_load((ROOT / "data.dvc").read_text())["outs"][0]
    assert pinned["cache"] is False and pinned["path"] == "data"
    files = [
        {"md5": hashlib.md5(path.read_bytes()).hexdigest(), "relpath": path.relative_to(ROOT / "data").as_posix()}
        for path in sorted((ROOT / "data").rglob("*.json"))
    ]
    text = json.dumps(files, sort_keys=True)
    assert pinned["md5"] == hashlib.md5(text.encode()).hexdigest() + ".dir", "run `dvc commit -f data.dvc` and commit it"


def test_nothing_leaves_the_machine() -> None:
    config = (ROOT / ".dvc/config").read_text()
    assert "analytics = false" in config and "check_update = false" in config
    assert "remote" not in config


@pytest.mark.parametrize(
    ("name", "recipe", "expected"),
    [
        ("mini", "mini", "dead_leaves8-dit_mini-local_3x3_head-n16-s0"),
        ("mixed", "paper", "mini-dead_leaves8-dit_mini-local_3x3_head-n16-s0"),
    ],
)
def test_a_stage_names_the_recipe_where_it_is_not_the_suites(name: str, recipe: str, expected: str) -> None:
    assert pipeline.stage_name(MINI, recipe) == expected
