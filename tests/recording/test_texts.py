"""Every text that a person or another machine may have written: an editor's mark and line ends change nothing, nonsense is named."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmark.commands import listing
from benchmark.commands.place import run_folder
from benchmark.declaring import equivalence
from benchmark.errors import BenchError
from benchmark.files import PROJECT
from benchmark.images import datasets, distributions, manifest
from benchmark.pages import claims
from benchmark.pages.report import paper
from benchmark.recording import analyses, published, record
from benchmark.recording.mirror import progress

BOARD = PROJECT / "leaderboard"
TEXTS: dict[str, tuple[Path, Callable[[Path], Any]]] = {
    "record": (next(iter(sorted((BOARD / "records").rglob("*.json")))), record.read),
    "analysis": (next(iter(sorted((BOARD / "analysis").rglob("*.json")))), analyses.read),
    "published": (next(iter(sorted((BOARD / "published").glob("*.json")))), published.load),
    "manifest": (PROJECT / "data" / "dead_leaves8.json", manifest.read),
    "claims": (claims.FILE, claims.declared),
    "paper": (paper.FILE, paper.paper),
    "ledger": (PROJECT / equivalence.LEDGER, lambda path: equivalence._read(path, path.stat().st_mtime_ns)),
    "distributions": (PROJECT / "registry" / "datasets" / distributions.FILE, distributions._read),
}


@pytest.mark.parametrize("what", TEXTS)
def test_the_mark_and_the_line_ends_of_an_editor_change_nothing(what: str, tmp_path: Path) -> None:
    sound, read = TEXTS[what]
    marked = tmp_path / sound.name
    marked.write_bytes(b"\xef\xbb\xbf" + sound.read_bytes().replace(b"\n", b"\r\n"))
    found, wanted = read(marked), read(sound)
    assert (found.__dict__, type(found)) == (wanted.__dict__, type(wanted)) if what == "published" else found == wanted


@pytest.mark.parametrize("what", TEXTS)
@pytest.mark.parametrize("nonsense", [b"", b"\xff\xfe", b"[" * 100_000, b"a = " + b"[" * 100_000, b"null", b"[1, 2]", b"a = 1\na = 2\n"])
def test_nonsense_is_named(what: str, nonsense: bytes, tmp_path: Path) -> None:
    path = tmp_path / TEXTS[what][0].name
    path.write_bytes(nonsense)
    if what in ("ledger", "distributions") and nonsense == b"":
        assert TEXTS[what][1](path) == ()  # a file of no tables
        return
    with pytest.raises(BenchError, match=path.name):
        TEXTS[what][1](path)


def test_one_nonsensical_file_stops_no_list(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    deep = "[" * 100_000
    for number, text in enumerate((deep, "[]", '{"id": 7}', "\ufeff{")):
        folder = home / "runs" / f"{number}a"
        folder.mkdir(parents=True)
        (folder / "spec.json").write_text(json.dumps(_said(f"{number}a")))
        (folder / "record.json").write_text(text)
    begun = home / "runs" / "ba"
    (begun / "checkpoints" / "12.partial").mkdir(parents=True)
    (begun / "spec.json").write_text(json.dumps(_said("ba")))
    below = home / "leaderboard" / "records" / "mini" / "leaves"
    below.mkdir(parents=True)
    (below / "deep.json").write_text(deep)
    (below / "._deep.json").write_bytes(b"\x00\x05\x16\x07")
    assert listing._gap_and_state(begun, 40) == ("", "begun")
    assert {listing._gap_and_state(home / "runs" / f"{number}a", 40)[1] for number in range(4)} == {"finished, its record is damaged"}
    assert not any(listing._recorded().values())
    assert run_folder("0a").name == "0a"


def _said(name: str) -> dict[str, Any]:
    entries = {axis: {"name": "x", "config": {}} for axis in ("model", "layout", "dataset", "recipe")}
    return {"id": name, "spec": entries | {"subset": 1, "seed": 0}, "overrides": []}


@pytest.mark.parametrize("text", ["[]", '{"sqlite:///x": 3}', "[" * 100_000, "null"])
def test_a_nonsensical_note_of_what_was_copied_says_nothing(text: str, tmp_path: Path) -> None:
    (tmp_path / "tracking.json").write_text(text)
    assert progress.progress(tmp_path, "sqlite:///x") == {}
    progress.note(tmp_path, "sqlite:///x", token="one")
    assert progress.progress(tmp_path, "sqlite:///x") == {"token": "one"}


def test_a_line_without_a_step_is_none() -> None:
    for line in (b'{"step": Infinity, "time": 1, "metrics": {"a": 1}}', b"[" * 100_000, b"[]", b'{"step": 1, "time": 1, "metrics": 3}'):
        assert progress.values_of(line) == []


def test_files_that_begin_with_a_dot_are_a_machines_own(home: Path) -> None:
    (home / "data").mkdir()
    (home / "data" / "._leaves.json").write_bytes(b"\x00\x05\x16\x07")
    (home / "data" / "leaves.json").write_text("{}")
    assert datasets.packed_names(home) == ["leaves"]
