"""Small real files of every official layout, made of six committed images (tests/images/) or of given bytes."""

import hashlib
import io
import zipfile
from collections.abc import Sequence
from pathlib import Path

import lmdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

IMAGES = Path(__file__).parent / "images"
JPEGS = [(IMAGES / f"{i}.jpg").read_bytes() for i in range(3)]  # 178x218, the size of CelebA
WEBPS = [(IMAGES / f"{i}.webp").read_bytes() for i in range(3, 6)]  # the shorter side 256, as in LSUN


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Return random uint8 pixels (height, width, 3), the same with every version of numpy."""
    words = np.random.Philox(key=np.array([seed, 0], dtype=np.uint64)).random_raw(-(-height * width * 3 // 8))
    return words.astype("<u8").view(np.uint8)[: height * width * 3].reshape(height, width, 3)


def stored(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    """Return an image file's bytes."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def celeba(root: Path, images: Sequence[bytes], partitions: str = "", *, zipped: bool = False) -> Path:
    """Write CelebA as it is distributed; `partitions` is a digit an image, all 0 by default."""
    root.mkdir(parents=True, exist_ok=True)
    named = {f"{number:06d}.jpg": content for number, content in enumerate(images, 1)}
    lines = (f"{name} {part}\n" for name, part in zip(named, partitions or "0" * len(images), strict=True))
    (root / "list_eval_partition.txt").write_text("".join(lines))
    if zipped:
        with zipfile.ZipFile(root / "img_align_celeba.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.mkdir("img_align_celeba")
            for name, content in reversed(named.items()):
                archive.writestr(f"img_align_celeba/{name}", content)
        return root
    (root / "img_align_celeba").mkdir(exist_ok=True)
    for name, content in named.items():
        (root / "img_align_celeba" / name).write_bytes(content)
    return root


def lsun_key(number: int) -> str:
    """Return a key of LSUN's scheme: the sha1 of something, in hex."""
    return hashlib.sha1(f"image {number}".encode()).hexdigest()


def lsun(root: Path, images: Sequence[bytes], scene: str = "church_outdoor") -> Path:
    """Write an LSUN scene as it is distributed: one LMDB from sha1 keys to WebP files."""
    folder = root / f"{scene}_train_lmdb"
    folder.mkdir(parents=True)
    with lmdb.open(str(folder), map_size=1 << 30) as environment, environment.begin(write=True) as transaction:
        for number, content in enumerate(images):
            transaction.put(lsun_key(number).encode(), content)
    return root


def imagenet(root: Path, images: Sequence[bytes]) -> Path:
    """Write a tree of ILSVRC2012 classes below train/, the images dealt out to three of them."""
    for number, content in enumerate(images):
        name = ("n01440764", "n01443537", "n02085620")[number % 3]
        path = root / "train" / name / f"{name}_{10026 + number}.JPEG"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root


def batches(root: Path, rows: int, side: int = 32, *, compressed: bool = False) -> np.ndarray:
    """Write the ten .npz batches of the downsampled ImageNet and return their images, uint8 (10 * rows, 3, R, R)."""
    root.mkdir(parents=True, exist_ok=True)
    images = noise(10 * rows * side, side).reshape(10 * rows, 3, side, side)
    save = np.savez_compressed if compressed else np.savez
    for number, part in enumerate(images.reshape(10, rows, -1), 1):
        save(root / f"train_data_batch_{number}.npz", data=part, labels=1 + np.arange(rows) % 1000, mean=part.mean(axis=0))
    return images


def parquet(root: Path, images: Sequence[bytes | None], shards: int = 2, *, group: int = 2, column: str = "image") -> Path:
    """Write the shards of a data set as the Hugging Face hub lays them out: structs of bytes and path, and labels."""
    (root / "data").mkdir(parents=True)
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    per = -(-len(images) // shards)
    for shard in range(shards):
        part = images[shard * per : (shard + 1) * per]
        rows = [{"bytes": content, "path": f"{number}.jpg"} for number, content in enumerate(part)]
        table = pa.table({column: pa.array(rows, kind), "label": pa.array([row % 10 for row in range(len(part))], pa.int64())})
        pq.write_table(table, root / "data" / f"train-{shard:05d}-of-{shards:05d}.parquet", row_group_size=group)
    return root


def everything(home: Path) -> dict[str, bytes]:
    """Return every file of the packed and pinned images of a home with its content, the locks left out."""
    files = (path for folder in ("packed", "data") for path in (home / folder).rglob("*") if path.is_file())
    return {str(path.relative_to(home)): path.read_bytes() for path in files if ".locks" not in path.parts}
