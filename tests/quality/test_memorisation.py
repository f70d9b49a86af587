"""Nearest neighbours, memorisation and the comparison of samples against loops in float64."""

import io
import json
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmark.cli import main
from benchmark.errors import BenchError
from benchmark.quality.memorisation import contact_sheet, distinct, memorisation
from benchmark.sampling.compare import likeness
from benchmark.sampling.neighbours import nearest
from tests.conftest import ENTRIES, TINY

FLAGS = ["--registry", str(ENTRIES), "--device", "cpu", "--threads", "1"]
RANDOM = np.random.default_rng(7)


def loop(queries: np.ndarray, references: np.ndarray, k: int) -> tuple[list[list[int]], list[list[float]]]:
    """Every distance, one after the other; ties by index."""
    indices, distances = [], []
    for query in queries.reshape(len(queries), -1).tolist():
        every = [
            math.fsum((a - b) ** 2 for a, b in zip(query, row, strict=True)) for row in references.reshape(len(references), -1).tolist()
        ]
        ranked = sorted(range(len(every)), key=lambda i: (every[i], i))[:k]
        indices.append(ranked)
        distances.append([math.sqrt(every[i]) for i in ranked])
    return indices, distances


def images(count: int, levels: int = 256) -> np.ndarray:
    return RANDOM.integers(0, levels, (count, 3, 4, 4), dtype=np.uint8)


def with_twins() -> tuple[np.ndarray, np.ndarray]:
    """Queries among references, which hold one of them twenty times and another twice."""
    references = images(90)
    references[30:50] = references[3]
    references[80] = references[70]
    return np.concatenate([images(10), references[[3, 70, 80, 11]]]), references


def far_and_close() -> tuple[np.ndarray, np.ndarray]:
    """Features that differ in the sixth digit beside a large common part: fp32 distances are noise."""
    base = RANDOM.normal(size=20) * 1e3
    return base + RANDOM.normal(size=(9, 20)) * 1e-3, np.concatenate([base + RANDOM.normal(size=(60, 20)) * 1e-3, -base[None]])


CASES = {
    "images": lambda: (images(13), images(75)),
    "few levels, so ties": lambda: (images(13, 2), images(75, 2)),
    "twins": with_twins,
    "features": lambda: (RANDOM.normal(size=(11, 30)), RANDOM.normal(size=(50, 30))),
    "features far from 0 and close together": far_and_close,
    "single precision": lambda: (RANDOM.normal(size=(5, 6)).astype(np.float32), RANDOM.normal(size=(31, 6)).astype(np.float32)),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("k", "block"), [(1, 7), (2, 4096), (3, 32)])
def test_neighbours_are_those_of_the_loop(case: str, k: int, block: int) -> None:
    queries, references = CASES[case]()
    got = nearest(queries, references, k, block=block)
    indices, distances = loop(queries, references, k)
    assert got.distances == pytest.approx(np.array(distances), rel=1e-9)
    if queries.dtype == np.uint8:  # exact, so that ties are ties
        assert got.indices.tolist() == indices
    else:
        assert (got.indices == indices).mean() > 0.97


