"""docs/your-own-denoiser.md, followed to the letter in an empty folder: its file, its Python and its commands."""

import re
import shlex
from pathlib import Path

import pytest

from benchmark.cli import main
from benchmark.recording import record
from tests.contributing.test_docs import BLOCK, FILE

PAGE = Path(__file__).parents[2] / "docs" / "your-own-denoiser.md"


def test_every_line_of_the_page_does_what_it_says(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    text, before, commands = PAGE.read_text(encoding="utf-8"), 0, []
    for block in BLOCK.finditer(text):
        said, before = text[before : block.start()], block.end()
        if block[1] == "shell":
            commands += block[2].splitlines()
        elif path := FILE.search(said):
            Path(path[1]).write_text(block[2])
        else:
            exec(compile(block[2], str(PAGE), "exec"), {})
    shown = capsys.readouterr().out
    assert re.fullmatch(r"PSNR train [\d.]+, test [\d.]+, gap [\d.]+ dB\n", shown)
    assert len(commands) == 2
    for line in commands:
        program, *words = shlex.split(line)
        assert program == "bench" and main([*words, "--device", "cpu"]) == 0, capsys.readouterr().err
    (row,) = record.read_all(home / "leaderboard" / "records")
    assert (row.row.model, row.row.dataset, row.row.subset, row.training.steps) == ("my_small", "patches8", 16, 0)
    assert row.training.parameters == 4 * 16 * 9 + 16 + 16 * 3 * 9 + 3
