"""benchmark/declaring/fields.py: a value of the wrong type never gets past the constructor."""

from typing import Annotated, Any, Literal

import jsonschema
import pytest

from benchmark.declaring.fields import (
    FieldError,
    Range,
    added,
    checked,
    from_json,
    json_schema,
    to_json,
)


@checked
class Leaf:
    size: Annotated[int, Range(least=1, most=9)]


@checked
class Tree:
    """A tree."""

    leaves: tuple[Leaf, ...]
    height: float = 1.0
    kind: Literal["oak", "ash"] = "oak"
    pair: tuple[int, int] = (1, 2)
    note: str | None = None
    sizes: dict[str, int] | None = None
    dead: bool = False


GOOD = {"leaves": [{"size": 3}], "height": 2, "kind": "ash", "pair": [3, 4], "note": "x", "sizes": {"a": 1}, "dead": True}
BAD: list[tuple[dict[str, Any], str]] = [
    ({"leaves": [{"size": "seven"}]}, r"Tree\.leaves\[0\]\.size = 'seven' must be a whole number, not text"),
    ({"leaves": [{"size": 3.0}]}, "whole number"),
    ({"leaves": [{"size": True}]}, "whole number"),
    ({"leaves": [{"size": 0}]}, "at least 1"),
    ({"leaves": [{"size": 10}]}, "at most 9"),
    ({"leaves": [{}]}, "lacks the field 'size'"),
    ({"leaves": [{"size": 1, "colour": 2}]}, "has no field 'colour'"),
    ({"leaves": 3}, "sequence"),
    ({"leaves": [], "height": "2"}, "height = '2' must be a number"),
    ({"leaves": [], "height": float("nan")}, "finite"),
    ({"leaves": [], "height": float("inf")}, "finite"),
    ({"leaves": [], "kind": "elm"}, "one of 'oak', 'ash'"),
    ({"leaves": [], "pair": [1]}, "2 items"),
    ({"leaves": [], "note": 3}, "text in quotes"),
    ({"leaves": [], "sizes": {"a": "b"}}, r"sizes\.a"),
    ({"leaves": [], "dead": 1}, "True or False"),
    ([], "must be a table"),
]


def test_good_value_becomes_what_the_annotation_says() -> None:
    tree = from_json(Tree, GOOD)
    assert tree.leaves == (Leaf(size=3),)
    assert type(tree.height) is float
    assert tree.pair == (3, 4)


def test_json_round_trip() -> None:
    tree = from_json(Tree, GOOD)
    assert from_json(Tree, to_json(tree)) == tree
    assert to_json(tree)["height"] == 2.0


@pytest.mark.parametrize(("document", "message"), BAD)
def test_bad_value_is_refused_by_name(document: Any, message: str) -> None:
    with pytest.raises(FieldError, match=message):
        from_json(Tree, document)


def test_json_schema_agrees_with_the_constructor() -> None:
    """The published schema, read by an independent validator, refuses what the constructor refuses."""
    schema = json_schema(Tree)
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    assert validator.is_valid(to_json(from_json(Tree, GOOD)))
    full = to_json(from_json(Tree, GOOD))
    for document, message in BAD:
        if message in ("finite", "whole number"):
            continue  # JSON has no NaN, and JSON Schema counts 3.0 as an integer
        assert not validator.is_valid(full | document if isinstance(document, dict) else document), document


@checked
class Grown:
    """A class that gained two fields after it was first stored."""

    size: int
    fast: bool = added(False)
    notes: dict[str, int] = added({})


def test_an_added_field_is_stored_only_where_it_says_something() -> None:
    old = {"size": 3}
    assert to_json(from_json(Grown, old)) == old
    new = Grown(size=3, fast=True, notes={"a": 1})
    assert to_json(new) == {"size": 3, "fast": True, "notes": {"a": 1}}
    assert from_json(Grown, to_json(new)) == new
    assert Grown(size=1).notes is not Grown(size=1).notes
    with pytest.raises(FieldError, match="fast = 1 must be True or False"):
        Grown(size=3, fast=1)
    validator = jsonschema.Draft202012Validator(json_schema(Grown))
    assert validator.is_valid(old)
    assert validator.is_valid(to_json(new))
    assert not validator.is_valid({"fast": True})
