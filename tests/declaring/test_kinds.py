"""benchmark/declaring/kinds.py: what names a class in ids and digests does not follow the code when it moves."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmark.contract import entry
from benchmark.declaring import kinds
from benchmark.declaring.spec import AXES, from_record, resolve, spec_id
from benchmark.errors import UsageError
from benchmark.files import PROJECT
from benchmark.recording import record

RECORDS = sorted((PROJECT / "leaderboard" / "records").rglob("*.json"))
IDS = """
import json, sys
from pathlib import Path
from benchmark.declaring.spec import AXES, from_record, resolve
names = json.loads(sys.argv[1])
spec = resolve(names, subset=16, seed=0)
print(json.dumps([spec.id, *(from_record(json.loads(Path(path).read_text())["spec"]).id for path in sys.argv[2:])]))
"""


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem)
def test_a_committed_record_has_the_id_of_its_file_name_of_old(path: Path) -> None:
    made = json.loads(path.read_text())
    assert spec_id(made["spec"]) == made["id"] == from_record(made["spec"]).id
    today = made["spec"] | {axis: made["spec"][axis] | {"kind": kinds.named(made["spec"][axis]["kind"])} for axis in AXES}
    assert spec_id(today) == made["id"], "the spelling of a kind is no part of an id"


def test_moved_modules_give_the_same_ids(tmp_path: Path) -> None:
    """A backbone, a layout, a dataset and the recipe move in a copy of the tree; imports and entries are told."""
    moves = {
        "registry/backbones/dit.py": "registry/backbones/transformers/plain.py",
        "registry/layouts/windows.py": "registry/layouts/square.py",
        "registry/datasets/dead_leaves.py": "registry/datasets/generated/leaves.py",
        "benchmark/declaring/recipe.py": "benchmark/declaring/budget.py",
    }
    for folder in ("benchmark", "registry"):
        shutil.copytree(PROJECT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    renamed = {old[:-3].replace("/", "."): new[:-3].replace("/", ".") for old, new in moves.items()}
    for old, new in moves.items():
        (tmp_path / new).parent.mkdir(exist_ok=True)
        (tmp_path / old).rename(tmp_path / new)
    for path in [*tmp_path.rglob("*.py"), *tmp_path.rglob("*.gin")]:
        if path.name == "kinds.py":  # says what was stored, wherever code lies now
            continue
        text = path.read_text()
        for old, new in renamed.items():
            text = text.replace(old, new)
            package, _, name = old.rpartition(".")
            text = text.replace(
                f"from {package} import {name}\n", f"from {new.rpartition('.')[0]} import {new.rpartition('.')[2]} as {name}\n"
            )
        path.write_text(text)
    names = {"model": "dit_mini", "layout": "local_3x3_head", "dataset": "dead_leaves8", "recipe": "mini"}
    some = [path for path in RECORDS if "dit_mini-" in path.name or "small" in path.parts][:6]
    done = subprocess.run(
        [sys.executable, "-c", IDS, json.dumps(names), *map(str, some)],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [resolve(names, subset=16, seed=0).id, *(record.read(path).id for path in some)]


def test_a_kind_is_found_where_its_class_is_declared(tmp_path: Path) -> None:
    assert kinds.where("dit", PROJECT, []) == ("registry.backbones.dit", "DiT")
    assert kinds.where("mine", PROJECT, [tmp_path]) is None
    (tmp_path / "my_net.py").write_text('from benchmark.contract import entry\n\n\n@entry(kind="mine")\nclass Net:\n    width: int\n')
    assert kinds.where("mine", PROJECT, [tmp_path]) == ("my_net", "Net")
    assert kinds.where("my_net:Net", PROJECT, []) == ("my_net", "Net"), "a class without a name of its own, as every one was"
    (tmp_path / "other.py").write_text((tmp_path / "my_net.py").read_text())
    with pytest.raises(UsageError, match="Several classes claim the kind 'mine': my_net:Net, other:Net"):
        kinds.where("mine", PROJECT, [tmp_path])


def test_every_kind_that_was_stored_before_is_still_declared_once() -> None:
    for name, spelling in kinds.HASHED.items():
        assert (kinds.named(spelling), kinds.hashed(name)) == (name, spelling)
        found = kinds.where(name, PROJECT, [])
        assert found and found[1] == spelling.partition(":")[2]


def test_a_subclass_does_not_inherit_a_kind() -> None:
    @entry(kind="first")
    class First:
        width: int

    @entry
    class Second(First):
        pass

    assert kinds.kind_of(First) == "first" and kinds.kind_of(Second).endswith("Second")


def test_an_entry_outside_cannot_take_a_kind_of_the_project(tmp_path: Path) -> None:
    (tmp_path / "layouts").mkdir()
    (tmp_path / "layouts" / "mine.gin").write_text("# mine\nimport my_windows\n\nMine.windows = 3\n")
    (tmp_path / "layouts" / "my_windows.py").write_text(
        'from benchmark.contract import Attention, entry\n\n\n@entry(kind="windows")\nclass Mine:\n    """Mine."""\n\n    windows: int\n\n'
        "    def place(self, depth):\n        return (Attention(),) * depth\n"
    )
    names = {"model": "dit_mini", "layout": "mine", "dataset": "dead_leaves8", "recipe": "mini"}
    with pytest.raises(UsageError, match="kind 'windows', which is registry.layouts.windows:Windows's"):
        resolve(names, subset=16, seed=0, search=(PROJECT / "registry", tmp_path))
