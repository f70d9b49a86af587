"""What ends a command: never a traceback; foreign code is named; results stay readable by a program."""

import json
import os
import signal
from pathlib import Path

import pytest

from benchmark import cli
from benchmark.commands import faults
from benchmark.errors import BenchError, UsageError
from benchmark.running.signals import Asked, stop_requested

RECIPE = '''from benchmark.contract import entry
from benchmark.declaring.recipe import Recipe
{body}
@entry
class Mine(Recipe):
    """Mine."""
'''


def entry(root: Path, name: str, body: str) -> None:
    folder = root / "recipes"
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.py").write_text(body)
    (folder / f"{name}.gin").write_text(f"# {name}\nimport {name}\n\nMine.steps = 4\n")


def run_words(root: Path, recipe: str) -> list[str]:
    return ["run", "--model", "dit_mini", "--layout", "global", "--dataset", "dead_leaves8", "--recipe", recipe, "--registry", str(root)]


def test_an_entry_that_raises_keyboard_interrupt_is_not_a_person(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    entry(tmp_path, "pressing", "raise KeyboardInterrupt\n")
    assert cli.main(run_words(tmp_path, "pressing")) == 1
    said = capsys.readouterr().err
    assert "pressing.py, line 1 raised KeyboardInterrupt" in said and "stopped" not in said and "Traceback" not in said


def test_ctrl_c_is(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("benchmark.declaring.registry.roots", lambda extra=(): signal.raise_signal(signal.SIGINT))
    assert cli.main(["list"]) == 130
    assert "stopped" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_the_second_ctrl_c_of_a_run_is_a_person_too() -> None:
    with stop_requested() as stop, pytest.raises(Asked):
        signal.raise_signal(signal.SIGINT)
        assert stop()
        signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("problem", [RuntimeError("broken"), RecursionError("deep"), MemoryError(), GeneratorExit(), KeyError("x")])
def test_what_nobody_foresaw_is_one_paragraph(problem: BaseException, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        raise problem
    except BaseException as raised:
        message, code = faults.told(raised)
    assert code == 1 and "\n" not in message and Path(__file__).name in message and type(problem).__name__ in message
    assert not capsys.readouterr().err


def test_the_traceback_is_there_for_who_asks(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv(faults.SHOW, "1")
    assert faults.told(BenchError("no")) == ("no", 1)
    assert "BenchError: no" in capsys.readouterr().err


def test_a_fault_of_bench_is_called_one(monkeypatch: pytest.MonkeyPatch, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from benchmark.declaring import registry

    monkeypatch.setattr(registry, "entries", registry.read)  # takes other arguments
    assert cli.main(["list"]) == 1
    said = capsys.readouterr().err
    assert "This is a fault of bench" in said and "bench doctor" in said


def test_sys_exit_of_an_entry_is_no_success(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        raise SystemExit(0)
    except SystemExit as problem:
        message, code = faults.told(problem)
    assert code == 1 and "raised SystemExit" in message


@pytest.mark.parametrize(
    "where", ["import os; os._exit(0)\n" + RECIPE.format(body=""), RECIPE.format(body="import os") + "    steps: int = os._exit(3)\n"]
)
def test_an_entry_does_not_end_a_command_without_a_word(where: str, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    end = os._exit
    entry(tmp_path, "leaving", where)
    assert cli.main([*run_words(tmp_path, "leaving"), "--json"]) == UsageError.exit_code  # the entry cannot be loaded
    printed = capsys.readouterr()
    assert "leaving" in printed.err and "os._exit(" in printed.err and json.loads(printed.out)["exit_code"] == UsageError.exit_code
    assert os._exit is end


def test_a_forked_process_ends_as_it_wants() -> None:
    with faults.no_silent_end():
        if (child := os.fork()) == 0:
            os._exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def test_errors_are_json_where_results_are(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["run", "--model", "nothing", "--layout", "global", "--dataset", "dead_leaves8", "--json"]) == UsageError.exit_code
    printed = capsys.readouterr()
    assert json.loads(printed.out) == {"error": printed.err.removeprefix("bench: ").strip(), "exit_code": 2}


def test_a_module_that_prints_corrupts_no_result(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    entry(tmp_path, "chatty", "print('hello')\n" + RECIPE.format(body=""))
    assert cli.main([*run_words(tmp_path, "chatty"), "--subset", "0", "--json"]) == 2
    printed = capsys.readouterr()
    assert json.loads(printed.out)["exit_code"] == 2
    assert "hello" in printed.err
