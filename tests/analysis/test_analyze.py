"""`bench analyze`: the frame of every analysis, as a user meets it."""

import base64
import io
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmark.analysis import WHATS, study
from benchmark.cli import main
from benchmark.declaring import registry
from benchmark.declaring.spec import spec_id
from benchmark.errors import BenchError
from benchmark.files import PROJECT, write_text
from benchmark.recording import analyses, record
from tests.conftest import ENTRIES, TINY
from tests.records import make_analysis, make_record

FLAGS = ["--registry", str(ENTRIES), "--device", "cpu", "--threads", "1"]
QUICK = ["--what", "receptive-field", "--images", "2", "--t", "100,900"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return the folder of a finished run, in a home that the tests of this file share."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BENCH_HOME", str(home))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        assert main(["run", *TINY, "--no-track"]) == 0
        (folder,) = [path.parent for path in (home / "runs").glob("*/record.json")]
        yield folder


@pytest.fixture
def analysed(trained: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., list]:
    """Run `bench analyze … --json` on the run and return what it prints."""

    def call(*words: str) -> list:
        capsys.readouterr()
        assert main(["analyze", trained.name, *FLAGS, "--json", *words]) == 0
        return json.loads(capsys.readouterr().out)

    return call


def test_an_analysis_leaves_json_arrays_and_pictures(trained: Path, analysed: Callable[..., list]) -> None:
    (done,) = analysed(*QUICK)
    folder = trained / "analysis"
    stored = json.loads((folder / "receptive-field.json").read_text())
    of = record.read(trained / "record.json")
    assert stored["what"] == "receptive-field"
    assert stored["schema"] == 1
    assert stored["run"] == of.id
    assert stored["weights_sha256"] == of.weights_sha256
    assert stored["spec"] == of.row._asdict()
    assert stored["settings"]["timesteps"] == [100, 900]
    assert {key: done[key] for key in stored} == stored
    assert set(stored["numbers"]) >= {"radius50_t100", "others_radius90_t900"}
    with np.load(folder / "receptive-field.npz") as arrays:
        assert arrays["mass"].shape == (2, 15, 15)
    assert (folder / "receptive-field-reach.png").read_bytes().startswith(b"\x89PNG")
    svg = (folder / "receptive-field-reach.svg").read_text()
    assert svg.startswith("<?xml")
    assert len(svg) < analyses.LARGEST[".svg"]
    assert not list(folder.glob("*.parts"))
    assert not list(folder.glob(".*.tmp"))


def test_the_same_command_again_returns_at_once_and_force_does_not(trained: Path, analysed: Callable[..., list]) -> None:
    analysed(*QUICK)
    path = trained / "analysis" / "receptive-field.json"
    before = path.stat().st_mtime_ns
    analysed(*QUICK)
    assert path.stat().st_mtime_ns == before
    first = json.loads(path.read_text())["numbers"]
    analysed(*QUICK, "--force")
    assert path.stat().st_mtime_ns > before
    assert json.loads(path.read_text())["numbers"] == first
    analysed(*QUICK, "--noise-seed", "1")
    assert json.loads(path.read_text())["numbers"] != first
    analysed(*QUICK, "--split", "train")
    assert json.loads(path.read_text())["settings"]["split"] == "train"


def test_an_analysis_of_other_weights_is_made_anew(trained: Path, analysed: Callable[..., list]) -> None:
    analysed(*QUICK)
    path = trained / "analysis" / "receptive-field.json"
    stored = json.loads(path.read_text())
    path.write_text(json.dumps(stored | {"weights_sha256": "0" * 64, "numbers": {"radius50_t100": -1.0}}))
    assert analysed(*QUICK)[0]["numbers"] == stored["numbers"]


