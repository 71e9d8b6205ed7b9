"""Where a training runs."""

import pytest
import torch

from oapseg.train.distributed import place


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
@pytest.mark.parametrize("section", ["encoder", "pretrain", "finetune"])
def test_cuda_where_there_is_none_is_one_line_that_names_the_section(section: str) -> None:
    with pytest.raises(ValueError, match=rf"^{section}\.device: cuda is asked for and no CUDA device is here"):
        place("cuda", "bf16", section)


def test_auto_takes_the_cpu_where_there_is_no_other() -> None:
    placement = place("auto", "fp32", "pretrain")
    assert placement.device.type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert (placement.rank, placement.world) == (0, 1)
