"""What masks took to make and what they are like, label aside: beside a folder of predictions, never in it.

`FOLDER.cost` has a file a part, with sums, and `memory.json`. They differ from run to run; the masks do not.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from oapseg import storage
from oapseg.evaluate.probe import Probed

MEMORY = "memory.json"


@dataclass(frozen=True)
class Cost:
    """Of all photos of a folder of predictions; a measure is its mean over the photos that have it."""

    photos: int = 0
    seconds: float = 0.0  # of the clock, from the features to the masks that are kept
    cpu_seconds: float = 0.0  # of all threads
    measures: dict[str, float] = field(default_factory=dict)


def write_cost(
    folder: str, number: int, photos: int, seconds: tuple[float, float], measures: Mapping[str, Sequence[float]]
) -> None:
    """What the part of that number took, by the clock and the CPU; `measures` are of each photo that has them."""
    sums = {name: [sum(values), len(values)] for name, values in measures.items()}
    said = {"photos": photos, "seconds": seconds[0], "cpu_seconds": seconds[1], "measures": sums}
    storage.write_json(_path(folder, number), said)


def write_memory(folder: str, fingerprint: str, probed: Probed) -> None:
    """What was probed, for masks of this fingerprint."""
    storage.write_json(_path(folder, MEMORY), probed._asdict() | {"fingerprint": fingerprint})


def read_memory(folder: str, fingerprint: str) -> Probed | None:
    """What was probed for masks of this fingerprint, or nothing."""
    path = _path(folder, MEMORY)
    said = storage.read_json(path) if storage.exists(path) else {}
    known = said.pop("fingerprint", None) == fingerprint and set(said) == set(Probed._fields)
    return Probed(**said) if known else None


def read_cost(folder: str, numbers: Sequence[int]) -> Cost:
    """The cost of these parts; of those that nothing is known of, nothing."""
    parts = [storage.read_json(path) for path in (_path(folder, number) for number in numbers) if storage.exists(path)]
    sums: dict[str, tuple[float, int]] = {}
    for part in parts:
        for name, (total, count) in part["measures"].items():
            before = sums.get(name, (0.0, 0))
            sums[name] = before[0] + total, before[1] + count
    return Cost(
        photos=sum(part["photos"] for part in parts),
        seconds=sum(part["seconds"] for part in parts),
        cpu_seconds=sum(part["cpu_seconds"] for part in parts),
        measures={name: total / count for name, (total, count) in sums.items() if count},
    )


def _path(folder: str, part: int | str) -> str:
    name = part if isinstance(part, str) else f"part-{part:06d}.json"
    return storage.join(f"{folder.rstrip('/')}.cost", name)
