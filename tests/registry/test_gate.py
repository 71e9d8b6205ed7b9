"""The gate: what it asks of a version, and that it says what it found."""

from dataclasses import replace

import numpy as np
import pytest
from registry.cards import COMPLETE

from oapseg.evaluate.intervals import Measured, resample_photos
from oapseg.evaluate.resamples import Resamples, difference, read_resamples, write_resamples
from oapseg.evaluate.scores import Group, Score
from oapseg.params import GateParams
from oapseg.registry.evidence import Evidence, Scored
from oapseg.registry.gate import as_markdown, judge, passed, refusal

PHOTOS, DRAWS = 60, 200


def measured(seed: int, *, better_by: float = 0.0) -> Measured:
    """A mean over photos that differ much from one another, and on each resample of them, as a share."""
    photos = np.random.default_rng(0).uniform(0, 0.4, PHOTOS) + np.random.default_rng(seed).normal(0, 0.01, PHOTOS)
    photos += better_by
    weights = resample_photos(PHOTOS, DRAWS, 0)
    return Measured(float(photos.mean()), weights @ photos / PHOTOS)


def evidence(name: str, seed: int, better_by: float = 0.0, **changes: object) -> Evidence:
    value = measured(seed, better_by=better_by)
    score = Score(100 * value.value, 0.0, 1.0, "val", "COCO", "val", PHOTOS, "ones", "da7a")
    kept = Resamples({"mask_AP50": 100 * value.resampled}, {"mask_AP50": "drawn"})
    whole = Evidence(name, {"val": Scored({"model.mask_AP50": score}, kept)}, COMPLETE, {"val": "CC0-1.0"})
    return replace(whole, **changes)


def gate(benchmarks: object, licences: list[str] | None = None) -> GateParams:
    return GateParams.model_validate({"benchmarks": benchmarks, "licences": licences})


NO_WORSE = gate({"val": {"mask_AP50": {"max_regression": 1.0}}})


def test_a_worse_candidate_is_refused_with_benchmark_values_interval_and_rule() -> None:
    verdicts = judge(evidence("version 2", 2, -0.04), evidence("version 1", 1), NO_WORSE)
    assert not passed(verdicts)
    (wrong,) = (verdict for verdict in verdicts if not verdict.passed)
    assert (wrong.rule, wrong.benchmark, wrong.score, wrong.limit) == ("max_regression", "val", "mask_AP50", 1.0)
    assert wrong.low <= wrong.difference <= wrong.high < -1.0
    assert wrong.candidate - wrong.holder == pytest.approx(wrong.difference)
    line = refusal(verdicts)
    for part in (
        f"{wrong.candidate:.2f}",
        f"{wrong.holder:.2f} of version 1",
        f"[{wrong.low:+.2f}, {wrong.high:+.2f}]",
    ):
        assert part in line


def test_the_interval_is_of_the_pairs_and_not_of_the_photos() -> None:
    """Photos differ by ten times more than the models do; in pairs that goes away."""
    (verdict,) = (
        each
        for each in judge(evidence("version 2", 2), evidence("version 1", 1), NO_WORSE)
        if each.rule == "max_regression"
    )
    alone = measured(2).interval()
    assert alone is not None
    assert verdict.high - verdict.low < 0.15 * 100 * (alone[1] - alone[0])
    assert verdict.passed


def test_a_loss_that_photos_are_too_few_to_rule_out_is_refused() -> None:
    noisy = evidence("version 2", 2)
    scored = noisy.benchmarks["val"]
    values = scored.resamples.values["mask_AP50"] + np.random.default_rng(5).normal(0, 3, DRAWS)
    kept = Resamples({"mask_AP50": values}, {"mask_AP50": "drawn"})
    noisy = replace(noisy, benchmarks={"val": replace(scored, resamples=kept)})
    assert not passed(judge(noisy, evidence("version 1", 1), NO_WORSE))
    assert passed(judge(noisy, None, NO_WORSE))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"data": "other"}, r"data differs \(da7a and other\)"),
        ({"protocol": "LVIS"}, r"protocol differs \(COCO and LVIS\)"),
    ],
)
def test_scores_of_other_data_or_another_protocol_are_not_compared(change: dict[str, str], said: str) -> None:
    holder = evidence("version 1", 1)
    scored = holder.benchmarks["val"]
    other = {"model.mask_AP50": replace(scored.scores["model.mask_AP50"], **change)}
    holder = replace(holder, benchmarks={"val": Scored(other, scored.resamples)})
    verdicts = judge(evidence("version 2", 2), holder, NO_WORSE)
    assert not passed(verdicts)
    with pytest.raises(ValueError, match=said):
        raise ValueError(refusal(verdicts))


