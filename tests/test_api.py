"""The public Python API: what it gives is what the command line gives, and what is refused says what to do."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import benchmark
from benchmark import sampling
from benchmark.cli import main
from benchmark.declaring.fields import FieldError
from benchmark.declaring.spec import AXES, Spec
from benchmark.errors import UsageError
from benchmark.pages import leaderboard
from benchmark.recording import analyses, errors, record
from benchmark.recording.record import Record
from benchmark.running.progress import Display
from tests.conftest import ENTRIES, TINY

COMMITTED = Path(__file__).parents[1] / "leaderboard" / "records"


def tiny(model: str = "dit_tiny", **more: object) -> Spec:
    """The spec that TINY names on the command line."""
    names = {"model": model, "layout": "global", "dataset": "leaves_tiny", "recipe": "tiny", "subset": 6}
    return benchmark.resolve(**names | more, registry=[ENTRIES])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Record]:
    """A home in which the tiny row was run, and its record."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BENCH_HOME", str(home))
        torch.set_num_threads(1)
        return home, benchmark.run(tiny(), device="cpu")


@pytest.fixture
def finished(made: tuple[Path, Record], home: Path) -> Record:
    """The tiny run, copied into a home of the test's own."""
    shutil.copytree(made[0], home, dirs_exist_ok=True)
    return made[1]


