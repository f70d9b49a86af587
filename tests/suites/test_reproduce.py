"""benchmark/suites/reproduce.py and the stages around it: fresh numbers against committed ones, alone and under DVC."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from benchmark import run
from benchmark.declaring import entries, spec
from benchmark.declaring.registry import STOCK
from benchmark.errors import BenchError
from benchmark.images import datasets, versioning
from benchmark.pages import leaderboard
from benchmark.recording import record
from benchmark.recording.record import path_of
from benchmark.running.progress import Display
from benchmark.scoring import trajectory
from benchmark.suites import reproduce
from benchmark.training.loop import Interrupted
from tests.conftest import ENTRIES

ROOT = STOCK.parent
NAMES = {"model": "dit_tiny", "layout": "global", "dataset": "leaves_tiny", "recipe": "tiny"}
SUITE = """# Two tiny rows
import benchmark.declaring.suite

Suite.recipe = 'tiny'
Suite.blocks = ({'models': ['dit_tiny'], 'layouts': ['global', 'near'], 'datasets': ['leaves_tiny'], 'subsets': [6],
                 'seeds': [0]},)
"""
NEAR = "# Window 3 on the first layer\nimport registry.layouts.windows\n\nWindows.windows = (3,)\n"


@pytest.fixture
def tiny() -> spec.Spec:
    return spec.resolve(NAMES, subset=6, seed=0, search=(STOCK, ENTRIES))


def bench_at(home: Path, seconds: float = 60.0) -> reproduce.Bench:
    return reproduce.Bench(home=home, records=home / "build/records", device=torch.device("cpu"), checkpoint_seconds=seconds)


def again(tiny: spec.Spec, home: Path, tolerance: float = 1e-9, publish: bool = False) -> reproduce.Reproduction:
    with Display() as display:
        return reproduce.reproduce(
            tiny,
            bench_at(home),
            display,
            committed_in=home / "committed",
            tolerance=tolerance,
            publish=publish,
        )


def made_by_other_code(home: Path) -> None:
    """Let what lies under build/ say that other code began it."""
    for path in (home / "build/runs").glob("*/spec.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"code": "0" * 64}))


def shifted(one: record.Record, by: float) -> record.Record:
    """A record whose training PSNR is another by that many dB at every step."""
    clipped = dataclasses.replace(one.psnr.clipped, train=tuple(value + by for value in one.psnr.clipped.train))
    means = {
        name: sum(values) / len(values)
        for name, values in (("psnr_train", clipped.train), ("psnr_test", clipped.test), ("psnr_gap", clipped.gap))
    }
    return dataclasses.replace(one, psnr=dataclasses.replace(one.psnr, clipped=clipped), **means)


def test_a_row_is_new_then_published_then_reproduced(tiny: spec.Spec, home: Path) -> None:
    verdict = path_of(home / "build/verdicts", tiny.row)
    assert again(tiny, home).status == "new"
    new = verdict.read_bytes()
    first = again(tiny, home, publish=True)
    recorded = verdict.read_bytes()
    assert first.status == "recorded" and recorded != new
    assert record.read(path_of(home / "committed", tiny.row)) == first.fresh
    made_by_other_code(home)
    other = again(tiny, home)  # trained anew
    assert other.status == "recorded" and other.fresh.created >= first.fresh.created
    assert other.fresh.training.wall_seconds != first.fresh.training.wall_seconds
    assert verdict.read_bytes() == recorded  # the same bytes from another training
    assert not list((home / "runs").glob("*"))  # the user's own runs are another place


def test_the_same_code_returns_the_finished_run_and_other_code_trains_anew(tiny: spec.Spec, home: Path) -> None:
    wall = again(tiny, home).fresh.training.wall_seconds
    assert again(tiny, home).fresh.training.wall_seconds == wall
    made_by_other_code(home)
    assert again(tiny, home).fresh.training.wall_seconds != wall


def test_a_killed_reproduction_resumes(tiny: spec.Spec, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps, whole = [], trajectory.train

    def stopped(*words, hooks, **named):  # a Ctrl-C after 15 steps, through the real training
        def stop() -> bool:
            steps.append(1)
            return len(steps) == 15

        return whole(*words, hooks=dataclasses.replace(hooks, stop=stop), **named)

    monkeypatch.setattr(trajectory, "train", stopped)
    with pytest.raises(Interrupted):
        again(tiny, home)
    done = again(tiny, home)
    assert done.fresh.training.resumed == 1 and len(steps) == 40
    monkeypatch.undo()
    assert again(tiny, home / "elsewhere").fresh.weights_sha256 == done.fresh.weights_sha256


@pytest.mark.parametrize(("by", "tolerance", "problem"), [(0.02, 0.05, None), (0.2, 0.05, "psnr_train"), (-0.2, 0.05, "psnr_train")])
def test_numbers_beyond_the_tolerance_fail_and_leave_no_verdict(
    tiny: spec.Spec, home: Path, by: float, tolerance: float, problem: str | None
) -> None:
    fresh = again(tiny, home, publish=True).fresh
    verdict = path_of(home / "build/verdicts", tiny.row)
    verdict.unlink()
    record.write(shifted(fresh, by), path_of(home / "committed", tiny.row))
    if problem is None:
        assert again(tiny, home, tolerance=tolerance).status == "recorded"
        return
    with pytest.raises(BenchError, match=f"does not reproduce .*{problem} is .* more than 0.1"):
        again(tiny, home, tolerance=tolerance)
    assert not verdict.exists()


def test_the_gap_is_held_closer_than_its_two_sides(tiny: spec.Spec, home: Path) -> None:
    fresh = again(tiny, home).fresh
    assert [one.split()[0] for one in reproduce.differences(shifted(fresh, 5.0), fresh, 3.0)] == ["psnr_gap"]
    assert [one.split()[0] for one in reproduce.differences(shifted(fresh, 5.0), fresh, 2.0)] == [
        "psnr_gap",
        "psnr_train",
    ]
    assert reproduce.differences(shifted(fresh, 5.0), fresh, 5.1) == []


def test_other_images_or_another_budget_are_differences_whatever_the_tolerance(tiny: spec.Spec, home: Path) -> None:
    fresh = again(tiny, home).fresh
    other = dataclasses.replace(
        fresh,
        data=dataclasses.replace(fresh.data, train_sha256="0" * 64),
        training=dataclasses.replace(fresh.training, parameters=1),
    )
    assert reproduce.differences(fresh, fresh, 0.0) == []
    found = reproduce.differences(other, fresh, 1e9)
    assert len(found) == 2 and "data.train_sha256" in found[0] and "training.parameters" in found[1]


def test_a_record_of_another_configuration_is_not_held_against_a_row(tiny: spec.Spec, home: Path) -> None:
    again(tiny, home, publish=True)
    longer = spec.resolve(NAMES, subset=6, seed=0, overrides=("recipe.steps=41",), search=(STOCK, ENTRIES))
    assert again(longer, home).status == "new"


# Under DVC: a checkout of its own, made from the files of this one.


# Under `make test` MAKELEVEL and MAKEFLAGS are set, and a make below it says which directory it enters and leaves.
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")} | {
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    "OMP_NUM_THREADS": "1",
}


def git(*words: str, at: Path) -> str:
    command = ["git", "-c", "user.name=t", "-c", "user.email=t@t", *words]
    return subprocess.run(command, cwd=at, check=True, capture_output=True, text=True).stdout


def dvc(*words: str, at: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dvc", *words]
    return subprocess.run(command, cwd=at, capture_output=True, text=True, check=False, env=ENVIRONMENT)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A committed checkout whose default suite is two tiny rows, with their records, their page and a fresh dvc.lock."""
    root = tmp_path_factory.mktemp("origin")
    skip = shutil.ignore_patterns("__pycache__")
    for folder in ("benchmark", "registry", "leaderboard/published"):
        shutil.copytree(ROOT / folder, root / folder, ignore=skip)
    shutil.rmtree(root / "registry/suites")
    for name in (".dvc/config", ".dvcignore", ".gitignore", ".gitattributes", "data.dvc", "pyproject.toml", ".ci/run"):
        (root / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, root / name)
    shutil.copytree(ENTRIES, root / "registry", dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__", "suites"))
    (root / "registry/layouts/near.gin").write_text(NEAR)
    (root / "registry/suites").mkdir(exist_ok=True)
    (root / "registry/suites/mini.gin").write_text(SUITE)
    search = (root / "registry",)
    torch.set_num_threads(1)
    with Display() as display:
        for row in entries.load_suite("mini", search).rows():
            one = spec.resolve({axis: getattr(row, axis) for axis in spec.AXES}, subset=row.subset, seed=row.seed, search=search)
            datasets.add(row.dataset, one.dataset.config, home=root, root=None)
            run.run(one, run.Place(home=root, records=root / "leaderboard/records", device=torch.device("cpu")), display)
    leaderboard.build(root / "leaderboard/records", root / "leaderboard", root / "leaderboard/published")
    subprocess.run([sys.executable, "-m", "benchmark.cli", "suite", "write"], cwd=root, check=True, capture_output=True)
    shutil.rmtree(root / "runs")
    shutil.rmtree(root / "packed")
    git("init", "-q", at=root)
    versioning.version("leaves_tiny", root, embedded=True)
    git("add", "-A", at=root)
    git("commit", "-qm", "all", at=root)
    done = dvc("repro", at=root)
    assert done.returncode == 0, done.stdout + done.stderr
    git("add", "dvc.lock", at=root)
    git("commit", "-qm", "lock", at=root)
    return root


def test_a_fresh_clone_reproduces_and_an_edit_runs_only_its_rows(checkout: Path, tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    git("clone", "-q", str(checkout), str(clone), at=tmp_path)
    for words in (("repro",), ("pull", "data.dvc"), ("status",)):
        done = dvc(*words, at=clone)
        assert done.returncode == 0, done.stdout + done.stderr
    assert "up to date" in done.stdout
    assert git("status", "--porcelain", at=clone) == ""  # dvc.lock and data.dvc are as committed
    verdicts = json.loads((clone / "build/verdicts/mini.json").read_text())
    assert [one["status"] for one in verdicts["rows"]] == ["recorded", "recorded"]
    assert "near" in (clone / "build/leaderboard/mini/README.md").read_text()

    # A layout is edited, a committed record is forged: only these two rows run; one fails, the other is done.
    lock = yaml.safe_load((clone / "dvc.lock").read_text())["stages"]
    (clone / "registry/layouts/near.gin").write_text(NEAR.replace("first layer", "very first layer"))
    path = clone / "leaderboard/records/tiny/leaves_tiny/dit_tiny-global-n6-s0.json"
    record.write(shifted(record.read(path), 1.0), path)
    done = dvc("repro", "--keep-going", at=clone)
    assert done.returncode != 0 and "does not reproduce" in done.stderr, done.stderr
    assert "'pack@leaves_tiny' didn't change, skipping" in done.stdout
    after = yaml.safe_load((clone / "dvc.lock").read_text())["stages"]
    near = "run@leaves_tiny-dit_tiny-near-n6-s0"
    changed = [dep["path"] for dep, was in zip(after[near]["deps"], lock[near]["deps"], strict=True) if dep != was]
    assert changed == ["registry/layouts/near.gin"]
    assert after[near]["outs"] == lock[near]["outs"]  # trained anew, pinned the same
    assert {name for name in lock if after[name] != lock[name]} == {near}


def test_the_integrity_check_refuses_a_stale_lock(checkout: Path, tmp_path: Path) -> None:
    """The script that a clean checkout must pass, with tests that have passed: an entry changed, dvc.lock did not."""
    clone = tmp_path / "clone"
    git("clone", "-q", str(checkout), str(clone), at=tmp_path)
    (clone / "Makefile").write_text("check:\n\t@echo checked\ntest:\n\t@echo tested\n")
    (clone / "registry/layouts/near.gin").write_text(NEAR.replace("first layer", "very first layer"))
    git("add", "-A", at=clone)
    git("commit", "-qm", "an edit without its dvc.lock", at=clone)
    done = subprocess.run([clone / ".ci/run"], capture_output=True, text=True, check=False, env=ENVIRONMENT)
    assert "checked\ntested" in done.stdout and "Running stage 'leaderboard'" in done.stdout, done.stderr
    assert done.returncode == 1 and "is not what 'dvc repro' gives. Run 'dvc repro'" in done.stderr
    changed = [line[1:].strip() for line in done.stdout.splitlines() if line.startswith(("-      md5", "-      size"))]
    assert len(changed) == 2  # the one dependency
    assert git("status", "--porcelain", at=clone) == "" and not (clone / "build").exists()


def test_a_repro_that_is_killed_in_the_middle_of_a_row_resumes_inside_it(checkout: Path, tmp_path: Path) -> None:
    clone, recipe = tmp_path / "clone", "registry/recipes/tiny.gin"
    git("clone", "-q", str(checkout), str(clone), at=tmp_path)
    (clone / recipe).write_text((clone / recipe).read_text().replace("Recipe.steps = 40", "Recipe.steps = 500"))
    stages = (clone / "dvc.yaml").read_text()
    (clone / "dvc.yaml").write_text(stages.replace("--threads 1", "--threads 1 --checkpoint-every 0.1"))
    stage = "run@leaves_tiny-dit_tiny-near-n6-s0"
    process = subprocess.Popen(
        [sys.executable, "-m", "dvc", "repro", stage],
        cwd=clone,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    while not list((clone / "build/runs").glob("*/checkpoints/0*")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    done = dvc("repro", stage, at=clone)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Running stage 'pack@" not in done.stdout  # it was done before the kill
    (resumed,) = record.read_all(clone / "build/records")
    assert resumed.training.resumed == 1 and resumed.training.steps == 500
    one = spec.from_record(resumed.spec)
    torch.set_num_threads(1)
    with Display() as display:
        place = run.Place(home=clone, records=tmp_path / "records", device=torch.device("cpu"))
        whole = run.run(one, place, display)
    assert (whole.weights_sha256, whole.psnr) == (resumed.weights_sha256, resumed.psnr)


def test_a_flipped_byte_of_added_images_is_caught_and_restored(checkout: Path, tmp_path: Path) -> None:
    from PIL import Image

    clone, photos = tmp_path / "clone", tmp_path / "photos"
    git("clone", "-q", str(checkout), str(clone), at=tmp_path)
    photos.mkdir()
    draw = np.random.default_rng(0)
    for i in range(303):
        Image.fromarray(draw.integers(0, 256, (9, 9, 3), dtype=np.uint8)).save(photos / f"{i:03}.png")
    added = subprocess.run(
        [sys.executable, "-m", "benchmark.cli", "data", "add", "natural8", "--root", str(photos), "--force"],
        cwd=clone,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"BENCH_HOME": str(clone)},
    )
    assert added.returncode == 0 and "commit data/natural8.json, packed/natural8.dvc, data.dvc" in added.stdout, added.stderr
    git("add", "data", "packed/natural8.dvc", "data.dvc", at=clone)  # none of them is ignored
    array = clone / "packed/natural8/images.npy"
    good = array.read_bytes()
    array.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    assert any("damaged" in problem for problem in datasets.verify("natural8", home=clone))
    restored = dvc("checkout", "--force", "packed/natural8.dvc", at=clone)
    assert restored.returncode == 0, restored.stderr
    assert array.read_bytes() == good and datasets.verify("natural8", home=clone) == []
