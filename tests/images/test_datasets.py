"""The datasets: dead leaves against an independent painter, folders of images in every mode, the resize by a loop."""

import hashlib
import io
import math
import os
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmark.contract import Dataset, ImageError, Source
from benchmark.declaring import entries, registry
from registry.datasets import dead_leaves
from registry.datasets.dead_leaves import (
    DeadLeaves,
    near_normal,
    power_law_radius,
    sine_turns,
)
from registry.datasets.decode import decode
from registry.datasets.image_folder import ImageFolder
from registry.datasets.resize import shrink, to_array

GOLDEN = {  # sha256 of the first 64 images, by (resolution, leaves, seed)
    (8, 24, 0): "7437011d86df39b32aa40e59e66c37228dcbe68d2c875f986b4aa4b9a053b95a",
    (32, 24, 0): "aff85317ff669c57deeadcacdcfdc9f11c38b411803d03843468f89deaec6691",
    (7, 5, 3): "7ac82a216831bcf78075ae81ccee14a10885325b70d8dbc8f8329772c4e5f62f",
}


def sha256_of(resolution: int, leaves: int, seed: int) -> str:
    """Digest the first 64 images."""
    source = DeadLeaves(resolution=resolution, count=64, leaves=leaves, seed=seed).open()
    return hashlib.sha256(b"".join(source.read(i).tobytes() for i in source.ids)).hexdigest()


@pytest.mark.parametrize("which", GOLDEN)
def test_dead_leaves_have_the_same_bytes_everywhere(which: tuple[int, int, int]) -> None:
    assert sha256_of(*which) == GOLDEN[which]


def test_dead_leaves_do_not_depend_on_the_processors_vector_instructions() -> None:
    features = " ".join(np._core._multiarray_umath.__cpu_dispatch__)
    code = (
        "from tests.images.test_datasets import np, sha256_of\n"
        "print(np._core._multiarray_umath.__cpu_features__)\nprint(sha256_of(8, 24, 0))"
    )
    plain = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"NPY_DISABLE_CPU_FEATURES": features},
        cwd=Path(__file__).parents[2],
    )
    enabled, digest = plain.stdout.splitlines()
    assert not any(eval(enabled)[feature] for feature in features.split())
    assert digest == GOLDEN[8, 24, 0]


