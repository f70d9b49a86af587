"""How far a record can be verified: four rising levels, and what each proves."""

from typing import Literal, get_args

LevelName = Literal["reported", "rebuilt", "re-scored", "retrained"]
LEVELS: tuple[LevelName, ...] = get_args(LevelName)
PROVES = {
    "reported": "the record agrees with itself and with the schema",
    "rebuilt": "the entry builds, with these parameters and FLOPs",
    "re-scored": "the weights, scored again, give these curves",
    "retrained": "trained again from its spec, it gives this record",
}
