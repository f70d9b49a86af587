"""benchmark/declaring/imports.py: an entry's code is the file beside it or the project's, and never a namesake."""

from pathlib import Path

import pytest

from benchmark.declaring import imports, registry
from benchmark.declaring.entries import fault, load
from benchmark.declaring.spec import from_record
from benchmark.errors import UsageError

CODE = """
from benchmark.contract import Attention, entry
@entry
class {cls}:
    windows: int
    def place(self, depth):
        return tuple(Attention(window=self.windows) for _ in range(depth))
"""


def layout(root: Path, module: str, cls: str, code: str = CODE) -> registry.EntryFile:
    """Write an entry `mine` whose code is `module`.py beside it."""
    path = root / "layouts" / "mine.gin"
    path.parent.mkdir(parents=True)
    path.write_text(f"# mine\nimport {module}\n{cls}.windows = 3\n")
    path.with_name(f"{module}.py").write_text(code.replace("{cls}", cls))
    return registry.read("layout", path)


def test_a_module_shadowing_an_installed_one_is_refused(tmp_path: Path) -> None:
    for name in ("random", "numpy", "gin"):
        with pytest.raises(UsageError) as refusal:
            load(layout(tmp_path / name, name, f"Shadow{name.title()}"))
        assert f"{name}.py" in str(refusal.value)
        assert "Rename the file" in str(refusal.value)


def test_two_roots_with_a_module_of_one_name_are_refused_in_either_order(tmp_path: Path) -> None:
    one, two = layout(tmp_path / "one", "twin_module", "TwinOne"), layout(tmp_path / "two", "twin_module", "TwinTwo")
    assert type(load(one).config).__name__ == "TwinOne"
    with pytest.raises(UsageError) as refusal:
        load(two)
    assert str(tmp_path / "one") in str(refusal.value) and str(tmp_path / "two") in str(refusal.value)
    assert load(one).kind == "twin_module:TwinOne"
    with pytest.raises(UsageError, match="Two modules are called 'twin_module'"):
        imports.source("twin_module", [one.path.parent, two.path.parent])


def test_what_the_module_imports_in_turn_must_not_be_a_namesake_either(tmp_path: Path) -> None:
    file = layout(tmp_path, "with_helper", "WithHelper", "import colorsys\n" + CODE)
    (file.path.parent / "colorsys.py").write_text("VALUE = 3\n")
    with pytest.raises(UsageError, match=r"colorsys\.py has the name of another one"):
        load(file)


def test_a_class_of_the_same_name_as_a_stock_one_is_the_entrys_own(tmp_path: Path) -> None:
    load(registry.find("layout", "global"))  # the stock class Windows is known to gin
    assert load(layout(tmp_path, "own_windows", "Windows")).kind == "own_windows:Windows"
    assert load(registry.find("layout", "local_head")).kind == "windows"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("import json\nJSONDecoder.windows = 3", "There is no module 'json'"),
        ("Windows.windows = (3,)", "no class is called 'Windows'"),
        ("import registry.layouts.windows\nMine.windows = 3", "no class is called 'Mine'"),
    ],
)
def test_code_from_anywhere_else_is_refused(tmp_path: Path, line: str, message: str) -> None:
    file = layout(tmp_path, "unused", "Unused")
    file.path.write_text(f"# mine\n{line}\n")
    with pytest.raises(UsageError) as refusal:
        load(file)
    assert message in str(refusal.value)


def test_a_module_that_ends_the_program_is_named_and_does_not_end_it(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"mine\.gin.*'exiting_module' ends the program where it is imported: sys\.exit\(3\)"):
        load(layout(tmp_path, "exiting_module", "Exiting", code="import sys\nsys.exit(3)\n"))


def test_a_record_cannot_name_any_code_but_an_entrys() -> None:
    stored = {"name": "x", "kind": "os:system", "config": {}}
    with pytest.raises(UsageError, match="There is no module 'os'"):
        from_record({"model": stored, "layout": stored, "dataset": stored, "recipe": stored, "subset": 1, "seed": 0})


@pytest.mark.parametrize(
    ("name", "code", "message"),
    [
        ("fault_syntax", "class {cls}(:\n", "fault_syntax.py, line 1"),
        ("fault_absent", "import no_such_package\n" + CODE, "imports 'no_such_package', which is not installed"),
        ("fault_class", "x = 3\n", "fault_class.py has no 'Mine'"),
        ("random", CODE, "has the name of another one"),
        ("fault_none", "try:\n    import no_such_package\nexcept ImportError:\n    pass\n" + CODE, None),
    ],
)
def test_a_fault_is_found_without_running_anything(tmp_path: Path, name: str, code: str, message: str | None) -> None:
    found = fault(layout(tmp_path, name, "Mine", code))
    assert found is None if message is None else message in str(found)
    if message:
        with pytest.raises(UsageError):
            load(registry.read("layout", tmp_path / "layouts" / "mine.gin"))


@pytest.mark.parametrize(
    "file", [file for axis in registry.FOLDERS for file in registry.entries(axis).values()], ids=lambda file: f"{file.axis}-{file.name}"
)
def test_no_stock_entry_has_a_fault(file: registry.EntryFile) -> None:
    assert fault(file) is None
