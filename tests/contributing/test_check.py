"""benchmark/contributing/check.py: a broken file is named with its reason and hides no other."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmark.contributing import check, check_backbone
from benchmark.contributing import trial as trials
from benchmark.declaring import registry
from benchmark.errors import UsageError
from benchmark.images import datasets, manifest
from benchmark.networks import cost
from benchmark.recording import record
from registry.backbones.dit import DiT
from registry.datasets.dead_leaves import DeadLeaves
from tests.conftest import Bench
from tests.records import make_record


def problem(path: Path) -> str:
    (verdict,) = check.check([path], (registry.STOCK,))
    assert verdict.problem is not None
    return verdict.problem


def entry(folder: Path, axis: str, text: str, code: str = "") -> Path:
    path = folder / registry.FOLDERS[axis] / "mine.gin"
    path.parent.mkdir()
    path.write_text(text)
    path.with_name("mine_code.py").write_text(code)
    return path


def test_every_file_gets_a_verdict(tmp_path: Path) -> None:
    good = make_record()
    record.write(good, record.path_of(tmp_path, good.row))
    record.write(make_record(seed=1), tmp_path / "astray.json")
    (tmp_path / "broken.json").write_text("{")
    verdicts = {verdict.path.name: verdict.problem for verdict in check.check([tmp_path], (registry.STOCK,), home=tmp_path)}
    assert verdicts["dit_mini-global-n16-s0.json"] is None
    assert "its path must be its key" in str(verdicts["astray.json"])
    assert "not valid" in str(verdicts["broken.json"])


def test_a_folder_of_ones_own_is_checked_for_entries_and_records_alone(tmp_path: Path, bench: Bench) -> None:
    """What the tool itself writes beside them (specs, manifests, leases, pins) is none of the two."""
    entry(tmp_path, "layout", "# mine\nimport registry.layouts.windows\nWindows.windows = (3,)\n")
    for path in ("runs/0a/spec.json", "runs/0a/lease", "data/mine.json", "packed/mine/manifest.json", "build/stray.gin"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("{}")
    good = make_record()
    for folder in ("runs", "leaderboard/records"):
        record.write(good, record.path_of(tmp_path / folder, good.row))
    verdicts = check.check([tmp_path], (registry.STOCK, tmp_path), home=tmp_path)
    assert [verdict.path.relative_to(tmp_path).parts[0] for verdict in verdicts] == ["leaderboard", "layouts"]
    assert all(verdict.problem is None for verdict in verdicts)
    done = bench("check", "--registry", str(tmp_path))
    assert done.returncode == 0 and "2 checked, all well" in done.stdout
    nothing = bench("check", str(tmp_path / "build"))
    assert nothing.returncode == 2 and "holds no entry and no record" in nothing.stderr


def test_a_part_of_the_records_is_held_to_the_whole_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = tmp_path / "records"
    for seed in (0, 1):
        record.write(make_record(recipe="quick", seed=seed), record.path_of(records, make_record(recipe="quick", seed=seed).row))
    record.write(make_record(recipe="quick", seed=2), records / "quick" / "astray.json")
    monkeypatch.chdir(tmp_path)
    for part, count in ((Path("records"), 3), (Path("records/quick"), 3), (records / "quick" / "dead_leaves8", 2)):
        verdicts = check.check([part], (registry.STOCK,), home=tmp_path)
        assert [verdict.problem is None for verdict in verdicts] == [verdict.path.name != "astray.json" for verdict in verdicts]
        assert len(verdicts) == count, part


def test_a_record_of_other_images_than_its_seed_gives_is_found(tmp_path: Path) -> None:
    dataset = DeadLeaves(resolution=8, count=320)
    packed = datasets.load("leaves", dataset, home=tmp_path)
    given = datasets.subset(packed, "leaves", 16, 0)
    images = {"manifest_sha256": given.manifest_digest, "train_sha256": given.digest, "test_sha256": given.test_digest}
    made = make_record(dataset="leaves")

    def images_rule(**changed: str) -> tuple[str, str]:
        held = replace(made, data=replace(made.data, **images | changed))
        record.write(held, path := record.path_of(tmp_path / "records", held.row))
        (verdict,) = check.check([path], (registry.STOCK,), home=tmp_path)
        return verdict.outcomes[1].outcome, verdict.outcomes[1].note

    assert images_rule() == ("ok", "16 training and 300 test images, as the manifest and the seed give")
    assert images_rule(train_sha256="a" * 64)[0] == "problem" and "its training images (aaaa" in images_rule(train_sha256="a" * 64)[1]
    assert images_rule(test_sha256="b" * 64)[0] == "problem"
    other = images_rule(manifest_sha256="c" * 64)
    assert other[0] == "not run" and "are others" in other[1]  # nothing pins the ones that are here
    manifest.write(manifest.pin(tmp_path, "leaves"), packed.manifest)
    pinned = images_rule(manifest_sha256="c" * 64)
    assert pinned[0] == "problem" and "another manifest (cccc" in pinned[1]
    for path in (tmp_path / "packed/leaves").iterdir():
        path.unlink()
    assert images_rule()[0] == "not run" and "are not here" in images_rule()[1]


BACKBONE = """
import torch
from torch import nn
from benchmark.contract import entry
@entry
class {cls}:
    \'\'\'A network of one convolution.\'\'\'
    width: int
    attention_layers = 0
    def build(self, images, attention):
        return Inner(images.channels)
