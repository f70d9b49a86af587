"""benchmark/networks/weights.py: official checkpoints, formula-made, are loaded safely, whole, and told apart from a run."""

import argparse
import json
import os
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from benchmark import run
from benchmark.declaring import registry
from benchmark.declaring.spec import Spec, resolve
from benchmark.errors import BenchError, UsageError
from benchmark.networks import weights, weights_file
from benchmark.recording import record
from tests.conftest import ENTRIES, TINY, Bench

SEARCH = registry.roots([ENTRIES])
NAMES = {"model": "dit_tiny", "layout": "global", "dataset": "leaves_tiny", "recipe": "tiny"}
FLAGS = TINY[2:]  # all but the model


def spec_of(*overrides: str, model: str = "dit_tiny") -> Spec:
    return resolve(NAMES | {"model": model}, subset=6, seed=0, overrides=overrides, search=SEARCH)


def formula(spec: Spec) -> dict[str, Tensor]:
    """Weights that are a function of name order and index, for the network of a spec."""
    state = run.build(spec).state_dict()
    return {
        name: 0.1 * torch.sin(torch.arange(tensor.numel(), dtype=torch.float32) + k).view(tensor.shape)
        for k, (name, tensor) in enumerate(state.items())
    }


@pytest.mark.parametrize(
    "wrap",
    [
        lambda w: w,
        lambda w: {"ema": w, "model": {k: 0 * v for k, v in w.items()}, "args": argparse.Namespace(lr=1e-4), "opt": {"state": {}}},
        lambda w: {"model": {f"module.{k}": v for k, v in w.items()}},
        lambda w: {"state_dict": w},
        lambda w: {f"_orig_mod.{k}": v for k, v in w.items()},
        lambda w: {"model": {f"module._orig_mod.{k}": v for k, v in w.items()}},
        lambda w: {f"_orig_mod.module.{k}": v for k, v in w.items()},
        lambda w: {k.replace("blocks.0.", "blocks.0._orig_mod._checkpoint_wrapped_module."): v for k, v in w.items()},
        lambda w: {"model_ema": w, "model": {k: 0 * v for k, v in w.items()}},
    ],
    ids=[
        "plain",
        "ema beside model",
        "module prefix",
        "state_dict",
        "compiled",
        "parallel, compiled",
        "compiled, parallel",
        "blocks",
        "model_ema",
    ],
)
def test_every_way_to_nest_the_weights_reads_the_same(tmp_path: Path, wrap) -> None:
    made = formula(spec_of())
    torch.save(wrap(made), tmp_path / "w.pt")
    read = weights_file.read(tmp_path / "w.pt").weights
    assert read.keys() == made.keys() and all(torch.equal(read[k], made[k]) for k in made)
    save_file(made, tmp_path / "w.safetensors")
    assert weights_file.read(tmp_path / "w.safetensors").weights.keys() == made.keys()


class Evil:
    def __reduce__(self):
        return os.mkdir, ("evil_was_here",)


def test_a_pickle_that_is_more_than_tensors_is_refused_and_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"ema": {"a": torch.zeros(1)}, "x": Evil()}, "w.pt")
    with pytest.raises(BenchError, match="not plain tensors") as refusal:
        weights_file.read(tmp_path / "w.pt")
    assert f"(it names {os.mkdir.__module__}.mkdir)" in str(refusal.value)
    torch.save({"ema": {"a": torch.zeros(1)}, "activation": torch.nn.functional.relu}, "function.pt")
    with pytest.raises(BenchError, match=r"refused \(it names torch\.nn\.functional\.relu\)\. Where it was trained, save"):
        weights_file.read(tmp_path / "function.pt")
    (tmp_path / "old.pt").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(BenchError, match="refused|cannot be read"):
        weights_file.read(tmp_path / "old.pt")
    assert not (tmp_path / "evil_was_here").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be read"),
        (b"not a checkpoint", "refused|cannot be read"),
        (None, "There is no file"),
    ],
)
def test_what_is_no_checkpoint(tmp_path: Path, content: bytes | None, message: str) -> None:
    for suffix in ("pt", "safetensors"):
        if content is not None:
            (tmp_path / f"w.{suffix}").write_bytes(content)
        with pytest.raises(BenchError, match=message):
            weights_file.read(tmp_path / f"w.{suffix}")
    torch.save({"step": 3, "losses": [1.0]}, tmp_path / "t.pt")
    with pytest.raises(BenchError, match="holds no table of weights"):
        weights_file.read(tmp_path / "t.pt")


def test_what_does_not_match_is_named_with_the_way_out(tmp_path: Path) -> None:
    spec, file = spec_of(), tmp_path / "w.pt"
    network, made = run.build(spec), formula(spec)

    def said(changed: dict[str, Tensor]) -> str:
        with pytest.raises(BenchError) as refusal:
            weights.fill(network, changed, file, "dit_tiny")
        return str(refusal.value)

    lacking = {k: v for k, v in made.items() if k != "blocks.1.attn.qkv.bias"}
    assert "1 missing: blocks.1.attn.qkv.bias" in said(lacking)
    assert "1 unexpected: head.weight" in said(made | {"head.weight": torch.zeros(2)})
    assert "`overrides=['model.learned_variance=True']`" in said(formula(spec_of("model.learned_variance=True")))
    assert "`overrides=['model.hidden=24', 'model.depth=3', 'model.patch=2']`" in said(
        formula(spec_of("model.hidden=24", "model.depth=3", "model.patch=2"))
    )
    assert "not finite: pos_embed" in said(made | {"pos_embed": made["pos_embed"] / 0})
    before = {k: v.clone() for k, v in network.state_dict().items()}
    assert all(torch.equal(before[k], v) for k, v in network.state_dict().items())


