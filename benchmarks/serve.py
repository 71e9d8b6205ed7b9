"""`oapseg serve`, as it is shipped, under many clients at once, some of them hostile: times, memory, what each got.

    python benchmarks/serve.py                            photos of the embedded sample, an untrained model
    python benchmarks/serve.py FOLDER --model MODEL       any folder of photos, any model

Takes some three minutes on two quiet cores. Each client sends a photo, waits for its masks and sends the next; told to
come again (503), it does when it was told to. So the server has all that it can do, at the machine's own pace: photos a
second are its throughput, the time of an answered request is mostly its place in a queue that `serve.ahead_s` bounds,
and the time with refusals is what 64 at once cost a client of this machine.

One upload in a hundred is hostile, of these kinds in turn: a bomb (a PNG of 100 KB that says 30,000 x 30,000 pixels), a
truncated photo, a wrong type (a program), 200 MB; from 700 requests on also a bomb of 4 terapixels, nothing at all and
200 MB of unsaid size. Fails unless each photo has its masks, each hostile upload its 4xx, and memory stays within the
model's own, `serve.queue_mb` and 500 MB.
"""

import argparse
import http.client
import json
import os
import random
import select
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
import urllib.request
import zlib
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import torch
from photos import caption
from rich.console import Console
from rich.table import Table

from oapseg.checkpoint.export import completed, read_files, save_model, write_files
from oapseg.checkpoint.model import look_of
from oapseg.encode.load import load_encoder
from oapseg.model.segmenter import Segmenter
from oapseg.params import Params, default_params_path, load_params
from oapseg.serve.model import Source
from oapseg.shards.decode import decode
from oapseg.shards.sample import make_sample

CLIENTS, REQUESTS = 64, 400
A_HOSTILE, KINDS = 100, 4  # one in so many requests is hostile; the first kinds are those that there are at least
ROOM_MB = 500  # beyond the model and the uploads that wait: a batch decoded, its views, its answers
BARE_PHOTOS = 16  # that the model sees without a server, the first batch of them once more before
PATIENCE_S = 900  # of a client that is told to come again
LATER = 1.25  # times the seconds that it was told, at the most: clients that come at one moment do so once
HUGE_BYTES, PIECE = 200_000_000, bytes(1 << 16)
CPU, BATCHES, PHASES = "process_cpu_seconds_total", "oapseg_serve_batch_photos", "oapseg_serve_phase_seconds"
MEASURED = [CPU, *(f"{BATCHES}_{each}" for each in ("sum", "count"))]
MEASURED += [f'{PHASES}_{each}{{phase="{name}"}}' for each in ("sum", "count") for name in ("model", "answer")]
BUSY = 503
EXPECTED = {
    "photo": (200,),
    "bomb of 0.9 gigapixels": (413,),
    "truncated photo": (422,),
    "wrong type, a program": (415,),
    "200 MB": (413,),
    "bomb of 4 terapixels": (413,),
    "nothing": (422,),
    "200 MB, size unsaid": (413,),
}