def test_neighbours_of_a_mapped_file_are_found_block_by_block(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", images(200))
    mapped, queries, seen = np.load(tmp_path / "images.npy", mmap_mode="r"), images(20), []
    got = nearest(queries, mapped, 2, block=8, progress=lambda done, total: seen.append((done, total)))
    assert got.indices.tolist() == loop(queries, np.asarray(mapped), 2)[0]
    assert seen == [(8, 20), (16, 20), (20, 20)]


def test_neighbours_refuse_what_has_none() -> None:
    with pytest.raises(BenchError, match="2 nearest neighbours were asked for, but there are only 1"):
        nearest(images(3), images(1), 2)
    with pytest.raises(BenchError, match="finite"):
        nearest(np.array([[np.nan, 0]]), np.zeros((3, 2)))
    with pytest.raises(BenchError, match="cannot be compared"):
        nearest(np.zeros((3, 2)), np.zeros((3, 4)))


def test_memorisation_counts_by_hand() -> None:
    """Points on a line, as images of one value."""

    def points(*values: int) -> np.ndarray:
        return np.array(values, dtype=np.uint8).reshape(-1, 1, 1, 1)

    samples = points(11, 20, 50, 87, 100)  # nearest, second: (1, 39) (10, 30) (0, 40) (13, 37) (0, 50)
    got = memorisation(samples, points(10, 50, 100, 240), points(26, 150))
    assert (got.memorised, got.share) == (3, 0.6)  # 10 is a third of 30, and not less
    assert got.nearest_train == pytest.approx(1 / 127.5)
    assert got.nearest_test == pytest.approx(24 / 127.5)  # 15 6 24 61 50
    assert got.ratio_second == pytest.approx(1 / 39)
    assert got.ratio_test == pytest.approx(1 / 15)  # 1/15 10/6 0 13/61 0
    assert (got.samples, got.train_images, got.test_images) == (5, 4, 2)


@pytest.mark.parametrize("count", [16, 300, 1200])
def test_fresh_images_lie_at_the_null(count: int) -> None:
    """The nearest of 16 images is farther than that of 300, of 1200 nearer; over its null the ratio of fresh images is 1."""
    fresh, train, test = (RANDOM.normal(size=(n, 8)) for n in (600, count, 300))
    got = memorisation(fresh, train, test)
    every = [row for _, row in (loop(test[i : i + 1], np.delete(test, i, axis=0), 1) for i in range(300))]
    near = loop(test, train, 1)[1]
    assert got.null_test == pytest.approx(np.median([a / b for (a,), ((b,),) in zip(near, every, strict=True)]))
    assert (got.null_test > 1.2, got.null_test < 0.9) == (count == 16, count == 1200)
    assert got.ratio_over_null == pytest.approx(got.ratio_test / got.null_test) == pytest.approx(1, abs=0.06)
    assert memorisation(train, train, test).ratio_over_null == 0


def test_a_null_needs_two_test_images() -> None:
    got = memorisation(images(4), images(5), images(1))
    assert (got.null_test, got.ratio_over_null) == (None, None)


def test_a_training_set_of_one_has_no_share() -> None:
    got = memorisation(images(4), images(1), images(5))
    assert (got.share, got.ratio_second) == (None, None)
    assert got.ratio_test > 0
    with pytest.raises(BenchError, match="Memorisation needs"):
        memorisation(images(4), images(0), images(5))


def test_features_are_measured_in_their_own_units() -> None:
    samples, train, test = (RANDOM.normal(size=(n, 8)) for n in (20, 30, 10))
    samples[:5] = train[:5] + 1e-3
    got = memorisation(samples, train, test, space="made")
    (_, near), (_, held_out) = loop(samples, train, 2), loop(samples, test, 1)
    assert got.space == "made"
    assert got.memorised == sum(a < b / 3 for a, b in near) >= 5
    assert got.ratio_second == pytest.approx(np.median([a / b for a, b in near]))
    assert got.ratio_test == pytest.approx(np.median([a / c for (a, _), (c,) in zip(near, held_out, strict=True)]))


def test_distinct_keeps_the_first_of_equal_images() -> None:
    _, references = with_twins()
    assert distinct(references).tolist() == [i for i in range(90) if not 30 <= i < 50 and i != 80]


def test_contact_sheet_shows_the_nearest_pairs_in_order() -> None:
    train = images(40)
    samples = images(30)
    samples[17], samples[4] = train[9], train[2] ^ 1
    picture = np.asarray(Image.open(io.BytesIO(contact_sheet(samples, train, 10))))
    assert picture.shape == (2 * 66 + 2, 10 * 66 + 2, 3)
    cell = [
        [picture[2 + 66 * row : 66 + 66 * row : 16, 2 + 66 * column : 66 + 66 * column : 16].transpose(2, 0, 1) for column in range(2)]
        for row in range(2)
    ]
    assert np.array_equal(cell[0][0], samples[17])
    assert np.array_equal(cell[1][0], train[9])
    assert np.array_equal(cell[0][1], samples[4])
    assert np.array_equal(cell[1][1], train[2])


def test_likeness_is_the_formulas_written_out() -> None:
    left, right = images(6), images(6)
    got, errors, cosines = likeness(left, right), [], []
    for a, b in zip(left.reshape(6, -1).tolist(), right.reshape(6, -1).tolist(), strict=True):
        a, b = [v / 127.5 - 1 for v in a], [v / 127.5 - 1 for v in b]
        errors.append(sum((p - q) ** 2 for p, q in zip(a, b, strict=True)))
        dot, norms = sum(p * q for p, q in zip(a, b, strict=True)), [math.sqrt(sum(v * v for v in side)) for side in (a, b)]
        cosines.append(dot / norms[0] / norms[1])
    assert got.distance == pytest.approx(math.sqrt(sum(errors) / 6))
    assert got.psnr == pytest.approx(10 * (math.log10(4) - math.log10(sum(errors) / 6 / 48)))
    assert got.cosine == pytest.approx(sum(cosines) / 6)
    same = likeness(left, left)
    assert (same.psnr, same.distance) == (None, 0.0)
    assert same.cosine == pytest.approx(1)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Two runs on different images, and one on those of the first."""
    home = tmp_path_factory.mktemp("compared")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BENCH_HOME", str(home))
        ids: dict[str, str] = {}
        for name, words in {
            "a": ["--seed", "0"],
            "b": ["--seed", "1"],
            "same images": ["--set", "recipe.steps=20"],
            "other dataset": ["--set", "dataset.count=331"],
        }.items():
            assert main(["run", *TINY, "--no-track", *words]) == 0
            ids[name] = next(path.name for path in (home / "runs").iterdir() if path.name not in ids.values())
        yield ids


def test_compare_says_how_alike_two_runs_are(runs: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["compare", runs["a"], runs["b"], "--count", "6", "--sampling-steps", "5", "--json", *FLAGS]) == 0
    got = json.loads(capsys.readouterr().out)
    assert got["shared_images"] == 0
    assert got["train_images"] == [6, 6]
    assert main(["compare", runs["a"], runs["b"], "--count", "6", "--sampling-steps", "5", *FLAGS]) == 0
    table = capsys.readouterr().out
    assert f"{got['between']['distance']:.4f}" in table
    assert "0 of them shared" in table


def test_compare_equals_the_likeness_of_the_samples(runs: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    arrays = []
    for name in ("a", "same images"):
        capsys.readouterr()
        assert main(["sample", runs[name], "--count", "6", "--sampler", "ddim", "--sampling-steps", "4", "--json", *FLAGS]) == 0
        arrays.append(np.load(json.loads(capsys.readouterr().out)["images"]))
    words = ["compare", runs["a"], runs["same images"], "--count", "6", "--sampler", "ddim", "--sampling-steps", "4", "--json", *FLAGS]
    assert main([*words, "--overlap"]) == 0
    got = json.loads(capsys.readouterr().out)
    assert got["shared_images"] == 6
    assert got["between"] == vars(likeness(*arrays))


@pytest.mark.parametrize(
    ("pair", "words", "message"),
    [
        (("a", "same images"), [], "share 6 of their 6 and 6 training images"),
        (("a", "a"), [], "is one run, named twice"),
        (("a", "other dataset"), [], "trained on different images"),
        (("a", "b"), ["--sampler", "ancestral"], "compared with dpm or ddim"),
    ],
)
def test_compare_refuses_what_would_mean_nothing(
    runs: dict[str, str], capsys: pytest.CaptureFixture[str], pair: tuple[str, str], words: list[str], message: str
) -> None:
    assert main(["compare", runs[pair[0]], runs[pair[1]], "--count", "2", *words, *FLAGS]) == 2
    assert message in capsys.readouterr().err
