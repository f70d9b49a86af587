"""Before a run begins, all that its end will demand is checked: nothing is trained for a record that cannot be written."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from benchmark.contract import Entry
from benchmark.declaring import registry
from benchmark.declaring.spec import Spec, resolve
from benchmark.errors import BenchError, UsageError
from benchmark.networks.cost import on_meta
from benchmark.recording import record
from benchmark.run import run
from benchmark.running.place import Place, here
from benchmark.running.progress import Display
from benchmark.scoring import ahead
from tests.conftest import ENTRIES

NAMES = {"model": "dit_tiny", "layout": "global", "dataset": "leaves_tiny", "recipe": "tiny"}


@pytest.fixture
def place(home: Path) -> Place:
    return here("cpu")


def tiny(*overrides: str) -> Spec:
    return resolve(NAMES, subset=6, seed=0, overrides=overrides, search=registry.roots([ENTRIES]))


def named(name: str) -> Spec:
    spec = tiny()
    return replace(spec, model=Entry(name, spec.model.kind, spec.model.config))


def test_an_ordinary_run_passes_and_leaves_nothing_behind(place: Place) -> None:
    ahead.check(tiny(), place)
    assert not list(place.home.iterdir())


@pytest.mark.parametrize("name", ["ünïcode", "new\nline", ".hidden", "-flag", "a/b", "x" * 200, ""])
def test_a_name_that_no_record_holds(place: Place, name: str) -> None:
    with pytest.raises(UsageError, match="cannot have a record"):
        run(named(name), place, Display(silent=True))
    assert not (place.home / "runs").exists()


@pytest.mark.parametrize("name", ["ünïcode", "new\nline"])
def test_an_entry_of_such_a_name_is_told_where_it_is_listed_checked_and_loaded(tmp_path: Path, name: str) -> None:
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / f"{name}.gin").write_text((ENTRIES / "recipes" / "tiny.gin").read_text())
    search = registry.roots([ENTRIES, tmp_path])
    from benchmark.contributing.check import check
    from benchmark.declaring.entries import fault

    assert "its name" in (fault(registry.entries("recipe", search)[name]) or "")
    (verdict,) = check([tmp_path / "recipes" / f"{name}.gin"], search)
    assert "its name" in (verdict.problem or "")
    with pytest.raises(UsageError, match="its name"):
        resolve(NAMES | {"recipe": name}, subset=6, seed=0, search=search)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("recipe.batch=99999999", r"batch of 99,999,999 images needs .* GiB .* and cpu has"),
        ("model.depth=1000000", "weight tensors|needs more than"),
        ("model.hidden=1000000", "needs more than .* GiB to be trained"),
        ("dataset.resolution=100000", "100000x100000 would need .* GiB on the disk"),
        ("dataset.count=99999999999", "would need .* GiB on the disk"),
    ],
)
def test_what_the_machine_cannot_hold_is_said_with_what_it_would_need(place: Place, override: str, said: str) -> None:
    with pytest.raises(BenchError, match=said):
        ahead.check(tiny(override), place)


def test_a_disk_without_room_for_the_checkpoints(place: Place) -> None:
    class Large(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.empty(2**50, device="meta"))

    with pytest.raises(BenchError, match=r"3 checkpoints of .* would need .* GiB on the disk, and .* free"):
        ahead.check_space(Large(), place.folder(tiny()))


def test_a_place_that_is_no_folder_or_holds_no_record(place: Place) -> None:
    spec = tiny()
    (place.home / "runs").write_text("")
    with pytest.raises(BenchError, match="runs is a file"):
        ahead.check_places(spec, place)
    (place.home / "runs").unlink()
    path = record.path_of(place.records, spec.row)
    path.parent.mkdir(parents=True)
    path.write_text("{")
    with pytest.raises(BenchError, match="is not valid"):
        run(spec, place, Display(silent=True), force=True)
    assert not place.folder(spec).exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_place_that_is_read_only(place: Place) -> None:
    place.home.chmod(0o555)
    with pytest.raises(BenchError, match="read-only"):
        ahead.check_places(tiny(), place)


def test_a_record_that_would_be_too_large(place: Place) -> None:
    spec = tiny("recipe.steps=99999", f"recipe.trajectory={tuple(range(1, 60_000))}")
    with pytest.raises(BenchError, match="No record could hold this run: it has .* characters"):
        ahead.check_record(spec, on_meta(spec))


def test_a_layout_that_fails_is_said_and_named(tmp_path: Path) -> None:
    for number, body in enumerate(
        ["raise RuntimeError('broken')", "return self.place(depth)", "raise GeneratorExit", "raise SystemExit(0)", "return 5",
         "return (Attention(window=3, dilation=2),) * depth", "return ()"]
    ):  # fmt: skip
        folder = tmp_path / str(number) / "layouts"
        folder.mkdir(parents=True)
        head = 'from benchmark.contract import Attention, entry\n\n@entry\nclass Bad:\n    """Bad."""\n    width: int = 1\n'
        (folder / f"bad{number}.py").write_text(f"{head}    def place(self, depth):\n        {body}\n")
        (folder / "bad.gin").write_text(f"# Bad\nimport bad{number}\n\nBad.width = 1\n")
        with pytest.raises(UsageError, match="layout 'bad' does not fit the model 'dit_tiny'"):
            resolve(NAMES | {"layout": "bad"}, subset=6, seed=0, search=registry.roots([ENTRIES, folder.parent]))


@pytest.mark.parametrize("body", ["raise BaseException('no')", "raise GeneratorExit", "raise SystemExit(3)", "raise MemoryError", "1 / 0"])
def test_an_import_that_fails_names_its_entry(tmp_path: Path, body: str) -> None:
    folder, name = tmp_path / "recipes", f"failing_{abs(hash(body)) % 10**8}"
    folder.mkdir()
    (folder / f"{name}.py").write_text(f"{body}\n")
    (folder / "failing.gin").write_text(f"# Failing\nimport {name}\n\nFailing.x = 1\n")
    with pytest.raises(UsageError, match=r"entry .*failing\.gin cannot be loaded"):
        resolve(NAMES | {"recipe": "failing"}, subset=6, seed=0, search=registry.roots([ENTRIES, tmp_path]))


def test_brackets_without_end_spoil_their_own_entry_alone(tmp_path: Path) -> None:
    from benchmark.declaring.entries import fault

    (tmp_path / "recipes").mkdir()
    path = tmp_path / "recipes" / "deep.gin"
    path.write_text(f"# Deep\nimport benchmark.recipe\n\nRecipe.betas = {'(' * 5000}{')' * 5000}\n")
    assert "not valid gin" in (fault(registry.read("recipe", path)) or "")
    with pytest.raises(UsageError, match="deep"):
        tiny(f"recipe.betas={'(' * 5000}{')' * 5000}".replace("recipe.betas", "deep"))


@pytest.mark.parametrize("word", ["seed=5", "subset=5", "half=a"])
def test_what_is_the_runs_own_is_not_taken_for_an_entrys(word: str) -> None:
    with pytest.raises(UsageError, match="is the run's own"):
        tiny(word)
