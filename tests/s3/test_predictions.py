"""`oapseg predict` from one prefix of a real S3 server to another, killed on the way."""

import multiprocessing
import os
import signal
from itertools import count
from pathlib import Path

import pytest
from use.small import contents, predict, small_model, small_params, write_photos

from oapseg.storage import connection, s3


def killed_at(request: int, arguments: list[str]) -> None:
    """The command, killed as it is about to write its n-th object."""
    put, requests = s3.put, count(1)

    def counted(url: str, data: bytes, *, only_if_absent: bool = False) -> None:
        if next(requests) == request:
            os.kill(os.getpid(), signal.SIGKILL)
        put(url, data, only_if_absent=only_if_absent)

    s3.put = counted
    connection.forget()
    os._exit(predict(*arguments))


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_predictions_go_from_s3_to_s3_the_same_bytes_as_in_a_folder_however_often_the_run_is_killed(
    bucket: str, tmp_path: Path
) -> None:
    small_model(tmp_path / "model")
    write_photos(f"{bucket}/photos")
    given = ["--model", str(tmp_path / "model"), "--params", str(small_params(tmp_path)), "--task", "panoptic"]
    assert predict(f"{bucket}/photos", *given, "--out", tmp_path / "folder") == 0
    killed, code = 0, -signal.SIGKILL
    while code == -signal.SIGKILL:
        run = multiprocessing.get_context("fork").Process(
            target=killed_at, args=(killed + 1, [f"{bucket}/photos", *given, "--out", f"{bucket}/out"])
        )
        run.start()
        run.join(60)
        code = run.exitcode
        killed += code == -signal.SIGKILL
    assert (code, killed > 5) == (0, True)
    assert contents(f"{bucket}/out") == contents(str(tmp_path / "folder"))
