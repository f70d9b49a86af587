"""`bench data where`, `list`, `show` and `rm`: what is published, what is here, and what no one needs any more."""

import argparse
from typing import Any

from benchmark.commands.flags import command, json_flag, registry_flag
from benchmark.commands.output import print_json, print_table, say
from benchmark.commands.place import home
from benchmark.commands.words import typed
from benchmark.declaring import registry

LABEL = 11  # columns of what a fact is called


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
    listing = command(
        actions, "list", data_list, "which datasets are packed here, what they take on the disk, what uses them", "bench data list"
    )
    registry_flag(listing)
    json_flag(listing)
    show = command(actions, "show", data_show, "what a packed dataset holds", "bench data show natural32")
    show.add_argument("name", metavar="NAME", help="a name from `bench data list`")
    json_flag(show)
    remove = command(
        actions,
        "rm",
        data_remove,
        "remove the packed images of a dataset; its pin stays",
        "bench data rm my_photos",
        "bench data rm natural32 --force",
    )
    remove.add_argument("name", metavar="NAME", help="a name from `bench data list`")
    remove.add_argument("--force", action="store_true", help="although they are pinned, or a suite, a record or a run uses them")
    registry_flag(remove)
    json_flag(remove)


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
        for key, value in said[0].items():  # line by line, so that an address can be copied whole
            first, *others = _text(value).split("\n")
            say(f"{key + ':':{LABEL}}{first}")
            for other in others:
                say(f"{'':{LABEL}}{other}")
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
    from benchmark.images import datasets, holdings

    search = registry.roots(options.registry)
    used = holdings.uses(home(), search)
    told: list[dict[str, Any]] = []
    for name, file in registry.entries("dataset", search).items():
        images, state = map(typed, datasets.status(name, home(), entries.load(file).config))
        told.append({"name": name, "what it is": file.description, "images": images, "state": state})
        told[-1] |= {"bytes": holdings.bytes_of(name, home()), "used by": used[name].to_json()}
    if options.json:
        print_json(told)
        return 0
    columns = ("name", "what it is", "images", "on disk", "used by", "state")
    said = [one | {"on disk": holdings.size_of(one["bytes"]) if one["bytes"] else "", "used by": used[one["name"]]} for one in told]
    print_table("datasets", columns, [tuple(one[column] for column in columns) for one in said])
    return 0


def data_show(options: argparse.Namespace) -> int:
    """`bench data show`."""
    from benchmark.images import datasets, holdings

    facts = datasets.facts(options.name, home())
    used, size = holdings.uses(home()).get(options.name), holdings.bytes_of(options.name, home())
    if options.json:
        print_json(facts | {"bytes": size, "used_by": used.to_json() if used else None})
    else:
        rows = facts | {"on disk": holdings.size_of(size), "used by": str(used or "") or "nothing"}
        print_table(options.name, ("fact", "value"), [(key, str(value)) for key, value in rows.items()])
    return 0


def data_remove(options: argparse.Namespace) -> int:
    """`bench data rm`."""
    from benchmark.images import holdings

    removed = holdings.remove(options.name, home(), registry.roots(options.registry), force=options.force)
    if options.json:
        print_json({"name": removed.name, "bytes": removed.bytes, "kept": list(removed.kept)})
    else:
        say(removed.sentence)
    return 0