def probe(code: str) -> str:
    """Run code in a fresh interpreter and return what it prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=900, check=True)
    return done.stdout.strip()


def test_importing_the_package_imports_nothing_heavy() -> None:
    heavy = "torch numpy pandas matplotlib gin rich benchmark.run"
    assert probe(f"import sys, benchmark; print([name for name in {heavy.split()} if name in sys.modules])") == "[]"


@pytest.mark.parametrize("lines", ["import benchmark.run", "import benchmark; benchmark.run"])
def test_run_is_a_module_and_a_function_whatever_was_imported_first(lines: str) -> None:
    after = "import benchmark; from benchmark import run, spec; print(callable(benchmark.run), run is benchmark.run, run.build.__module__)"
    assert probe(f"{lines}; {after}; print(spec.resolve.__module__)").split() == [
        "True",
        "True",
        "benchmark.run",
        "benchmark.declaring.spec",
    ]


def test_every_name_of_the_api_is_there_and_no_other_is_invented() -> None:
    for name in benchmark.__all__:
        assert getattr(benchmark, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        benchmark.nonsense


def test_resolve_gives_the_spec_of_the_command_line(capsys: pytest.CaptureFixture[str], home: Path) -> None:
    assert main(["run", *TINY, "--set", "recipe.steps=7", "--half", "b", "--dry-run", "--json"]) == 0
    found = tiny(overrides=["recipe.steps=7"], half="b")
    assert json.loads(capsys.readouterr().out)["id"] == found.id
    assert found.recipe.config.steps == 7


def test_resolve_says_what_there_is() -> None:
    with pytest.raises(UsageError, match=r"No model is called 'dit_tini'\. Did you mean 'dit_tiny'"):
        tiny("dit_tini")


def test_run_gives_the_record_of_the_command_line(finished: Record, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert record.read(record.path_of(home / "leaderboard" / "records", finished.row)) == finished
    assert benchmark.run(tiny(), device="cpu") == finished  # at once: the time of its making is part of it
    assert main(["run", *TINY, "--force", "--no-track", "--json"]) == 0
    anew = json.loads(capsys.readouterr().out)
    assert (anew["weights_sha256"], anew["psnr_gap"]) == (finished.weights_sha256, finished.psnr_gap)


def test_run_leaves_torch_as_it_was(finished: Record) -> None:
    torch.use_deterministic_algorithms(False)
    benchmark.run(tiny(), device="cpu")
    assert not torch.are_deterministic_algorithms_enabled()


def test_run_says_whether_it_was_deterministic_and_what_it_began_as(finished: Record, home: Path) -> None:
    """A run whose last point was lost, and which another sitting ends without."""
    assert finished.training.deterministic is True  # what a CPU does where nobody asks for anything else
    for path in (home / "runs" / finished.id / "record.json", record.path_of(home / "leaderboard" / "records", finished.row)):
        path.unlink()
    torch.use_deterministic_algorithms(False)
    made = benchmark.run(tiny(), device="cpu", deterministic=False)
    assert made.training.notes == ("began with deterministic=True",)
    assert made.weights_sha256 == finished.weights_sha256
    assert not torch.are_deterministic_algorithms_enabled()
    (home / "runs" / finished.id / "record.json").unlink()
    record.path_of(home / "leaderboard" / "records", finished.row).unlink()
    assert benchmark.run(tiny(), device="cpu", deterministic=False, force=True).training.deterministic is False


def test_run_writes_the_record_where_it_is_told(finished: Record, tmp_path: Path) -> None:
    benchmark.run(tiny(), device="cpu", records=tmp_path / "mine")
    assert record.read_all(tmp_path / "mine") == [finished]
    beside = errors.beside(record.path_of(tmp_path / "mine", finished.row))
    assert errors.disagreements(finished, errors.read(beside)) == []


def test_load_gives_the_network_that_was_scored(finished: Record, home: Path) -> None:
    folder = home / "runs" / finished.id
    published = record.path_of(home / "leaderboard" / "records", finished.row)
    for name in (finished.id, finished.id[:5], folder, str(folder), folder / "record.json", published, finished):
        trained = benchmark.load(name, device="cpu", registry=[ENTRIES])
        assert trained.record == finished
        assert not trained.network.training
    assert trained.spec.id == finished.id
    images = trained.images
    assert (images.digest, images.test_digest) == (finished.data.train_sha256, finished.data.test_sha256)
    assert images.train.shape == (6, 3, 8, 8)
    scored = benchmark.score(trained.network, images.train, images.test, seed=0, steps=3, images=8)
    assert scored == finished.psnr


def test_a_run_folder_of_another_home_is_loaded_with_its_own_images(made: tuple[Path, Record], home: Path) -> None:
    trained = benchmark.load(made[0] / "runs" / made[1].id, device="cpu")
    assert trained.images.digest == made[1].data.train_sha256
    assert not (home / "packed").exists()


def test_what_needs_no_images_needs_no_packed_images(finished: Record, home: Path) -> None:
    shutil.rmtree(home / "packed")
    trained = benchmark.load(finished.id, device="cpu")
    assert benchmark.sample(trained, 2, sampler="dpm", steps=3).shape == (2, 3, 8, 8)
    assert not (home / "packed").exists()


def test_a_network_fitted_in_closed_form_is_fitted_anew(home: Path) -> None:
    made = benchmark.run(tiny("wiener"), device="cpu")
    trained = benchmark.load(made, device="cpu", registry=[ENTRIES])
    assert benchmark.score(trained.network, trained.images.train, trained.images.test, steps=3, images=8) == made.psnr


def test_a_record_without_weights_says_how_to_train_it(home: Path) -> None:
    """The committed records come without weights; what the error says to type is the run that they describe."""
    for path in sorted(COMMITTED.rglob("*.json"))[::9]:
        stored = record.read(path)
        if not stored.training.steps:
            continue
        with pytest.raises(UsageError, match="weights of the run .* are not here") as refused:
            benchmark.load(path)
        said = re.search(r"benchmark\.run\((benchmark\.resolve\(.*\)), force=True\)`$", str(refused.value))
        assert eval(said[1], {"benchmark": benchmark}).id == stored.id  # our own sentence


def test_the_sentence_that_says_how_to_train_names_half_and_overrides(finished: Record, home: Path) -> None:
    made = benchmark.run(tiny(half="a", overrides=["recipe.steps=6", "recipe.trajectory=()"]), device="cpu")
    shutil.rmtree(home / "runs" / made.id / "checkpoints")
    with pytest.raises(UsageError, match=r"half='a', overrides=\['recipe.steps=6', 'recipe.trajectory=\(\)'\]"):
        benchmark.load(made.id)


@pytest.mark.parametrize(("name", "said"), [("ffffffffff", "No finished run's id begins with"), ("f'", "id begins with 'f''")])
def test_load_refuses_what_names_no_run(finished: Record, name: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        benchmark.load(name)


def test_load_refuses_a_folder_without_a_record(home: Path) -> None:
    with pytest.raises(UsageError, match="not the folder of a finished run"):
        benchmark.load(home)


def test_records_has_a_row_for_every_record_and_the_names_of_the_leaderboard() -> None:
    table, stored = benchmark.records(COMMITTED), record.read_all(COMMITTED)
    assert table["id"].tolist() == [one.id for one in stored]
    for name in ("psnr_train", "psnr_test", "psnr_gap"):
        assert table[name].tolist() == [getattr(one, name) for one in stored]
    for axis in (*AXES, "subset", "seed"):
        assert table[axis].tolist() == [getattr(one.row, axis) for one in stored]
    board = leaderboard.as_json(COMMITTED, ["jacobian.harmonicity_t200"])["tables"][0]
    rows = board.pop("rows")
    shared = {"metric_version", "recipe", "dataset", "subset", "model", "layout", "psnr_train", "psnr_test", "psnr_gap"}  # not of a pair
    assert shared <= (set(board) | set(rows[0])) & set(table.columns)
    assert {name for row in rows for scores in row["scores"].values() for name in scores} <= set(table.columns)
    for one, (_, row) in zip(stored, table.iterrows(), strict=True):
        for name, value in analyses.numbers(COMMITTED.parent, one).items():
            assert row[name] == value


def test_records_of_an_empty_folder_is_an_empty_table(tmp_path: Path) -> None:
    table = benchmark.records(tmp_path)
    assert len(table) == 0
    assert "psnr_gap" in table.columns


def images(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 3, 4, 4), dtype=np.uint8)


def test_score_takes_any_function() -> None:
    """eps_hat = 0 leaves the whole noise: its mean square is the error of the estimate, and both sides are alike."""
    found = benchmark.score(lambda x, t: torch.zeros_like(x), images(40, 0), torch.from_numpy(images(40, 1)), steps=5, images=40)
    assert found.noise_mse.train == pytest.approx([1.0] * 5, abs=0.1)
    assert found.psnr_gap == pytest.approx(np.mean(np.maximum(np.subtract(found.clipped.train, found.clipped.test), 0)))
    assert found.diffusion_steps == (0, 250, 500, 749, 999)


class Moody(nn.Module):
    """A network with one part that is frozen in evaluation mode."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3).eval()

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        assert not self.training
        return self.norm(x)


