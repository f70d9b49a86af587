"""Records that try to be more than records: markup, control characters and addresses wherever a text is free."""

from dataclasses import replace

from benchmark.declaring.spec import spec_id
from benchmark.recording.record import Record, Score
from tests.record_factory import made

MARKUP = "<img src=x onerror=alert(1)><script>alert(2)</script>"
TEXTS = (
    MARKUP,
    "javascript:alert(3)",
    "\x00\x1b[31mred\x07\r\nnext",
    "\u202egnp.exe\u2066 \u200f",
    "</script><svg onload=alert(4)>",
    "{{ 7 * 7 }} ${7} `x` 'a' \"b\" \\",
    "../../../etc/passwd",
    "=HYPERLINK(0)",
    "x" * 20_000,
)


def hostile(text: str, seed: int = 0, layout: str = "global") -> Record:
    """Make a record that says `text` wherever a record may say anything."""
    score = Score(value=1e99, sd=None, samples=10, extractor=text, weights_digest=text, reference_digest=text, version=text, sampling=text)
    plain = made(1.0 + seed / 10, seed=seed, layout=layout, assumed=(f"layout.border: {text}", text), scores={text: score})
    config = plain.spec["model"]["config"] | {text: {text: [text]}}
    spec = plain.spec | {"model": plain.spec["model"] | {"config": config, "kind": text}}
    where = replace(plain.environment, benchmark=text, commit=text, python=text, torch=text, platform=text, processor=text)
    spent = replace(plain.training, device=text, notes=(text,), wall_seconds=9e98, forward_flops=10**18, parameters=10**18)
    data = replace(plain.data, manifest_sha256=text)
    return replace(
        plain,
        spec=spec,
        id=spec_id(spec),
        environment=where,
        training=spent,
        data=data,
        weights_sha256=text,
        created=text,
        metric_version=text,
    )
