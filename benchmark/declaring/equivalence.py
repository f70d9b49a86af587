"""Other code, the same numbers: the ledger of proofs, and what the code of a record is to the code that is here.

registry/equivalent_code.toml holds a proof for each pair of digests (closure.py): one row of the family, trained again by
the later code, gave the same weights to the last bit and the same curves to ROUNDING. `bench reproduce --equivalent`
writes it.
"""

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal

from benchmark.contract import FieldError, checked
from benchmark.declaring import closure, kinds
from benchmark.declaring.fields import from_json, to_json
from benchmark.errors import BenchError, UsageError
from benchmark.files import PROJECT, write_text

LEDGER = Path("registry/equivalent_code.toml")
ROUNDING = 1e-9  # dB: a mean of the same errors, summed in another order, moves by 1e-14
HEAD = """# Code that gives the same numbers, with the evidence: `bench reproduce --equivalent SUITE` ran one row of each family
# (model, layout, dataset and recipe by the kind of their classes) again and found its weights equal to the last bit and
# its curves to 1e-9 dB; `apart` is the largest difference of a curve, in dB. `before` is the digest in the record, '' where
# the record is older than digests; `after` that of the code that ran.
"""

Standing = Literal["this code", "equivalent code", "older code", "code not here"]


@checked
class Proof:
    """One row, trained again by later code: the digests of weights and curves are those of its record."""

    family: str
    before: str
    after: str
    row: str
    weights_sha256: str
    curves_sha256: str
    apart: float
    torch: str
    processor: str
    date: str

    def validate(self) -> None:
        """Refuse a proof of nothing."""
        if self.before == self.after:
            raise FieldError(f"after = {self.after} is what stood before")


class OtherCode(BenchError):
    """What is there was made by code that is not known to give the numbers of the code that is here."""

    def __init__(self, what: str, before: str, now: str) -> None:
        self.before, self.now = before, now
        made = f"by other code ({before[:12]}; here is {now[:12]})" if before else f"before code was recorded (here is {now[:12]})"
        super().__init__(f"{what} was made {made}, and nothing shows that this code gives the same numbers.")


def proofs(project: Path = PROJECT) -> list[Proof]:
    """Return the ledger; raise BenchError where it is damaged."""
    path = project / LEDGER
    if not path.exists():
        return []
    return list(_read(path, path.stat().st_mtime_ns))


@cache
def _read(path: Path, changed: int) -> tuple[Proof, ...]:
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8-sig"))
        return tuple(from_json(Proof, one, f"proof {number}") for number, one in enumerate(document.get("proof", []), start=1))
    except (OSError, ValueError, TypeError, RecursionError) as problem:
        raise BenchError(f"The ledger {path} cannot be read: {problem}") from None


def add(found: Iterable[Proof], project: Path = PROJECT) -> None:
    """Add proofs to the ledger, in place of older ones of the same pair."""
    kept = {(one.family, one.before, one.after): one for one in [*proofs(project), *found]}
    tables = []
    for one in sorted(kept.values(), key=lambda proof: (proof.family, proof.date, proof.after)):
        tables.append("[[proof]]\n" + "".join(f"{name} = {_toml(value)}\n" for name, value in to_json(one).items()))
    write_text(project / LEDGER, "\n".join([HEAD, *tables]))


def family_name(spec: Mapping[str, Any]) -> str:
    """Return the family of a stored spec: rows that one proof speaks for. Its model, recipe, kind of layout and kind of dataset."""
    layout = spec["layout"]["name"] if spec["layout"]["name"] == "global" else kinds.named(spec["layout"]["kind"])
    return " ".join((spec["model"]["name"], layout, kinds.named(spec["dataset"]["kind"]), spec["recipe"]["name"]))


def same_numbers(before: str, now: str, family: str, project: Path = PROJECT) -> bool:
    """Tell whether two digests are one, or joined by proofs of that family; what has no digest is joined to nothing."""
    return bool(before) and now in joined(before, family, project)


def joined(code: str, family: str, project: Path = PROJECT) -> set[str]:
    """Return every digest that proofs of a family join to `code`, itself included."""
    pairs = [(one.before, one.after) for one in proofs(project) if one.before and one.family == family]
    reached, size = {code}, 0
    while size != len(reached):
        size = len(reached)
        reached |= {b for a, b in pairs if a in reached} | {a for a, b in pairs if b in reached}
    return reached


def first(code: str, family: str, project: Path = PROJECT) -> str:
    """Return the digest that a chain of proofs began with: the same for all that are joined, whatever is proved later."""
    reached = joined(code, family, project)
    later = {one.after for one in proofs(project) if one.before and one.family == family}
    return min(reached - later or reached)


def standing(code: str, spec: Mapping[str, Any], axes: Sequence[str], folders: Sequence[Path] = (), project: Path = PROJECT) -> Standing:
    """Say what the code of a record is to the code that is here; `spec` is the record's own."""
    try:
        now = closure.digest(closure.family_of(spec, axes), folders, project)
    except UsageError:
        return "code not here"
    if code == now:
        return "this code"
    return "equivalent code" if same_numbers(code, now, family_name(spec), project) else "older code"


def _toml(value: str | float) -> str:
    return repr(value) if isinstance(value, float) else '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
