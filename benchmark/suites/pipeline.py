"""Suites to DVC stages: dvc.yaml and params.yaml of the default suite, pipelines/<suite>/ for any other one, on demand.

A stage is one row. It depends on its own entries, on the digest of the code that its numbers rest on (written by a stage
of its own) and on its packed images, so that an edit runs only the rows again whose numbers it may change.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmark.declaring import closure, equivalence, registry
from benchmark.declaring.entries import load, load_suite
from benchmark.declaring.row import Row
from benchmark.declaring.spec import AXES, Spec, resolve
from benchmark.files import write_text
from benchmark.recording.record import RECORDS, path_of

DEFAULT = "mini"  # what plain `dvc repro` does
MOST_STAGES = 96  # of one dvc.yaml: DVC reads the whole lock file at every stage
BUILD = Path("build")
VERDICTS = BUILD / "verdicts"

CODE = BUILD / "code"
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
    def code_folder(self) -> Path:
        """Where the digests of its rows' code are written."""
        return CODE / (self.folder.name or self.suite)

    @property
    def to_root(self) -> str:
        """The project's folder as seen from this one."""
        return "/".join([".."] * len(self.folder.parts)) or "."


def stage_name(row: Row, suite_recipe: str) -> str:
    """Return the name of a row's stage; the recipe is named where it is not the suite's."""
    name = f"{row.dataset}-{row.model}-{row.layout}-n{row.subset}-s{row.seed}"
    return name if row.recipe == suite_recipe else f"{row.recipe}-{name}"


def code_name(row: Row) -> str:
    """Return the name under which the digest of a row's code is written: rows of all N and seeds share it."""
    return f"{row.model}-{row.layout}-{row.dataset}-{row.recipe}"


def write_code(suite: str, root: Path) -> list[Path]:
    """Write the digests of the code of a suite's rows under build/code/, which its stages depend on; return the files.

    Code that is known to give the same numbers has one digest (declaring/equivalence.py), so that it runs no row again.
    """
    written = []
    for pipeline in pipelines(root):
        for row in _one_of_each(pipeline.rows) if pipeline.suite == suite else ():
            spec = _resolved(row, root)
            code = closure.digest(_kinds(spec), (), root)
            path = root / pipeline.code_folder / code_name(row)
            write_text(path, equivalence.first(code, equivalence.family_name(spec.to_json()), root) + "\n")
            written.append(path)
    return written


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


def files_of(root: Path, suite: str = DEFAULT) -> dict[Path, str]:
    """Return the generated files of a suite, and of those whose stages some of its rows are, with their texts."""
    every = pipelines(root)
    rows = set(load_suite(suite, (root / "registry",)).rows())
    texts: dict[Path, str] = {}
    for pipeline in every:
        if pipeline.suite == suite or rows & set(pipeline.rows):
            texts[pipeline.folder / "params.yaml"] = _params(pipeline, root)
            texts[pipeline.folder / "dvc.yaml"] = _stages(pipeline, root)
    return texts


def stale(root: Path, suite: str = DEFAULT) -> list[Path]:
    """Return the generated files of a suite that are missing or differ from what the suites give."""
    return [path for path, text in files_of(root, suite).items() if not (root / path).is_file() or (root / path).read_text() != text]


def write(root: Path, suite: str = DEFAULT) -> list[Path]:
    """Write the generated files of a suite that differ; return which."""
    texts, changed = files_of(root, suite), stale(root, suite)
    for path in changed:
        write_text(root / path, texts[path])
    return changed


def _embedded(dataset: str, root: Path) -> bool:
    return bool(load(registry.find("dataset", dataset, (root / "registry",))).config.embedded)


def _resolved(row: Row, root: Path) -> Spec:
    return resolve({axis: getattr(row, axis) for axis in AXES}, subset=row.subset, seed=row.seed, search=(root / "registry",))


def _kinds(spec: Spec) -> dict[str, str]:
    return closure.family_of(spec.to_json(), AXES)


def _one_of_each(rows: Sequence[Row]) -> list[Row]:
    return list({code_name(row): row for row in reversed(rows)}.values())[::-1]


