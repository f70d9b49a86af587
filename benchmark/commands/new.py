"""`bench new`: the files of a variant of your own."""

import argparse
import os
import shlex
from pathlib import Path
from typing import Any

from benchmark.commands.flags import command, json_flag
from benchmark.commands.output import near, print_json, say
from benchmark.declaring import registry
from benchmark.errors import UsageError
from benchmark.files import is_checkout


def add(verbs: Any) -> None:
    """Add `bench new`."""
    parser = command(
        verbs,
        "new",
        new,
        "write the files of a model, layout or dataset of your own, ready to run and to edit",
        "bench new model my_bias --registry .",
        "bench new layout local_3x4",
        "bench new dataset my_photos --folder --registry ../mine",
    )
    parser.add_argument("axis", choices=("model", "layout", "dataset"), help="what it is")
    parser.add_argument("name", metavar="NAME", help="its name: small letters, digits and '_'")
    parser.add_argument(
        "--registry",
        type=Path,
        metavar="DIR",
        help="the folder of entries to write into, made where it is not there (default: registry/ of the checkout)",
    )
    parser.add_argument("--code", action="store_true", help="layout: a module to edit, not only the windows of the registry's")
    parser.add_argument("--folder", action="store_true", help="dataset: a folder of images, not code that generates them")
    json_flag(parser)


def new(options: argparse.Namespace) -> int:
    """`bench new`."""
    from benchmark.contributing import new as news

    if options.code and options.axis != "layout":
        raise UsageError(f"--code is for a layout: a new {options.axis} has code unless its images come from a folder.")
    if options.folder and options.axis != "dataset":
        raise UsageError(f"--folder is for a dataset; a {options.axis} has no images.")
    template = {
        "model": news.MODEL,
        "layout": news.LAYOUT if options.code else news.WINDOWS,
        "dataset": news.FOLDER if options.folder else news.GENERATED,
    }[options.axis]
    written = news.write(options.axis, options.name, template, options.registry or _own_registry())
    following, remark = _next(options), _remark(written[0]) if options.folder else ""
    if options.json:
        print_json({"written": [str(path) for path in written], "next": following, "remark": remark})
        return 0
    for path in written:
        say(f"Written: {near(path.resolve())}")
    say("Edit it, then type:")
    for line in following:
        say(f"  {line}")
    if remark:
        say(remark)
    return 0


def _own_registry() -> Path:
    """Return the project's own registry, where that is a checkout's; refuse to write into an installed package."""
    if is_checkout():
        return registry.STOCK
    raise UsageError("Where should the entry go? Nothing is written into an installed package: `--registry .` writes into this folder.")


def _remark(entry: Path) -> str:
    """Say how many images a folder needs."""
    from benchmark.declaring.entries import load
    from benchmark.images.enough import least

    return f"Of its images, {least(load(registry.read('dataset', entry)).config)}"


def _next(options: argparse.Namespace) -> list[str]:
    """Return the commands that come next."""
    where = f" --registry {shlex.quote(os.fspath(options.registry))}" if options.registry else ""
    add = [f"bench data add {options.name} --root PATH{where}"] if options.folder else []
    chosen = {"model": "dit_mini", "layout": "global", "dataset": "dead_leaves8"}
    chosen[options.axis] = options.name
    row = " ".join(f"--{axis} {name}" for axis, name in chosen.items())
    return [f"bench check {options.name}{where}", *add, f"bench run {row} --subset 16 --recipe mini{where}"]