def test_the_jacobian_of_a_run_whole_and_leading(trained: Path, analysed: Callable[..., list]) -> None:
    (whole,) = analysed("--what", "jacobian", "--images", "2", "--t", "200")
    assert whole["settings"]["method"] == "whole"
    with np.load(trained / "analysis" / "jacobian.npz") as arrays:
        dense = arrays["eigenvalues"][0]
        assert arrays["eigenvectors"].shape == (1, 2, 16, 3, 8, 8)
    (some,) = analysed("--what", "jacobian", "--images", "2", "--t", "200", "--leading", "4")
    assert some["settings"]["method"] == "leading"
    with np.load(trained / "analysis" / "jacobian.npz") as arrays:
        assert np.allclose(arrays["eigenvalues"][0], dense[:, :4], atol=1e-4)
    assert some["numbers"]["effective_dimension_t200"] == pytest.approx(whole["numbers"]["effective_dimension_t200"], rel=0.05)
    assert {path.name for path in (trained / "analysis").glob("jacobian-*.svg")} == {
        f"jacobian-{name}.svg" for name in ("eigenvectors", "eigenvectors-noise", "singular-vectors", "spectrum")
    }


def test_attention_and_representations_of_a_run_and_their_tables(
    trained: Path, analysed: Callable[..., list], capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--what", "attention,representations", "--images", "4", "--t", "100,900")
    attention, representations = analysed(*words)
    layers = attention["settings"]["layers"]
    assert {"distance", "mass_3_t900", f"position_invariance_layer{layers}"} <= set(attention["numbers"])
    assert {"cka", "cosine_t100", "diversity_loss", f"effective_rank_block{layers}"} <= set(representations["numbers"])
    with np.load(trained / "analysis" / "attention.npz") as arrays:
        assert arrays["maps"].shape == (2, layers, attention["settings"]["heads"], *[attention["settings"]["tokens"]] * 2)
        np.testing.assert_allclose(arrays["maps"].sum(4), 1, atol=1e-5)
    assert {path.name for path in (trained / "analysis").glob("*.png")} >= {
        f"{name}.png"
        for name in ("attention-maps", "attention-tokens", "attention-locality", "representations-similarity", "representations-rank")
    }
    assert main(["analyze", trained.name, *FLAGS, *words]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["layer1", f"{attention['numbers']['distance_layer1']:.4g}"] in [line[:2] for line in lines]
    assert ["block1", f"{representations['numbers']['effective_rank_block1']:.4g}"] in lines


def test_publishing_puts_small_files_beside_the_record(trained: Path, analysed: Callable[..., list]) -> None:
    of = record.read(trained / "record.json")
    leaderboard = trained.parent.parent / "leaderboard"
    (done,) = analysed(*QUICK, "--publish")
    folder = leaderboard / "analysis" / "tiny" / "leaves_tiny" / "dit_tiny-global-n6-s0"
    assert sorted(path.name for path in folder.iterdir()) == ["receptive-field.json", "receptive-field.svg"]
    assert done["files"][1:] == [str(folder / "receptive-field.json"), str(folder / "receptive-field.svg")]
    found = analyses.published(leaderboard, of)
    assert found["receptive-field"].numbers == done["numbers"]
    path = folder / "receptive-field.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"weights_sha256": "0" * 64}))
    assert analyses.published(leaderboard, of) == {}
    path.write_text("{")
    with pytest.raises(BenchError, match="is not valid"):
        analyses.published(leaderboard, of)
    with pytest.raises(BenchError, match="30,000"):
        analyses.check_size(path, 30_001)


def test_a_row_has_one_picture_that_of_its_first_published_seed(trained: Path, analysed: Callable[..., list], tmp_path: Path) -> None:
    analysed(*QUICK)
    of = record.read(trained / "record.json")
    for seed, pictured in ((6, 6), (11, 6), (1, 1), (6, 1)):
        spec = of.spec | {"seed": seed}
        study.publish(trained, "receptive-field", replace(of, spec=spec, id=spec_id(spec)), tmp_path)
        assert [path.parent.name for path in tmp_path.rglob("*.svg")] == [f"dit_tiny-global-n6-s{pictured}"]
    assert analyses.published_seeds(tmp_path, of.row, "receptive-field") == {1, 6, 11}
    assert analyses.published_seeds(tmp_path, of.row, "jacobian") == set()


def test_images_of_few_colours_take_fewer_bytes_in_an_svg_and_keep_every_pixel() -> None:
    few = np.random.default_rng(0).choice(np.arange(32, dtype=np.uint8) * 8, (64, 64, 1)).repeat(3, 2)
    many = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    clear = np.dstack([few, np.full((64, 64), 128, dtype=np.uint8)])
    before = [encoded(image) for image in (few, many, clear)]
    svg = "".join(f'<image xlink:href="data:image/png;base64,{one}"/>\n' for one in before)
    after = re.findall(r'base64,([^"]*)"', study.compact(svg))
    assert len(after[0]) < 0.65 * len(before[0]) and after[1:] == before[1:]
    assert (np.asarray(Image.open(io.BytesIO(base64.b64decode(after[0]))).convert("RGB")) == few).all()


def encoded(pixels: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="png")
    return base64.b64encode(buffer.getvalue()).decode()


def test_all_runs_of_a_suite(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "suites").mkdir()
    (tmp_path / "suites" / "two.gin").write_text(
        "# Two seeds, one of them run\nimport benchmark.suite\n\nSuite.recipe = 'tiny'\nSuite.blocks = ({'models': ['dit_tiny'], "
        "'layouts': ['global'], 'datasets': ['leaves_tiny'], 'subsets': [6], 'seeds': [0, 1]},)\n"
    )
    words = ["analyze", "--all-of", "two", "--registry", str(tmp_path), *FLAGS, *QUICK]
    assert main([*words, "--json"]) == 0
    (done,) = json.loads(capsys.readouterr().out)
    assert (done["run"], done["state"]) == (trained.name, "done")
    assert main(words) == 0
    assert "done" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--what", "jacobain"], "Did you mean 'jacobian'?"),
        (["--what", ","], "--what is empty"),
        (["--what", "jacobian", "--t", "50,a"], "--t 50,a must be diffusion steps"),
        (["--what", "jacobian", "--t", "1000"], "--t"),
        (["--what", "jacobian", "--t", "5,5"], "each once"),
        (["--what", "jacobian", "--images", "0"], "--images"),
        (["--what", "jacobian", "--images", "301"], "must be at most 300, the test images"),
        (["--what", "jacobian", "--leading", "0"], "--leading"),
        (["--what", "jacobian", "--all-of", "mini"], "Name one RUN, or a suite"),
    ],
)
def test_a_wrong_request_is_one_paragraph(trained: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str) -> None:
    assert main(["analyze", trained.name, *FLAGS, *words]) == 2
    said = capsys.readouterr()
    assert message in said.err
    assert said.out == ""


