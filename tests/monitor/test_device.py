"""What is told of a device: memory and use where there is one, and a training that goes on where NVML says nothing."""

import sys
from types import ModuleType

import live
import pytest
import torch
from test_ranks import page

from oapseg.monitor.exporter import Exporter
from oapseg.monitor.laps import device_use

KEYS = {"gpu_memory": "oapseg_train_gpu_memory_bytes", "gpu_memory_peak": "oapseg_train_gpu_memory_peak_bytes"}
KEYS |= {"gpu_utilisation": "oapseg_train_gpu_utilisation_ratio"}
NONE_HERE = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")


def test_a_cpu_has_neither_memory_nor_use_of_a_device() -> None:
    assert device_use(torch.device("cpu")) == {}


@NONE_HERE
def test_where_nvml_does_not_answer_the_rest_is_told() -> None:
    assert device_use(torch.device("cuda:0")) == {"gpu_memory": 0.0, "gpu_memory_peak": 0.0}


@NONE_HERE
def test_an_error_of_nvml_itself_is_no_end_of_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = ModuleType("pynvml")
    nvml.NVMLError = type("NVMLError", (Exception,), {})  # as its package has it: no RuntimeError

    def refuses(_device: torch.device) -> int:
        raise nvml.NVMLError("Not Supported")  # a slice of a device (MIG) has no use of its own

    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    monkeypatch.setattr(torch.cuda, "utilization", refuses)
    assert set(device_use(torch.device("cuda:0"))) == {"gpu_memory", "gpu_memory_peak"}


@pytest.mark.gpu
def test_a_device_says_what_it_holds() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device here")
    held = torch.zeros(1 << 20, device="cuda")
    found = device_use(torch.device("cuda:0"))
    assert held.nbytes <= found["gpu_memory"] <= found["gpu_memory_peak"]
    assert 0 <= found.get("gpu_utilisation", 0.0) <= 1


def test_what_a_device_said_is_served_in_bytes_and_as_a_share() -> None:
    row = {"gpu_memory": 9.5e9, "gpu_memory_peak": 1.2e10, "gpu_utilisation": 0.97}
    port = live.free_port()
    with Exporter("mine", "pretrain", 0, port=port) as exporter:
        exporter.show({"step": 3, **row})
        served = page(port)
    for key, name in KEYS.items():
        assert served[name] == [({"run": "mine", "task": "pretrain", "rank": "0"}, row[key])]
