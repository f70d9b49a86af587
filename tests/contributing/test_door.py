"""The door: a stranger's row in one folder, and the four levels that a true row holds and a false one does not."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from benchmark.contributing import check_record, submit
from benchmark.declaring.fields import FieldError, from_json, to_json
from benchmark.declaring.registry import STOCK
from benchmark.errors import BenchError, UsageError
from benchmark.files import PROJECT, PUBLISHED
from benchmark.pages import site
from benchmark.recording import errors, levels, record, submission, verification
from benchmark.recording.agreement import curve_differences
from benchmark.recording.record import Psnr
from tests.conftest import ENTRIES, Bench
from tests.record_factory import made

ROW = ["--model", "my_bias", "--layout", "global", "--dataset", "leaves_tiny", "--recipe", "tiny", "--subset", "6", "--seed", "0"]


def told() -> dict[str, list[str]]:
    """The commands of the walk that CONTRIBUTING.md tells, by verb, with the small row of these tests in place of its own."""
    section = (PROJECT / "CONTRIBUTING.md").read_text().partition("## From an idea to a row on the board")[2]
    lines = [shlex.split(line, comments=True) for line in section.split("```")[1].splitlines() if line]
    assert all(words[0] == "bench" for words in lines)
    walk = {words[1]: words[1:] for words in lines}
    assert [*walk] == ["new", "check", "run", "submit", "verify", "site"] and set(walk["run"]) >= {"--model", "my_bias", "--seed", "0"}
    return walk | {"run": ["run", *ROW, "--registry", ".", "--device", "cpu", "--threads", "1", "--no-track"]}


WALK = r"""
import sys
from benchmark.cli import main
from pathlib import Path
for line in sys.stdin:
    words = line.rstrip("\n").split("\t")
    runs = [path.parent.name for path in Path("../runs").glob("*/record.json")]
    assert main([runs[0] if word == "RUN" else word for word in words]) == 0, words
"""


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home in which a stranger made a backbone of their own, ran it, and made a submission of the run, as CONTRIBUTING.md says."""
    home = tmp_path_factory.mktemp("stranger")
    mine = home / "mine"
    shutil.copytree(ENTRIES, mine, ignore=shutil.ignore_patterns("__pycache__"))
    lines = "".join("\t".join(told()[verb]) + "\n" for verb in ("new", "check", "run", "submit"))
    called = [sys.executable, "-c", WALK]
    environment = os.environ | {"BENCH_HOME": str(home)}
    done = subprocess.run(called, input=lines, capture_output=True, text=True, timeout=1800, env=environment, cwd=mine, check=False)
    assert done.returncode == 0, done.stderr
    assert "bench verify" in done.stdout and "git add" in done.stdout
    return home


@pytest.fixture
def submitted(once: Path, home: Path) -> Path:
    """The folder of that submission, in a home that a test may change."""
    shutil.copytree(once, home, dirs_exist_ok=True)
    return home / "submissions" / "my_bias"


def verified(bench: Bench, *words: str) -> tuple[int, dict[str, str], str]:
    """Verify and return the exit code, the outcome of every level, and all that was said."""
    done = bench("verify", *words, "--device", "cpu", "--threads", "1", "--json")
    told = json.loads(done.stdout)
    return done.returncode, {one["level"]: one["outcome"] for one in told[0]["levels"]}, done.stdout + done.stderr


def changed(folder: Path, change: Callable[[dict], None], *, listed: bool = True) -> None:
    """Change a submission's record, and where `listed` the digest that the submission says it has."""
    description = folder / submission.FILE
    said = json.loads(description.read_text())
    path = folder / submission.RECORDS / said["rows"][0]["record"]
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    if listed:
        said["rows"][0]["record_sha256"] = verification.digest(record.read(path))
        description.write_text(json.dumps(said))


def test_a_submission_holds_all_that_a_reviewer_needs(submitted: Path) -> None:
    description = submission.read(submitted)
    assert (description.author, description.licence, description.paper) == ("A. Person", "MIT", "")
    assert {one.path for one in description.sources} == {
        "backbones/my_bias.gin",
        "backbones/my_bias.py",
        "datasets/leaves_tiny.gin",
        "recipes/tiny.gin",
    }
    (row,) = description.rows
    one = record.read(submitted / submission.RECORDS / row.record)
    assert (one.id, one.weights_sha256) == (row.id, row.weights_sha256)
    assert "--registry submissions/my_bias/registry" in row.command
    assert "`A. Person`" in (submitted / "README.md").read_text()


