"""benchmark/declaring/closure.py: what changes a number changes the digest of its code, and nothing else does."""

import shutil
from pathlib import Path

import pytest

from benchmark.declaring import closure
from benchmark.errors import UsageError
from benchmark.files import PROJECT

FAMILY = {"model": "dit", "layout": "windows", "dataset": "dead_leaves", "recipe": "recipe"}

# One line each, in code that a number rests on: a sign, a default, a range, an order, a kind of rounding.
NUMBERS = [
    ("benchmark/recording/record.py", "max(a - b, 0.0)", "abs(a - b)"),
    ("benchmark/contract.py", "window: Window | None = None", "window: Window | None = 3"),
    ("benchmark/contract.py", "HELD_OUT = 300", "HELD_OUT = 299"),
    ("benchmark/contract.py", "self.window % 2 == 0", "self.window % 2 == 1"),
    ("benchmark/declaring/recipe.py", "psnr_images: Positive = 300", "psnr_images: Positive = 299"),
    ("benchmark/declaring/recipe.py", "Range(least=1, most=1000)", "Range(least=1, most=999)"),
    ("benchmark/declaring/recipe.py", "(0.9, 0.999)", "(0.9, 0.99)"),
    ("benchmark/networks/diffusion.py", "STEPS = 1000", "STEPS = 999"),
    ("benchmark/networks/diffusion.py", "linspace(1e-4,", "linspace(1e-3,"),
    ("benchmark/networks/diffusion.py", ".clamp(-1, 1)", ".clamp(-2, 2)"),
    ("benchmark/images/subsets.py", "hashlib.sha256(f", "hashlib.sha1(f"),
    ("benchmark/images/subsets.py", "{dataset_name}:{seed}", "{seed}:{dataset_name}"),
    ("benchmark/recording/errors.py", "math.log10(4)", "math.log10(2)"),
    ("benchmark/scoring/psnr.py", '"psnr"', '"psnr2"'),
    ("benchmark/scoring/result.py", '"psnr_gap": curves.psnr_gap', '"psnr_gap": curves.psnr_test'),
    ("benchmark/training/step.py", "recipe.ema", "recipe.ema * 1"),
    ("benchmark/training/loop.py", "weight_decay=recipe.weight_decay", "weight_decay=0.1"),
    ("benchmark/training/loop.py", "betas=recipe.betas", "betas=(0.5, 0.5)"),
    ("benchmark/networks/attention/windows.py", "//", "%"),
    ("registry/layouts/windows.py", 'placement == "tail":', 'placement == "head":'),
    ("registry/backbones/dit.py", "SiLU", "GELU"),
    ("registry/backbones/timesteps.py", "LONGEST_PERIOD = 10000", "LONGEST_PERIOD = 1000"),
    ("registry/datasets/dead_leaves.py", "OVERSAMPLING = 4", "OVERSAMPLING = 5"),
    ("benchmark/run.py", '"init"', '"start"'),
]

# One line each, in prose, drawing, waiting and the command line; a comment, a docstring or a message of the code above.
WORDS = [
    ("benchmark/scoring/psnr.py", '"""', '"""Again: '),
    ("benchmark/training/step.py", "\n\n\n", "\n\n\n# A comment.\n"),
    ("benchmark/training/loop.py", "The loss is ", "The loss was "),
    ("benchmark/running/folder.py", "have changed since it began", "are others than when it began"),
    ("benchmark/contract.py", "must be odd, so that it has a centre", "must be odd"),
    ("benchmark/declaring/recipe.py", "must rise", "has to rise"),
    ("registry/backbones/dit.py", '"""', '"""Again: '),
    ("registry/layouts/windows.py", "\n\n\n", "\n\n\n\n"),
    ("benchmark/recording/style.py", '"grid.alpha": 0.25', '"grid.alpha": 0.5'),
    ("benchmark/recording/curves.py", "4.6", "4.7"),
    ("benchmark/pages/tables.py", "def ranks", "def  ranks"),
    ("benchmark/pages/drawing.py", "3.6", "3.7"),
    ("benchmark/commands/run.py", "train and score one row", "train one row"),
    ("benchmark/cli.py", "Which inductive biases", "Which of the biases"),
    ("benchmark/running/lease.py", '"""', '"""Again: '),
    ("benchmark/running/progress.py", '"ETA"', '"left"'),
    ("benchmark/running/environment.py", "model name", "Model name"),
    ("benchmark/suites/sweep.py", "STOP_SECONDS = 30.0", "STOP_SECONDS = 31.0"),
    ("benchmark/recording/mirror/copy.py", '"""', '"""Again: '),
    ("benchmark/errors.py", "MANY = 40", "MANY = 41"),
    ("registry/backbones/unet.py", "32", "16"),  # another model's
    ("registry/datasets/celeba.py", "162_770", "162_771"),  # other images'
]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tree")
    for folder in ("benchmark", "registry"):
        shutil.copytree(PROJECT / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))
    return root


