"""Suites to DVC stages: dvc.yaml and params.yaml of the default suite, pipelines/<suite>/ for every other one.

A stage is one row. It depends on its own entries with the modules that they import, on the modules that define its
numbers and on its packed images, so that editing one entry runs only its rows again.
"""

import ast
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmark.declaring import registry
from benchmark.declaring.row import Row
from benchmark.declaring.spec import load, load_suite
from benchmark.errors import BenchError
from benchmark.recording.record import RECORDS, path_of

DEFAULT = "mini"  # what plain `dvc repro` does
MOST_STAGES = 96  # of one dvc.yaml: DVC reads the whole lock file at every stage
BUILD = Path("build")
VERDICTS = BUILD / "verdicts"

# Beside a row's own entries: what turns them and the images into numbers.
NUMBERS = tuple(
    Path("benchmark") / f"{name}.py"
    for name in (
        "declaring/recipe",
        "images/subsets",
        "networks/diffusion",
        "networks/numerics",
        "training/step",
        "training/loop",
        "training/state",
        "scoring/psnr",
        "scoring/partial",
        "scoring/result",
        "run",
    )
)
KERNELS = "benchmark.networks.attention"  # a folder: whoever imports it depends on all of it
PACKING = tuple(Path("benchmark") / f"images/{name}.py" for name in ("manifest", "packing", "partial", "reading"))

# This checkout's code and its own environment where there is one, whatever the shell has been told.
BENCH = 'BENCH_HOME="$PWD" PATH="$PWD/.venv/bin:$PATH" python -m benchmark.cli'
FLAGS = ("model", "layout", "dataset", "subset", "seed", "recipe")


@dataclass(frozen=True)
class Pipeline:
    """The stages of one dvc.yaml: the rows that no pipeline before it has, and perhaps the suite's leaderboard."""

    suite: str
    folder: Path
    packs: tuple[str, ...]  # embedded datasets that it generates
    rows: tuple[Row, ...]
    page_of: tuple[Row, ...]  # every row of the suite, where this file holds its leaderboard stage

    @property
    def to_root(self) -> str:
        """The project's folder as seen from this one."""
        return "/".join([".."] * len(self.folder.parts)) or "."


def stage_name(row: Row, suite_recipe: str) -> str:
    """Return the name of a row's stage; the recipe is named where it is not the suite's."""
    name = f"{row.dataset}-{row.model}-{row.layout}-n{row.subset}-s{row.seed}"
    return name if row.recipe == suite_recipe else f"{row.recipe}-{name}"


def code_of(row: Row, root: Path, search: tuple[Path, ...] = (registry.STOCK,)) -> list[Path]:
    """Return the files that define a row's numbers, images apart, relative to `root` where they lie below it."""
    files: list[Path] = []
    for axis in ("model", "layout", "dataset", "recipe"):
        entry = registry.find(axis, getattr(row, axis), search).path
        files += [entry] if axis == "dataset" else [entry, *modules_of(entry, root)]
    files += [root / path for path in NUMBERS]
    return [_below(path, root) for path in dict.fromkeys(files)]


