"""benchmark/cli.py and commands.py: as a user types them, in processes of their own."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import benchmark
from benchmark.cli import parser
from tests.conftest import ENTRIES, TINY, Bench

HEAVY = ("argcomplete", "torch", "mlflow", "torch_fidelity", "matplotlib", "scipy", "numpy")


@pytest.mark.parametrize("words", [["--help"], ["list"], ["list", "models"], ["list", "runs"], ["run", "--help"], ["sweep", "--help"]])
def test_light_commands_import_nothing_heavy(home: Path, words: list[str]) -> None:
    script = (
        "import sys\nfrom benchmark.cli import main\ntry:\n    main(sys.argv[1:])\nexcept SystemExit: pass\n"
        f"print([m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True, check=True)
    assert done.stderr.strip().splitlines()[-1] == "[]"


def test_checking_records_does_not_import_torch(home: Path) -> None:
    from benchmark.recording import record
    from tests.records import make_record

    made = make_record()
    record.write(made, record.path_of(home / "records", made.row))
    script = (
        "import sys\nfrom benchmark.cli import main\nassert main(sys.argv[1:]) == 0\n"
        f"print([m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script, "check", str(home / "records")], capture_output=True, text=True, check=True)
    assert "1 checked, all well" in done.stdout
    assert done.stderr.strip() == "[]"


def test_every_command_has_help_with_examples_that_parse() -> None:
    top = parser()
    commands, pending = [], [top]
    while pending:
        one = pending.pop()
        inner = [action for action in one._actions if hasattr(action, "choices") and isinstance(action.choices, dict)]
        pending += [sub for action in inner for sub in action.choices.values()]
        if not inner:
            commands.append(one)
    assert len(commands) >= 12
    for command in commands:
        examples = [line.strip() for line in (command.epilog or "").splitlines()[1:]]
        assert examples, command.prog
        for line in examples:
            starter, words = shlex.split(line), []
            while (word := starter.pop(0)) != "bench":
                words.append(word)
            assert not words or words[0] == "torchrun"
            parser().parse_args(starter)


def test_bench_alone_prints_its_help_and_tells_its_version(bench: Bench) -> None:
    alone, asked = bench(), bench("--help")
    assert (alone.returncode, alone.stdout, alone.stderr) == (0, asked.stdout, "")
    assert bench("--version").stdout == f"bench {benchmark.__version__}\n"


def test_a_shell_completes_names(home: Path) -> None:
    (home / "runs" / "12ab").mkdir(parents=True)
    (home / "runs" / "12ab" / "spec.json").write_text("{}")
    lines = {
        "bench sweep mini_r": {"mini_real"},
        "bench run --model dit_ti": set(),
        f"bench run --registry {ENTRIES} --model dit_ti": {"dit_tiny", "dit_tiny_labels"},
        "bench check global": {"global"},
        "bench data show natural3": {"natural32"},
        "bench sample 12": {"12ab"},
        "bench new mo": {"model"},
        "bench new model di": set(),  # a name of one's own
        "bench run --sub": {"--subset"},
    }
    script = (  # as bash asks, one process for all of the lines
        "import os, sys\nfrom benchmark.cli import main\n"
        "def leave(code):\n    raise SystemExit(code)\n"
        "os._exit = leave\n"
        "for number, line in enumerate(sys.argv[1:]):\n"
        "    os.environ |= {'COMP_LINE': line, 'COMP_POINT': str(len(line)), '_ARGCOMPLETE_STDOUT_FILENAME': str(number)}\n"
        "    try:\n        main([])\n    except SystemExit as end:\n        assert not end.code\n"
    )
    asked = os.environ | {"_ARGCOMPLETE": "1", "_ARGCOMPLETE_IFS": "\n"}
    subprocess.run([sys.executable, "-c", script, *lines], cwd=home, env=asked, check=True, capture_output=True)
    said = [{word.strip() for word in (home / str(number)).read_text().splitlines()} for number in range(len(lines))]
    assert dict(zip(lines, said, strict=True)) == lines


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["run", "--model", "dit_mimi", "--layout", "global", "--dataset", "dead_leaves8"], 2, "Did you mean 'dit_mini'"),
        (["run", "--model", "dit_xs1", "--layout", "local_head", "--dataset", "lsun_church"], 2, "bench data add lsun_church --root"),
        (["run", "--layout", "global"], 2, "--model is missing. There is: bf_cnn, dit_480"),
        (["run", *TINY, "--subset", "100"], 2, "30"),
        (["run", *TINY, "--set", "recipe.steps=many"], 2, "whole number"),
        (["run", *TINY, "--device", "cuda:99"], 2, "--device cuda:99 cannot be used"),
        (["run", *TINY, "--threads", "0"], 2, "--threads 0"),
        (["run", *TINY, "--registry", "nowhere"], 2, "The registry nowhere is not a folder"),
        (["run", "--record", "none.json"], 2, "There is no record at none.json"),
        (["evaluate", "abc"], 2, "No run's id begins with 'abc'"),
        (["sweep", "minni"], 2, "Did you mean 'mini'"),
        (["list", "modles"], 2, "invalid choice"),
        (["frobnicate"], 2, "invalid choice"),
        (["data", "add", "natural32"], 2, "--root"),
        (["data", "add", "natural32", "--root", "no/such/folder"], 2, "no/such/folder"),
        (["data", "show", "natural32"], 2, "bench data add natural32"),
        (["leaderboard"], 2, "bench sweep mini"),
        (["check", "none.gin"], 2, "There is no file none.gin"),
        (["check", "dit_mino"], 2, "Did you mean 'dit_mini'? Or: dit_mi"),
        (["ui", "--port", "99999"], 2, "must be 0-65535. Choose another one"),
        (["run", *TINY, "--subset", "-3"], 2, "bench: --subset -3 must be at least 1.\n"),
        (["run", *TINY, "--seed", "-1"], 2, "bench: --seed -1 must be at least 0.\n"),
        (["run", *TINY, "--set", "layout.windows=(4,)"], 2, "--set 'layout.windows=(4,)': layout.windows[0]: window = 4 must be odd"),
        (["run", *TINY, "--set", "model.num_classes=3"], 2, "the images of 'leaves_tiny' have none. Take a dataset that has them, or"),
        (["run", *TINY, "--set", "model.num_classes=3", "--dry-run"], 2, "takes class labels (num_classes = 3)"),
        (["run", "--model", "unet_mini", "--layout", "local_head", "--dataset", "dead_leaves8"], 2, "Use --layout global, or a model"),
    ],
)
def test_a_wrong_command_is_one_paragraph_and_an_exit_code(typed_here: Bench, words: list[str], code: int, message: str) -> None:
    done = typed_here(*words)
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_list_as_json_names_every_entry(typed_here: Bench) -> None:
    listed = json.loads(typed_here("list", "--json", "--registry", str(ENTRIES)).stdout)
    assert set(listed) == {"models", "layouts", "datasets", "recipes", "suites"}
    assert "dit_tiny" in {entry["name"] for entry in listed["models"]}
    assert all(entry["description"] for entries in listed.values() for entry in entries)


def test_dry_run_runs_nothing(typed_here: Bench, home: Path) -> None:
    done = typed_here("run", *TINY, "--dry-run", "--json")
    facts = json.loads(done.stdout)
    assert facts["parameters"] > facts["parameters_trainable"] > 1000
    assert facts["forward_flops"] > 0
    assert facts["estimated_seconds"] > 0
    assert facts["attention"] == ["global", "global"]
    assert facts["spec"]["recipe"]["config"]["steps"] == 40
    assert not (home / "runs").exists()
    assert facts["assumed_h100_seconds"] == pytest.approx(40 * facts["assumed_kernels_per_step"] * 5e-6)  # too small for its FLOPs to count
    said = typed_here("run", *TINY, "--dry-run", "--no-timing").stdout
    assert "recipe.steps" in said and "their arithmetic is under a second" in " ".join(said.split())


def test_dry_run_of_the_title_command_resolves_without_its_data(typed_here: Bench) -> None:
    done = typed_here("run", "--model", "unet_mini", "--layout", "global", "--dataset", "lsun_church", "--dry-run", "--no-timing", "--json")
    assert json.loads(done.stdout)["estimated_seconds"] is None
    assert "bench data add lsun_church" in json.loads(done.stdout)["data"]
    assert done.stderr.startswith(
        "dry run of unet_mini global on lsun_church, recipe paper: what it would be"
    )  # before all that takes time


def test_output_goes_to_stdout_and_progress_to_stderr(bench: Bench) -> None:
    done = bench("run", *TINY, "--no-track", "--json")
    result = json.loads(done.stdout)
    assert result["status"] == "finished"
    assert result["psnr_gap"] >= 0
    assert Path(result["record"]).exists()
    assert not re.search(r"\x1b\[", done.stdout + done.stderr)


def test_a_closed_pipe_is_no_error(home: Path) -> None:
    command = f"{shlex.quote(sys.executable)} -m benchmark.cli list | head -n 1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, env=dict(os.environ), check=False)
    assert done.stderr == ""


def test_tables_break_between_words_and_become_lists_where_they_do_not_fit(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    from benchmark.commands import output

    columns = ("name", "what it is", "where it was seen")
    rows = [("dit_mini Section 3.1", "the eigenvectors of a Jacobian, one direction after another", "local_3x3_head and elsewhere")] * 2
    for width in (200, 80, 60, 50, 20):
        monkeypatch.setattr(output, "terminal_width", lambda width=width: width)
        output.print_table("a table", columns, rows)
        shown = capsys.readouterr().out
        assert max(map(len, shown.splitlines())) <= max(width, len(rows[0][0]))
        for word in " ".join(rows[0]).split():
            assert word in shown.split(), f"{word} is broken at {width} columns"
    assert shown.splitlines()[1] == rows[0][0]  # at 20 columns: a list