def test_a_true_row_holds_all_four_levels_and_stands_on_the_board_with_its_badge(submitted: Path, home: Path, bench: Bench) -> None:
    shutil.rmtree(home / "leaderboard")  # what `bench run` put there: the row comes in by the door
    code, outcomes, said = verified(bench, *told()["verify"][1:])  # found in the home, wherever one stands
    assert code == 0 and outcomes == dict.fromkeys(levels.LEVELS, "ok"), said
    assert "bit by bit" in said
    records = home / "leaderboard" / "records"
    (one,) = record.read_all(records)
    proof = verification.of_record(home / "leaderboard", one)
    assert proof is not None and proof.reached == "retrained"
    assert "its curves, within their rounding" in check_record.check_errors(one, record.path_of(records, one.row))
    site.build(site.Sources(records, home / "submissions", PUBLISHED, PUBLISHED.parent / "RULES.md"), home / "site")
    page = (home / "site" / "rows" / "tiny" / "leaves_tiny" / "my_bias-global-n6.html").read_text()
    assert '<span class="badge retrained">retrained</span>' in page and "A. Person" in page


def test_a_falsified_curve_with_a_true_mean_is_caught_when_the_weights_are_scored_again(submitted: Path, bench: Bench) -> None:
    def flatter(content: dict) -> None:
        test = content["psnr"]["clipped"]["test"]
        test[0] += 0.05
        test[1] -= 0.05  # the mean stays, and so does that of the gap where neither side is cut at 0
        train = content["psnr"]["clipped"]["train"]
        gaps = [max(a - b, 0.0) for a, b in zip(train, test, strict=True)]
        content["psnr_test"], content["psnr_gap"] = sum(test) / len(test), sum(gaps) / len(gaps)

    changed(submitted, flatter)
    path = next((submitted / submission.RECORDS).rglob("*.json"))
    with pytest.raises(BenchError, match="PSNR test at 2 of 3 diffusion steps"):  # the errors of its images give it away at once
        check_record.check_errors(record.read(path), path)
    errors.beside(path).unlink()
    code, outcomes, said = verified(bench, str(submitted))
    assert code == 1
    assert outcomes == {"reported": "ok", "rebuilt": "ok", "re-scored": "failed", "retrained": "not run"}
    assert "PSNR test (clipped) at 2 of 3 diffusion steps" in said


def test_a_falsified_mean_is_caught_before_any_code_runs(submitted: Path, bench: Bench) -> None:
    changed(submitted, lambda content: content.update(psnr_gap=content["psnr_gap"] / 2), listed=False)
    done = bench("verify", str(submitted))
    assert done.returncode == 1 and "not the mean of its curve" in done.stderr


def test_a_falsified_count_is_caught_when_the_entry_is_built(submitted: Path, bench: Bench) -> None:
    changed(submitted, lambda content: content["training"].update(parameters=7, parameters_trainable=7))
    code, outcomes, said = verified(bench, str(submitted))
    assert code == 1 and outcomes["rebuilt"] == "failed" and outcomes["re-scored"] == "not run"
    assert "the record says 7" in said


def test_false_weights_are_caught_by_training_again(submitted: Path, home: Path, bench: Bench) -> None:
    changed(submitted, lambda content: content.update(weights_sha256="0" * 64))
    shutil.rmtree(home / "runs")  # nobody has the weights
    code, outcomes, said = verified(bench, str(submitted))
    assert code == 1
    assert outcomes == {"reported": "ok", "rebuilt": "ok", "re-scored": "not run", "retrained": "failed"}
    assert "other weights" in said


def test_changed_code_is_refused_before_it_runs(submitted: Path, bench: Bench) -> None:
    module = submitted / "registry" / "backbones" / "my_bias.py"
    module.write_text(module.read_text() + "\nraise SystemExit('ran')\n")
    done = bench("verify", str(submitted))
    assert done.returncode == 1 and "registry/backbones/my_bias.py is not the file that the submission lists" in done.stderr


def test_a_record_changed_after_its_verification_is_reported_again(submitted: Path, home: Path, bench: Bench) -> None:
    assert verified(bench, str(submitted), "--level", "rebuilt", "--publish")[0] == 0
    path = next((home / "leaderboard" / "records").rglob("*.json"))
    assert verification.of_record(home / "leaderboard", record.read(path)).reached == "rebuilt"
    content = json.loads(path.read_text())
    content["training"]["wall_seconds"] += 1
    path.write_text(json.dumps(content))
    assert verification.of_record(home / "leaderboard", record.read(path)) is None