@pytest.mark.parametrize(
    ("form", "model", "words"),
    [
        ("dit", "dit_tiny", ["model.num_classes=3"]),
        ("unet", "unet_mini", ["model.num_classes=3"]),
        ("diversedit", "dit_mini_diverse", ["model.num_classes=3"]),
    ],
)
def test_a_label_is_folded_exactly(tmp_path: Path, form: weights.Format, model: str, words: list[str]) -> None:
    labelled, plain = spec_of(*words, model=model), spec_of(model=model)
    made = formula(labelled) | ({"projectors.0.0.weight": torch.zeros(2)} if form == "diversedit" else {})
    network, other = run.build(labelled).eval(), run.build(plain).eval()
    network.load_state_dict(formula(labelled))
    kept = weights.denoiser(made, form)
    weights.fill(other, weights.unlabelled(kept, form, 2, tmp_path), tmp_path, model)
    x, t = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([5, 900])
    with torch.no_grad():
        expected, actual = network(x, t, torch.tensor([2, 2])), other(x, t)
        assert not torch.allclose(network(x, t, torch.tensor([0, 0])), expected, atol=1e-4)
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-4)
    for label in (None, 9, -1):
        with pytest.raises(UsageError, match="which row of its table"):
            weights.unlabelled(kept, form, label, tmp_path)
    with pytest.raises(UsageError, match="has no class labels"):
        weights.unlabelled(formula(plain), form, 0, tmp_path)


def test_someone_who_trained_elsewhere_gets_their_row(bench: Bench, home: Path) -> None:
    """The scores of a checkpoint that was trained here, given as a foreign file, are those of its own record."""
    done = bench("run", "--model", "dit_tiny", *FLAGS, "--no-track", "--json")
    assert done.returncode == 0, done.stderr
    own = json.loads(done.stdout)
    ema = next((home / "runs" / own["id"] / "checkpoints").glob("*40/ema.safetensors"))
    words = ["evaluate", "--weights", str(ema), "--format", "dit", "--model", "dit_tiny", *FLAGS]
    scored = bench(*words, "--json")
    assert scored.returncode == 0, scored.stderr
    kept = json.loads(scored.stdout)
    assert Path(kept["record"]).parent.name.startswith("external-")
    assert (kept["psnr_train"], kept["psnr_test"], kept["weights_sha256"]) == (own["psnr_train"], own["psnr_test"], own["weights_sha256"])
    assert len(record.read_all(home / "leaderboard" / "records")) == 1
    published = bench(*words, "--publish", "their_dit")
    assert published.returncode == 0, published.stderr
    first, theirs = record.read_all(home / "leaderboard" / "records")
    assert (theirs.row.model, theirs.row.recipe, theirs.training.steps, theirs.trajectory) == ("their_dit", "tiny_external", 0, ())
    assert any("trained elsewhere" in line and "ema.safetensors" in line for line in theirs.assumed)
    assert first.id == own["id"]
    page = bench("leaderboard")
    assert page.returncode == 0, page.stderr
    assert "Trained elsewhere" in (home / "leaderboard" / "tables.md").read_text()
    again = bench("run", "--record", str(record.path_of(home / "leaderboard" / "records", theirs.row)), "--registry", str(ENTRIES))
    assert again.returncode == 2 and "trained elsewhere" in again.stderr


def test_a_row_may_not_take_another_ones_place(bench: Bench, tmp_path: Path) -> None:
    for scale in (1, 2):
        save_file({k: scale * v for k, v in formula(spec_of()).items()}, tmp_path / f"w{scale}.safetensors")
    words = ["--format", "dit", "--model", "dit_tiny", *FLAGS, "--publish"]
    assert bench("evaluate", "--weights", str(tmp_path / "w1.safetensors"), *words, "theirs").returncode == 0
    other = bench("evaluate", "--weights", str(tmp_path / "w2.safetensors"), *words, "theirs")
    assert other.returncode == 1 and "other weights under the name 'theirs'" in other.stderr
    stock = bench("evaluate", "--weights", str(tmp_path / "w1.safetensors"), *words, "dit_mini")
    assert stock.returncode == 2 and "the project's own model" in stock.stderr
    neither = bench("evaluate")
    assert neither.returncode == 2 and "one of the three" in neither.stderr


def test_a_name_that_is_there_wrapped_and_bare_is_refused(tmp_path: Path) -> None:
    made = formula(spec_of())
    name = next(iter(made))
    torch.save(made | {f"_orig_mod.{name}": made[name]}, tmp_path / "w.pt")
    with pytest.raises(BenchError, match=f"'{name}' twice"):
        weights_file.read(tmp_path / "w.pt")


def test_a_fixed_table_may_be_missing_and_no_weight_may() -> None:
    spec = spec_of()
    made, network = formula(spec), run.build(spec)
    positions = network.state_dict()["pos_embed"].clone()
    assert weights.fill(network, {k: v for k, v in made.items() if k != "pos_embed"}, Path("w.pt"), "dit_tiny") == ["pos_embed"]
    assert torch.equal(network.state_dict()["pos_embed"], positions)
    learned = next(name for name in made if name != "pos_embed")
    with pytest.raises(BenchError, match=f"1 missing: {learned}"):
        weights.fill(network, {k: v for k, v in made.items() if k not in ("pos_embed", learned)}, Path("w.pt"), "dit_tiny")
