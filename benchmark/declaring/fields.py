"""Frozen dataclasses that check their own types and ranges, and their JSON and JSON Schema.

One mechanism serves what is declared (registry entries) and what was measured (records): a value of the wrong
type never gets past the constructor, whether it came from gin, from a flag or from a file.
"""

import dataclasses
import functools
import math
import types
from collections.abc import Callable, Hashable, Mapping
from typing import (
    Annotated,
    Any,
    Literal,
    TypeVar,
    Union,
    cast,
    dataclass_transform,
    get_args,
    get_origin,
    get_type_hints,
)

from benchmark.errors import Said

T = TypeVar("T")
_PLAIN = frozenset({str, int, bool})
SHOWN = 300  # characters of a value that a message shows


class FieldError(Said, ValueError):
    """A field holds a value of the wrong type or out of its range; the message names the field."""


@dataclasses.dataclass(frozen=True)
class Range:
    """Bounds of a number, inclusive unless `above` or `below`; None is unbounded."""

    least: float | None = None
    most: float | None = None
    above: float | None = None
    below: float | None = None

    def refusal(self, value: float) -> str | None:
        """Return why `value` is out of range, or None."""
        if (
            (self.least is None or value >= self.least)
            and (self.most is None or value <= self.most)
            and (self.above is None or value > self.above)
            and (self.below is None or value < self.below)
        ):
            return None
        rules = [
            (self.least, lambda b: value >= b, "at least"),
            (self.most, lambda b: value <= b, "at most"),
            (self.above, lambda b: value > b, "above"),
            (self.below, lambda b: value < b, "below"),
        ]
        return next((f"must be {word} {bound}" for bound, holds, word in rules if bound is not None and not holds(bound)), None)

    def schema(self) -> dict[str, float]:
        """Return the bounds as JSON Schema keywords."""
        words = {"minimum": self.least, "maximum": self.most, "exclusiveMinimum": self.above, "exclusiveMaximum": self.below}
        return {word: bound for word, bound in words.items() if bound is not None}


Count = Annotated[int, Range(least=0)]
Positive = Annotated[int, Range(least=1)]
Fraction = Annotated[float, Range(least=0, most=1)]


def added(default: Any) -> Any:
    """Declare a field that its class gained after it was first stored: left out of the JSON while at its default.

    What was stored before then keeps its content, and a spec its id.
    """
    made: Callable[[], Any] = (lambda: dict(default)) if isinstance(default, dict) else (lambda: default)
    return dataclasses.field(default_factory=made, metadata={"added": True})


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(dataclasses.field,))  # `added(1)` reads as a default
def checked(cls: type[T]) -> type[T]:
    """Make `cls` a frozen, keyword-only dataclass whose constructor raises FieldError on a wrong type or range.

    Lists become tuples and ints become floats where the annotation asks for them, so that equal content is equal.
    A method `validate(self) -> None`, if there is one, runs last and checks what no single field can.
    """

    def __post_init__(self: Any) -> None:
        for name, hint in hints(cls).items():
            object.__setattr__(self, name, conform(getattr(self, name), hint, name))
        if hasattr(self, "validate"):
            self.validate()

    cls.__post_init__ = __post_init__  # type: ignore[attr-defined]
    return dataclasses.dataclass(frozen=True, kw_only=True)(cls)


def hints(cls: type) -> dict[str, Any]:
    """Return the resolved annotation of every dataclass field of `cls`, in order."""
    return _hints(cast(Hashable, cls))


@functools.cache
def _hints(cls: Any) -> dict[str, Any]:
    resolved = get_type_hints(cls, include_extras=True)
    return {field.name: resolved[field.name] for field in dataclasses.fields(cls)}


def conform(value: Any, hint: Any, where: str) -> Any:
    """Return `value` as the annotation `hint` wants it, or raise FieldError naming `where`."""
    if type(value) is hint and hint in _PLAIN:  # most of what a record holds, as are curves
        return value
    origin, args = _parts(hint)
    if origin is tuple and args == (float, ...) and type(value) in (list, tuple) and _plain_numbers(value):
        return tuple(value)
    if origin is Annotated:
        value = conform(value, args[0], where)
        for rule in args[1:]:
            if isinstance(rule, Range) and value is not None and (why := rule.refusal(value)):
                raise FieldError(f"{where} = {_shown(value)} {why}")
        return value
    if origin in (Union, types.UnionType):
        return _conform_union(value, args, where, hint)
    if origin is Literal:
        if not any(value == choice and type(value) is type(choice) for choice in args):
            raise FieldError(f"{where} = {_shown(value)} must be one of {', '.join(repr(a) for a in args)}")
        return value
    if origin is tuple:
        return _conform_tuple(value, args, where)
    if origin in (dict, Mapping):
        if not isinstance(value, Mapping):
            raise FieldError(f"{where} = {_shown(value)} must be a table of names and values")
        return {conform(k, args[0], f"{where} key"): conform(v, args[1], f"{where}.{k}") for k, v in value.items()}
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return value if isinstance(value, hint) else from_json(hint, value, where)
    if hint is Any:
        return value
    if getattr(hint, "_is_protocol", False):
        if not isinstance(value, hint):
            raise FieldError(f"{where} = {_shown(value)} must be a {hint.__name__}")
        return value
    return _conform_plain(value, hint, where)


@functools.cache
def _parts(hint: Any) -> tuple[Any, tuple[Any, ...]]:
    return get_origin(hint), get_args(hint)


