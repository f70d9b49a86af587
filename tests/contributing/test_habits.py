"""What a repository says of itself: hooks, workflows, citation, changelog and templates, held to what is there."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

import benchmark

PROJECT = Path(__file__).parents[2]


def read(path: str) -> str:
    return (PROJECT / path).read_text(encoding="utf-8")


def test_hooks_are_what_make_check_runs() -> None:
    hooks = [hook for repo in yaml.safe_load(read(".pre-commit-config.yaml"))["repos"] for hook in repo["hooks"]]
    checked = re.findall(r"^\t(\.venv/bin/\S+(?: \w+)?)", read("Makefile").split("\ncheck: ")[1].split("\n\n")[0], re.MULTILINE)
    assert {" ".join(hook["entry"].split()[:2]) for hook in hooks} == set(checked)
    assert all(hook["language"] == "system" for hook in hooks)
    extras = tomllib.loads(read("pyproject.toml"))["project"]["optional-dependencies"]
    tools = {Path(hook["entry"].split()[0]).name for hook in hooks}
    assert tools <= {re.split(r"[<>=]", word)[0] for word in extras["check"]}


def test_ci_runs_what_ci_run_runs_and_can_only_read() -> None:
    workflow = yaml.safe_load(read(".github/workflows/ci.yml"))
    assert workflow["permissions"] == {"contents": "read"}
    assert [step["run"] for step in workflow["jobs"]["ci"]["steps"] if "run" in step] == [".ci/run"]
    assert workflow[True].keys() == {"push", "pull_request"}  # YAML reads the key `on` as true
    lines = read(".ci/run").splitlines()
    assert lines.index("make check") < lines.index("make test")


@pytest.mark.parametrize("path", sorted(path.name for path in (PROJECT / ".github/ISSUE_TEMPLATE").glob("*.yml")))
def test_issue_templates_have_what_a_form_needs(path: str) -> None:
    form = yaml.safe_load(read(f".github/ISSUE_TEMPLATE/{path}"))
    if path == "config.yml":
        assert form == {"blank_issues_enabled": True}
        return
    assert form["name"] and form["description"]
    fields = [field for field in form["body"] if field["type"] != "markdown"]
    assert len({field["id"] for field in fields}) == len(fields) > 0
    assert all(field["attributes"]["label"] for field in fields)


def test_the_citation_is_of_this_version_and_of_the_paper() -> None:
    citation = yaml.safe_load(read("CITATION.cff"))
    assert citation["version"] == benchmark.__version__
    assert citation["license"] == tomllib.loads(read("pyproject.toml"))["project"]["license"]
    assert citation["references"][0]["title"] in " ".join(read("README.md").replace("*", "").split())


def test_the_changelog_has_a_place_for_what_is_not_released() -> None:
    versions = re.findall(r"^## \[([^\]]+)\]", read("CHANGELOG.md"), re.MULTILINE)
    assert versions[0] == "Unreleased"


def test_commits_that_blame_passes_over_are_commits_of_this_history() -> None:
    hashes = [line for line in read(".git-blame-ignore-revs").splitlines() if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[0-9a-f]{40}", one) for one in hashes)
    if (PROJECT / ".git").exists() and not _shallow():
        for one in hashes:
            assert subprocess.run(["git", "merge-base", "--is-ancestor", one, "HEAD"], cwd=PROJECT, check=False).returncode == 0


def _shallow() -> bool:
    done = subprocess.run(["git", "rev-parse", "--is-shallow-repository"], cwd=PROJECT, capture_output=True, text=True, check=True)
    return done.stdout.strip() == "true"
