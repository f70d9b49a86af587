"""`bench data preview`: a picture of a subset."""

import argparse
from pathlib import Path
from typing import Any

from benchmark.commands.flags import command, half_flag, json_flag, registry_flag
from benchmark.commands.output import near, print_json, say
from benchmark.commands.place import home
from benchmark.commands.words import typed
from benchmark.declaring import registry
from benchmark.errors import UsageError


def add(actions: Any) -> None:
    """Add `bench data preview`."""
    parser = command(
        actions,
        "preview",
        data_preview,
        "draw the images of a subset, and the test images, as one picture",
        "bench data preview dead_leaves8",
        "bench data preview natural32 --subset 1000 --seed 1 --test",
        "bench data preview natural32 --subset 32 --half b --out b.png",
    )
    parser.add_argument("name", metavar="NAME", help="a name from `bench list datasets`")
    parser.add_argument("--subset", type=int, metavar="N", help="training images of the subset (default: as many as are shown)")
    parser.add_argument("--seed", type=int, metavar="K", default=0, help="of the shuffle (default: 0)")
    half_flag(parser)
    parser.add_argument("--test", action="store_true", help="draw the test images too")
    parser.add_argument("--count", type=int, metavar="M", default=64, help="images to show of each (default: 64)")
    parser.add_argument("--out", type=Path, metavar="FILE.png", help="(default: build/previews/, named after the subset)")
    registry_flag(parser)
    json_flag(parser)


def data_preview(options: argparse.Namespace) -> int:
    """`bench data preview`."""
    from benchmark.declaring import entries
    from benchmark.files import write_bytes
    from benchmark.images import datasets
    from benchmark.images.preview import preview
    from benchmark.running.progress import Display

    if options.out and options.out.suffix.lower() != ".png":
        raise UsageError(f"--out {options.out} must be the name of a .png file.")
    if options.seed < 0:
        raise UsageError(f"--seed {options.seed} must be at least 0.")
    entry = entries.load(registry.find("dataset", options.name, registry.roots(options.registry)))
    with Display(words=typed) as display:
        packed = datasets.load(entry.name, entry.config, home=home(), progress=display.bar(f"packing {entry.name}"))
    made = preview(packed, entry.name, size=options.subset, seed=options.seed, half=options.half, test=options.test, shown=options.count)
    out = (options.out or home() / "build" / "previews" / f"{made.stem}.png").resolve()
    write_bytes(out, made.png)
    if options.json:
        print_json(made.to_json() | {"picture": str(out)})
        return 0
    taken = made.taken
    dropped = f"{taken.dropped_duplicates} exact copies left out" if taken.dropped_duplicates else "no exact copies to leave out"
    say(f"{made.stem}: training images sha256 {taken.digest[:12]}, test images sha256 {taken.test_digest[:12]}, {dropped}.")
    say(f"The picture: {near(out)}")
    return 0
