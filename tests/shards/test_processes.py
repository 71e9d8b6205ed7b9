"""Processes of the loader: of the trainer's environment, and gone when it is, however it ended."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

READER = """
import os, sys
import torch
from torch.utils.data import DataLoader, Dataset
from oapseg.shards import processes

class Said(Dataset):
    def __len__(self):
        return 10**6
    def __getitem__(self, _):
        return os.getpid(), os.getppid(), os.environ.get("SET_LATER", "")

if __name__ == "__main__":
    processes.start()
    os.environ["SET_LATER"] = "yes"
    loader = DataLoader(
        Said(), batch_size=None, num_workers=1, multiprocessing_context=processes.METHOD,
        worker_init_fn=processes.in_this_environment(),
    )
    for said in loader:
        print(*said, flush=True)
        sys.stdin.readline()
"""


def test_a_worker_has_the_environment_of_now_and_ends_with_a_trainer_that_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "reader.py"
    script.write_text(READER)
    command = [sys.executable, str(script)]
    environment = os.environ | {"PYTHONPATH": str(Path.cwd())}
    with subprocess.Popen(command, stdin=-1, stdout=-1, stderr=subprocess.DEVNULL, env=environment) as trainer:
        assert trainer.stdout is not None
        worker, server, later = trainer.stdout.readline().decode().split()
        assert later == "yes"
        trainer.send_signal(signal.SIGKILL)
    for process in (worker, server):
        gone_by(int(process), time.monotonic() + 30)


def gone_by(process: int, limit: float) -> None:
    while time.monotonic() < limit:
        status = Path(f"/proc/{process}/stat")
        if not status.exists() or status.read_text().rpartition(")")[2].split()[0] == "Z":
            return
        time.sleep(0.1)
    raise AssertionError(f"process {process} is still there")