def test_a_run_that_is_not_finished_has_nothing_to_analyse(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "spec.json").write_text((trained / "spec.json").read_text())
    assert main(["analyze", str(tmp_path), *FLAGS, *QUICK]) == 2
    assert "is not finished" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["spec.json"]


def test_two_processes_do_not_make_the_same_analysis(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with study._alone(trained / "analysis", "receptive-field"):
        assert main(["analyze", trained.name, *FLAGS, *QUICK, "--force"]) == 2
    assert "in progress in another process" in capsys.readouterr().err


def test_nan_is_refused_by_name() -> None:
    with pytest.raises(BenchError, match="radius50"):
        study._rounded("receptive-field", {"radius50": float("nan")})


def test_every_analysis_of_the_table_has_what_the_frame_calls() -> None:
    import importlib

    for what in WHATS.values():
        module = importlib.import_module(what.module)
        assert isinstance(module.VERSION, str)
        assert callable(module.analyse)


def test_an_svg_is_made_smaller_without_a_change_of_its_drawing() -> None:
    svg = (
        '<svg>\n <!-- a\n comment -->\n  <use xlink:href="#a" x="1.23456" y="-0.999"/>\n <path d="M 1.239 2.5\nL 3.0 4"/>\n'
        ' <g transform="scale(0.01234)"/>\n</svg>\n'
    )
    assert study.compact(svg) == (
        '<svg>\n<use xlink:href="#a" x="1.23" y="-0.99"/>\n<path d="M 1.23 2.5\nL 3.0 4"/>\n<g transform="scale(0.01234)"/>\n</svg>\n'
    )


def test_columns_of_the_leaderboard_come_from_published_analyses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records, leaderboard = tmp_path / "leaderboard" / "records", tmp_path / "leaderboard"
    for seed in (0, 1, 2):
        for layout in ("global", "local_3x3_head"):
            made = make_record(layout=layout, seed=seed)
            record.write(made, record.path_of(records, made.row))
            analysis = make_analysis(made, "jacobian", {"harmonicity_t200": 0.25 + seed / 8})
            if layout == "global":
                write_text(analyses.published_folder(leaderboard, made.row) / "jacobian.json", analyses.text(analysis))
            elif seed == 0:  # of weights that are not the record's: not shown
                other = replace(analysis, weights_sha256="0" * 64)
                write_text(analyses.published_folder(leaderboard, made.row) / "jacobian.json", analyses.text(other))
    words = ["leaderboard", "--records", str(records), "--columns", "jacobian.harmonicity_t200"]
    assert main([*words, "--json"]) == 0
    rows = {row["layout"]: row for row in json.loads(capsys.readouterr().out)["tables"][0]["rows"]}
    assert rows["global"]["analyses"] == {str(seed): {"jacobian.harmonicity_t200": 0.25 + seed / 8} for seed in (0, 1, 2)}
    assert rows["local_3x3_head"]["analyses"] == {str(seed): {} for seed in (0, 1, 2)}
    page = (leaderboard / "README.md").read_text()
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert all(word in printed for word in ("jacobian.", "harmonicity", "_t200"))
    assert "0.375 ± 0.125" in printed
    assert (leaderboard / "README.md").read_text() == page
    for missing, message in (
        ("jacobian.harmonicity_t20", "Did you mean jacobian.harmonicity_t200?"),
        ("reach.x", "There are 1 numbers of jacobian"),
    ):
        assert main(["leaderboard", "--records", str(records), "--columns", missing]) == 2
        assert message in capsys.readouterr().err


def test_fewer_large_images_are_taken(trained: Path, tmp_path: Path) -> None:
    stored = Path(__file__).parents[2] / "leaderboard" / "records" / "smoke" / "natural32" / "dit_xs1-global-n64-s0.json"
    (tmp_path / "record.json").write_text(stored.read_text())
    assert [study.default_images(tmp_path, what, registry.roots()) for what in ("jacobian", "receptive-field")] == [1, 2]
    assert [study.default_images(trained, what, registry.roots((ENTRIES,))) for what in ("jacobian", "receptive-field")] == [8, 8]


def test_committed_analyses_are_of_the_committed_records() -> None:
    leaderboard = PROJECT / "leaderboard"
    records = {analyses.published_folder(leaderboard, one.row): one for one in record.read_all(leaderboard / "records")}
    found = sorted((leaderboard / "analysis").rglob("*.json"))
    assert len(found) >= 60
    for path in found:
        made, of = analyses.read(path), records[path.parent]
        assert (made.what, made.run, made.weights_sha256) == (path.stem, of.id, of.weights_sha256), path
        assert made.spec == of.row._asdict(), path
    for path in (leaderboard / "analysis").rglob("*.*"):
        analyses.check_size(path, path.stat().st_size)
        assert path.suffix == ".json" or path.with_suffix(".json").exists()
