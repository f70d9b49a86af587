"""spec.json of an unfinished run, damaged: one run has a damaged description, and loses nothing else."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmark import cli
from benchmark.declaring import registry
from benchmark.declaring.spec import resolve
from benchmark.errors import BenchError
from benchmark.run import run
from benchmark.running import description
from benchmark.running.place import here
from benchmark.running.progress import Display
from benchmark.training import checkpoint
from tests.conftest import ENTRIES

DAMAGED = [b"", b"{", b"null", b"\xff\xfe", b"[]", b'{"spec": 1}', b'{"id": "x", "spec": {}, "overrides": []}', b"[" * 100_000]


@pytest.mark.parametrize("content", DAMAGED)
def test_a_damaged_description_is_named_with_a_way_out_that_drops_nothing(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "spec.json").write_bytes(content)
    with pytest.raises(description.Damaged, match=r"spec.json is damaged .* goes on from the last checkpoint"):
        description.read(tmp_path)


def test_the_run_goes_on_the_list_lists_and_other_images_are_still_refused(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names = {"model": "dit_tiny", "layout": "global", "dataset": "leaves_tiny", "recipe": "tiny"}
    spec = resolve(names, subset=6, seed=0, overrides=("recipe.steps=6",), search=registry.roots([ENTRIES]))
    place, display = here("cpu"), Display(silent=True)
    saved: list[Path] = []
    real: Callable[..., Path] = checkpoint.save

    def save_and_die(folder: Path, moment: checkpoint.Checkpoint) -> Path:
        saved.append(real(folder, moment._replace(step=moment.step)))
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "save", save_and_die)
    with pytest.raises(KeyboardInterrupt):
        run(spec, place, display)
    monkeypatch.undo()
    monkeypatch.setenv("BENCH_HOME", str(home))
    path = place.folder(spec) / "spec.json"
    path.write_bytes(b"{")
    (home / "runs" / "0123456789ab").mkdir()
    (home / "runs" / "0123456789ab" / "spec.json").write_bytes(b"null")
    assert cli.main(["list", "runs"]) == 0
    listed = capsys.readouterr().out
    assert spec.id in listed and "0123456789ab" in listed and listed.count("damaged") == 2
    assert cli.main(["list", "runs", "--json"]) == 0
    assert [row["id"] for row in json.loads(capsys.readouterr().out)] == sorted([spec.id, "0123456789ab"])

    state = checkpoint.last(saved[0].parent, pytest.fail)
    assert state is not None and set(state.state["images"]) == {"train_sha256", "test_sha256"}
    checkpoint.save(saved[0].parent, state._replace(state=state.state | {"images": {"train_sha256": "0", "test_sha256": "0"}}))
    with pytest.raises(BenchError, match="have changed since it began"):
        run(spec, place, display)
    checkpoint.save(saved[0].parent, state)
    path.write_bytes(b"{")
    done = run(spec, place, display)
    assert (done.training.steps, done.training.resumed) == (6, 1)
    assert description.read(place.folder(spec))["id"] == spec.id
