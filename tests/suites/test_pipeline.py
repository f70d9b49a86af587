"""benchmark/suites/pipeline.py: suites to DVC stages, and the files at the top of the project."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import yaml

from benchmark.declaring import registry
from benchmark.declaring.registry import STOCK
from benchmark.declaring.row import Row
from benchmark.declaring.spec import load_suite
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
        params = yaml.safe_load((ROOT / one.folder / "params.yaml").read_text()) or {}
        rows = [Row(**fields) for group, named in params.items() if group != "pack" for fields in named.values()]
        assert sorted(rows) == sorted(one.rows)
        assert params.get("pack", []) == list(one.packs)


def test_every_dependency_but_images_and_verdicts_is_there() -> None:
    """A stage of the default suite names no file that the checkout lacks."""
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    code = [dep for dep in stages["run"]["do"]["deps"] if "$" not in dep]
    assert {"benchmark/training/loop.py", "benchmark/training/step.py", "benchmark/networks/numerics.py"} <= set(code)
    assert "benchmark/networks/attention" in code  # the kernels that registry/backbones/attention.py imports, whichever is chosen
    assert "registry/backbones/attention.py" in code  # imported by dit.py, not by the entry
    assert all((ROOT / dep).exists() for dep in code)
    assert stages["leaderboard"]["deps"] == [
        f"build/verdicts/mini/dead_leaves8/{r.model}-{r.layout}-n{r.subset}-s{r.seed}.json" for r in load_suite("mini").rows()
    ]


def test_the_code_of_a_row_is_its_entries_and_what_they_import() -> None:
    code = {str(path) for path in pipeline.code_of(MINI, ROOT)}
    assert {
        "registry/backbones/dit_mini.gin",
        "registry/layouts/local_3x3_head.gin",
        "registry/datasets/dead_leaves8.gin",
        "registry/recipes/mini.gin",
        "registry/backbones/dit.py",
        "registry/backbones/attention.py",
        "registry/layouts/windows.py",
        "benchmark/scoring/psnr.py",
    } <= code
    assert "registry/backbones/unet.py" not in code
    assert "benchmark/networks/attention" in code and "benchmark/networks/attention" not in {
        str(path) for path in pipeline.code_of(MINI._replace(model="unet_mini", layout="global"), ROOT)
    }
    assert "registry/datasets/dead_leaves.py" not in code  # its images are a dependency by their bytes


def test_the_digest_of_the_code_changes_with_each_of_its_files_only(tmp_path: Path) -> None:
    before = pipeline.code_digest(MINI, ROOT)
    assert before == pipeline.code_digest(MINI._replace(seed=4, subset=64), ROOT)
    assert before != pipeline.code_digest(MINI._replace(layout="global"), ROOT)
    backbones = tmp_path / "backbones"
    backbones.mkdir()
    (backbones / "mine.gin").write_text("# mine\nimport my_net\n\nNet.width = 1\n")
    (backbones / "my_net.py").write_text("import my_part\n")
    (backbones / "my_part.py").write_text("x = 1\n")
    row, search = MINI._replace(model="mine"), (STOCK, tmp_path)
    mine = pipeline.code_digest(row, ROOT, search)
    (backbones / "my_part.py").write_text("x = 2\n")
    assert pipeline.code_digest(row, ROOT, search) != mine
    (backbones / "my_part.py").write_text("x = 1\n")
    assert pipeline.code_digest(row, ROOT, search) == mine


def test_the_digest_of_the_code_changes_with_a_kernel(tmp_path: Path) -> None:
    for folder in ("benchmark", "registry"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    search = (tmp_path / "registry",)
    dit, unet = MINI, MINI._replace(model="unet_mini", layout="global")
    before = [pipeline.code_digest(row, tmp_path, search) for row in (dit, unet)]
    kernel = tmp_path / "benchmark/networks/attention/windows.py"
    kernel.write_text(kernel.read_text() + "# another kernel\n")
    after = [pipeline.code_digest(row, tmp_path, search) for row in (dit, unet)]
    assert after[0] != before[0] and after[1] == before[1]


def test_every_module_of_the_training_and_the_scoring_is_a_dependency() -> None:
    """What run, train, step and psnr import of the instrument is a dependency of every row, or named here as no number."""
    no_number = {
        "artifacts",
        "attention",
        "checkpoint",
        "cost",
        "data",
        "distributed",
        "environment",
        "errors",
        "hold",
        "leaderboard",
        "lease",
        "memory",
        "place",
        "progress",
        "record",
        "signals",
        "spec",
    }
    imported = {
        name.split(".")[1]
        for module in ("run", "train", "step", "psnr", "diffusion")
        for name in pipeline._imports(ROOT / f"benchmark/{module}.py")
        if name.startswith("benchmark.")
    }
    assert imported - {path.stem for path in pipeline.NUMBERS} <= no_number


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