def changed(tree: Path, name: str, old: str, new: str) -> bool:
    """Change one place in a file of the tree, tell whether the digest follows, and change it back."""
    path = tree / name
    before, text = closure.digest(FAMILY, project=tree), path.read_text()
    assert text.count(old), f"{name} no longer holds {old!r}: give this case another line"
    try:
        path.write_text(text.replace(old, new, 1))
        return closure.digest(FAMILY, project=tree) != before
    finally:
        path.write_text(text)


@pytest.mark.parametrize(("name", "old", "new"), NUMBERS, ids=lambda value: str(value)[:40])
def test_an_edit_of_what_defines_a_number_changes_the_digest(tree: Path, name: str, old: str, new: str) -> None:
    assert changed(tree, name, old, new)


@pytest.mark.parametrize(("name", "old", "new"), WORDS, ids=lambda value: str(value)[:40])
def test_an_edit_of_what_speaks_draws_or_waits_does_not(tree: Path, name: str, old: str, new: str) -> None:
    assert not changed(tree, name, old, new)


def test_a_moved_file_keeps_the_digest(tree: Path) -> None:
    before = closure.digest(FAMILY, project=tree)
    old, new = tree / "benchmark/networks/diffusion.py", tree / "benchmark/training/diffusion.py"
    old.rename(new)
    importing = {path: path.read_text() for path in [*tree.rglob("*.py")] if "benchmark.networks.diffusion" in path.read_text()}
    try:
        for path, text in importing.items():
            path.write_text(text.replace("benchmark.networks.diffusion", "benchmark.training.diffusion"))
        whole = [path for path in importing if "from benchmark.networks import diffusion" in path.read_text()]
        assert not whole or closure.digest(FAMILY, project=tree)
        assert closure.digest(FAMILY, project=tree) == before
    finally:
        new.rename(old)
        for path, text in importing.items():
            path.write_text(text)


def test_the_code_of_an_entry_outside_is_part_of_it(tmp_path: Path) -> None:
    (tmp_path / "my_net.py").write_text(
        'from benchmark.contract import entry\nimport my_part\n\n\n@entry(kind="mine")\nclass Net:\n    width: int\n'
    )
    (tmp_path / "my_part.py").write_text("x = 1\n")
    family = FAMILY | {"model": "mine"}
    before = closure.digest(family, [tmp_path])
    assert {path.name for path in closure.files(family, [tmp_path])} >= {"my_net.py", "my_part.py", "psnr.py"}
    (tmp_path / "my_part.py").write_text("x = 2\n")
    assert closure.digest(family, [tmp_path]) != before
    (tmp_path / "my_part.py").write_text("x = 1  # as it was\n")
    assert closure.digest(family, [tmp_path]) == before
    with pytest.raises(UsageError, match="No code is here for the model of kind 'mine'"):
        closure.digest(family)


def test_the_closure_follows_imports_from_the_composition() -> None:
    names = {path.relative_to(PROJECT).as_posix() for path in closure.files(FAMILY)}
    assert {"benchmark/run.py", "benchmark/training/step.py", "benchmark/scoring/psnr.py", "benchmark/networks/attention/bands.py"} <= names
    assert {"registry/backbones/dit.py", "registry/backbones/attention.py", "registry/datasets/dead_leaves.py"} <= names
    assert not any(name.startswith(("benchmark/pages", "benchmark/commands", "benchmark/suites")) for name in names)
    assert "registry/backbones/unet.py" not in names