class Sent(NamedTuple):
    """What was sent, and what came of it in the end."""

    what: str
    status: int
    seconds: float  # of the request that was not told to come again
    whole_s: float  # from the first try on
    refused: int  # times that it was told to


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, help="folder of photos; default: the embedded sample")
    parser.add_argument("--model", help="as `oapseg serve` takes it; default: an untrained one")
    parser.add_argument("--requests", type=int, default=REQUESTS, help="of all, a multiple of 100 (%(default)s)")
    parser.add_argument("--clients", type=int, default=CLIENTS, help="at once (%(default)s)")
    args = parser.parse_args()
    if args.requests % A_HOSTILE or args.requests < KINDS * A_HOSTILE:
        parser.error(f"--requests: must be a multiple of {A_HOSTILE}, {KINDS * A_HOSTILE} at least")
    load, params = os.getloadavg()[0], load_params(default_params_path())
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        paths = sorted(photo_paths(args.folder, place, params))[: args.requests]
        photos = [path.read_bytes() for path in paths]
        model = args.model or untrained(place / "model", params)
        alone = bare(model, params, photos)
        command = [sys.executable, "-m", "oapseg", "serve", "--model", model, "--port", "0"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout is not None
                port = int(process.stdout.readline().rsplit(":", 1)[1])
                idle, before = memory_mb(process.pid), metrics(port)
                begin = time.perf_counter()
                sent = storm(port, photos, args.requests, args.clients)
                seconds = time.perf_counter() - begin
                peak, after = memory_mb(process.pid), metrics(port)
            finally:
                process.terminate()
            code = process.wait(120)
    did = {name: after[name] - before[name] for name in MEASURED}
    bound = idle + params.serve.queue_mb + ROOM_MB
    memory = f"{idle:.0f} MB with the model, {peak:.0f} MB at the most, bound {bound:.0f} MB"
    show(sent, seconds, did, alone, caption(load), memory)
    wrong = [each for each in sent if each.status not in EXPECTED[each.what]]
    if wrong or code != 0 or peak > bound:
        sys.exit(f"not as expected: {wrong[:5]}, exit code of the server {code}, memory {memory}")


def photo_paths(folder: Path | None, place: Path, params: Params) -> list[Path]:
    if folder is None:
        make_sample(place / "sample", params.sample, seed=params.seed, workers=params.shards.workers)
        folder = place / "sample" / "images" / "val"
    return [path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png")]


def untrained(folder: Path, params: Params) -> str:
    """A model of the shipped size: as fast as a trained one, with fewer masks that score well."""
    torch.manual_seed(0)
    trained, encoder = folder.with_name("trained"), load_encoder(params.encode)
    side = params.pretrain.image_px
    save_model(trained, Segmenter(encoder, params.model).eval(), params.model, "seed: 0\n", image_px=side)
    write_files(folder, completed(read_files(trained), card="# card", look=look_of(params.predict)))
    return str(folder)


def bare(location: str, params: Params, photos: list[bytes]) -> tuple[float, float]:
    """Photos a second of the model alone, and CPU seconds a photo: decoded, in batches as the server's, no answer."""
    served, size = Source(location, params).load(), params.serve.batch
    images = [decode(data) for data in photos[:BARE_PHOTOS]]
    served.predict(images[:size])
    begin, cpu = time.perf_counter(), time.process_time()
    for start in range(0, len(images), size):
        served.predict(images[start : start + size])
    return len(images) / (time.perf_counter() - begin), (time.process_time() - cpu) / len(images)


def storm(port: int, photos: list[bytes], requests: int, clients: int) -> list[Sent]:
    """All requests, the hostile ones of each sort in turn at places drawn by seed."""
    chance = random.Random(0)
    sorts = [name for name in EXPECTED if name != "photo"]
    places = chance.sample(range(requests), requests // A_HOSTILE)
    hostile = {place: sorts[number % len(sorts)] for number, place in enumerate(places)}
    plan = [(hostile.get(number, "photo"), photos[number % len(photos)]) for number in range(requests)]
    with ThreadPoolExecutor(clients) as people:
        return list(people.map(lambda each: insist(port, *each), plan))


def bomb(side: int) -> bytes:
    """A PNG that says it is `side` x `side` pixels."""
    head, lines = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0), zlib.compress(bytes(100_000_000), 9)
    parts = [(b"IHDR", head), (b"IDAT", lines), (b"IEND", b"")]
    chunks = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


BOMBS = {"bomb of 0.9 gigapixels": bomb(30_000), "bomb of 4 terapixels": bomb(2_000_000)}


def insist(port: int, what: str, photo: bytes) -> Sent:
    """Send until the server takes it, coming again when it says."""
    huge, refused, begin = what.startswith("200 MB"), 0, time.perf_counter()
    while True:
        start = time.perf_counter()
        status, retry_s = send_huge(port, "unsaid" not in what) if huge else send(port, what, photo)
        end = time.perf_counter()
        if status != BUSY or end - begin > PATIENCE_S:
            return Sent(what, status, end - start, end - begin, refused)
        refused += 1
        time.sleep(retry_s * random.uniform(1, LATER))


def send(port: int, what: str, photo: bytes) -> tuple[int, float]:
    """The status, and after how many seconds to come again."""
    uploads = {"photo": photo, "truncated photo": photo[: len(photo) // 2], "nothing": b""}
    uploads |= {"wrong type, a program": b"\x7fELF" + bytes(100_000)}
    uploads |= BOMBS
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
    connection.request("POST", "/v1/masks", uploads[what])
    answer = connection.getresponse()
    said, status = json.loads(answer.read()), answer.status
    connection.close()
    assert ("masks" in said) == (status == 200)
    return status, float(answer.headers.get("Retry-After", 0))


def send_huge(port: int, said: bool) -> tuple[int, float]:
    """Send on until there is an answer, as any client does that looks for one."""
    with socket.create_connection(("127.0.0.1", port), timeout=600) as line:
        size = b"Content-Length: %d" % HUGE_BYTES if said else b"Transfer-Encoding: chunked"
        line.sendall(b"POST /v1/masks HTTP/1.1\r\nHost: x\r\n" + size + b"\r\n\r\n")
        for piece in pieces(said):
            if select.select([line], [], [], 0)[0]:
                break
            line.sendall(piece)
        return int(line.recv(65536).split()[1]), 1.0


def pieces(said: bool) -> Iterator[bytes]:
    for _ in range(HUGE_BYTES // len(PIECE)):
        yield PIECE if said else b"%x\r\n" % len(PIECE) + PIECE + b"\r\n"


def memory_mb(process: int) -> float:
    """The most that a process has held at a time."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1000


def metrics(port: int) -> dict[str, float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        lines = [line.rsplit(" ", 1) for line in answer.read().decode().splitlines() if line[:1] != "#"]
    return {name: float(value) for name, value in lines}


def show(
    sent: list[Sent], seconds: float, did: dict[str, float], alone: tuple[float, float], where: str, memory: str
) -> None:
    good = [each for each in sent if (each.what, each.status) == ("photo", 200)]
    refused = sum(each.refused for each in sent)
    table = Table(title=f"oapseg serve, {len(sent)} requests ({where})")
    for name in ("what", "value"):
        table.add_column(name)
    table.add_row("photos/s", f"{len(good) / seconds:.2f}")
    table.add_row("photos/s of the model alone", f"{alone[0]:.2f}")
    table.add_row("ratio", f"{len(good) / seconds / alone[0]:.2f}")
    cpu = did[CPU] / len(good)
    table.add_row("CPU s a photo, of the model alone, ratio", f"{cpu:.2f}, {alone[1]:.2f}, {alone[1] / cpu:.2f}")
    table.add_row("p50, p99 of an answered photo, s", quantiles([each.seconds for each in good]))
    table.add_row("p50, p99 with the refusals before it, s", quantiles([each.whole_s for each in good]))
    table.add_row("requests told to come again", f"{refused} of {refused + len(sent)}")
    for phase, what in (("model", "a batch"), ("answer", "a photo")):
        total, count = (did[f'{PHASES}_{each}{{phase="{phase}"}}'] for each in ("sum", "count"))
        table.add_row(f"phase {phase}, s {what}", f"{total / count:.2f}")
    table.add_row("photos a batch", f"{did[f'{BATCHES}_sum'] / did[f'{BATCHES}_count']:.1f}")
    table.add_row("memory of the server", memory)
    hostile = [each for each in sent if each.what != "photo"]
    refusals = sum(400 <= each.status < 500 for each in hostile)
    share = f"{len(hostile)} of {len(sent)}, {len(hostile) / len(sent):.1%}"
    table.add_row("hostile uploads, of them answered by 4xx", f"{share}; {refusals}")
    for (what, status), count in sorted(Counter((each.what, each.status) for each in sent).items()):
        slowest = max(each.seconds for each in sent if (each.what, each.status) == (what, status))
        table.add_row(f"{what}: status {status}", f"{count} times, {slowest:.2f} s at the most")
    Console().print(table)


def quantiles(seconds: list[float]) -> str:
    percentiles = statistics.quantiles(seconds, n=100, method="inclusive")
    return f"{percentiles[49]:.2f}, {percentiles[98]:.2f}"


if __name__ == "__main__":
    main()