def code_digest(row: Row, root: Path, search: tuple[Path, ...] = (registry.STOCK,)) -> str:
    """Return the sha256 over the files of `code_of`."""
    digest = hashlib.sha256()
    for path in code_of(row, root, search):
        for file in sorted((root / path).glob("*.py")) if (root / path).is_dir() else [root / path]:
            digest.update(f"{file.name}\0{hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


def modules_of(entry: Path, root: Path) -> list[Path]:
    """Return the modules of the registry that an entry's .gin file imports, directly or through another one.

    The attention kernels are one folder among them, where one of these modules imports it.
    """
    names = [line.split()[1] for line in entry.read_text(encoding="utf-8").splitlines() if line.startswith("import ")]
    found: list[Path] = []
    while names:
        name = names.pop(0)
        if name.startswith(KERNELS) and (folder := root / KERNELS.replace(".", "/")).is_dir() and folder not in found:
            found.append(folder)
        path = root / f"{name.replace('.', '/')}.py" if "." in name else entry.parent / f"{name}.py"
        if path.is_file() and path not in found and not name.startswith("benchmark."):
            found.append(path)
            names += _imports(path)
    return found


def pipelines(root: Path) -> list[Pipeline]:
    """Return the pipelines of every suite of the project; a row that several suites share is a stage of the first."""
    names = [DEFAULT, *(name for name in registry.entries("suite", (root / "registry",)) if name != DEFAULT)]
    made: list[Pipeline] = []
    owned: set[Row] = set()
    packed: set[str] = set()
    for name in names:
        every = tuple(load_suite(name, (root / "registry",)).rows())
        rows = [row for row in every if row not in owned]
        packs = [one for one in dict.fromkeys(row.dataset for row in every) if one not in packed and _embedded(one, root)]
        owned.update(rows)
        packed.update(packs)
        parts = [tuple(rows[i : i + MOST_STAGES]) for i in range(0, len(rows), MOST_STAGES)] or [()]
        for number, part in enumerate(parts, start=1):
            folder = Path("pipelines") / (name if len(parts) == 1 else f"{name}-{number}")
            made.append(
                Pipeline(
                    name,
                    Path() if name == DEFAULT else folder,
                    tuple(packs) if number == 1 else (),
                    part,
                    every if number == len(parts) else (),
                )
            )
    return made


def files_of(root: Path) -> dict[Path, str]:
    """Return every generated file, relative to `root`, with its text."""
    texts: dict[Path, str] = {}
    for pipeline in pipelines(root):
        groups = _groups(pipeline, root)
        texts[pipeline.folder / "params.yaml"] = _params(pipeline, groups, root)
        texts[pipeline.folder / "dvc.yaml"] = _stages(pipeline, groups, root)
    return texts


def stale(root: Path) -> list[Path]:
    """Return the generated files that are missing, differ from what the suites give, or belong to no suite."""
    texts = files_of(root)
    wrong = [path for path, text in texts.items() if not (root / path).is_file() or (root / path).read_text() != text]
    return wrong + [path for path in _generated(root) if path not in texts]


def write(root: Path) -> list[Path]:
    """Write the generated files that differ and remove those that belong to no suite; return what changed."""
    from benchmark.files import write_text

    texts, changed = files_of(root), stale(root)
    for path in changed:
        if path in texts:
            write_text(root / path, texts[path])
        else:
            (root / path).unlink()
    return changed


def _generated(root: Path) -> Iterator[Path]:
    for path in sorted(root.glob("pipelines/*/*.yaml")):
        yield path.relative_to(root)


def _embedded(dataset: str, root: Path) -> bool:
    return bool(load(registry.find("dataset", dataset, (root / "registry",))).config.embedded)


def _groups(pipeline: Pipeline, root: Path) -> dict[str, tuple[list[Path], list[Row]]]:
    """Return the rows by the modules that they import; DVC's foreach takes fixed dependencies only."""
    by_code: dict[tuple[Path, ...], list[Row]] = {}
    known: dict[tuple[str, str, str], tuple[Path, ...]] = {}
    for row in pipeline.rows:
        names = (row.model, row.layout, row.recipe)
        if names not in known:
            known[names] = tuple(path for path in code_of(row, root, (root / "registry",)) if path.suffix != ".gin")
        by_code.setdefault(known[names], []).append(row)
    if len(by_code) <= 1:
        return {"run": (list(modules), rows) for modules, rows in by_code.items()}
    named: dict[str, tuple[list[Path], list[Row]]] = {}
    for modules, rows in by_code.items():
        name = "_".join(["run", *(path.stem for path in modules[:1])])
        named[name if name not in named else f"{name}_{len(named)}"] = (list(modules), rows)
    return named


def _params(pipeline: Pipeline, groups: dict[str, tuple[list[Path], list[Row]]], root: Path) -> str:
    recipe = load_suite(pipeline.suite, (root / "registry",)).recipe
    lines = [
        f"# The rows of the suite {pipeline.suite}, from registry/suites/{pipeline.suite}.gin. Written by `bench suite write`; do not edit."
    ]
    for group, (_, rows) in groups.items():
        lines.append(f"{group}:")
        for row in rows:
            fields = ", ".join(f"{flag}: {getattr(row, flag)}" for flag in FLAGS)
            lines.append(f"  {stage_name(row, recipe)}: {{{fields}}}")
    if pipeline.packs:
        lines += ["pack:", *(f"  - {name}" for name in pipeline.packs)]
    return "\n".join(lines) + "\n"


def _stages(pipeline: Pipeline, groups: dict[str, tuple[list[Path], list[Row]]], root: Path) -> str:
    lines = [
        f"# The stages of the suite {pipeline.suite}. Written by `bench suite write`; do not edit. docs/reproduce.md explains them.",
        "stages:",
    ]
    if pipeline.packs:
        modules = [
            _below(path, root)
            for name in pipeline.packs
            for path in modules_of(registry.find("dataset", name, (root / "registry",)).path, root)
        ]
        deps = [
            "data/${item}.json",
            "registry/datasets/${item}.gin",
            *map(str, dict.fromkeys(modules)),
            *map(str, PACKING),
        ]
        lines += _foreach("pack", pipeline, f"{BENCH} data pack ${{item}}", deps, "packed/${item}")
    default = pipeline.suite == DEFAULT
    end = "--device cpu --threads 1" if default else "--publish"
    for group, (modules, _) in groups.items():
        flags = " ".join(f"--{flag} ${{item.{flag}}}" for flag in FLAGS)
        entries = [f"registry/{folder}/${{item.{axis}}}.gin" for axis, folder in registry.FOLDERS.items() if axis != "suite"]
        row_file = "${item.recipe}/${item.dataset}/${item.model}-${item.layout}-n${item.subset}-s${item.seed}.json"
        deps = [*entries, *map(str, modules), "packed/${item.dataset}", *([f"{RECORDS}/{row_file}"] if default else [])]
        lines += _foreach(group, pipeline, f"{BENCH} reproduce {flags} {end}", deps, f"{VERDICTS}/{row_file}")
    if pipeline.page_of:
        lines += [
            "  leaderboard:",
            f"    wdir: {pipeline.to_root}",
            f"    cmd: {BENCH} suite verify {pipeline.suite}",
            *_list("    ", "deps", [str(path_of(VERDICTS, row)) for row in pipeline.page_of]),
            *_list("    ", "outs", [str(VERDICTS / f"{pipeline.suite}.json")]),
        ]
    return "\n".join(lines) + "\n"


def _foreach(name: str, pipeline: Pipeline, command: str, deps: Sequence[str], out: str) -> list[str]:
    return [
        f"  {name}:",
        f"    foreach: ${{{name}}}",
        "    do:",
        f"      wdir: {pipeline.to_root}",
        f"      cmd: {command}",
        *_list("      ", "deps", deps),
        *_list("      ", "outs", [out]),
    ]


def _list(indent: str, key: str, values: Sequence[str]) -> list[str]:
    return [f"{indent}{key}:", *(f"{indent}  - {value}" for value in values)]


def _imports(path: Path) -> list[str]:
    """Return the names of the modules that a module imports, each `from package import name` as both readings."""
    found: list[str] = []
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except SyntaxError as problem:
        raise BenchError(f"{path}, line {problem.lineno}: {problem.msg}.") from None
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return found


def _below(path: Path, root: Path) -> Path:
    return path.relative_to(root) if path.is_relative_to(root) else path