def _shown(value: Any) -> str:
    """Return a value as a message shows it: its beginning, where it is long."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # of a whole number of thousands of digits
        return f"a {type(value).__name__} of no printable size"
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}… ({len(text):,} characters)"


def _plain_numbers(values: Any) -> bool:
    return all(type(value) is float for value in values) and all(map(math.isfinite, values))


def _conform_union(value: Any, choices: tuple[Any, ...], where: str, hint: Any) -> Any:
    problems = []
    for choice in choices:
        try:
            return conform(value, choice, where)
        except FieldError as problem:
            if choice is not type(None):
                problems.append(str(problem))
    raise FieldError(problems[0] if len(problems) == 1 else f"{where} = {_shown(value)} must be {_spelled(hint)}")


def _conform_tuple(value: Any, args: tuple[Any, ...], where: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise FieldError(f"{where} = {_shown(value)} must be a sequence")
    if len(args) == 2 and args[1] is Ellipsis:
        if args[0] is str and all(type(item) is str for item in value):
            return tuple(value)  # the ids of a manifest are many
        return tuple(conform(item, args[0], f"{where}[{i}]") for i, item in enumerate(value))
    if len(value) != len(args):
        raise FieldError(f"{where} = {_shown(value)} must have {len(args)} items")
    return tuple(conform(item, arg, f"{where}[{i}]") for i, (item, arg) in enumerate(zip(value, args, strict=True)))


def _conform_plain(value: Any, hint: Any, where: str) -> Any:
    if hint is float and type(value) is int:
        value = float(value)
    if type(value) is not hint and not (hint is type(None) and value is None):
        raise FieldError(f"{where} = {_shown(value)} must be {_spelled(hint)}, not {_spelled(type(value))}")
    if hint is float and not math.isfinite(value):
        raise FieldError(f"{where} = {_shown(value)} must be a finite number")
    return value


def _spelled(hint: Any) -> str:
    words = {int: "a whole number", float: "a number", str: "text in quotes", bool: "True or False", type(None): "None"}
    if get_origin(hint) in (Union, types.UnionType):
        return " or ".join(_spelled(choice) for choice in get_args(hint))
    if get_origin(hint) is Annotated:
        return _spelled(get_args(hint)[0])
    return words.get(hint, getattr(hint, "__name__", str(hint)))


def to_json(value: Any) -> Any:
    """Return `value` (a checked dataclass, or what one holds) as plain dicts, lists, numbers, strings and None."""
    if value is None or isinstance(value, str | int | float):
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_json(getattr(value, field.name)) for field in dataclasses.fields(value) if not _unsaid(value, field)}
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    return value


def _unsaid(value: Any, field: "dataclasses.Field[Any]") -> bool:
    default = field.default_factory
    return bool(field.metadata.get("added")) and default is not dataclasses.MISSING and getattr(value, field.name) == default()


def from_json(cls: type[T], data: Any, where: str = "") -> T:
    """Build `cls` from parsed JSON; raise FieldError naming a missing, unknown or wrong field."""
    where = where or cls.__name__
    if not isinstance(data, Mapping):
        raise FieldError(f"{where} = {_shown(data)} must be a table with the fields of {cls.__name__}")
    fields, needed = _fields(cast(Hashable, cls))
    if not fields >= data.keys():
        extra = sorted(str(name) for name in data.keys() - fields)
        raise FieldError(f"{where} has no field '{extra[0]}'; its fields are {', '.join(hints(cls))}")
    if not data.keys() >= needed:
        missing = [name for name in hints(cls) if name in needed and name not in data]
        raise FieldError(f"{where} lacks the field '{missing[0]}'")
    try:
        return cls(**data)
    except FieldError as problem:
        raise FieldError(f"{where}.{problem}") from None


@functools.cache
def _fields(cls: Any) -> tuple[frozenset[str], frozenset[str]]:
    """Return the names of all fields of a class, and of those without a default."""
    empty, every = dataclasses.MISSING, dataclasses.fields(cls)
    needed = (field.name for field in every if field.default is empty and field.default_factory is empty)
    return frozenset(field.name for field in every), frozenset(needed)


def json_schema(cls: type) -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of what `to_json` writes for `cls`."""
    fields = {name: _hint_schema(hint) for name, hint in hints(cls).items()}
    required = [field.name for field in dataclasses.fields(cls) if not field.metadata.get("added")]
    document = {"type": "object", "additionalProperties": False, "required": required, "properties": fields}
    if cls.__doc__:
        document["description"] = " ".join(cls.__doc__.split())
    return document


def _hint_schema(hint: Any) -> dict[str, Any]:
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        bounds = [rule.schema() for rule in args[1:] if isinstance(rule, Range)]
        return _hint_schema(args[0]) | (bounds[0] if bounds else {})
    if origin in (Union, types.UnionType):
        return {"anyOf": [_hint_schema(choice) for choice in args]}
    if origin is Literal:
        return {"enum": list(args)}
    if origin is tuple:
        if len(args) == 2 and args[1] is Ellipsis:
            return {"type": "array", "items": _hint_schema(args[0])}
        return {"type": "array", "prefixItems": [_hint_schema(a) for a in args], "minItems": len(args), "maxItems": len(args)}
    if origin in (dict, Mapping):
        return {"type": "object", "additionalProperties": _hint_schema(args[1])}
    if dataclasses.is_dataclass(hint):
        return json_schema(hint)  # type: ignore[arg-type]
    names = {int: "integer", float: "number", str: "string", bool: "boolean", type(None): "null"}
    return {} if hint is Any else {"type": names[hint]}
