"""benchmark/declaring/spec.py: one strict loader, one id."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmark.declaring import registry
from benchmark.declaring.entries import load, load_suite
from benchmark.declaring.spec import from_record, resolve, spec_id
from benchmark.errors import UsageError

NAMES = {"model": "dit_mini", "layout": "local_3x3_head", "dataset": "dead_leaves8", "recipe": "mini"}


def entry(folder: Path, text: str, axis: str = "recipe") -> registry.EntryFile:
    path = folder / registry.FOLDERS[axis] / "mine.gin"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return registry.read(axis, path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import benchmark.recipe\nRecipe.steps = 'many'\n", "steps = 'many' must be a whole number"),
        ("import benchmark.recipe\nRecipe.steps = 1e3\n", "steps = 1000.0 must be a whole number"),
        ("import benchmark.recipe\nRecipe.step = 3\n", "step"),
        ("import benchmark.recipe\nReciple.steps = 3\n", "Reciple"),
        ("import benchmark.recipe\nx/Recipe.steps = 3\n", "line 2: scopes and macros"),
        ("import benchmark.recipe\nN = 3\nRecipe.steps = %N\n", "line 2: scopes and macros"),
        ("import benchmark.recipe\nRecipe.steps = %N\n", "only literal values"),
        ("import benchmark.recipe\nRecipe.steps = @Recipe()\n", "only literal values"),
        ("import benchmark.recipe\nRecipe.steps = 3\nRecipe.steps = 4\n", "bound twice"),
        ("import benchmark.recipe\nimport benchmark.suite\nRecipe.steps = 3\nSuite.recipe = 'x'\n", "configurables"),
        ("include 'other.gin'\nRecipe.steps = 3\n", "more than imports"),
        ("import benchmark.recipe\n", "binds nothing"),
        ("Recipe.steps = = 3\n", "not valid gin"),
        ("import benchmark.recipe\nRecipe.betas = (0.9,\n", "not valid gin"),
        ("import no_such_module\nRecipe.steps = 3\n", "no_such_module"),
        ("import benchmark.suite\nSuite.recipe = 'x'\nSuite.blocks = ()\n", "is no Recipe"),
        ("# x\n# assumed: colour: because\nimport benchmark.recipe\nRecipe.steps = 3\n", "'colour' as assumed"),
        ("import benchmark.recipe\nRecipe.betas = (0.9, 1.5)\n", "below 1"),
    ],
)
def test_what_gin_lets_pass_in_silence_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError) as refusal:
        load(entry(tmp_path, text))
    assert message in str(refusal.value)
    assert "mine.gin" in str(refusal.value)


def test_a_refused_entry_leaves_nothing_behind(tmp_path: Path) -> None:
    before = load(registry.find("recipe", "mini"))
    with pytest.raises(UsageError):
        load(entry(tmp_path, "import benchmark.recipe\nRecipe.batch = 77\nRecipe.steps = 'x'\n"))
    assert load(registry.find("recipe", "mini")) == before


def test_an_entry_outside_the_project_brings_its_own_code(tmp_path: Path) -> None:
    file = entry(tmp_path, "# mine\nimport my_layout\nMine.windows = 3\n", "layout")
    (file.path.parent / "my_layout.py").write_text(
        "from benchmark.contract import Attention, entry\n@entry\nclass Mine:\n    windows: int\n"
        "    def place(self, depth):\n        return tuple(Attention(window=self.windows) for _ in range(depth))\n"
    )
    search = registry.roots([tmp_path])
    spec = resolve(NAMES | {"layout": "mine"}, subset=16, seed=0, search=search)
    assert [layer.window for layer in spec.attention] == [3] * 6
    script = (
        "import json, sys\nfrom pathlib import Path\nfrom benchmark.declaring import registry\n"
        "from benchmark.declaring.spec import from_record\n"
        "search = registry.roots([Path(word) for word in sys.argv[2:]])\n"
        "print(from_record(json.loads(sys.argv[1]), search=search).id)"
    )
    again = [sys.executable, "-c", script, json.dumps(spec.to_json())]
    assert subprocess.run([*again, str(tmp_path)], capture_output=True, text=True, check=True).stdout.strip() == spec.id
    astray = subprocess.run(again, capture_output=True, text=True, check=False)
    assert "name its folder: `registry=[DIR]`" in astray.stderr


def test_id_does_not_depend_on_process_or_on_the_order_of_overrides() -> None:
    words = ["recipe.steps=500", "model.depth=4", "recipe.batch=4"]
    ids = {resolve(NAMES, subset=16, seed=0, overrides=order).id for order in (words, words[::-1])}
    script = f"from benchmark.declaring.spec import resolve; print(resolve({NAMES!r}, subset=16, seed=0, overrides={words!r}).id)"
    for seed in ("0", "1"):
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": seed, "PATH": ""}
        )
        ids.add(done.stdout.strip())
    assert len(ids) == 1


def test_id_changes_with_every_part_of_the_identity() -> None:
    base = resolve(NAMES, subset=16, seed=0)
    others = [
        resolve(NAMES, subset=17, seed=0),
        resolve(NAMES, subset=16, seed=1),
        resolve(NAMES | {"layout": "global"}, subset=16, seed=0),
        resolve(NAMES, subset=16, seed=0, overrides=["model.depth=5"]),
    ]
    assert len({base.id, *(other.id for other in others)}) == 5


def test_writing_a_default_out_does_not_change_the_id() -> None:
    assert resolve(NAMES, subset=16, seed=0, overrides=["recipe.weight_decay=0"]).id == resolve(NAMES, subset=16, seed=0).id


def test_spec_survives_its_record() -> None:
    spec = resolve(NAMES, subset=16, seed=3)
    assert from_record(json.loads(json.dumps(spec.to_json()))) == from_record(spec.to_json())
    assert from_record(spec.to_json()).id == spec.id == spec_id(spec.to_json())


@pytest.mark.parametrize(
    ("names", "words", "message"),
    [
        ({"model": "dit_mimi"}, [], "Did you mean 'dit_mini'"),
        ({"dataset": "lsun_churhc"}, [], "Did you mean 'lsun_church'"),
        ({"model": "unet_mini"}, [], "no attention layers that a layout could address"),
        ({"layout": "local_star_head"}, [], "9"),
        ({}, ["recipe.steps"], "axis.field=value"),
        ({}, ["recipe.stepz=3"], "Did you mean 'steps'"),
        ({}, ["recipes.steps=3"], "Did you mean 'recipe'"),
        ({}, ["recipe.steps=three"], "whole number"),
        ({}, ["resolution=3.5"], "whole number"),
        ({}, ["nonsense=3"], "No field is called 'nonsense'"),
    ],
)
def test_a_wrong_request_names_the_culprit_and_the_way_out(names: dict[str, str], words: list[str], message: str) -> None:
    with pytest.raises(UsageError) as refusal:
        resolve(NAMES | names, subset=16, seed=0, overrides=words)
    assert message in str(refusal.value)


def test_a_global_layout_fits_a_backbone_without_attention() -> None:
    assert resolve(NAMES | {"model": "unet_mini", "layout": "global"}, subset=16, seed=0).attention == ()


def test_a_stored_spec_is_recognised_though_its_code_gained_a_field() -> None:
    spec = resolve(NAMES, subset=16, seed=0)
    stored = spec.to_json()
    assert spec.describes(stored)
    del stored["recipe"]["config"]["clip"]  # as if the record were older than the field, whose default is None
    assert spec.describes(stored)
    assert not spec.describes(resolve(NAMES, subset=16, seed=0, overrides=["recipe.clip=1.0"]).to_json())
    assert not spec.describes(resolve(NAMES, subset=17, seed=0).to_json())
    assert not spec.describes(stored | {"model": {"name": "dit_mini"}})
    stored["recipe"]["config"]["gone"] = 1
    assert not spec.describes(stored)


def test_suites_have_the_rows_that_they_declare() -> None:
    rows = list(load_suite("mini").rows())
    assert len(rows) == 10
    assert {(row.layout, row.subset, row.seed) for row in rows} == {
        (layout, n, s) for layout in ("global", "local_3x3_head") for n, s in ((16, 0), (16, 1), (16, 2), (64, 0), (512, 0))
    }
    assert len(list(load_suite("small").rows())) == 12


def test_the_recipe_names_how_many_images_it_is_made_for_and_the_id_does_not(tmp_path: Path) -> None:
    assert resolve(NAMES | {"recipe": "mini"}, seed=0) == resolve(NAMES | {"recipe": "mini"}, subset=16, seed=0)
    assert resolve(NAMES | {"recipe": "paper"}, seed=0).subset == 10_000
    mine = tmp_path / "recipes" / "mine.gin"
    mine.parent.mkdir()
    mine.write_text("# Mine\nimport benchmark.recipe\n\nRecipe.steps = 3\n")
    with pytest.raises(UsageError, match="How many training images.*'mine'.*`subset=16`"):
        resolve(NAMES | {"recipe": "mine"}, seed=0, search=(registry.STOCK, tmp_path))
    unsaid = resolve(NAMES | {"recipe": "mine"}, subset=1_200, seed=0, search=(registry.STOCK, tmp_path))
    mine.write_text("# Mine\n# subset: 1_200\nimport benchmark.recipe\n\nRecipe.steps = 3\n")
    assert resolve(NAMES | {"recipe": "mine"}, seed=0, search=(registry.STOCK, tmp_path)).id == unsaid.id
