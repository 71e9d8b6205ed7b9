"""Streaming shards from S3 against the local disk, in one run; memory and first batch for long manifests.

    python benchmarks/s3.py s3://BUCKET/PREFIX            the embedded sample, drawn into a temporary folder
    python benchmarks/s3.py s3://BUCKET/PREFIX FOLDER     any folder of photos
    python tests/s3/ceph.py python benchmarks/s3.py s3://bench/shards       against a server of its own

First table: photos a second of the loader, whole photos in shuffled order, from the disk and from S3 in turn; the best
of three passes after one to warm up. Second table: manifests of 100, 1,000 and 10,000 shards, each line a process of
its own that ends with a batch; its shards are one object under many names, so that what grows is the manifest alone.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import torch
from photos import caption, to_shards, whole_photo
from rich.console import Console
from rich.table import Table

from oapseg import storage
from oapseg.params import default_params_path, load_params
from oapseg.shards.manifest import FILE_NAME, Manifest, load_manifest, manifest_text
from oapseg.shards.read import Photos, loader
from oapseg.shards.stream import Stream

BATCH = 16
WORKERS = (0, 1, 2)
PASSES = 3
NUM_SHARDS = (100, 1_000, 10_000)
BATCHES_FOR_MEMORY = 20
EARLY = """  # as `python -m components` does
import runpy, sys
from oapseg.shards import processes
if __name__ == "__main__":
    processes.start()
    sys.argv = sys.argv[1:]
    sys.path.insert(0, sys.argv[0].rpartition("/")[0])
    runpy.run_path(sys.argv[0], run_name="__main__")
"""


def batches(manifest: Manifest, workers: int) -> Iterator[list[torch.Tensor]]:
    stream = Stream([manifest.shard_sizes], [1.0], seed=0, rank=0, world=1, shuffle=True, group=16)
    return iter(loader([Photos(manifest)], stream, whole_photo, batch=BATCH, workers=workers))


def throughput(disk: Manifest, s3: Manifest) -> Table:
    table = Table(title=f"{disk.num_samples} photos, {sum(shard.bytes for shard in disk.shards) / 1e6:.1f} MB")
    for heading in ("loader", "disk, photos/s", "S3, photos/s", "ratio"):
        table.add_column(heading, justify="right")
    count = max(disk.num_samples // BATCH, 1)
    for workers in WORKERS:
        streams = {"disk": batches(disk, workers), "S3": batches(s3, workers)}
        best = dict.fromkeys(streams, 0.0)
        for turn in range(1 + PASSES):
            for name, stream in streams.items():
                start = time.perf_counter()
                read = sum(len(batch) for batch in islice(stream, count))
                rate = read / (time.perf_counter() - start)
                best[name] = max(best[name], rate) if turn else 0.0
        table.add_row(
            f"{workers} workers", f"{best['disk']:.0f}", f"{best['S3']:.0f}", f"{best['S3'] / best['disk']:.2f}"
        )
    return table


def long_manifests(one: Manifest, url: str) -> Table:
    table = Table(
        title=f"{one.shards[0].samples} photos a shard, 1 loader process, {BATCHES_FOR_MEMORY} batches of {BATCH}"
    )
    for heading in ("shards", "manifest, MB", "manifest read, s", "first batch, s", "memory, MB", "of the loader, MB"):
        table.add_column(heading, justify="right")
    for count in NUM_SHARDS:
        text = manifest_text(replace(one, shards=(replace(one.shards[0], url=one.url(0)),) * count))
        place = storage.join(url, f"of-{count}")
        storage.write_text(storage.join(place, FILE_NAME), text)
        found = json.loads(
            subprocess.run([sys.executable, "-c", EARLY, __file__, place, "--first"], check=True, stdout=-1).stdout
        )
        table.add_row(
            f"{count:,}",
            f"{len(text) / 1e6:.1f}",
            f"{found['manifest_s']:.2f}",
            f"{found['first_s']:.2f}",
            f"{found['memory_mb']:.0f}",
            f"{found['worker_mb']:.0f}",
        )
    return table


def first_batch(url: str) -> dict[str, float]:
    """What a training process does first; its imports are done by now, and those of its loader's processes begun."""
    start = time.perf_counter()
    manifest = load_manifest(url)
    manifest_s = time.perf_counter() - start
    stream = batches(manifest, workers=1)
    next(stream)
    first_s = time.perf_counter() - start
    for _ in islice(stream, BATCHES_FOR_MEMORY):
        pass
    worker_mb = max(resident_mb(child) for child in descendants(str(os.getpid())))
    return {"manifest_s": manifest_s, "first_s": first_s, "memory_mb": resident_mb("self"), "worker_mb": worker_mb}


def descendants(process: str) -> list[str]:
    children = Path("/proc", process, "task", process, "children").read_text().split()
    return [each for child in children for each in (child, *descendants(child))]


def resident_mb(process: str) -> float:
    pages = int(Path("/proc", process, "statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def measure(url: str, folder: str | None) -> tuple[Table, Table]:
    params = load_params(default_params_path())
    with tempfile.TemporaryDirectory() as temporary:
        disk = to_shards(folder, Path(temporary), params)
        for name in storage.list_files(disk.location):
            storage.upload(storage.join(disk.location, name), storage.join(url, name))
        s3 = load_manifest(url)
        tables = throughput(disk, s3), long_manifests(s3, url)
    storage.delete(url)
    return tables


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", nargs="?", help="s3:// URL below which shards are written, and removed at the end")
    parser.add_argument("folder", nargs="?", help="folder of photos; without it, the embedded sample")
    parser.add_argument(
        "--first", action="store_true", help="only read the manifest at the URL and a few batches of it"
    )
    args = parser.parse_args()
    if args.url is None:
        print("not measured, there is no s3:// URL to measure at: see python benchmarks/s3.py --help")
        return
    if args.first:
        print(json.dumps(first_batch(args.url)))
        return
    load = os.getloadavg()[0]
    for table in measure(args.url, args.folder):
        table.caption = caption(load)
        Console().print(table)


if __name__ == "__main__":
    main()