def test_what_has_no_row_is_not_submitted(submitted: Path, home: Path) -> None:
    run = next((home / "runs").glob("*/record.json"))
    content = json.loads(run.read_text())
    run.write_text(json.dumps(content | {"overrides": ["recipe.steps=5"]}))
    with pytest.raises(BenchError, match="changed by overrides"):
        submit.submit([run.parent], submit.Wanted("second", "A", "MIT"), (STOCK, home / "mine"), home / "submissions", home)
    assert not (home / "submissions" / "second").exists()


def test_nothing_is_overwritten(submitted: Path, home: Path) -> None:
    with pytest.raises(UsageError, match="there already"):
        submit.submit([], submit.Wanted("my_bias", "A", "MIT"), (STOCK,), home / "submissions", home)


@pytest.mark.parametrize(
    ("field", "value"),
    [("paper", "javascript:alert(1)"), ("paper", "https://a b"), ("name", "../up"), ("name", "Upper"), ("author", "  "), ("licence", "")],
)
def test_what_is_no_address_or_name_is_refused(submitted: Path, field: str, value: str) -> None:
    said = json.loads((submitted / submission.FILE).read_text())
    with pytest.raises(FieldError, match=field):
        from_json(submission.Submission, said | {field: value})
    with pytest.raises(FieldError, match="weights_at"):
        from_json(submission.Submission, said | {"rows": [said["rows"][0] | {"weights_at": "file:///etc/passwd"}]})


@pytest.mark.parametrize("path", ["/etc/passwd", "../../up.py", "", "a\\b"])
def test_a_listed_file_lies_inside_the_submission(path: str) -> None:
    with pytest.raises(FieldError, match="inside"):
        submission.Source(path=path, sha256="0")


def test_only_what_differs_is_verified(tmp_path: Path, bench: Bench) -> None:
    """In a clone: nothing differs from its own commit, a changed record does."""
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", str(Path(__file__).parents[2]), str(clone)], check=True)
    path = min((clone / "leaderboard" / "records" / "mini").rglob("*.json"))
    ask = f"""
import sys
sys.path.insert(0, {str(clone)!r})
from benchmark.cli import main
sys.exit(main(["verify", "--changed", "HEAD", "--level", "rebuilt"]))
"""

    def verify_changed() -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", ask]
        return subprocess.run(command, capture_output=True, text=True, cwd=clone, env=clean_environment(clone), timeout=900, check=False)

    assert "No submission and no record differs" in verify_changed().stdout
    content = json.loads(path.read_text())
    content["training"]["parameters"] += 1
    path.write_text(json.dumps(content))
    done = verify_changed()
    assert done.returncode == 1 and re.search(rf"{re.escape(path.name)}: does not hold", done.stdout), done.stdout + done.stderr


def clean_environment(clone: Path) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(("BENCH_", "MLFLOW_"))} | {"PYTHONPATH": str(clone)}


def test_curves_of_the_same_weights_are_held_point_by_point() -> None:
    psnr = made(1.0).psnr
    assert curve_differences(psnr, psnr) == []
    moved = to_json(psnr)
    moved["literal"]["train"][3] += 0.02
    (said,) = curve_differences(psnr, from_json(Psnr, moved))
    assert "PSNR train (literal) at 1 of 10 diffusion steps" in said


@pytest.mark.parametrize("name", ["verify", "site"])
def test_workflows_hold_no_secret_and_foreign_code_may_write_nothing(name: str) -> None:
    path = Path(__file__).parents[2] / ".github" / "workflows" / f"{name}.yml"
    text, workflow = path.read_text(), yaml.safe_load(path.read_text())
    assert "secrets." not in text and "pull_request_target" not in text
    assert workflow["permissions"] == {"contents": "read"}
    events = workflow[True]  # YAML reads the key `on` so
    for job in workflow["jobs"].values():
        if "pull_request" in events:
            assert "permissions" not in job
        for step in job["steps"]:
            assert "checkout" not in step.get("uses", "") or step["with"]["persist-credentials"] is False
            assert "${{" not in step.get("run", "")  # what a branch is called never becomes a command
