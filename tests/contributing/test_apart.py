"""Entries checked in a process of their own: what ends that process is a problem of the entry, and of no other one."""

import json
from pathlib import Path

import pytest

from benchmark import cli
from benchmark.contributing import apart, check
from benchmark.declaring import registry

LAYOUT = '''from benchmark.contract import Attention, entry
{top}

@entry
class {name}:
    """A layout."""

    width: int = 1

    def place(self, depth):
        {place}
        return (Attention(),) * depth
'''
EVIL = {
    "a_exits": {"place": "import sys; sys.exit(0)"},
    "b_ends": {"top": "import os; os._exit(0)"},
    "c_crashes": {"place": "import os; os.kill(os.getpid(), 11)"},
    "d_presses": {"top": "raise KeyboardInterrupt"},
    "e_generator": {"top": "raise GeneratorExit"},
    "f_prints": {"top": "print('hello from a module', flush=True)"},
    "g_dilates": {"place": "return (Attention(window=3, dilation=2),) * depth"},
    "h_recurses": {"place": "return self.place(depth)"},
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "layouts").mkdir()
    for name, said in EVIL.items():
        (tmp_path / "layouts" / f"{name}.py").write_text(LAYOUT.format(**{"name": name.title(), "top": "", "place": "pass"} | said))
        (tmp_path / "layouts" / f"{name}.gin").write_text(f"# {name}\nimport {name}\n\n{name.title()}.width = 1\n")
    return tmp_path


def test_every_end_is_judged_and_the_others_are_checked(root: Path, home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", "--registry", str(root), "--json"]) == 1
    found = {Path(one["file"]).stem: one for one in json.loads(capfd.readouterr().out)}
    assert list(found) == sorted(EVIL)
    said = {name: one["problem"] for name, one in found.items()}
    assert "SystemExit: 0" in said["a_exits"]
    assert "ended the process that checked it (exit code 0)" in said["b_ends"]
    assert "signal SIGSEGV" in said["c_crashes"]
    assert "KeyboardInterrupt" in said["d_presses"] and "GeneratorExit" in said["e_generator"]
    assert said["f_prints"] is None
    assert "dilation" in said["g_dilates"] and "RecursionError" in said["h_recurses"]
    assert [rule["rule"] for rule in found["c_crashes"]["rules"]] == ["described", "loads", "documented", "ends"]


def test_silence_is_judged_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apart, "SILENCE", 0.05)  # less than Python needs to start
    paths = [registry.STOCK / "layouts" / "global.gin", registry.STOCK / "layouts" / "local_head.gin"]
    assert ["no sign of life" in (one.problem or "") for one in apart.check(paths, (registry.STOCK,), home=tmp_path)] == [True, True]


def test_a_look_runs_nothing(root: Path, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "layouts" / "broken.gin").write_text("# Broken\nimport nowhere\n\nNowhere.x = 1\n")
    assert cli.main(["check", "--static", "--registry", str(root)]) == 1
    printed = capsys.readouterr()
    assert "9 checked, 1 with problems" in printed.out and "no module 'nowhere'" in printed.out
    assert "with your rights" not in printed.err and "hello" not in printed.err
    assert all(one.outcomes[0].rule == "reads" for one in check.look([root], (registry.STOCK, root), home))


def test_it_is_said_that_code_was_run(root: Path, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", str(root / "layouts" / "f_prints.gin"), "--registry", str(root)]) == 0
    assert "was run, with your rights. --static" in capsys.readouterr().err
    assert cli.main(["check", "local_head"]) == 0
    assert "with your rights" not in capsys.readouterr().err
