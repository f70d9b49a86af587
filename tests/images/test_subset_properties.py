"""The rules of subsets, for any dataset: held out means held out, subsets nest, halves share nothing, the order is one of ids alone."""

import hashlib

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as some

from benchmark.images import subsets
from benchmark.images.manifest import Manifest
from benchmark.images.packing import Packed

HELD = 3


@some.composite
def packed(draw: some.DrawFn) -> Packed:
    """A dataset of 10 to 40 images, of which some have the same bytes, under ids in any spelling."""
    count = draw(some.integers(10, 40))
    ids = draw(some.lists(some.text("abcäß/._-0123456789", min_size=1, max_size=8), min_size=count, max_size=count, unique=True))
    kinds = draw(some.lists(some.integers(0, 60), min_size=count, max_size=count))
    images = np.array(kinds, np.uint8).reshape(-1, 1, 1, 1)
    groups = [tuple(name for name, one in zip(ids, kinds, strict=True) if one == kind) for kind in sorted(set(kinds))]
    described = Manifest(
        format=1,
        name="any",
        kind="any",
        config={},
        embedded=True,
        count=count,
        channels=1,
        resolution=1,
        ids=tuple(ids),
        ordering="sha256",
        sha256="0" * 64,
        preprocessing="",
        fingerprint="0" * 64,
        limit=None,
        skipped=(),
        duplicates=tuple(group for group in groups if len(group) > 1),
        held_out=HELD,
    )
    return Packed(images, described, ids)


@settings(max_examples=40, deadline=None)
@given(packed(), some.integers(0, 10**6))
def test_subsets_nest_and_hold_no_bytes_of_a_test_image(made: Packed, seed: int) -> None:
    largest = subsets.largest(made, "any", seed)
    if not largest:
        return
    whole = subsets.subset(made, "any", largest, seed)
    small = subsets.subset(made, "any", max(1, largest // 2), seed)
    assert len(whole.test_indices) == HELD
    assert small.test_indices == whole.test_indices and whole.train_indices[: small.size] == small.train_indices
    assert not {image.tobytes() for image in whole.train} & {image.tobytes() for image in whole.test}
    copies = sum(image.tobytes() in {one.tobytes() for one in whole.test} for image in made.images) - HELD
    assert largest == len(made.ids) - HELD - copies and whole.dropped_duplicates == copies
    assert list(whole.train_indices) == subsets.training_indices(made, "any", largest, seed)


@settings(max_examples=40, deadline=None)
@given(packed(), some.integers(0, 10**6))
def test_halves_share_no_bytes_and_are_together_the_pool(made: Packed, seed: int) -> None:
    room = subsets.largest(made, "any", seed, "a")
    if not room:
        return
    a, b = (subsets.subset(made, "any", room, seed, half) for half in ("a", "b"))
    bytes_of = [{image.tobytes() for image in half.train} for half in (a, b)]
    assert not bytes_of[0] & bytes_of[1] and len(bytes_of[0]) == len(bytes_of[1]) == room
    assert not (bytes_of[0] | bytes_of[1]) & {image.tobytes() for image in a.test}


@settings(max_examples=40, deadline=None)
@given(some.lists(some.text(max_size=6), unique=True, max_size=30), some.integers(0, 10**9), some.text(max_size=6))
def test_the_order_is_a_permutation_by_a_digest_that_does_not_know_the_places(ids: list[str], seed: int, name: str) -> None:
    found = [ids[i] for i in subsets.order(name, seed, ids)]
    assert sorted(found) == sorted(ids)
    assert [ids[::-1][i] for i in subsets.order(name, seed, ids[::-1])] == found
    assert found == sorted(ids, key=lambda one: hashlib.sha256(f"{name}:{seed}:{one}".encode()).hexdigest())