def philox_words(seed: int, index: int, count: int) -> list[int]:
    """Philox4x64-10 (Salmon et al. 2011) with key (seed, index) and counters 1, 2, ..., in Python integers."""
    mask, words = 2**64 - 1, []
    for counter in range(1, count // 4 + 2):
        c, k = [counter, 0, 0, 0], [seed, index]
        for _ in range(10):
            left, right = 0xD2E7470EE14C6C93 * c[0], 0xCA5A826395121157 * c[2]
            c = [(right >> 64) ^ c[1] ^ k[0], right & mask, (left >> 64) ^ c[3] ^ k[1], left & mask]
            k = [(k[0] + 0x9E3779B97F4A7C15) & mask, (k[1] + 0xBB67AE8584CAA73B) & mask]
        words += c
    return words[:count]


def painted_by_a_loop(seed: int, index: int, resolution: int, leaves: int) -> np.ndarray:
    """Paint one image pixel by pixel with the mathematics library: no table, no footprint, no polynomial."""
    words = philox_words(seed, index, (leaves + 1) * 47)
    side = 4 * resolution
    canvas = np.zeros((side, side, 3))
    for leaf in range(leaves + 1):
        raw = words[leaf * 47 : (leaf + 1) * 47]
        u = [word / 2**64 for word in raw]
        n = [sum(u[11 + 12 * k : 23 + 12 * k]) - 6 for k in range(3)]
        a, b = 0.08**-1.5, 0.7**-1.5
        r = (a - u[2] * (a - b)) ** (-2 / 3) if leaf else 0.7
        angle, wave_angle, cycles = 2 * math.pi * u[4], 2 * math.pi * u[8], 1 + 7 * u[7]
        for row in range(side):
            for column in range(side):
                dx, dy = (column + 0.5) / side - u[0], (row + 0.5) / side - u[1]
                across = math.cos(angle) * dx + math.sin(angle) * dy
                along = -math.sin(angle) * dx + math.cos(angle) * dy
                disc = raw[3] % 2 == 0
                within = math.hypot(dx, dy) <= r if disc else abs(across) <= r and abs(along) <= r * (0.3 + 0.7 * u[3])
                if leaf == 0 or within:
                    ramp = 0.12 * math.sqrt(3) / r * ((2 * u[5] - 1) * dx + (2 * u[6] - 1) * dy)
                    turns = cycles * (math.cos(wave_angle) * dx + math.sin(wave_angle) * dy) + u[9]
                    light = 0.45 * n[0] + ramp + 0.15 * u[10] * math.sin(2 * math.pi * turns)
                    warm, green = 0.18 * n[1], 0.10 * n[2]
                    canvas[row, column] = light + warm - green / 2, light + green, light - warm - green / 2
    fine = (np.clip(canvas, -1, 1) + 1) * 127.5
    return fine.reshape(resolution, 4, resolution, 4, 3).mean(axis=(1, 3)).transpose(2, 0, 1)


@pytest.mark.parametrize("seed, index, resolution, leaves", [(0, 0, 8, 24), (0, 1, 8, 24), (2**40, 77, 5, 9), (1, 3, 1, 1)])
def test_dead_leaves_match_a_loop_over_pixels(seed: int, index: int, resolution: int, leaves: int) -> None:
    source = DeadLeaves(resolution=resolution, count=100, leaves=leaves, seed=seed).open()
    image = source.read(str(index))
    assert image.shape == (3, resolution, resolution) and image.dtype == np.uint8
    assert np.abs(image - painted_by_a_loop(seed, index, resolution, leaves)).max() < 0.51  # rounding, twice


def test_dead_leaves_of_a_lower_resolution_are_the_reduced_image() -> None:
    fine, coarse = (DeadLeaves(resolution=r, count=8).open() for r in (32, 8))
    for i in fine.ids:
        reduced = fine.read(i).reshape(3, 8, 4, 8, 4).mean(axis=(2, 4))
        assert np.abs(reduced - coarse.read(i)).mean() < 3  # only the edges of the leaves differ


def test_a_dead_leaves_image_depends_on_seed_and_index_alone() -> None:
    few, many, other = (DeadLeaves(resolution=8, count=c, seed=s).open() for c, s in ((3, 0), (9, 0), (3, 1)))
    assert np.array_equal(few.read("2"), many.read("2"))
    assert not np.array_equal(few.read("2"), other.read("2")) and not np.array_equal(few.read("1"), few.read("2"))
    assert few.fingerprint != other.fingerprint != many.fingerprint
    for wrong in ("3", "-1", "1.0", "", "\u0663"):
        with pytest.raises(ImageError, match="end at 2"):
            few.read(wrong)
    with pytest.raises(ImageError, match="generated"):
        DeadLeaves(resolution=8, count=3).open(Path())


def test_the_draws_have_their_distributions() -> None:
    u = (np.arange(100_000) + 0.5) / 100_000
    radius = power_law_radius(u)
    low, high = 0.08**-1.5, 0.7**-1.5
    np.testing.assert_allclose(radius, (low - u * (low - high)) ** (-2 / 3), rtol=1e-14)
    assert np.all(np.diff(radius) > 0)
    np.testing.assert_allclose(power_law_radius(np.array([0.0, 1.0])), [0.08, 0.7], rtol=1e-14)
    turns = np.linspace(-3, 3, 100_001)
    assert np.abs(sine_turns(turns) - np.sin(2 * np.pi * turns)).max() < 1e-11
    normal = near_normal(np.random.Philox(key=5).random_raw(12 * 50_000).reshape(12, 50_000))
    assert abs(normal.mean()) < 0.02 and abs(normal.std() - 1) < 0.02
    assert 0.94 < np.mean(np.abs(normal) < 1.96) < 0.96
    words = np.array([[2**64 - 1] * 12, [0] * 12], dtype=np.uint64).T
    np.testing.assert_allclose(near_normal(words), [6 - 6 / 2**24, -6 + 6 / 2**24], rtol=1e-12)


def test_the_colours_of_the_leaves_have_the_stated_spread() -> None:
    colours = np.concatenate([dead_leaves.draw_leaves(0, i, 24).colour for i in range(1000)], axis=1)  # (3, 25000)
    red, green, blue = colours
    assert (red - blue).std() / 2 == pytest.approx(0.18, rel=0.03)
    assert (green - (red + blue) / 2).std() / 1.5 == pytest.approx(0.10, rel=0.03)
    assert ((red + green + blue) / 3).std() == pytest.approx(0.45, rel=0.03)


@pytest.mark.parametrize("name", registry.entries("dataset"))
def test_every_dataset_entry_loads(name: str) -> None:
    file = registry.find("dataset", name)
    made = entries.load(file).config
    assert isinstance(made, Dataset) and file.description and made.preprocessing
    if made.embedded:
        source, whole = made.open(None), made.of.config if hasattr(made, "of") else made
        assert isinstance(source, Source) and len(source.ids) == len(set(source.ids))
        assert getattr(whole, "count", len(source.ids)) == len(source.ids)


# --- folders of images


def save(path: Path, image: Image.Image, **options: object) -> None:
    """Save an image, making its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)


def stored(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    """Return an image file's bytes."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Return random uint8 pixels (height, width, 3)."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_a_folder_is_walked_in_a_stable_order(tmp_path: Path) -> None:
    root, elsewhere = tmp_path / "root", tmp_path / "elsewhere"
    picture = Image.fromarray(noise(8, 8))
    for name in ("b/2.PNG", "b/10.jpg", "a.webp", "B/x.tif", "b.d/1.gif", ".hidden/1.png", "b/.2.png", "b/deep/er/1.bmp"):
        save(root / name, picture)
    (root / "notes.txt").write_text("no image")
    (root / "folder.png").mkdir()
    save(elsewhere / "1.png", picture)
    (root / "link").symlink_to(elsewhere)
    (root / "link.png").symlink_to(elsewhere / "1.png")
    (root / "loop").symlink_to(root)
    source = ImageFolder(resolution=8).open(root)
    assert source.ids == ("B/x.tif", "a.webp", "b.d/1.gif", "b/10.jpg", "b/2.PNG", "b/deep/er/1.bmp", "link.png")
    (tmp_path / "other").symlink_to(root)  # the root itself may be a link
    again = ImageFolder(resolution=8).open(tmp_path / "other")
    assert again.ids == source.ids and again.fingerprint == source.fingerprint
    save(root / "a.webp", Image.fromarray(noise(30, 30)))
    assert ImageFolder(resolution=8).open(root).fingerprint != source.fingerprint


def test_a_folder_without_images_says_what_was_looked_for(tmp_path: Path) -> None:
    dataset = ImageFolder(resolution=8)
    (tmp_path / "notes.txt").write_text("no image")
    for root, said in (
        (tmp_path / "none", "does not exist"),
        (tmp_path / "notes.txt", "is not a folder"),
        (tmp_path, r"no image: looked .*\.jpeg, \.jpg.*1 left out: no image by its suffix \(.txt\) \(notes.txt\)"),
        (None, "folder of images is needed"),
    ):
        with pytest.raises(ImageError, match=said):
            dataset.open(root)
    (tmp_path / "link.png").symlink_to(tmp_path / "nowhere.png")
    with pytest.raises(ImageError, match=r"1 left out: a link that leads nowhere \(link.png\)"):
        dataset.open(tmp_path)


def test_a_file_name_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    try:
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.png")).write_bytes(b"")
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    with pytest.raises(ImageError, match="not valid UTF-8"):
        ImageFolder(resolution=8).open(tmp_path)


def test_a_small_image_keeps_its_pixels_and_an_odd_one_its_orientation(tmp_path: Path) -> None:
    pixels = noise(8, 8)
    save(tmp_path / "plain.png", Image.fromarray(pixels))
    exif = Image.Exif()
    exif[0x0112] = 6  # shown by turning it clockwise by 90 degrees
    save(tmp_path / "turned.png", Image.fromarray(np.rot90(pixels)), exif=exif)
    source = ImageFolder(resolution=8).open(tmp_path)
    assert np.array_equal(source.read("plain.png"), pixels.transpose(2, 0, 1))
    assert np.array_equal(source.read("turned.png"), pixels.transpose(2, 0, 1))
    grey = ImageFolder(resolution=8, channels=1).open(tmp_path).read("plain.png")
    luma = pixels @ [0.299, 0.587, 0.114]
    assert grey.shape == (1, 8, 8) and np.abs(grey[0] - luma).max() < 1


def grey_png(values: np.ndarray) -> bytes:
    """Write a 16-bit grey PNG byte by byte, independent of Pillow's writer."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")

    height, width = values.shape
    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([16, 0, 0, 0, 0])
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_every_mode_becomes_rgb() -> None:
    def first(content: bytes, channels: int = 3) -> tuple[int, ...]:
        image = decode(content, channels)
        assert image.mode == ("RGB" if channels == 3 else "L")
        return tuple(to_array(image)[:, 0, 0].tolist())

    def new(mode: str, colour: object) -> Image.Image:
        return Image.new(mode, (4, 4), colour)

    assert first(stored(new("RGB", (10, 20, 30)))) == (10, 20, 30)
    assert first(stored(new("L", 77))) == (77, 77, 77)
    assert first(stored(new("1", 1))) == (255, 255, 255)
    assert first(stored(new("RGBA", (10, 20, 30, 0)))) == (255, 255, 255)  # transparent shows white
    assert first(stored(new("RGBA", (0, 0, 0, 51)))) == (204, 204, 204)
    assert first(stored(new("LA", (0, 255)))) == (0, 0, 0)
    palette = new("P", 0)
    palette.putpalette([10, 20, 30] + [0] * 765)
    assert first(stored(palette)) == (10, 20, 30)
    assert first(stored(palette, transparency=0)) == (255, 255, 255)
    assert first(stored(new("RGB", (1, 2, 3)), transparency=(1, 2, 3))) == (255, 255, 255)
    assert first(stored(new("CMYK", (255, 0, 0, 0)), "TIFF")) == (0, 255, 255)
    cyan = first(stored(new("CMYK", (255, 0, 0, 0)), "JPEG", quality=100))
    assert np.abs(np.subtract(cyan, (0, 255, 255))).max() < 4
    for value, byte in ((0, 0), (128, 0), (129, 1), (257, 1), (32768, 128), (65535, 255)):
        assert first(grey_png(np.full((4, 4), value))) == (byte,) * 3
        assert first(stored(Image.fromarray(np.full((4, 4), value, dtype=np.uint16)), "TIFF"), 1) == (byte,)
    with pytest.raises(ImageError, match="16 bits"):
        decode(stored(Image.fromarray(np.full((4, 4), 70_000, dtype=np.int32)), "TIFF"), 3)
    with pytest.raises(ImageError, match="floating-point"):
        decode(stored(Image.fromarray(np.ones((4, 4), dtype=np.float32)), "TIFF"), 3)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP", "PPM"])
def test_a_damaged_file_is_named(tmp_path: Path, kind: str) -> None:
    content = stored(Image.fromarray(noise(40, 40)), kind)
    name = f"a/x.{kind.lower()}"
    (tmp_path / "a").mkdir()
    (tmp_path / name).write_bytes(content)
    source = ImageFolder(resolution=8).open(tmp_path)
    assert source.read(name).shape == (3, 8, 8)
    for damaged in (b"", b"plain text", content[:20], content[: len(content) // 2], bytes(len(content))):
        (tmp_path / name).write_bytes(damaged)
        with pytest.raises(ImageError) as problem:
            source.read(name)
        assert str(problem.value).startswith(f"{name}: ") and str(tmp_path) not in str(problem.value)
    (tmp_path / name).unlink()
    with pytest.raises(ImageError, match=f"{name}: No such file"):
        source.read(name)


def test_a_picture_too_large_to_be_true_is_refused() -> None:
    honest = grey_png(np.zeros((1, 1)))
    body = b"IHDR" + (30_000).to_bytes(4, "big") * 2 + honest[24:29]
    bomb = honest[:12] + body + zlib.crc32(body).to_bytes(4, "big") + honest[33:]
    with pytest.raises(ImageError, match="30,000x30,000 pixels are more than the 500,000,000 that are read .* a decompression bomb"):
        decode(bomb, 3)


# --- the resize


def halved(pixels: np.ndarray) -> np.ndarray:
    """Return the mean over 2x2 boxes, sides even."""
    return (pixels[0::2, 0::2] + pixels[1::2, 0::2] + pixels[0::2, 1::2] + pixels[1::2, 1::2]) / 4


def bicubic(pixels: np.ndarray, size: int) -> np.ndarray:
    """Resize axis 0 with Keys' kernel (a = -1/2), widened by the scale where the image shrinks; float64, by loops."""
    scale = len(pixels) / size
    support, out = max(scale, 1.0), []
    for i in range(size):
        centre, total, weights = (i + 0.5) * scale, 0.0, 0.0
        for j in range(len(pixels)):
            x = abs((j + 0.5 - centre) / support)
            inner, outer = 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
            weight = inner if x < 1 else outer if x < 2 else 0.0
            total, weights = total + weight * pixels[j], weights + weight
        out.append(total / weights)
    return np.clip(np.stack(out), 0, 255)


@pytest.mark.parametrize("height, width", [(64, 64), (80, 48), (20, 20), (26, 31), (100, 64), (16, 40), (9, 5)])
def test_shrink_matches_boxes_and_bicubic_by_loops(height: int, width: int) -> None:
    pixels = noise(height, width)
    expected = pixels.astype(np.float64)
    while min(expected.shape[:2]) >= 32:
        expected = halved(expected)
    shorter = min(expected.shape[:2])
    rows, columns = (max(16, round(side * 16 / shorter)) for side in expected.shape[:2])
    expected = bicubic(bicubic(expected.transpose(1, 0, 2), columns).transpose(1, 0, 2), rows)
    top, left = (rows - 16) // 2, (columns - 16) // 2
    expected = expected[top : top + 16, left : left + 16]
    image = shrink(Image.fromarray(pixels), 16)
    assert image.size == (16, 16)
    assert np.abs(np.asarray(image) - expected).max() < 2.5  # Pillow rounds to bytes after every pass


def test_shrink_takes_the_centre() -> None:
    pixels = np.zeros((8, 24, 3), dtype=np.uint8)
    pixels[:, 8:16] = 200
    assert np.all(np.asarray(shrink(Image.fromarray(pixels), 8)) == 200)
    assert np.all(np.asarray(shrink(Image.fromarray(pixels.transpose(1, 0, 2)), 8)) == 200)
    for size in ((1, 1), (1, 50), (33, 17), (4096, 3)):
        assert shrink(Image.new("RGB", size, (9, 8, 7)), 8).getpixel((7, 7)) == (9, 8, 7)


def test_a_core_without_pillow_lists_and_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "PIL.py").write_text("raise ImportError('none')\n")
    code = (
        "from pathlib import Path; from benchmark.declaring import entries, registry\n"
        "from benchmark.contract import ImageError\n"
        "made = entries.load(registry.find('dataset', 'natural32')).config\n"
        "try: made.open(Path('.'))\nexcept ImageError as problem: print(problem)"
    )
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2])])
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path, env=os.environ | {"PYTHONPATH": path}
    )
    assert f"pip install -e '{Path(__file__).parents[2]}[data]'" in done.stdout
