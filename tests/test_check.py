"""benchmark/check.py: a broken file is named with its reason and hides no other."""

from pathlib import Path

import pytest

from benchmark import check, record, registry
from benchmark.errors import UsageError
from tests.records import make_record


def problem(path: Path) -> str:
    (verdict,) = check.check([path], (registry.STOCK,))
    assert verdict.problem is not None
    return verdict.problem


def entry(folder: Path, axis: str, text: str, code: str = "") -> Path:
    path = folder / registry.FOLDERS[axis] / "mine.gin"
    path.parent.mkdir()
    path.write_text(text)
    path.with_name("mine_code.py").write_text(code)
    return path


def test_every_file_gets_a_verdict(tmp_path: Path) -> None:
    good = make_record()
    record.write(good, record.path_of(tmp_path, good.row))
    record.write(make_record(seed=1), tmp_path / "astray.json")
    (tmp_path / "broken.json").write_text("{")
    verdicts = {verdict.path.name: verdict.problem for verdict in check.check([tmp_path], (registry.STOCK,))}
    assert verdicts["dit_mini-global-n16-s0.json"] is None
    assert "its path must be its key" in str(verdicts["astray.json"])
    assert "not valid" in str(verdicts["broken.json"])


BACKBONE = """
import torch
from benchmark.contract import entry
@entry
class {cls}:
    width: int
    attention_layers = 0
    def build(self, images, attention):
        return Inner()
class Inner(torch.nn.Module):
    def forward(self, x, t, y=None):
        return {out}
"""


BACKBONES = ["x", "x[:, :2]", "x.double()", "x.nothing"]


@pytest.mark.parametrize(("out", "message"), [
    ("x", None), ("x[:, :2]", "forward returns (2, 2, 8, 8)"), ("x.double()", "float64"), ("x.nothing", "AttributeError"),
])
def test_backbone_contract(tmp_path: Path, out: str, message: str | None) -> None:
    name = f"Net{BACKBONES.index(out)}"
    path = entry(tmp_path, "model", f"# mine\nimport {name.lower()}_code\n{name}.width = 3\n")
    path.with_name(f"{name.lower()}_code.py").write_text(BACKBONE.format(out=out, cls=name))
    (verdict,) = check.check([path], (registry.STOCK,))
    if message is None:
        assert verdict.problem is None
    else:
        assert message in str(verdict.problem)


def test_entry_without_a_description(tmp_path: Path) -> None:
    assert "description" in problem(entry(tmp_path, "recipe", "import benchmark.recipe\nRecipe.steps = 3\n"))


def test_suite_that_names_what_does_not_exist(tmp_path: Path) -> None:
    text = ("# mine\nimport benchmark.suite\nSuite.recipe = 'mini'\nSuite.blocks = ({'models': ['dit_mimi'], "
            "'layouts': ['global'], 'datasets': ['dead_leaves8'], 'subsets': [1], 'seeds': [0]},)\n")
    assert "Did you mean 'dit_mini'" in problem(entry(tmp_path, "suite", text))


def test_what_cannot_be_checked(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="neither a record"):
        check.check([tmp_path / "x.txt"], (registry.STOCK,))
    with pytest.raises(UsageError, match="There is no file"):
        check.check([tmp_path / "x.json"], (registry.STOCK,))
