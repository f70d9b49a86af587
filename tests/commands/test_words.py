"""What is said below the command line is about parameters; what is typed is made from it, and both are true."""

import argparse
import ast
import importlib
import inspect
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmark.cli import parser
from benchmark.commands.words import COMMANDS, FLAGS, FLAGS_OF, NAMED, SPAN, typed
from benchmark.declaring.row import Row

PROJECT = Path(__file__).parents[2]
TYPED = re.compile(r"(?<![\w-])--[a-z][a-z-]*|\bbench [a-z]")
# What writes command lines or documents: the words of a child process, DVC's stages, the pages of the leaderboard.
EXEMPT = {
    "benchmark/declaring/equivalence.py",
    "benchmark/pages/leaderboard.py",  # the mark of a page that it made
    "benchmark/pages/page.py",
    "benchmark/pages/prose.py",
    "benchmark/pages/report/__init__.py",  # the mark of a page that it made
    "benchmark/pages/report/claimed.py",
    "benchmark/pages/report/inside.py",
    "benchmark/pages/report/page.py",
    "benchmark/pages/samples.py",
    "benchmark/pages/site/row.py",
    "benchmark/contributing/submit.py",  # the page of a submission tells a reviewer what to type
    "benchmark/suites/child.py",
    "benchmark/suites/pipeline.py",
}
OTHERS = re.compile(r"`(?:dvc|mlflow|ray|torchrun) [^`]*`")  # commands of other programs


@pytest.mark.parametrize(
    ("said", "read"),
    [
        ("`subset=0` must be at least 1.", "--subset 0 must be at least 1."),
        ("`overrides=['recipe.steps=100', 'a.b=(4,)']` is it.", "--set recipe.steps=100 --set 'a.b=(4,)' is it."),
        ("Ask for another `seed=...`.", "Ask for another --seed."),
        ("`benchmark.run(..., subset=-1)` is it.", "`bench run --subset -1` is it."),
        ("`benchmark.declaring.registry.entries('model')` lists them.", "`bench list models` lists them."),
        ("`benchmark.images.datasets.add('my photos', ..., root=PATH)`", "`bench data add 'my photos' --root PATH`"),
        ("`benchmark.contributing.new.write('layout', 'a', template=CODE, root=DIR)`", "`bench new layout a --code --registry DIR`"),
        ("`benchmark.run(benchmark.resolve(model='a', overrides=['b.c=1']), force=True)`", "`bench run --model a --set b.c=1 --force`"),
        ("`benchmark.sampling.Request(count=...)` or `keep=None` it is.", "--samples or --force it is."),
        ("`git checkout`, `x == 1`, `stages()`, `resolution`, `depth=3`, `f(subset=3)`, `a.b=3`, `depth = 3` stay.", None),
    ],
)
def test_python_in_backticks_is_said_as_it_is_typed(said: str, read: str | None) -> None:
    assert typed(said) == (said if read is None else read)


def messages() -> Iterator[tuple[str, str]]:
    """Yield where and what the code below the command line says: every string but docstrings, 'X' for what is filled in."""
    for path in sorted([*PROJECT.glob("benchmark/**/*.py"), *PROJECT.glob("registry/**/*.py")]):
        name = path.relative_to(PROJECT).as_posix()
        if name.startswith("benchmark/commands/") or name == "benchmark/cli.py" or name in EXEMPT or "/templates/" in name:
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        parts = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr):
                yield f"{name}:{node.lineno}", "".join(_part(part) for part in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs | parts:
                yield f"{name}:{node.lineno}", node.value


def _part(part: ast.expr) -> str:
    if isinstance(part, ast.Constant):
        return str(part.value)
    assert isinstance(part, ast.FormattedValue)
    return "'X'" if part.conversion == ord("r") else "['X']" if isinstance(part.value, ast.List) else "7"


def test_nothing_below_the_command_line_speaks_of_flags_or_commands() -> None:
    said = ((where, OTHERS.sub("", text)) for where, text in messages())
    speaking = [
        f"{where}: {text}" for where, text in said if TYPED.search(text) and not re.fullmatch(r"--[a-z-]+|made by bench site", text)
    ]
    assert speaking == []


def test_what_is_said_in_python_is_python_and_what_is_typed_for_it_parses() -> None:
    """Every call in backticks names a function and parameters of it; every translation names a command and flags of it."""
    calls, keywords = set(), set()
    for where, text in messages():
        for code in SPAN.findall(text):
            outer = None if " = " in code else _parsed(code)  # a line of an entry is typed into its file
            if outer is None:
                continue
            for keyword in outer.keywords if not outer.args else []:
                keywords.add(keyword.arg)
                assert keyword.arg in FLAGS, f"{where}: `{code}`"
            for call in _calls(outer):
                calls.add(ast.unparse(call.func))
                keywords |= {keyword.arg for keyword in call.keywords if keyword.arg not in FLAGS_OF.get(ast.unparse(call.func), {})}
                _check_call(call, where)
                _check_typed(typed(f"`{code}`"), where)
    assert calls == set(COMMANDS) and keywords | set(Row._fields) == set(FLAGS), "the tables name what nothing says"
    assert set(FLAGS_OF) <= set(COMMANDS)
    known = {flag for command in commands().values() for flag in command}
    assert {f"--{flag}" for flags in (FLAGS, *FLAGS_OF.values()) for flag in flags.values() if flag != NAMED} <= known


def _parsed(code: str) -> ast.Call | None:
    try:
        outer = ast.parse(f"_({code})", mode="eval").body
    except SyntaxError:
        return None
    return outer if isinstance(outer, ast.Call) else None


def _calls(outer: ast.Call) -> Iterator[ast.Call]:
    return (one for one in ast.walk(outer) if isinstance(one, ast.Call) and ast.unparse(one.func).startswith("benchmark."))


def _check_call(call: ast.Call, where: str) -> None:
    module, _, function = ast.unparse(call.func).rpartition(".")
    parameters = inspect.signature(getattr(importlib.import_module(module), function)).parameters
    for keyword in call.keywords:
        assert keyword.arg in parameters, f"{where}: {module}.{function} has no parameter '{keyword.arg}'"


def _check_typed(said: str, where: str) -> None:
    words = shlex.split(said.strip("`"))
    assert words[0] == "bench" or words[0].startswith("--"), f"{where}: {said} is not typed"
    if words[0] == "bench":
        name = next(name for name in sorted(commands(), key=len, reverse=True) if " ".join(words[1:]).startswith(name))
        unknown = {word for word in words if word.startswith("--")} - set(commands()[name])
        assert not unknown, f"{where}: `bench {name}` has no {unknown}"


def commands() -> dict[str, set[str]]:
    """Return the flags of every command, by its words."""
    found, pending = {}, [parser()]
    while pending:
        one = pending.pop()
        groups = [action for action in one._actions if isinstance(action, argparse._SubParsersAction)]
        pending += [below for group in groups for below in group.choices.values()]
        if not groups:
            found[one.prog.removeprefix("bench ")] = {flag for action in one._actions for flag in action.option_strings}
    return found