def _params(pipeline: Pipeline, root: Path) -> str:
    recipe = load_suite(pipeline.suite, (root / "registry",)).recipe
    lines = [
        f"# The rows of the suite {pipeline.suite}, from registry/suites/{pipeline.suite}.gin. Written by `bench suite write`; do not edit."
    ]
    if pipeline.rows:
        lines.append("run:")
    for row in pipeline.rows:
        fields = ", ".join(f"{flag}: {getattr(row, flag)}" for flag in FLAGS)
        lines.append(f"  {stage_name(row, recipe)}: {{{fields}}}")
    if pipeline.packs:
        lines += ["pack:", *(f"  - {name}" for name in pipeline.packs)]
    return "\n".join(lines) + "\n"


def _stages(pipeline: Pipeline, root: Path) -> str:
    lines = [
        f"# The stages of the suite {pipeline.suite}. Written by `bench suite write`; do not edit. docs/reproduce.md explains them.",
        "stages:",
    ]
    lines += _pack_stages(pipeline, root) if pipeline.packs else []
    lines += [*_code_stage(pipeline, root), *_run_stages(pipeline)] if pipeline.rows else []
    lines += _page_stage(pipeline) if pipeline.page_of else []
    return "\n".join(lines) + "\n"


def _pack_stages(pipeline: Pipeline, root: Path) -> list[str]:
    packed = [load(registry.find("dataset", name, (root / "registry",))).to_json() for name in pipeline.packs]
    kinds = {kind for one in packed for kind in closure.family_of({"dataset": one}, ["dataset"]).values()}
    modules = [_below(path, root) for kind in sorted(kinds) for path in closure.files({"dataset": kind}, (), root, roots=())]
    deps = [
        "data/${item}.json",
        "registry/datasets/${item}.gin",
        *map(str, dict.fromkeys(modules)),
        *map(str, PACKING),
    ]
    return _foreach("pack", pipeline, f"{BENCH} data pack ${{item}}", deps, "packed/${item}")


def _code_stage(pipeline: Pipeline, root: Path) -> list[str]:
    code = {path for row in _one_of_each(pipeline.rows) for path in closure.files(_kinds(_resolved(row, root)), (), root)}
    deps = [str(equivalence.LEDGER), *sorted(str(_below(path, root)) for path in code)]
    outs = [str(pipeline.code_folder / code_name(row)) for row in _one_of_each(pipeline.rows)]
    return _stage("code", pipeline, f"{BENCH} suite code {pipeline.suite}", deps, outs)


def _run_stages(pipeline: Pipeline) -> list[str]:
    default = pipeline.suite == DEFAULT
    end = "--device cpu --threads 1" if default else "--publish"
    flags = " ".join(f"--{flag} ${{item.{flag}}}" for flag in FLAGS)
    entries = [f"registry/{folder}/${{item.{axis}}}.gin" for axis, folder in registry.FOLDERS.items() if axis != "suite"]
    row_file = "${item.recipe}/${item.dataset}/${item.model}-${item.layout}-n${item.subset}-s${item.seed}.json"
    digest = str(pipeline.code_folder / "${item.model}-${item.layout}-${item.dataset}-${item.recipe}")
    deps = [*entries, digest, "packed/${item.dataset}", *([f"{RECORDS}/{row_file}"] if default else [])]
    return _foreach("run", pipeline, f"{BENCH} reproduce {flags} {end}", deps, f"{VERDICTS}/{row_file}")


def _page_stage(pipeline: Pipeline) -> list[str]:
    deps = [str(path_of(VERDICTS, row)) for row in pipeline.page_of]
    return _stage("leaderboard", pipeline, f"{BENCH} suite verify {pipeline.suite}", deps, [str(VERDICTS / f"{pipeline.suite}.json")])


def _stage(name: str, pipeline: Pipeline, command: str, deps: Sequence[str], outs: Sequence[str]) -> list[str]:
    return [
        f"  {name}:",
        f"    wdir: {pipeline.to_root}",
        f"    cmd: {command}",
        *_list("    ", "deps", deps),
        *_list("    ", "outs", outs),
    ]


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


def _below(path: Path, root: Path) -> Path:
    return path.relative_to(root) if path.is_relative_to(root) else path
