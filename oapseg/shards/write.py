"""Listed photos to tar shards and their manifest: the same bytes for any number of workers."""

import io
import itertools
import tarfile
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from oapseg import storage
from oapseg.shards.listing import Item, Listing
from oapseg.shards.manifest import FILE_NAME, Manifest, Offset, Shard, manifest_text
from oapseg.shards.pack import Packed, pack

CHUNK = 16  # photos a task: enough to hide the cost of a task, few enough to keep memory small
AHEAD = 4  # tasks in flight a worker
PHOTOS_A_WORKER = 1024  # fewer do not pay for the start of a process
NAMED_IN_ERRORS = 3


class _Job(NamedTuple):
    item: Item
    kind: str
    image_id: int
    max_pixels: int


def write_set(
    listings: Sequence[Listing],
    out: str | Path,
    *,
    samples_per_shard: int,
    max_broken: float,
    max_pixels: int,
    workers: int,
) -> Manifest:
    """Write the photos of all listings, in order, as one set of shards in the folder `out`.

    The manifest comes last: a folder with one is whole. Shards of an earlier run are removed first.

    Errors: `ValueError` where more than the share `max_broken` of the photos is broken, naming the first few, or where
    listings contradict one another.
    """
    folder = Path(out)
    _keep_sources(listings, folder)
    categories = _merged_categories(listings)
    jobs = _jobs(listings, max_pixels)
    _clear(folder)
    skipped: dict[str, list[str]] = defaultdict(list)
    shards: list[Shard] = []
    with _progress() as progress:
        bar = progress.add_task(f"shards {folder.name}", total=len(jobs))
        tally = _Tally(skipped, int(max_broken * len(jobs)), len(jobs), max_broken)
        samples = (packed for packed in progress.track(_in_order(jobs, workers), task_id=bar) if tally.good(packed))
        for first in samples:
            chosen = itertools.chain([first], itertools.islice(samples, samples_per_shard - 1))
            shards.append(_write_shard(folder, len(shards), len(shards) * samples_per_shard, chosen))
    if not shards:
        raise ValueError(f"{folder}: none of {len(jobs)} photos can be read; the first: {tally.first()}")
    labels = {key for listing in listings for item in listing.items for key in item.labels}
    manifest = Manifest(
        location=str(folder),
        shards=tuple(shards),
        source="; ".join(listing.description for listing in listings),
        labels=tuple(kind for kind in ("instances", "panoptic", "class") if kind in labels),
        categories=categories,
        skipped=dict(skipped),
    )
    storage.write_text(folder / FILE_NAME, manifest_text(manifest))
    return manifest


class _Tally:
    """Counts broken photos, names them, and stops at too many."""

    def __init__(self, skipped: dict[str, list[str]], allowed: int, total: int, share: float) -> None:
        self.skipped = skipped
        self.allowed, self.total, self.share = allowed, total, share

    def good(self, packed: Packed) -> bool:
        if packed.broken is None:
            return True
        self.skipped[packed.broken].append(packed.name)
        count = sum(len(names) for names in self.skipped.values())
        if count > self.allowed:
            raise ValueError(
                f"shards.max_broken allows {self.share:g} of {self.total} photos to be broken, {count} are so far: "
                f"{self.first()}"
            )
        return False

    def first(self) -> str:
        named = [f"{name} ({reason})" for reason, names in self.skipped.items() for name in names]
        return ", ".join(named[:NAMED_IN_ERRORS])


def _in_order(jobs: Sequence[_Job], workers: int) -> Iterator[Packed]:
    """The packed photos in the order of the jobs, with a bounded number of them in memory."""
    workers = min(workers, 1 + len(jobs) // PHOTOS_A_WORKER)
    if workers == 1:
        yield from (pack(*job) for job in jobs)
        return
    chunks = (jobs[start : start + CHUNK] for start in range(0, len(jobs), CHUNK))
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        flying: deque[Future[list[Packed]]] = deque()
        try:
            for chunk in chunks:
                flying.append(pool.submit(_pack_chunk, chunk))
                if len(flying) == AHEAD * workers:
                    yield from flying.popleft().result()
            while flying:
                yield from flying.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _pack_chunk(jobs: Sequence[_Job]) -> list[Packed]:
    return [pack(*job) for job in jobs]


def _write_shard(folder: Path, number: int, first_key: int, samples: Iterable[Packed]) -> Shard:
    """One tar with neither times nor owners in it; a sample's key is its running number in the set."""
    path = folder / f"shard-{number:06d}.tar"
    offsets = []
    with storage.atomic_file(path) as file, tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for place, packed in enumerate(samples):
            key = f"{first_key + place:09d}"
            jpg = _add(tar, f"{key}.jpg", packed.jpg)
            text = _add(tar, f"{key}.json", packed.json)
            offsets.append(Offset(key, jpg, len(packed.jpg), text, len(packed.json)))
    return Shard(path.name, len(offsets), path.stat().st_size, storage.sha256(path), tuple(offsets))


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> int:
    """Add a file; where its content begins."""
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    start = tar.offset + tarfile.BLOCKSIZE
    tar.addfile(entry, io.BytesIO(data))
    return start


def _jobs(listings: Sequence[Listing], max_pixels: int) -> list[_Job]:
    """What to pack. A photo without an id of its own gets its running number, above all ids that are given."""
    given = [item.labels["image_id"] for listing in listings for item in listing.items if "image_id" in item.labels]
    if len(set(given)) < len(given):
        double = next(image_id for image_id, count in Counter(given).items() if count > 1)
        raise ValueError(f"image id {double} names two photos; sources of one set need ids of their own")
    free = itertools.count(1 + max(given, default=-1))
    return [
        _Job(item, listing.kind, item.labels["image_id"] if "image_id" in item.labels else next(free), max_pixels)
        for listing in listings
        for item in listing.items
    ]


def _merged_categories(listings: Sequence[Listing]) -> tuple[dict[str, Any], ...]:
    """The categories of all sources by id; one id with two meanings would mix classes up."""
    merged: dict[int, dict[str, Any]] = {}
    for category in itertools.chain.from_iterable(listing.categories for listing in listings):
        known = merged.setdefault(category["id"], category)
        if known != category:
            raise ValueError(f"category {category['id']} is {known} in one source and {category} in another")
    return tuple(merged[key] for key in sorted(merged))


def _keep_sources(listings: Sequence[Listing], folder: Path) -> None:
    """Shards are never written over the photos they come from."""
    parents = {str(Path(item.path).parent) for listing in listings for item in listing.items}
    inside = [parent for parent in sorted(parents) if Path(parent).resolve().is_relative_to(folder.resolve())]
    if inside:
        raise ValueError(f"{folder}: holds photos of the source ({inside[0]}); write the shards elsewhere")


def _clear(folder: Path) -> None:
    """Remove what an earlier run, finished or killed, left: its manifest first."""
    for pattern in (FILE_NAME, f".{FILE_NAME}.*", "shard-*.tar", ".shard-*.tar.*"):
        for path in folder.glob(pattern):
            path.unlink()


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True))
