"""The partitions that a distribution comes in, of which an entry takes one or more."""

from collections.abc import Mapping

from benchmark.contract import FieldError


def check_partitions(named: tuple[str, ...], known: Mapping[str, int]) -> None:
    """Raise FieldError where no partition is named, or one twice."""
    if not named or len(set(named)) != len(named):
        raise FieldError(f"partitions = {named!r} must name one or more of {', '.join(known)}, each once")
