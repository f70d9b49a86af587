"""Text on its way out: no control reaches a terminal, no secret a log; and nothing prints beside the one door."""

import ast
import json
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as some

from benchmark.files import PROJECT
from benchmark.recording.said import one_line, scrubbed, scrubbed_json, visible
from tests.conftest import Bench

HOSTILE = "red\x1b[31m\x1b]0;title\x07 \u202eback \u200bnone"
WORDS = some.text(some.characters(exclude_categories=("C", "Z")), min_size=3, max_size=12)


@given(some.text())
def test_one_line_is_one_line_without_anything_unseen(text: str) -> None:
    said = one_line(text)
    assert not any(unicodedata.category(c)[0] == "C" for c in said)
    assert len(said.splitlines()) <= 1 and one_line(said) == said


@given(some.text())
def test_visible_keeps_lines_and_nothing_that_a_terminal_obeys(text: str) -> None:
    assert not any(unicodedata.category(c)[0] == "C" for c in visible(text) if c != "\n")
    assert visible(text).count("\n") == scrubbed(text).count("\n")


@given(
    some.text(some.characters(categories=("Lu", "Ll", "Nd")), min_size=6, max_size=12),
    some.sampled_from(["", "@", "/", "'", "%40", ":", "?"]),
)
def test_no_password_of_an_address_is_left_however_it_is_written(word: str, odd: str) -> None:
    password = f"{word}{odd}tail9Z"
    address = f"http://alice:{password}@host.example:5000/path"
    for text in (address, f"500 for url: {address}/api (Caused by X)", f"<a href='{address}'>", json.dumps({"store": address})):
        assert password not in scrubbed(text) and "tail9Z" not in scrubbed(text)
        assert "host.example" in scrubbed(text)
    assert password not in scrubbed(f"the server says: {password} is wrong", address)


@pytest.mark.parametrize("name", ["token", "access_token", "api_key", "password", "X-Amz-Signature", "client_secret"])
def test_what_a_query_names_a_secret_is_masked(name: str) -> None:
    said = scrubbed(f"GET http://host/api?run=7&{name}=s3cr3t&step=1")
    assert "s3cr3t" not in said and "run=7" in said and "step=1" in said


@given(WORDS)
def test_text_without_an_address_stays_as_it_is(word: str) -> None:
    for text in (f"sqlite:////home/{word.replace('/', '')}/mlflow.db", "mean ± sd at N = 16", "a@b"):
        if "=" not in word and "@" not in word:
            assert scrubbed(text) == text


def test_secrets_of_the_environment_and_headers_are_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "tok-123456")
    assert scrubbed_json({"a": ["x tok-123456"], "b": 1}) == {"a": ["x ***"], "b": 1}
    assert "dXNlcjpwdw" not in scrubbed("Authorization: Basic dXNlcjpwdw==")


def test_only_the_door_prints() -> None:
    """A bare print in a command would be a second way to the terminal."""
    for path in sorted((PROJECT / "benchmark" / "commands").glob("*.py")):
        calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        bare = [call.lineno for call in calls if getattr(call.func, "id", "") == "print"]
        assert not bare or path.name == "output.py", f"{path.name}, lines {bare}: print"


def test_what_is_typed_and_what_an_entry_says_moves_no_cursor(bench: Bench, tmp_path: Path) -> None:
    layouts = tmp_path / "mine" / "layouts"
    layouts.mkdir(parents=True)
    (layouts / "odd\x1b[2J.gin").write_text(f"# {HOSTILE}\nimport registry.layouts.windows\n\nWindows.windows = (3,)\n")
    registry = ["--registry", str(tmp_path / "mine")]
    for words in (
        ["list", "layouts", *registry],
        ["check", *registry],
        ["check", f"nothing{HOSTILE}", *registry],
        ["run", "--model", HOSTILE, "--layout", "global", "--dataset", "digits8"],
        ["list", HOSTILE],
        ["nothing", HOSTILE],
        ["leaderboard", "--records", HOSTILE],
        ["evaluate", HOSTILE],
    ):
        done = bench(*words)
        assert not {c for c in done.stdout + done.stderr if unicodedata.category(c)[0] == "C"} - {"\n"}, words