def test_resamples_that_were_drawn_otherwise_are_not_compared() -> None:
    mine, theirs = evidence("a", 1).benchmarks["val"], evidence("b", 2).benchmarks["val"]
    score = mine.scores["model.mask_AP50"]
    for others in (Resamples(theirs.resamples.values, {"mask_AP50": "otherwise"}), None):
        with pytest.raises(ValueError, match=r"drawn differently|no resamples"):
            difference("mask_AP50", score, mine.resamples, score, others)


def test_a_least_value_a_required_benchmark_and_a_score_that_is_missing_are_each_told() -> None:
    asked = gate({"val": {"mask_AP50": {"min": 99}, "mask_AP": {"min": 1}}, "coco": {}})
    found = [(verdict.rule, verdict.benchmark, verdict.passed) for verdict in judge(evidence("v", 1), None, asked)[3:]]
    assert found == [
        ("required", "val", True),
        ("min", "val", False),
        ("min", "val", False),
        ("required", "coco", False),
    ]
    line = refusal(judge(evidence("v", 1), None, asked))
    assert "is below 99.00" in line
    assert "val mask_AP: min: not measured" in line
    assert "not scored on it (scored on: val)" in line


def test_licences_that_are_not_allowed_or_not_stated_are_refused() -> None:
    only = gate({}, ["CC0-1.0"])
    assert passed(judge(evidence("v", 1), None, only))
    for licences in ({"val": "CC0-1.0", "pretrain": "CC-BY-NC-4.0"}, {}):
        assert not passed(judge(evidence("v", 1, licences=licences), None, only))
    assert passed(judge(evidence("v", 1, licences={}), None, gate({})))
    assert "pretrain is CC-BY-NC-4.0; allowed: CC0-1.0" in refusal(
        judge(evidence("v", 1, licences={"val": "CC0-1.0", "pretrain": "CC-BY-NC-4.0"}), None, only)
    )


@pytest.mark.parametrize(
    ("card", "lacks"),
    [
        ("", "section Data, section Scores"),
        (COMPLETE.replace("## Limits\n\n- Few.", "## Limits\n"), "section Limits"),
        (COMPLETE.replace("(14.0 to 16.0)", ""), "a score with its interval"),
        (COMPLETE.replace("`c0ffee`", "`unknown`"), "the commit"),
    ],
)
def test_an_incomplete_card_is_refused_with_what_it_lacks(card: str, lacks: str) -> None:
    assert f"card: lacks {lacks}" in refusal(judge(evidence("v", 1, card=card), None, gate({})))


def test_a_changed_file_is_refused() -> None:
    broken = evidence("v", 1, problem="model.safetensors was changed", card="")
    assert refusal(judge(broken, None, gate({}))) == "files: model.safetensors was changed; card: not read"


def test_the_table_has_a_row_a_rule() -> None:
    verdicts = judge(evidence("version 2", 2), evidence("version 1", 1), NO_WORSE)
    lines = as_markdown(verdicts).splitlines()
    assert len(lines) == 2 + len(verdicts)
    assert lines[0].count("|") == lines[1].count("|") == lines[-1].count("|")


def test_resamples_come_back_from_their_file_and_tell_their_draws(tmp_path: object) -> None:
    value = measured(1)
    said = {"mask_AP": {"images": PHOTOS}, "mask_AP50": {"images": PHOTOS - 1}}
    group = Group({"mask_AP": value, "mask_AP50": value}, said)
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        write_resamples(f"{tmp_path}/{name}", group, DRAWS, seed)
    first, again, other = (read_resamples(f"{tmp_path}/{name}") for name in "abc")
    assert np.array_equal(first.values["mask_AP"], 100 * value.resampled)
    assert first.draws == again.draws
    assert first.draws["mask_AP"] != first.draws["mask_AP50"]
    assert first.draws["mask_AP"] != other.draws["mask_AP"]
