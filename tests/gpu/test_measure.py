"""tests/gpu: what is said without a GPU, what the page holds, and one check of the correctness on a CPU."""

import json
from pathlib import Path

import pytest
import torch

from tests.gpu import correctness, measure
from tests.gpu.page import page

WRITTEN = Path(__file__).parents[2] / "docs" / "performance-gpu.md"
FACTS = {"device": "a card", "torch": "2", "commit": "abc", "date": "2026-01-01"}


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so_in_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert measure.main([]) == 3
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1) and said.err.startswith("There is no GPU here")


def test_the_page_is_that_of_what_was_found() -> None:
    assert WRITTEN.read_text() == page(json.loads(WRITTEN.with_suffix(".json").read_text()))
    assert "**Nothing has run on a GPU yet**" in page({})
    steps = {"model": "dit_xs1", "layout": "global", "precision": "bf16", "compiled": "blocks", "batch": 128, "kernels": "flex"}
    made = page(
        FACTS
        | {
            "correctness": {"TF32 is off": {"holds": False, "said": "off | by\nfar"}},
            "steps": [steps | {"images_per_second": 3000.0}],
            "parts": [{"what": "a layer", "own": 0.3, "padded": 0.1}],
            "kernels": {"step": "A step.", "milliseconds": 8.0, "groups": {"attention": 2.0}},
            "layers": [{"window": 3, "precision": "fp32", "milliseconds": {"masked": (1.0, 2.0)}}],
        }
    )
    for line in (
        "a card, PyTorch 2, commit abc, 2026-01-01.",
        "| TF32 is off | **no** | off / by far |",
        "| dit_xs1 | global | bf16 | blocks | 128 | 3,000 | 4,000 (missed) | flex |",
        "| a layer | 0.30 | 0.10 | 3.0x |",
        "| attention | 2.0 | 25% |",
        "| 3 | fp32 | masked 1.00, 2.00 |",
        "Not run.",
    ):
        assert line in made.splitlines(), line


def test_what_was_found_is_kept_and_only_for_the_same_code_and_card(tmp_path: Path) -> None:
    found = measure.Found.of(tmp_path / "x.json", FACTS, again=False)
    found.keep("steps", [1])
    later = FACTS | {"date": "2026-01-02"}
    assert measure.Found.of(tmp_path / "x.json", later, again=False).document == FACTS | {"steps": [1]}
    assert measure.Found.of(tmp_path / "x.json", later, again=True).document == later
    assert measure.Found.of(tmp_path / "x.json", FACTS | {"commit": "def"}, again=False).document == FACTS | {"commit": "def"}


def test_a_check_that_fails_is_said_and_the_next_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(where: correctness.Where) -> str:
        raise AssertionError("off by 7")

    monkeypatch.setattr(measure, "CHECKS", {"one": fails, "two": correctness.micro_batches})
    found = measure.Found(tmp_path / "x.json")
    measure.correctness(correctness.Where(torch.device("cpu"), tmp_path), found, None)
    assert found.document["correctness"]["one"] == {"holds": False, "said": "AssertionError: off by 7"}
    assert found.document["correctness"]["two"]["holds"]