def test_score_and_sample_leave_a_network_as_it_was() -> None:
    network = Moody().train()
    network.norm.eval()
    benchmark.score(network, images(4, 0), images(4, 1), steps=2)
    benchmark.sample(network, 2, shape=(3, 4), sampler="ddim", steps=2)
    assert network.training
    assert not network.norm.training


@pytest.mark.parametrize(
    ("denoiser", "train", "said"),
    [
        (lambda x, t: torch.cat([x, x], 1), images(4, 0), r"it returned a tensor of shape \(4, 6, 4, 4\)"),
        (lambda x, t: None, images(4, 0), "it returned a NoneType"),
        ("dit", images(4, 0), "a str cannot be called"),
        (lambda x, t: x, images(4, 0) / 255.0, "uint8 of shape"),
        (lambda x, t: x, images(4, 0)[:, :, :2], "uint8 of shape"),
        (lambda x, t: x, images(0, 0), "uint8 of shape"),
        (lambda x, t: x, images(4, 0)[:, :1], "both must be alike"),
    ],
)
def test_score_refuses_what_it_cannot_score(denoiser: object, train: np.ndarray, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        benchmark.score(denoiser, train, images(4, 1), steps=1, images=4)


@pytest.mark.parametrize("sampler", ["ancestral", "ddim", "dpm"])
def test_sample_draws_what_the_command_line_draws(finished: Record, home: Path, sampler: str) -> None:
    trained = benchmark.load(finished, device="cpu")
    request = sampling.request_of(5, sampler, 4, seed=3)
    with Display(silent=True) as display:
        stored = sampling.sample_run(home / "runs" / finished.id, request, trained.place, display, (), batch=5).images
    drawn = benchmark.sample(trained, 5, sampler=sampler, steps=4, seed=3, batch=5)
    assert (drawn == stored).all()
    plain = benchmark.sample(lambda x, t: trained.network(x, t), 5, shape=(3, 8), sampler=sampler, steps=4, seed=3, batch=2)
    assert np.abs(plain.astype(int) - drawn).max() <= 1  # the rounding of another batch size


def test_sample_refuses_what_it_cannot_draw() -> None:
    with pytest.raises(UsageError, match="shape="):
        benchmark.sample(lambda x, t: x, 1)
    with pytest.raises(UsageError, match="No sampler is called 'dmp'.*'dpm'"):
        benchmark.sample(lambda x, t: x, 1, shape=(3, 4), sampler="dmp")
    with pytest.raises(FieldError, match="count"):
        benchmark.sample(lambda x, t: x, 0, shape=(3, 4))


def test_plot_curves_draws_the_numbers(finished: Record) -> None:
    zero = benchmark.score(lambda x, t: torch.zeros_like(x), images(4, 0), images(4, 1), steps=3)
    figure = benchmark.plot_curves({"network": finished, "zero": zero})
    assert len(figure.axes) == 4  # a record says its N, and curves of a function have none: a column each
    above, below = figure.axes[1], figure.axes[3]
    assert above.get_title() == "N = 6"
    assert [list(line.get_ydata()) for line in above.lines] == [list(finished.psnr.clipped.train), list(finished.psnr.clipped.test)]
    assert list(below.lines[0].get_ydata()) == list(finished.psnr.clipped.gap)
    svg = figure._repr_svg_()
    assert svg.startswith("<?xml")
    assert len(benchmark.plot_curves(finished).axes) == 2
    with pytest.raises(UsageError, match="no curves"):
        benchmark.plot_curves({})
