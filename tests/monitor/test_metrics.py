"""The list of metrics: names as Prometheus wants them, and keys of the history that each find one."""

import re

import pytest

from oapseg.monitor.metrics import METRICS, TRAIN_METRICS, find, samples

UNITS = {"seconds": "_seconds", "bytes": "_bytes", "ratio": "_ratio", "nats": "_nats"}


def test_names_are_prometheus_names_that_end_in_their_base_unit() -> None:
    for name, metric in METRICS.items():
        assert re.fullmatch(r"oapseg_[a-z]+(_[a-z]+)*", name)
        assert name.removesuffix("_total").endswith(UNITS.get(metric.unit, "")), name
        assert name.endswith("_total") == (metric.kind == "counter")
        assert not metric.meaning[0].islower()
        assert not metric.meaning.endswith(".")


def test_no_two_metrics_share_a_name_or_a_key() -> None:
    assert len(METRICS) >= len(TRAIN_METRICS)
    assert len({metric.name for metric in TRAIN_METRICS}) == len(TRAIN_METRICS)
    keys = [metric.key for metric in TRAIN_METRICS if metric.key]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize(
    ("key", "name", "labels"),
    [
        ("loss", "oapseg_train_loss", {}),
        ("loss_dice", "oapseg_train_loss_part", {"part": "dice"}),
        ("masks_semantic_12", "oapseg_masks_level_per_image", {"kind": "semantic", "level": "12"}),
        ("area_p90", "oapseg_mask_area_ratio", {"quantile": "90"}),
    ],
)
def test_a_key_finds_its_metric_and_labels(key: str, name: str, labels: dict[str, str]) -> None:
    ((metric, found, value),) = samples({key: 2.0})
    assert (metric.name, found, value) == (name, labels, 2.0)


@pytest.mark.parametrize("key", ["loss_made_up", "masks_instance_0", "masks_instance_100", "area_p51", ""])
def test_labels_are_bounded_and_other_keys_are_no_metric(key: str) -> None:
    assert find(key) is None
