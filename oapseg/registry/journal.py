"""Who made which version what: a write-once journal, one for each registered model, that no race can fork.

An entry is a file of its own, `JOURNAL/MODEL/000007.json`, made only where it is absent (`If-None-Match: *` in S3, a
hard link on a file system): of many writers of a number one wins, and the others are told. An entry holds the hash of
the one before it, so nothing in the middle can be changed unseen. The alias in the registry follows the journal, never
the other way. No MLflow in here, and no torch.
"""

import hashlib
import json
import re
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from oapseg import storage

NAME = re.compile(r"(\d{6,})\.json")


@dataclass(frozen=True)
class Entry:
    """`version` got the alias that `before` had. `verdicts` are the gate's, `override` the reason to go against them.

    `id` tells two writers of one entry apart, whatever else they say.
    """

    number: int  # from 1, without a gap
    action: Literal["promote", "rollback"]
    model: str
    alias: str
    version: int
    before: int | None
    who: str
    when: str  # ISO 8601, UTC
    reason: str
    override: str
    verdicts: list[dict[str, Any]]
    content_sha256: str  # of what the version is
    run: str  # of the pipeline that promotes; empty where a person does
    previous: str  # sha256 of the entry before; empty for the first
    id: str = field(default_factory=lambda: uuid.uuid4().hex)

    def text(self) -> bytes:
        return (json.dumps(asdict(self), indent=1, sort_keys=True) + "\n").encode()

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.text()).hexdigest()


class Lost(ValueError):  # noqa: N818 - the race was lost, which is no mistake of anyone's
    """Another got there first; the message says who, and what to do."""

    def __init__(self, winner: Entry) -> None:
        self.winner = winner
        super().__init__(
            f"not done: {winner.who} made version {winner.version} {winner.model}@{winner.alias} meanwhile "
            f"({winner.action}, entry {winner.number}, {winner.when}); look again and repeat where it still holds"
        )


class Journal:
    """The journal of one model below a folder or URL."""

    def __init__(self, location: str, model: str) -> None:
        self.model, self.folder = model, storage.join(location, model)

    def entries(self) -> list[Entry]:
        """All entries, in order.

        Errors: `ValueError` where one is missing, is none, or was changed after the next one was written.
        """
        numbers = sorted(int(found[1]) for name in storage.list_files(self.folder) if (found := NAME.fullmatch(name)))
        entries: list[Entry] = []
        for number in range(1, max(numbers, default=0) + 1):
            if number not in numbers:
                raise ValueError(f"{self.path(number)}: missing, and there are later ones; bring it back from a copy")
            entries.append(self._read(number, entries[-1].sha256 if entries else ""))
        return entries

    def append(self, seen: Sequence[Entry], **said: Any) -> Entry:
        """Write the entry that follows those `seen`, on which it was decided; its number, model, time are added here.

        Entries of other aliases may come between. Errors: `Lost` where one of this alias did.
        """
        seen = list(seen)
        while True:
            entry = Entry(
                number=len(seen) + 1,
                model=self.model,
                when=datetime.now(UTC).isoformat(timespec="milliseconds"),
                previous=seen[-1].sha256 if seen else "",
                **said,
            )
            try:
                storage.write_bytes(self.path(entry.number), entry.text(), only_if_absent=True)
                return entry
            except FileExistsError:
                newer = self.entries()[len(seen) :]
                for other in newer:
                    if other.alias == entry.alias:
                        raise Lost(other) from None
                seen += newer

    def path(self, number: int) -> str:
        return storage.join(self.folder, f"{number:06d}.json")

    def _read(self, number: int, previous: str) -> Entry:
        try:
            entry = Entry(**storage.read_json(self.path(number)))
        except TypeError as error:
            raise ValueError(f"{self.path(number)}: not an entry of a journal ({error})") from None
        if (entry.number, entry.previous) != (number, previous):
            raise ValueError(f"{self.path(number)}: does not follow the entry before it; one of the two was changed")
        return entry


def head(entries: Sequence[Entry], alias: str) -> Entry | None:
    """The entry that says who has an alias now."""
    return next((entry for entry in reversed(entries) if entry.alias == alias), None)


def held_before(entries: Sequence[Entry], alias: str) -> list[int]:
    """Versions that an alias can be rolled back to, oldest first; each roll-back takes the last of them."""
    held: list[int] = []
    for entry in entries:
        if entry.alias == alias:
            if entry.action == "rollback":
                del held[len(held) - held[::-1].index(entry.version) :]
            else:
                held.append(entry.version)
    return held[:-1]
