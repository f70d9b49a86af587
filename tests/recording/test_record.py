"""benchmark/recording/record.py: a record that is wrong is neither written nor read."""

import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from benchmark.declaring.fields import to_json
from benchmark.errors import BenchError, UsageError
from benchmark.recording import record
from benchmark.recording.errors import SMALLEST_MSE
from tests.records import make_record

SCHEMA = Path(record.__file__).with_name("record.schema.json")


def damaged(change: Callable[[dict[str, Any]], None]) -> str:
    document = to_json(make_record())
    change(document)
    return json.dumps(document)


def test_round_trip(tmp_path: Path) -> None:
    made = make_record(trajectory=((5, 3.0, 2.5), (10, 4.0, 2.0)))
    record.write(made, tmp_path / "r.json")
    assert record.read(tmp_path / "r.json") == made


def test_the_published_schema_is_that_of_the_classes_and_accepts_a_record() -> None:
    published = json.loads(SCHEMA.read_text())
    assert published == record.schema(), "regenerate it: python -m benchmark.recording.record > benchmark/recording/record.schema.json"
    jsonschema.Draft202012Validator.check_schema(published)
    jsonschema.validate(to_json(make_record()), published)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(to_json(make_record()) | {"psnr_gap": -1.0}, published)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(psnr_gap="0.5"), "psnr_gap = '0.5' must be a number"),
        (lambda d: d.update(psnr_gap=float("nan")), "NaN is not a number"),
        (lambda d: d.update(psnr_gap=0.7), "psnr_gap = 0.7 is not the mean of its curve"),
        (lambda d: d.update(psnr_gap=-0.5), "at least 0"),
        (lambda d: d.update(schema=2), "one of 1"),
        (lambda d: d.update(extra=1), "no field 'extra'"),
        (lambda d: d.pop("weights_sha256"), "lacks the field 'weights_sha256'"),
        (lambda d: d["spec"].update(seed=5), "is not the id of its spec"),
        (lambda d: d["spec"].pop("layout"), "spec.layout = None"),
        (lambda d: d["psnr"]["clipped"]["train"].append(1.0), "one per step"),
        (lambda d: d["training"].update(threads=1.5), "training.threads = 1.5 must be a whole number"),
        (lambda d: d["spec"]["layout"].update(name="../../x"), "name"),
        (lambda d: d["spec"]["layout"].update(config=[]), "spec.layout.config = [] must be a table"),
        (lambda d: d["spec"]["layout"].update(kind=3), "spec.layout.kind = 3 must be text"),
        (lambda d: d["spec"].update(subset=0), "spec.subset = 0 must be at least 1"),
        (lambda d: d["spec"].update(seed=True), "spec.seed = True must be a whole number"),
    ],
)
def test_a_damaged_record_is_refused_by_name(tmp_path: Path, change: Callable[[dict[str, Any]], None], message: str) -> None:
    path = tmp_path / "r.json"
    path.write_text(damaged(change))
    with pytest.raises(BenchError) as refusal:
        record.read(path)
    assert message in str(refusal.value)
    assert str(path) in str(refusal.value) and "Restore it (`git checkout -- FILE`), or remove it" in str(refusal.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "\x00", "[" * 100_000])
def test_what_is_no_record_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(BenchError, match=r"r\.json"):
        record.read(tmp_path / "r.json")


def test_a_missing_record_says_what_to_type(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="benchmark.records"):
        record.read(tmp_path / "none.json")


def test_the_path_is_the_key(tmp_path: Path) -> None:
    made = make_record(layout="local_head", subset=1000, seed=2)
    path = record.path_of(tmp_path, made.row)
    assert path == tmp_path / "mini" / "dead_leaves8" / "dit_mini-local_head-n1000-s2.json"
    record.write(made, path)
    assert record.read_all(tmp_path) == [made]
    path.rename(path.with_name("dit_mini-global-n1000-s2.json"))
    with pytest.raises(BenchError, match="its path must be its key"):
        record.read_all(tmp_path)


def test_a_folder_that_cannot_be_written_is_named_and_nothing_is_left(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(BenchError, match="cannot be written"):
        record.write(make_record(), tmp_path / "file" / "r.json")
    (tmp_path / "taken.json").mkdir()
    with pytest.raises(BenchError, match="cannot be written"):
        record.write(make_record(), tmp_path / "taken.json")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "taken.json"]


def test_gap_is_truncated_at_zero_at_every_step() -> None:
    made = make_record(train=(20.0, 10.0), test=(19.0, 12.0))
    assert made.psnr.clipped.gap == (1.0, 0.0)
    assert made.psnr_gap == 0.5
    assert made.psnr_train - made.psnr_test == -0.5


def test_the_steps_at_the_largest_psnr_are_counted() -> None:
    assert math.isclose(10 * math.log10(4 / SMALLEST_MSE), record.CAP, abs_tol=1e-9)
    assert make_record(train=(100.0, 99.99, 10.0), test=(100.0, 100.0, 12.0)).psnr.capped == (0, 1)
    assert make_record(train=(20.0, 10.0), test=(19.0, 12.0)).psnr.capped == ()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text.replace('"psnr_gap":', '"psnr_gap": 0.0,\n "psnr_gap":', 1), "'psnr_gap' stands in it twice"),
        (lambda text: text.replace('"seed": 0', '"seed": 1, "seed": 0', 1), "'seed' stands in it twice"),
        (
            lambda text: text.replace('"forward_flops": 100', f'"forward_flops": 1{"0" * 400}', 1),
            "a whole number of 401 digits is no count",
        ),
        (lambda text: text.replace('"forward_flops": 100', '"forward_flops": 1e400', 1), "1e400 is larger than any measurement"),
        (lambda text: text.replace('"device": "cpu"', f'"device": "{"x" * 9_000_000}"', 1), "a record has at most"),
        (lambda text: text.replace('"device": "cpu"', f'"device": ["{"x" * 100_000}"]', 1), "100,004 characters"),
    ],
)
def test_what_a_record_may_not_hold_is_said_briefly(tmp_path: Path, change: Callable[[str], str], said: str) -> None:
    made = make_record()
    path = tmp_path / "made.json"
    path.write_text(change(record.text_of(made)))
    with pytest.raises(BenchError, match=said) as raised:
        record.read(path)
    assert len(str(raised.value)) < 1000
    path.write_text(record.text_of(made))
    assert record.read(path) == made


def test_what_is_no_file_is_no_record(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.json")
    (tmp_path / "device.json").symlink_to("/dev/zero")
    (tmp_path / "loop.json").symlink_to(tmp_path / "loop.json")
    (tmp_path / "folder.json").mkdir()
    for path in tmp_path.iterdir():
        with pytest.raises(BenchError, match=path.name):
            record.read(path)
