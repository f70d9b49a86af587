"""`bench doctor`: one page of facts, which shows no secret and changes nothing."""

import json
import os
from pathlib import Path

import pytest

from benchmark import cli
from benchmark.running import leftovers


def test_every_fact_stands_on_the_page(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "layouts").mkdir()
    (tmp_path / "layouts" / "broken.gin").write_text("# Broken\nimport nowhere\n\nNowhere.x = 1\n")
    for name, content in {"aaaaaaaaaaaa": "{", "bbbbbbbbbbbb": "null"}.items():
        (home / "runs" / name / "lease").mkdir(parents=True)
        (home / "runs" / name / "spec.json").write_text(content)
    (home / "runs" / "aaaaaaaaaaaa" / ".record.json.x.tmp").write_text("")
    lease = home / "runs" / "bbbbbbbbbbbb" / "lease" / "000003.json"
    lease.write_text(json.dumps({"owner": "x", "pid": 7, "name": "elsewhere"}))
    os.utime(lease, (1, 1))
    before = sorted(home.rglob("*"))
    words = ["doctor", "--registry", str(tmp_path), "--store", "http://alice:s3cret@127.0.0.1:9", "--json"]
    assert cli.main(words) == 0
    printed = capsys.readouterr().out
    facts = json.loads(printed)
    assert sorted(home.rglob("*")) == before and "s3cret" not in printed
    assert facts["versions"]["torch"][0].isdigit() and facts["versions"]["bench"]
    assert "for this process" in facts["machine"]["cores"] and "GiB" in facts["machine"]["memory"]
    assert any(why.startswith(("masked", "bands")) for why in facts["attention_kernels"].values())
    assert "no backward pass on a CPU" in json.dumps(facts["attention_kernels"]) or "cuda" in json.dumps(facts["machine"])
    assert "not reached" in facts["places"]["tracking store"] and str(home) in facts["places"]["home"]
    assert "module 'nowhere'" in facts["entries_that_do_not_load"]["layout broken"]
    assert leftovers.found(home / "runs" / "aaaaaaaaaaaa")
    assert cli.main(words[:-1]) == 0
    page = capsys.readouterr().out
    for said in ("spec.json is damaged", "1 leftovers", "a stale lease of process 7 on elsewhere", "tracking store"):
        assert said in page, said
