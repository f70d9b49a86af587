"""`bench data`: the images of the datasets."""

import argparse
from pathlib import Path
from typing import Any

from benchmark.commands import data_about, preview
from benchmark.commands.flags import command, json_flag, registry_flag
from benchmark.commands.output import print_json, say
from benchmark.commands.place import home
from benchmark.commands.words import typed
from benchmark.declaring import registry
from benchmark.errors import UsageError


def add(verbs: Any) -> None:
    """Add `bench data` and its actions."""
    group = verbs.add_parser("data", help="add, list, show, preview and verify the images", description="The images of the datasets.")
    actions = group.add_subparsers(metavar="ACTION", required=True)
    _add_add(actions)
    _add_pack(actions)
    data_about.add(actions)
    preview.add(actions)
    _add_verify(actions)


def _add_add(actions: Any) -> None:
    parser = command(
        actions,
        "add",
        data_add,
        "pack the images of a dataset, once",
        "bench data add my_photos --root ~/pictures --registry .",
        "bench data add lsun_church --root /data/lsun",
        "bench data add imagenet --root /data/ILSVRC2012 --limit 100300",
    )
    parser.add_argument("name", metavar="NAME", help="a name from `bench list datasets`")
    parser.add_argument("--root", type=Path, metavar="PATH", help="the folder that holds the images")
    parser.add_argument("--skip-corrupt", action="store_true", help="leave out files that cannot be read, and record their names")
    parser.add_argument(
        "--accept", action="store_true", help="go on where more than 1%% of what lies there would be left out, for reasons that are said"
    )
    parser.add_argument("--limit", type=int, metavar="N", help="pack only N of the images, chosen by the sha256 of their ids")
    parser.add_argument("--resolution", type=int, metavar="R", help="pixels a side that are expected; the entry fixes them")
    parser.add_argument(
        "--force", action="store_true", help="pin other images under the name of one of the project's own datasets, in place of its own"
    )
    parser.add_argument(
        "--no-dvc", action="store_true", help="do not version the images with DVC (default: where the home is a DVC repository)"
    )
    registry_flag(parser)
    json_flag(parser)


def _add_pack(actions: Any) -> None:
    parser = command(
        actions,
        "pack",
        data_pack,
        "generate an embedded dataset as it is pinned, or check every byte of any",
        "bench data pack dead_leaves8",
    )
    parser.add_argument("name", metavar="NAME", help="a name from `bench list datasets`")
    registry_flag(parser)


def _add_verify(actions: Any) -> None:
    parser = command(
        actions,
        "verify",
        data_verify,
        "compare packed images with their manifest, byte by byte",
        "bench data verify",
        "bench data verify natural32",
        "bench data verify my_photos --root ~/pictures --registry .",
    )
    parser.add_argument("name", nargs="*", metavar="NAME", help="(default: every packed dataset)")
    parser.add_argument("--root", type=Path, metavar="PATH", help="read every image of this folder again too, and compare its pixels")
    registry_flag(parser)
    json_flag(parser)


def data_add(options: argparse.Namespace) -> int:
    """`bench data add`."""
    from benchmark.declaring import entries
    from benchmark.images import (
        datasets,
        stock,
        versioning,
    )
    from benchmark.running.progress import Display

    file = registry.find("dataset", options.name, registry.roots(options.registry))
    entry = entries.load(file)
    ours = file.path.is_relative_to(registry.STOCK) and not options.force
    with Display(words=typed) as display:
        added = datasets.add(
            entry.name,
            entry.config,
            home=home(),
            root=options.root,
            skip_corrupt=options.skip_corrupt,
            accept=options.accept,
            limit=options.limit,
            resolution=options.resolution,
            keep=stock.pinned(entry.name, home()) if ours else None,
            progress=display.bar(f"packing {entry.name}"),
            note=display.note,
        )
    versioned = None
    if not options.no_dvc and versioning.usable(home()):
        try:
            versioned = versioning.version(entry.name, home(), embedded=entry.config.embedded)
        except versioning.Unversioned as problem:  # the images are there: what was asked for is done
            say(f"The images are packed and pinned, and not versioned: {problem}. --no-dvc leaves DVC out.", error=True)
    if options.json:
        print_json(added.to_json() | {"versioned": versioned})
    else:
        say(" ".join(filter(None, [added.sentence, versioned])))
    return 0


def data_pack(options: argparse.Namespace) -> int:
    """`bench data pack`."""
    from benchmark.declaring import entries
    from benchmark.images import datasets
    from benchmark.running.progress import Display

    entry = entries.load(registry.find("dataset", options.name, registry.roots(options.registry)))
    with Display(words=typed) as display:
        packed = datasets.load(entry.name, entry.config, home=home(), progress=display.bar(f"packing {entry.name}"))
    say(f"{entry.name}: {packed.manifest.count:,} images, every byte as in its manifest, sha256 {packed.manifest.sha256[:12]}")
    return 0


def data_verify(options: argparse.Namespace) -> int:
    """`bench data verify`."""
    from benchmark.images import datasets

    if options.root and len(options.name) != 1:
        raise UsageError("--root belongs to one dataset: name it.")
    names = options.name or datasets.packed_names(home())
    problems = {name: [typed(one) for one in datasets.verify(name, home=home())] for name in names}
    if options.root and not problems[names[0]]:
        problems[names[0]] = _differing(names[0], options)
    well = f"every byte as in its manifest{', and every image as in the folder' if options.root else ''}"
    if options.json:
        print_json(problems)
    elif not names:
        say("No dataset is packed here yet. `bench data add NAME --root PATH` packs one.")
    for name, found in problems.items():
        if not options.json:
            say(f"{name}: {well if not found else '; '.join(found)}")
    return 1 if any(problems.values()) else 0


def _differing(name: str, options: argparse.Namespace) -> list[str]:
    """Return in what the images of a folder are not those that are packed."""
    from benchmark.declaring import entries
    from benchmark.images import datasets
    from benchmark.running.progress import Display

    entry = entries.load(registry.find("dataset", name, registry.roots(options.registry)))
    with Display(words=typed) as display:
        found = datasets.compare(name, entry.config, home=home(), root=options.root, progress=display.bar(f"comparing {name}"))
    return [typed(one) for one in found]
