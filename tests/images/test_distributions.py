"""Where the images are published: facts for every dataset, and at the end of every message that images are not here."""

import json
from pathlib import Path

import pytest

from benchmark.cli import main
from benchmark.declaring import entries, registry
from benchmark.errors import BenchError, UsageError
from benchmark.images import datasets, distributions
from registry.datasets.lsun import Lsun
from tests.images.test_cifar10 import binary

STOCK = registry.entries("dataset")


@pytest.mark.parametrize("name", STOCK)
def test_every_dataset_says_where_its_images_are_or_that_they_are_generated(name: str) -> None:
    config = entries.load(STOCK[name]).config
    found, said = distributions.where(name, config), distributions.facts(name, config)
    if found is None:
        assert config.embedded and said["official"] == "none: its images are generated"
        return
    assert bool(found.take) is not config.embedded and said["official"] == found.official
    own = found.official.startswith("your own")
    assert own or (found.images and found.size and found.terms and found.pages)
    assert all(page.startswith("https://") for page in (*found.pages, *found.mirrors, *filter(None, [found.paper])))
    if (count := getattr(config, "official_count", None)) and found.images:
        assert count <= found.images


def test_the_facts_are_of_what_an_entry_says_not_of_its_name() -> None:
    tower = distributions.where("my_own_name", Lsun(resolution=64, scene="tower"))
    assert tower and "scene tower" in tower.official and tower.images == 708_264
    natural = distributions.where("natural8", entries.load(STOCK["natural8"]).config)
    mine = distributions.where("my_photos", entries.load(STOCK["natural8"]).config)
    assert natural and mine and "JPEG" in natural.official and mine.official == "your own images"


def test_every_message_that_images_are_not_here_ends_with_what_is_known(home: Path) -> None:
    church = entries.load(STOCK["lsun_church"]).config
    told = "LSUN, scene church_outdoor, training set (Yu et al. 2015): 126,227 images, 2.3 GiB. Terms: no licence.*"
    told += r"https://www.yf.io/p/lsun.*Put under PATH church_outdoor_train_lmdb.zip as it is downloaded"
    with pytest.raises(UsageError, match=told.replace("(Yu et al. 2015)", r"\(Yu et al. 2015\)")):
        datasets.load("lsun_church", church, home=home)
    with pytest.raises(UsageError, match=r"Put under PATH church_outdoor_train_lmdb.zip"):
        datasets.add("lsun_church", church, home=home, root=None)
    pointer = r"`benchmark.images.distributions.where\('lsun_church'\)` says where they are published"
    with pytest.raises(BenchError, match=pointer):
        datasets.add("lsun_church", church, home=home, root=home)
    with pytest.raises(UsageError, match=pointer):
        datasets.facts("lsun_church", home)
    assert "where('lsun_church')" in datasets.verify("lsun_church", home=home)[0]


def test_the_command_prints_it_and_what_it_says_next_works(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "where", "cifar10_8"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "next: bench data add cifar10_8 --root PATH" in printed and "md5 c32a1d4ab5d03f1284b67883e8d87530" in printed
    assert main(["data", "where", "cifar10_8", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["images"] == 60_000 and said["pages"] == ["https://www.cs.toronto.edu/~kriz/cifar.html"]
    root = binary(home / "root", 6 * 80)
    assert main(said["next"].replace("PATH", str(root)).split()[1:]) == 0
    assert "packed 400 images" in capsys.readouterr().out
    assert main([*said["then"].split()[1:], "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["data"] == "packed and pinned"
    assert main(["data", "where", "--json"]) == 0
    assert [one["name"] for one in json.loads(capsys.readouterr().out)[: len(STOCK)]] == list(STOCK)


def test_a_registry_of_ones_own_brings_its_own_facts(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["new", "dataset", "my_photos", "--folder", "--registry", str(home)]) == 0
    facts = home / "datasets" / "distributions.toml"
    facts.write_text('[mine]\nkind = "image_folder"\nentries = ["my_photos"]\nofficial = "Photographs of the lab"\ntake = "all"\n')
    capsys.readouterr()
    assert main(["data", "where", "my_photos", "--registry", str(home), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["official"] == "Photographs of the lab" and said["next"] == f"bench data add my_photos --root PATH --registry {home}"
    facts.write_text('[mine]\nkind = "image_folder"\nofficial = 3\ntake = "all"\n')
    distributions._read.cache_clear()
    assert main(["data", "where", "my_photos", "--registry", str(home)]) == 1
    assert "distributions.toml cannot be used" in capsys.readouterr().err