class Inner(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv, self.spare = nn.Conv2d(channels, channels, 3, padding=1), None
{init}
    def forward(self, x, t, y=None):
        {body}
"""

# What is wrong with each: extra lines of __init__, the body of forward, the rule that says so, and a part of what it says.
BROKEN = {
    "well": ("", "return self.conv(x) / (1 + t[:, None, None, None])", None, ""),
    "channels": ("", "return self.conv(x)[:, :2]", "shape and type", "forward returns (2, 2, 8, 8)"),
    "double": ("", "return self.conv(x).double()", "shape and type", "float64"),
    "raises": ("", "return x.nothing", "shape and type", "AttributeError"),
    "idle": ("self.idle = nn.Linear(2, 2)", "return self.conv(x)", "gradient", "idle.weight, idle.bias"),
    "trained_norm": (  # in evaluation its estimate is below the smallest number, as a network of many small gains is at its start
        "self.register_buffer('scale', torch.tensor(1e30))",
        "return self.conv(x) / (self.scale if not self.training else self.scale.fill_(1)) / (self.scale if not self.training else 1)",
        None,
        "",
    ),
    "frozen": ("", "return self.conv(x).detach() + 0 * self.conv.bias.sum()", "gradient", "conv.weight"),
    "explodes": ("", "return self.conv(x) + (self.conv.bias - self.conv.bias).sum().sqrt()", "gradient", "of conv.bias is not finite"),
    "unseeded": ("self.conv.bias.data.uniform_(generator=RANDOM)", "return self.conv(x)", "seed", "differ in conv.bias"),
    "random": ("", "return self.conv(x + torch.randn_like(x))", "seed", "two results for one input"),
    "mates": ("", "return self.conv(x - x.mean(0, keepdim=True))", "batch", "depends on its batch mates"),
    "infinite": ("", "return self.conv(x) / t[:, None, None, None]", "timesteps", "not finite at t = 0."),
    "in_place": ("", "return self.conv(x.mul_(2))", "input", "in place"),
    "memory": ("self.scale = torch.rand(())", "return self.conv(x) * self.scale", "checkpoint", "in no parameter and no buffer"),
    "no_cast": ("", "return self.conv(x).log() if torch.is_autocast_enabled('cpu') else self.conv(x)", "bf16", "not finite"),
    # What rules share may not hide a fault: a pass, a network on meta, one whose weights are replaced.
    "drifts": ("self.register_buffer('calls', torch.zeros(()))", "return self.conv(x) + self.calls.add_(1)", "seed", "two results"),
    "wakes": (  # its first pass changes its weights, and never again
        "self.awake = False",
        "return (self.awake or self.conv.weight.data.mul_(2), setattr(self, 'awake', True), self.conv(x))[-1]",
        "checkpoint",
        "another estimate",
    ),
    "steps_in_place": ("", "return self.conv(x) + 0 * t.add_(1)[:, None, None, None]", "input", "in place"),
    "alone": ("", "return self.conv(x) if len(x) > 1 else self.conv(x)[0]", "batch", "forward returns (3, 8, 8)"),
    "trained": ("", "return self.conv(x) if not self.training else self.conv(x)[:, :2]", "cost", "torch.float32 in training for"),
    "reads": ("", "return self.conv(x) if self.training or x.sum() < 9e9 else x", "shape and type", "meta"),
    "large_memory": ("self.scale = torch.empty(99_999).normal_()", "return self.conv(x) * self.scale[-1]", "checkpoint", "in no parameter"),
    "unseeded_large": (
        "self.register_buffer('large', torch.empty(99_999).uniform_(generator=RANDOM))",
        "return self.conv(x)",
        "seed",
        "differ in large",
    ),
    "no_flops": ("", "return x * self.conv.weight.sum() + self.conv.bias.sum()", "cost", "no FLOP"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_each_rule_finds_what_breaks_it(tmp_path: Path, name: str) -> None:
    init, body, rule, message = BROKEN[name]
    cls = f"Net{name.title().replace('_', '')}"
    code = BACKBONE.format(cls=cls, init=f"        {init}", body=body) + "RANDOM = torch.Generator()\n"
    path = entry(tmp_path, "model", f"# mine\nimport net_{name}_code\n{cls}.width = 3\n")
    path.with_name(f"net_{name}_code.py").write_text(code)
    (verdict,) = check.check([path], (registry.STOCK,))
    if rule is None:
        assert {o.rule: o.outcome for o in verdict.outcomes if o.outcome != "ok"} == {"own loss": "not run", "torch.compile": "not run"}
        return
    said = {outcome.rule: outcome for outcome in verdict.outcomes}
    assert said[rule].outcome == "problem", verdict
    assert message in said[rule].note


def test_of_a_network_and_the_one_that_its_weights_are_loaded_into_the_second_is_kept() -> None:
    trial = trials.trial(DiT(hidden=8, depth=1, heads=1))
    before, wanted = trial.network, trial.pair.estimate
    assert check_backbone.round_trip(trial).endswith("same estimate")
    assert trial.network is not before
    assert torch.equal(trial.network(*trial.inputs(2)), wanted)


def test_what_is_counted_once_is_what_a_dry_run_counts() -> None:
    """In a pass of two images: of a network whose every product is of an image, half of it is what one takes."""
    config = DiT(hidden=8, depth=2, heads=2, num_classes=3)
    trial = trials.trial(config)
    network = cost.built_on_meta(config, trial.images, trial.attention, 4)
    assert trial.traced[:2] == cost.parameters(network)
    assert trial.traced.flops == cost.network_flops(network, trial.images, trial.classes)


@pytest.mark.parametrize(
    ("values", "largest"),
    [([0.0, 0.0], 0.0), ([1.0, -2.0], 2.0), ([], 0.0), ([1.0, math.nan, -math.inf], math.nan), ([3.0, -math.inf], math.inf)],
)
def test_the_largest_of_a_tensor_is_not_finite_where_one_number_is_not(values: list[float], largest: float) -> None:
    assert trials.largest(torch.tensor(values)) == pytest.approx(largest, nan_ok=True)


def test_an_undocumented_entry_and_one_that_does_not_load(tmp_path: Path) -> None:
    path = entry(tmp_path, "model", "# mine\nimport net_bare_code\nNetBare.width = 3\n")
    code = BACKBONE.format(cls="NetBare", init="", body="return self.conv(x)").replace("    '''A network of one convolution.'''\n", "")
    path.with_name("net_bare_code.py").write_text(code)
    assert "NetBare has no docstring" in problem(path)
    path.write_text("# mine\nimport net_gone_code\nNetBare.width = 3\n")
    (verdict,) = check.check([path], (registry.STOCK,))
    assert [(o.rule, o.outcome) for o in verdict.outcomes] == [("described", "ok"), ("loads", "problem")]


def test_one_broken_entry_hides_no_other(tmp_path: Path, bench: Bench) -> None:
    entry(tmp_path, "layout", "# mine\nimport no_such_code\nMine.windows = 3\n")
    good = tmp_path / "layouts" / "good.gin"
    good.write_text("# good\nimport registry.layouts.windows\nWindows.windows = (3,)\n")
    done = bench("check", "--registry", str(tmp_path))
    assert done.returncode == 1
    assert "mine.gin: loads:" in done.stdout and "no_such_code" in done.stdout
    assert "2 checked, 1 with problems" in done.stdout
    named = bench("check", "good", "--registry", str(tmp_path))
    assert named.returncode == 0
    assert "ok       places          1 local layers of 64, windows 3" in named.stdout
    listed = bench("list", "layouts", "--registry", str(tmp_path))
    assert listed.returncode == 0
    assert "BROKEN: There is no module 'no_such_code'" in listed.stdout and "good" in listed.stdout
    astray = bench("check", "goood", "--registry", str(tmp_path))
    assert astray.returncode == 2 and "Did you mean 'good'" in astray.stderr


def test_entry_without_a_description(tmp_path: Path) -> None:
    assert "description" in problem(entry(tmp_path, "recipe", "import benchmark.recipe\nRecipe.steps = 3\n"))


def test_suite_that_names_what_does_not_exist(tmp_path: Path) -> None:
    text = (
        "# mine\nimport benchmark.suite\nSuite.recipe = 'mini'\nSuite.blocks = ({'models': ['dit_mimi'], "
        "'layouts': ['global'], 'datasets': ['dead_leaves8'], 'subsets': [1], 'seeds': [0]},)\n"
    )
    assert "Did you mean 'dit_mini'" in problem(entry(tmp_path, "suite", text))


def test_what_cannot_be_checked(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="neither a record"):
        check.check([tmp_path / "x.txt"], (registry.STOCK,))
    with pytest.raises(UsageError, match="There is no file"):
        check.check([tmp_path / "x.json"], (registry.STOCK,))
