"""Listed photos to tar shards and their manifest: the same bytes for any number of workers, and of parts.

Shard number k holds the listed photos from k times `samples_per_shard` on, without those that are broken, each by its
place in the listing as key. So what a shard holds follows from the listing alone, and any part of a set can be written
apart from the others.
"""

import hashlib
import io
import itertools
import tarfile
import zlib
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

from oapseg import storage
from oapseg.progress import Progress
from oapseg.shards.listing import Item, Listing
from oapseg.shards.manifest import Manifest, Shard, manifest_text
from oapseg.shards.offsets import Offset, Offsets
from oapseg.shards.pack import Packed, pack
from oapseg.shards.parts import Part, Tally, clear, finish
from oapseg.storage import tally as asked

CHUNK = 16  # photos a task: enough to hide the cost of a task, few enough to keep memory small
AHEAD = 4  # tasks in flight a worker
PHOTOS_A_WORKER = 1024  # fewer do not pay for the start of a process


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
    part: Part | None = None,
) -> Manifest:
    """Write the photos of all listings, in order, as one set of shards in the folder or below the URL `out`.

    The manifest comes last: a folder with one is whole. Shards of an earlier run are removed first. Of a `part`, the
    manifest is one that only `join_parts` reads.

    Errors: `ValueError` where more than the share `max_broken` of all photos is broken, naming the first few, or where
    listings contradict one another.
    """
    _keep_sources(listings, out)
    categories = _merged_categories(listings)
    jobs = _jobs(listings, max_pixels)
    total = -(-len(jobs) // samples_per_shard)
    numbers = (part or Part(1, 1)).shards(total)
    clear(out, part, numbers)
    mine = jobs[numbers.start * samples_per_shard : numbers.stop * samples_per_shard]
    tally = Tally(defaultdict(list), len(jobs), max_broken)
    shards: list[Shard] = []
    with Progress() as progress:
        bar = progress.add_task(f"shards {Path(out).name}", total=len(mine))
        packed = progress.track(_in_order(mine, workers), task_id=bar)
        numbered = enumerate(packed, numbers.start * samples_per_shard)
        for number in numbers:
            listed = itertools.islice(numbered, samples_per_shard)
            good = ((place, each) for place, each in listed if tally.good(each))
            if (first := next(good, None)) is not None:  # not all are broken
                shards.append(_write_shard(out, number, itertools.chain([first], good)))
    labels = {kind for listing in listings for item in listing.items for kind in item.label_kinds}
    manifest = Manifest(
        location=str(out),
        shards=tuple(shards),
        source="; ".join(listing.description for listing in listings),
        labels=tuple(kind for kind in ("instances", "panoptic", "semantic", "video", "class") if kind in labels),
        categories=categories,
        skipped=dict(tally.skipped),
    )
    if part is None:
        finish(manifest, tally)
    else:
        facts = {"listing": _fingerprint(jobs, samples_per_shard), "listed": len(jobs), "max_broken": max_broken}
        storage.write_text(storage.join(out, part.file_name), manifest_text(manifest, part=facts))
    return manifest


def _in_order(jobs: Sequence[_Job], workers: int) -> Iterator[Packed]:
    """The packed photos in the order of the jobs, with a bounded number of them in memory."""
    workers = min(workers, 1 + len(jobs) // PHOTOS_A_WORKER)
    if workers == 1:
        yield from (pack(*job) for job in jobs)
        return
    chunks = (jobs[start : start + CHUNK] for start in range(0, len(jobs), CHUNK))
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        flying: deque[Future[tuple[list[Packed], asked.Counts]]] = deque()
        try:
            for chunk in chunks:
                flying.append(pool.submit(_pack_chunk, chunk))
                if len(flying) == AHEAD * workers:
                    yield from _taken(flying.popleft())
            while flying:
                yield from _taken(flying.popleft())
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _pack_chunk(jobs: Sequence[_Job]) -> tuple[list[Packed], asked.Counts]:
    """The packed photos, and what was asked of S3 for them: this process is not the one that is watched."""
    return [pack(*job) for job in jobs], asked.taken()


def _taken(done: Future[tuple[list[Packed], asked.Counts]]) -> list[Packed]:
    packed, counts = done.result()
    asked.add(counts)
    return packed


def _write_shard(out: str | Path, number: int, samples: Iterable[tuple[int, Packed]]) -> Shard:
    """One tar with neither times nor owners in it; a sample's key is its place in the listing."""
    name = f"shard-{number:06d}.tar"
    offsets = []
    with storage.atomic_file(storage.join(out, name)) as file:
        with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            for place, packed in samples:
                key = f"{place:09d}"
                jpg = _add(tar, f"{key}.jpg", packed.jpg)
                text = _add(tar, f"{key}.json", packed.json)
                checksum = zlib.crc32(packed.json, zlib.crc32(packed.jpg))
                offsets.append(Offset(key, jpg, len(packed.jpg), text, len(packed.json), checksum))
        size = file.tell()
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]  # a file has readinto
    return Shard(name, len(offsets), size, digest, Offsets(offsets))


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


def _fingerprint(jobs: Sequence[_Job], samples_per_shard: int) -> str:
    """What decides the bytes of a set, apart from the photos themselves."""
    digest = hashlib.sha256(str(samples_per_shard).encode())
    for job in jobs:
        digest.update(repr((job.kind, job.item.name, job.image_id, job.max_pixels)).encode())
    return digest.hexdigest()


def _keep_sources(listings: Sequence[Listing], out: str | Path) -> None:
    """Shards are never written over the photos they come from."""
    if storage.is_url(out):
        return
    folder = Path(out).resolve()
    parents = {str(Path(item.path).parent) for listing in listings for item in listing.items}
    inside = [parent for parent in sorted(parents) if Path(parent).resolve().is_relative_to(folder)]
    if inside:
        raise ValueError(f"{out}: holds photos of the source ({inside[0]}); write the shards elsewhere")
