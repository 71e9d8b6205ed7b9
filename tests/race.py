"""Writers of one file at one moment."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

from oapseg import storage


def race_to_write(location: str, writers: int) -> list[bool]:
    """Which of the writers made the file, each with its number as content, all started at once."""
    barrier = Barrier(writers)

    def write(writer: int) -> bool:
        barrier.wait()
        try:
            storage.write_bytes(location, b"%d" % writer, only_if_absent=True)
        except FileExistsError:
            return False
        return True

    with ThreadPoolExecutor(writers) as pool:
        return list(pool.map(write, range(writers)))
