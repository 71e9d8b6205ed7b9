"""Class maps agree with what COCO's own annotation files and the benchmarks' definitions say."""

import json
from typing import get_args

from oapseg.params import BenchmarkParams
from oapseg.shards.datasets import cityscapes, coco_stuff
from oapseg.shards.datasets.class_maps import CLASS_MAPS, STUFF_15


def test_the_maps_are_those_that_parameters_may_name() -> None:
    allowed = get_args(BenchmarkParams.model_fields["classes"].annotation)
    assert {name for each in allowed for name in get_args(each)} == CLASS_MAPS.keys()


def test_every_class_of_a_map_has_a_category() -> None:
    for classes in CLASS_MAPS.values():
        assert set(classes.of.values()) == set(range(len(classes.names)))
        assert len(classes.isthing) == len(classes.names) == len(set(classes.names))


def test_coco_stuff_has_12_things_and_15_stuff_of_182() -> None:
    classes = CLASS_MAPS["coco_stuff27"]
    assert (sum(classes.isthing), len(classes.names), len(classes.of)) == (12, 27, 182)
    assert all(classes.isthing[place] == (number <= 91) for number, place in classes.of.items())


def test_the_coarse_classes_of_coco_are_its_own_supercategories(real_data) -> None:
    raw = json.loads((real_data / "coco/annotations/panoptic_val2017.json").read_text())
    own, coarse = CLASS_MAPS["coco_u2seg"], CLASS_MAPS["coco_stuff27"]
    for category in raw["categories"]:
        group = category["supercategory"].removesuffix("-stuff").replace("raw-material", "rawmaterial")
        if category["isthing"]:
            assert own.names[own.of[category["id"]]] == category["name"] == coco_stuff.NAMES[category["id"] - 1]
        else:
            assert own.names[own.of[category["id"]]] == f"{group}-stuff"
        if category["id"] <= 182:
            name = f"{group}-{'things' if category['isthing'] else 'stuff'}"
            assert coarse.names[coarse.of[category["id"]]] == name


def test_u2seg_scores_80_things_and_15_stuff() -> None:
    classes = CLASS_MAPS["coco_u2seg"]
    assert (sum(classes.isthing), len(classes.names)) == (80, 95)
    assert classes.names[80:] == STUFF_15


def test_cityscapes_has_8_things_of_19_and_10_of_27() -> None:
    assert [sum(CLASS_MAPS[name].isthing) for name in ("cityscapes19", "cityscapes27")] == [8, 10]
    assert len(CLASS_MAPS["cityscapes19"].names) == 19
    assert {category["id"]: CLASS_MAPS["cityscapes27"].of[category["id"]] for category in cityscapes.CATEGORIES} == {
        number: number - 7 for number in range(7, 34)
    }
