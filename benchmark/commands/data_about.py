"""`bench data where`, `list` and `show`: what is published, and what is here."""

import argparse
from typing import Any

from benchmark.commands.flags import command, json_flag, registry_flag
from benchmark.commands.output import print_json, print_table, say
from benchmark.commands.place import home
from benchmark.commands.words import typed
from benchmark.declaring import registry


def add(actions: Any) -> None:
    """Add them to `bench data`."""
    where = command(
        actions,
        "where",
        data_where,
        "where the images of a dataset are published, which files to take, and what to type then",
        "bench data where lsun_church",
        "bench data where",
    )
    where.add_argument("name", nargs="?", metavar="NAME", help="a name from `bench list datasets` (default: every one, in a line)")
    registry_flag(where)
    json_flag(where)
    listing = command(actions, "list", data_list, "which datasets are packed here", "bench data list")
    registry_flag(listing)
    json_flag(listing)
    show = command(actions, "show", data_show, "what a packed dataset holds", "bench data show natural32")
    show.add_argument("name", metavar="NAME")
    json_flag(show)


def data_where(options: argparse.Namespace) -> int:
    """`bench data where`."""
    from benchmark.declaring import entries
    from benchmark.images import distributions

    search = registry.roots(options.registry)
    found = registry.entries("dataset", search)
    files = [registry.find("dataset", options.name, search)] if options.name else list(found.values())
    told = [distributions.facts(file.name, entries.load(file).config, search) for file in files]
    said = [one | {key: typed(one[key]).strip("`") for key in ("next", "then")} for one in told]
    if options.json:
        print_json(said[0] if options.name else said)
    elif options.name:
        rows = [(key, _text(value)) for key, value in said[0].items()]
        print_table(options.name, ("fact", "value"), rows)
    else:
        columns = ("name", "official", "images", "size")
        print_table("where", columns, [tuple(_text(one.get(column, "")) for column in columns) for one in said])
        say("`bench data where NAME` says the pages, the terms, which files to take and what to type then.")
    return 0


def _text(value: Any) -> str:
    if isinstance(value, list):
        return "\n".join(value)
    return f"{value:,}" if isinstance(value, int) else str(value)


def data_list(options: argparse.Namespace) -> int:
    """`bench data list`."""
    from benchmark.declaring import entries
    from benchmark.images import datasets

    rows = [
        (name, file.description, *map(typed, datasets.status(name, home(), entries.load(file).config)))
        for name, file in registry.entries("dataset", registry.roots(options.registry)).items()
    ]
    columns = ("name", "what it is", "images", "state")
    if options.json:
        print_json([dict(zip(columns, row, strict=True)) for row in rows])
    else:
        print_table("datasets", columns, rows)
    return 0


def data_show(options: argparse.Namespace) -> int:
    """`bench data show`."""
    from benchmark.images import datasets

    facts = datasets.facts(options.name, home())
    if options.json:
        print_json(facts)
    else:
        print_table(options.name, ("fact", "value"), [(key, str(value)) for key, value in facts.items()])
    return 0
