"""The house as docs/architecture.md draws it: its rooms in their order, no import upwards, no circle, nothing undeclared."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]
# An entry may import what it promises, and the instruments that networks are made of.
OF_ENTRIES = {"benchmark.contract", "benchmark.networks.artifacts", "benchmark.networks.attention", "benchmark.networks.diffusion"}
UNDECLARED = {"natten", "triton"}  # used where they are found: as pyproject.toml says, and as torch brings it


def rooms() -> list[str]:
    """Return the rooms of the table in docs/architecture.md, in its order."""
    text = (PROJECT / "docs" / "architecture.md").read_text()
    return re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)


def modules(root: Path, packages: tuple[str, ...]) -> dict[str, Path]:
    """Return every module of these packages by name; templates are text, not modules."""
    paths = sorted(path for package in packages for path in (root / package).rglob("*.py") if "templates" not in path.parts)
    return {".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): path for path in paths}


def imported(path: Path, known: Mapping[str, Path]) -> Iterator[str]:
    """Yield the names of what a file imports, wherever in it; of `from package import module` the module."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: a relative import"
            assert node.module
            for alias in node.names:
                yield full if (full := f"{node.module}.{alias.name}") in known else node.module


def graph(root: Path) -> dict[str, set[str]]:
    """Return which modules of the instrument each of them imports, without the public face."""
    known = modules(root, ("benchmark",))
    return {name: {other for other in imported(path, known) if other in known} - {name} for name, path in known.items()}


def upwards(root: Path, order: list[str]) -> list[str]:
    """Return the imports that go to a room further down the table; contract and declaring are one floor."""
    floor = {room: order.index("contract") if room == "declaring" else place for place, room in enumerate(order)}
    floor |= {"benchmark": -1}  # of the face only the version: see below
    return [
        f"{name} -> {other}"
        for name, others in graph(root).items()
        if name != "benchmark"
        for other in others
        if floor[room_of(other)] > floor[room_of(name)]
    ]


def room_of(module: str) -> str:
    return module.split(".")[1] if "." in module else "benchmark"


def circle(root: Path) -> list[str]:
    """Return the modules of an import circle, empty where there is none. What the face imports, it imports when called."""
    arrows = {name: others - {"benchmark"} for name, others in graph(root).items() if name != "benchmark"}
    try:
        TopologicalSorter(arrows).prepare()
    except CycleError as found:
        return found.args[1]
    return []


def test_the_rooms_are_those_of_the_drawing_and_at_most_twenty_names() -> None:
    there = {path.stem for path in (PROJECT / "benchmark").iterdir() if path.name != "__pycache__"}
    assert there == {*rooms(), "__init__"}
    assert len(there) <= 20


def test_no_room_imports_from_one_below_it() -> None:
    assert upwards(PROJECT, rooms()) == []


def test_there_is_no_import_circle() -> None:
    assert circle(PROJECT) == []


def test_of_the_public_face_only_the_version_is_imported() -> None:
    for name, path in modules(PROJECT, ("benchmark",)).items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module == "benchmark":
                names = {alias.name for alias in node.names}
                assert names <= {"__version__", *rooms()}, f"{name} imports {names} from the face"


def test_entries_import_the_contract_and_few_instruments() -> None:
    known = modules(PROJECT, ("benchmark", "registry"))
    for name, path in modules(PROJECT, ("registry",)).items():
        taken = {other for other in imported(path, known) if other.startswith("benchmark")}
        assert {other for other in taken if not any(other == one or other.startswith(f"{one}.") for one in OF_ENTRIES)} == set(), name


def test_the_instrument_imports_no_entry() -> None:
    for name, path in modules(PROJECT, ("benchmark",)).items():
        assert not [other for other in imported(path, {}) if other.split(".")[0] == "registry"], name


def test_every_package_that_is_imported_is_declared() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    words = [*project["dependencies"], *(word for extra in project["optional-dependencies"].values() for word in extra)]
    declared = {_plain(re.split(r"[<>=\[~! ]", word)[0]) for word in words}
    distributions = packages_distributions()
    own = sys.stdlib_module_names | {"benchmark", "registry", "tests", *UNDECLARED}
    for name, path in modules(PROJECT, ("benchmark", "registry", "tests")).items():
        for other in imported(path, {}):
            if (package := other.split(".")[0]) not in own:
                assert declared & {_plain(one) for one in distributions.get(package, [package])}, f"{name} imports {package}"


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A house of three rooms in order."""
    for path, text in {
        "errors.py": "",
        "contract.py": "from benchmark.declaring import fields",
        "declaring/fields.py": "from benchmark import errors",
        "declaring/spec.py": "from benchmark.contract import entry",
        "run.py": "def later():\n    from benchmark.declaring.spec import resolve",
    }.items():
        file = tmp_path / "benchmark" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return tmp_path


SMALL = ["errors", "contract", "declaring", "run"]


def test_a_sound_house_is_found_sound(house: Path) -> None:
    assert upwards(house, SMALL) == []
    assert circle(house) == []


@pytest.mark.parametrize("line", ["import benchmark.run", "from benchmark import run", "def f():\n    from benchmark.run import later"])
def test_an_import_upwards_is_found_wherever_it_hides(house: Path, line: str) -> None:
    (house / "benchmark/errors.py").write_text(line)
    assert upwards(house, SMALL) == ["benchmark.errors -> benchmark.run"]


def test_a_circle_is_found(house: Path) -> None:
    (house / "benchmark/declaring/fields.py").write_text("def f():\n    from benchmark.declaring.spec import resolve")
    assert set(circle(house)) == {"benchmark.contract", "benchmark.declaring.fields", "benchmark.declaring.spec"}


def test_files_that_the_documents_name_are_there() -> None:
    """Links to files, and what stands in backticks as a path of the project; but for the example of an entry of one's own."""
    pages = [PROJECT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")] + sorted((PROJECT / "docs").glob("*.md"))
    named = {
        (page.name, name): (PROJECT if linked == "`" else page.parent) / name
        for page in pages
        for linked, name in re.findall(r"(\]\(|`)((?:[\w.-]+/)*[\w-]+\.(?:py|md|toml|ipynb|gin))[`)#]", page.read_text())
        if linked != "`" or name.startswith(("benchmark/", "tests/", "docs/", "registry/"))
    }
    assert len(named) > 30
    assert {name for (_, name), path in named.items() if not path.exists()} <= {"registry/layouts/local_3x4.gin"}
