"""Whether a version may have an alias: rules, what they found, and the table of both."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from oapseg.evaluate.resamples import difference
from oapseg.params import GateParams
from oapseg.registry.card import lacking
from oapseg.registry.evidence import Evidence


@dataclass(frozen=True)
class Verdict:
    """One rule. Scores are in percent; `difference` is to the holder of the alias, `low` and `high` its interval."""

    rule: str
    passed: bool
    said: str  # why, in words
    benchmark: str | None = None
    score: str | None = None
    limit: float | None = None
    candidate: float | None = None
    holder: float | None = None
    difference: float | None = None
    low: float | None = None
    high: float | None = None

    def line(self) -> str:
        where = f"{self.benchmark} {self.score}: " if self.score else ""
        return f"{where}{self.rule}: {self.said}"


def judge(candidate: Evidence, holder: Evidence | None, gate: GateParams) -> list[Verdict]:
    """Every rule of a gate, each with its verdict: files, card, licences, then score by score."""
    verdicts = [_files(candidate), _card(candidate), _licences(candidate, gate)]
    for benchmark, limits in gate.benchmarks.items():
        if benchmark not in candidate.benchmarks:
            found = ", ".join(candidate.benchmarks) or "none"
            verdicts.append(Verdict("required", False, f"not scored on it (scored on: {found})", benchmark))
            continue
        verdicts.append(Verdict("required", True, "scored", benchmark))
        for score, limit in limits.items():
            if limit.min is not None:
                verdicts.append(_at_least(candidate, benchmark, score, limit.min))
            if limit.max_regression is not None:
                verdicts.append(_no_worse(candidate, holder, benchmark, score, limit.max_regression))
    return verdicts


def passed(verdicts: Sequence[Verdict]) -> bool:
    return all(verdict.passed for verdict in verdicts)


def refusal(verdicts: Sequence[Verdict]) -> str:
    """The rules that were not met, in one line."""
    return "; ".join(verdict.line() for verdict in verdicts if not verdict.passed)


def records(verdicts: Sequence[Verdict]) -> list[dict[str, Any]]:
    """As the journal keeps them, without what does not apply."""
    return [{key: value for key, value in asdict(each).items() if value is not None} for each in verdicts]


def as_markdown(verdicts: Sequence[Verdict]) -> str:
    """The table, for a page."""
    rows = ["| rule | benchmark | score | limit | candidate | holder | difference [95 %] | verdict |", f"|{'---|' * 8}"]
    rows += [f"| {' | '.join(row)} |" for row in cells(verdicts)]
    return "\n".join(rows)


def cells(verdicts: Sequence[Verdict]) -> Iterator[list[str]]:
    """A row of text for each rule: rule, benchmark, score, limit, candidate, holder, difference, verdict."""
    for each in verdicts:
        numbers = [_number(value) for value in (each.limit, each.candidate, each.holder)]
        apart = "" if each.difference is None else f"{each.difference:+.2f} [{each.low:+.2f}, {each.high:+.2f}]"
        said = "passed" if each.passed else "REFUSED"
        yield [each.rule, each.benchmark or "", each.score or "", *numbers, apart, f"{said}: {each.said}"]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _files(candidate: Evidence) -> Verdict:
    said = candidate.problem or "every file has its hash"
    return Verdict("files", candidate.problem is None, said)


def _card(candidate: Evidence) -> Verdict:
    if candidate.problem and not candidate.card:
        return Verdict("card", False, "not read")
    absent = lacking(candidate.card)
    return Verdict("card", not absent, f"lacks {', '.join(absent)}" if absent else "complete")


def _licences(candidate: Evidence, gate: GateParams) -> Verdict:
    has = ", ".join(f"{name} {licence}" for name, licence in candidate.licences.items()) or "none stated"
    if gate.licences is None:
        return Verdict("licences", True, f"any is allowed ({has})")
    refused = {name: each for name, each in candidate.licences.items() if each not in gate.licences}
    if refused or not candidate.licences:
        wrong = ", ".join(f"{name} is {licence}" for name, licence in refused.items()) or has
        return Verdict("licences", False, f"{wrong}; allowed: {', '.join(gate.licences)}")
    return Verdict("licences", True, has)


def _at_least(candidate: Evidence, benchmark: str, name: str, limit: float) -> Verdict:
    score = candidate.benchmarks[benchmark].of_model(name)
    if score is None:
        return Verdict("min", False, "not measured", benchmark, name, limit)
    reached = score.value >= limit
    said = f"{score.value:.2f} is {'at least' if reached else 'below'} {limit:.2f}"
    return Verdict("min", reached, said, benchmark, name, limit, score.value)


def _no_worse(candidate: Evidence, holder: Evidence | None, benchmark: str, name: str, limit: float) -> Verdict:
    """That the low end of the paired interval lies no more than the limit below 0: a loss larger than that is unlikely.

    Not that the difference itself does: on few photos a worse model would often pass by chance.
    """
    rule = "max_regression"
    mine = candidate.benchmarks[benchmark]
    score = mine.of_model(name)
    if score is None:
        return Verdict(rule, False, f"{candidate.version} was not measured", benchmark, name, limit)
    if holder is None:
        return Verdict(rule, True, "nobody holds the alias", benchmark, name, limit, score.value)
    theirs = holder.benchmarks.get(benchmark)
    other = None if theirs is None else theirs.of_model(name)
    if other is None or theirs is None:
        why = f" ({holder.problem})" if holder.problem else ""
        return Verdict(rule, False, f"{holder.version} was not measured{why}", benchmark, name, limit, score.value)
    both = (score.value, other.value)
    try:
        apart, low, high = difference(name, score, mine.resamples, other, theirs.resamples)
    except ValueError as error:
        said = f"cannot be compared with {holder.version}: {error}; score both alike and register again"
        return Verdict(rule, False, said, benchmark, name, limit, *both)
    kept = low >= -limit
    said = (
        f"{score.value:.2f} against {other.value:.2f} of {holder.version}: difference {apart:+.2f}, its 95 % interval "
        f"[{low:+.2f}, {high:+.2f}] {'stays above' if kept else 'reaches below'} {-limit:+.2f}"
    )
    return Verdict(rule, kept, said, benchmark, name, limit, *both, apart, low, high)
