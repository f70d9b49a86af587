"""What a dataset takes and what uses it; removal leaves the pins, and refuses what something needs."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmark.cli import main
from benchmark.declaring.spec import resolve
from benchmark.errors import UsageError
from benchmark.images import datasets, holdings, manifest
from benchmark.recording import record
from benchmark.running import description
from registry.datasets.dead_leaves import DeadLeaves
from registry.datasets.image_folder import ImageFolder
from tests.pictures import JPEGS
from tests.records import make_record

FOLDER = ImageFolder(resolution=8)


def photos(home: Path, name: str = "mine") -> None:
    root = home / "root"
    root.mkdir(exist_ok=True)
    for number, content in enumerate(JPEGS):
        (root / f"{number}.jpg").write_bytes(content)
    datasets.add(name, FOLDER, home=home, root=root)


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (99_949, "99.9 kB"),
        (123_456, "123 kB"),
        (2_600_000, "2.6 MB"),
        (1.2e11, "120 GB"),
    ],
)
def test_bytes_are_said_as_a_person_reads_them(count: int, said: str) -> None:
    assert holdings.size_of(int(count)) == said


def test_what_uses_a_dataset_is_counted(home: Path) -> None:
    for seed in (0, 1):
        made = make_record(seed=seed)
        record.write(made, record.path_of(home / "leaderboard" / "records", made.row))
    for name in ("dead_leaves8", "digits8"):
        spec = resolve({"model": "dit_mini", "layout": "global", "dataset": name, "recipe": "mini"}, subset=16, seed=0)
        description.write(home / "runs" / spec.id, spec, {}, None)
    (home / "runs" / "cut").mkdir()
    (home / "runs" / "cut" / "spec.json").write_text("{")
    used = holdings.uses(home)
    assert used["dead_leaves8"].records == 2 and used["dead_leaves8"].runs == used["digits8"].runs == 1
    assert {"mini", "small", "demo"} <= set(used["dead_leaves8"].suites) and "dead_leaves8_permuted" in used["dead_leaves8"].datasets
    assert str(used["digits8"]).endswith("; 1 run") and str(used["cifar10"]) == ""
    assert str(used["dead_leaves8"]).endswith("; made into dead_leaves8_permuted; 2 records; 1 run")


def test_the_packed_images_go_and_the_pin_stays(home: Path) -> None:
    photos(home)
    pin = manifest.pin(home, "mine").read_bytes()
    taken = holdings.bytes_of("mine", home)
    assert taken == 128 + 3 * 192 + len(pin)
    with pytest.raises(UsageError, match=r"The images of 'mine' are pinned in data/mine.json. Nothing was removed. `force=True`"):
        holdings.remove("mine", home)
    assert holdings.bytes_of("mine", home) == taken
    removed = holdings.remove("mine", home, force=True)
    assert (removed.bytes, removed.kept) == (taken, ("data/mine.json",)) and "data/mine.json stays" in removed.sentence
    assert not (home / "packed" / "mine").exists() and manifest.pin(home, "mine").read_bytes() == pin
    assert datasets.add("mine", FOLDER, home=home, root=home / "root").outcome == "restored"
    with pytest.raises(UsageError, match="There are no packed images of 'other' here"):
        holdings.remove("other", home)


def test_generated_images_that_nothing_uses_go_unasked_and_come_back(home: Path) -> None:
    leaves = DeadLeaves(resolution=8, count=3)
    before = np.array(datasets.load("leaves", leaves, home=home).images)
    (home / "packed" / "leaves" / "images.npy.tmp").write_bytes(bytes(10))  # of a packing that was stopped
    assert "Removed packed/leaves" in holdings.remove("leaves", home).sentence
    assert list((home / "packed").glob("leaves*")) == []
    assert np.array_equal(datasets.load("leaves", leaves, home=home).images, before)


def test_a_stock_dataset_is_refused_for_what_uses_it(home: Path) -> None:
    datasets.load("dead_leaves8", DeadLeaves(resolution=8, count=2048), home=home)
    with pytest.raises(UsageError, match=r"are pinned in data/dead_leaves8.json and used by suites demo, mini"):
        holdings.remove("dead_leaves8", home)


def test_the_commands_say_size_and_uses(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos(home, "natural8")
    assert main(["data", "list", "--json"]) == 0
    told = {one["name"]: one for one in json.loads(capsys.readouterr().out)}
    assert told["natural8"]["bytes"] == holdings.bytes_of("natural8", home) > 0 and told["celeba"]["bytes"] == 0
    assert "paper_table1" in told["celeba"]["used by"]["suites"]
    assert main(["data", "show", "natural8", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["used_by"] == told["natural8"]["used by"]
    assert main(["data", "show", "natural8"]) == 0
    assert "used by suites natural8" in " ".join(capsys.readouterr().out.split())
    assert main(["data", "rm", "natural8"]) == 2
    assert "--force removes the packed images all the same" in " ".join(capsys.readouterr().err.split())
    assert main(["data", "rm", "natural8", "--force", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["kept"] == ["data/natural8.json"]
