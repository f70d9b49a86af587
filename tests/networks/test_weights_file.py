"""benchmark/networks/weights_file.py: which table of a file is meant, under which names, and what is no such file."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from benchmark.errors import BenchError, UsageError
from benchmark.networks import weights, weights_file


@pytest.mark.parametrize("name", ["ema", "model_ema", "state_dict_ema", "ema_model"])
def test_averaged_weights_are_found_under_the_names_that_people_use(tmp_path: Path, name: str) -> None:
    table = {"a.weight": torch.ones(2)}
    torch.save({"state_dict": {"a.weight": torch.zeros(2)}, name: table, "optimizer": {"lr": torch.ones(1)}}, tmp_path / "w.pt")
    read = weights_file.read(tmp_path / "w.pt")
    assert read.weights["a.weight"].tolist() == [1, 1] and read.said == [f"of w.pt the weights under '{name}' are taken"]
    assert weights_file.read(tmp_path / "w.pt", "state_dict").weights["a.weight"].tolist() == [0, 0]


def test_two_tables_that_may_be_meant_are_refused_until_one_is_named(tmp_path: Path) -> None:
    one, two = {"a.weight": torch.ones(2)}, {"a.weight": torch.zeros(2)}
    torch.save({"ema": one, "model_ema": two, "model": two}, tmp_path / "w.pt")
    with pytest.raises(UsageError, match="several tables of weights: ema, model_ema"):
        weights_file.read(tmp_path / "w.pt")
    assert weights_file.read(tmp_path / "w.pt", "model_ema").weights["a.weight"].tolist() == [0, 0]
    with pytest.raises(UsageError, match="no such table. It has ema, model_ema, model"):
        weights_file.read(tmp_path / "w.pt", "averaged")
    torch.save({"model": one, "state_dict": two}, tmp_path / "v.pt")
    with pytest.raises(UsageError, match="several tables of weights: model, state_dict"):
        weights_file.read(tmp_path / "v.pt")
    torch.save(one, tmp_path / "u.pt")
    with pytest.raises(UsageError, match="one table of weights"):
        weights_file.read(tmp_path / "u.pt", "ema")


@pytest.mark.parametrize("suffix", ["ckpt", "safetensors"])
def test_averaged_weights_in_one_table_with_the_others_are_told_by_how_their_names_begin(tmp_path: Path, suffix: str) -> None:
    """As Lightning saves a module that holds a network and its average, and lucidrains' EMA its own two."""

    def saved(table: dict[str, Tensor]) -> Path:
        file = tmp_path / f"w.{suffix}"
        if suffix == "ckpt":
            torch.save({"state_dict": table, "epoch": 3, "global_step": 7, "pytorch-lightning_version": "2.5", "callbacks": {}}, file)
        else:
            save_file(table, file)
        return file

    one, two = {"a.weight": torch.ones(2), "b.bias": torch.ones(1)}, {"a.weight": torch.zeros(2), "b.bias": torch.zeros(1)}
    beside = {"initted": torch.tensor(True), "step": torch.tensor(4)}
    for other in ("model", "online_model"):
        both = {f"{other}.{k}": v for k, v in two.items()} | {f"ema_model.module._orig_mod.{k}": v for k, v in one.items()} | beside
        read = weights_file.read(saved(both))
        assert read.weights.keys() == one.keys() and all(torch.equal(read.weights[k], one[k]) for k in one)
        under = "'state_dict' / 'ema_model'" if suffix == "ckpt" else "'ema_model'"
        assert read.said[0] == f"of w.{suffix} the weights under {under} are taken"
        assert all(what in read.said[1] for what in ("module.", "_orig_mod."))
        assert weights_file.read(saved(both), other).weights["a.weight"].tolist() == [0, 0]
        with pytest.raises(UsageError, match="no such table. It has .*ema_model"):
            weights_file.read(saved(both), "averaged")
    two_averages = {f"{name}.{k}": v.clone() for name in ("ema", "ema_model") for k, v in one.items()}
    with pytest.raises(UsageError, match="several tables of weights: ema, ema_model. Say which"):
        weights_file.read(saved(two_averages))
    assert weights_file.read(saved(two_averages), "ema").weights.keys() == one.keys()


def test_a_network_in_several_files_is_refused_with_how_to_join_them(tmp_path: Path) -> None:
    table = {"a.weight": torch.ones(2), "b.weight": torch.ones(1)}
    for number, name in enumerate(table, 1):
        save_file({name: table[name]}, tmp_path / f"model-0000{number}-of-00002.safetensors")
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {}}')
    with pytest.raises(UsageError, match=r"is a folder, .* it holds model-00001-of-00002\.safetensors, model-00002.* Join its parts"):
        weights_file.read(tmp_path)
    with pytest.raises(UsageError, match="is one of 2 files that only together are a network"):
        weights_file.read(tmp_path / "model-00001-of-00002.safetensors")
    with pytest.raises(UsageError, match="lists the files"):
        weights_file.read(tmp_path / "model.safetensors.index.json")
    parts = sorted(tmp_path.glob("*.safetensors"))  # and the advice that is printed does it
    save_file({name: value for part in parts for name, value in load_file(part).items()}, tmp_path / "joined.safetensors")
    assert weights_file.read(tmp_path / "joined.safetensors").weights.keys() == table.keys()
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="holds no file of weights"):
        weights_file.read(tmp_path / "empty")


@pytest.mark.parametrize(
    "prefix", ["model.", "module.model.", "model.module.model._orig_mod.", "_orig_mod.model.model.module.", "module.module."]
)
def test_what_holds_a_network_is_taken_off_its_names(tmp_path: Path, prefix: str) -> None:
    wanted = {"a.weight": torch.ones(2), "model.b.weight": torch.ones(3)}  # a network may have a part of that name itself
    torch.save({f"{prefix}{name}": value for name, value in wanted.items()}, tmp_path / "w.pt")
    read = weights_file.read(tmp_path / "w.pt")
    found = weights.fitted(read.weights, wanted, 3, tmp_path / "w.pt")
    assert found.weights.keys() == wanted.keys()
    assert all(part in " ".join([*read.said, *found.said]) for part in prefix.rstrip(".").split("."))
    twice = {"model.a.weight": torch.ones(2), "a.weight": torch.ones(2)}
    with pytest.raises(BenchError, match=r"'a\.weight' twice"):
        weights.fitted(twice, wanted, 3, tmp_path / "w.pt")
