"""Who has an alias: promotion by a gate, roll-back, and the registry's alias brought in line with the journal.

The journal decides, the alias follows. Whoever wrote an entry sets the alias and then looks at the journal again; where
a later entry has come meanwhile, the alias is set to that one's version. So the last one to set an alias sets it right,
and only a promoter killed in between leaves it behind, until the next promotion or `reconcile`.
"""

import getpass
import os
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from oapseg.monitor import push
from oapseg.params import GateParams
from oapseg.registry.evidence import Evidence, evidence_of
from oapseg.registry.gate import Verdict, as_markdown, judge, passed, records, refusal
from oapseg.registry.journal import Entry, Journal, head, held_before
from oapseg.registry.lineage import RUN
from oapseg.registry.load import sealed_files
from oapseg.registry.register import CONTENT_TAG, Version
from oapseg.registry.server import Place, get_version, registry

if TYPE_CHECKING:
    from mlflow import MlflowClient

WHO = "OAPSEG_WHO"  # of the environment: who promotes
GATE = "gate."  # opens the tag that says how an alias's gate judged a version
TAG_CHARACTERS = 1000
VERDICTS = "verdicts"  # folder of a version's artifacts
HEADLINE = re.compile(r"(^|\.)model\.[a-z_]*(AP50|AR100|mIoU|PQ)$")  # scores of a version that a dashboard shows


@dataclass(frozen=True)
class Decision:
    """What came of a promotion; without an entry nothing was changed. `holder` had the alias before."""

    version: int
    holder: int | None
    verdicts: Sequence[Verdict]
    entry: Entry | None = None

    @property
    def passed(self) -> bool:
        return passed(self.verdicts)


def promote(
    place: Place,
    version: int | str,
    alias: str,
    gate: GateParams,
    *,
    reason: str = "",
    override: str = "",
    dry_run: bool = False,
) -> Decision:
    """Give a version (number or `latest`) an alias where its gate lets it pass, or with the reason of an `override`.

    The verdict is written to the version's tag `gate.ALIAS` and artifact `verdicts/ALIAS.md`, and with an entry to the
    journal. A version that has the alias already gets no entry.

    Errors: `Lost` where another was promoted while this one was judged; `ValueError` where there is no such version.
    """
    journal = Journal(place.journal, place.name)
    with registry(place.tracking_uri) as client:
        entries = journal.entries()
        held = head(entries, alias)
        found = get_version(client, place.name, version)
        number, before = int(found.version), None if held is None else held.version
        if number == before:
            if not dry_run:
                follow(client, journal, alias)
            return Decision(number, before, [])
        holder = None if before is None else _holder(client, place.name, before)
        verdicts = judge(evidence_of(client, found, whole=True), holder, gate)
        decision = Decision(number, before, verdicts)
        if dry_run:
            return decision
        note(client, place.name, number, alias, verdicts)
        if not decision.passed and not override:
            return decision
        entry = journal.append(
            entries,
            action="promote",
            alias=alias,
            version=number,
            before=before,
            who=who(),
            reason=reason,
            override="" if decision.passed else override,
            verdicts=records(verdicts),
            content_sha256=found.tags.get(CONTENT_TAG, ""),
            run=os.environ.get(RUN, ""),
        )
        follow(client, journal, alias)
    return Decision(number, before, verdicts, entry)


@dataclass(frozen=True)
class RollBack:
    """To which version, from which; without an entry nothing was changed."""

    version: int
    before: int
    entry: Entry | None = None


def roll_back(place: Place, alias: str, *, to: int | None = None, reason: str = "", dry_run: bool = False) -> RollBack:
    """Give an alias back to the version that had it before, or to an earlier one. No gate is asked: it had it once.

    Errors: `Lost`; `ValueError` where there is nothing to go back to, where that version is gone, is another content
    or has a file that was changed, or where it has the alias already.
    """
    journal = Journal(place.journal, place.name)
    entries = journal.entries()
    held, earlier = head(entries, alias), held_before(entries, alias)
    if held is None or not earlier:
        raise ValueError(f"{place.name}@{alias}: no version had it before; nothing to roll back to")
    target = earlier[-1] if to is None else to
    if target == held.version:
        raise ValueError(f"{place.name}@{alias}: version {target} has it already; nothing to roll back")
    if target not in earlier:
        known = ", ".join(str(each) for each in dict.fromkeys(earlier) if each != held.version)
        raise ValueError(f"{place.name}@{alias}: version {target} did not have it before; these did: {known}")
    with registry(place.tracking_uri) as client:
        found = get_version(client, place.name, target)
        content = found.tags.get(CONTENT_TAG, "")
        had = next(each for each in reversed(entries) if (each.alias, each.version) == (alias, target))
        if content != had.content_sha256:
            raise ValueError(
                f"{place.name} version {target}: its {CONTENT_TAG} is {content or 'not there'}, and was "
                f"{had.content_sha256} when it became {alias} (entry {had.number})"
            )
        try:
            sealed_files(client, found)
        except ValueError as error:
            raise ValueError(f"{place.name}@{alias}: not rolled back to version {target}: {error}") from None
        if dry_run:
            return RollBack(target, held.version)
        entry = journal.append(
            entries,
            action="rollback",
            alias=alias,
            version=target,
            before=held.version,
            who=who(),
            reason=reason,
            override="",
            verdicts=[],
            content_sha256=content,
            run=os.environ.get(RUN, ""),
        )
        follow(client, journal, alias)
    return RollBack(target, held.version, entry)


def reconcile(place: Place) -> dict[str, tuple[int | None, int]]:
    """Bring every alias in line with the journal: by alias, the version it had and the one it has.

    Errors: `ValueError` where the journal has no entry, or is damaged.
    """
    journal = Journal(place.journal, place.name)
    aliases = dict.fromkeys(entry.alias for entry in journal.entries())
    if not aliases:
        raise ValueError(f"{journal.folder}: no entry; nothing was promoted yet")
    with registry(place.tracking_uri) as client:
        return {alias: follow(client, journal, alias) for alias in aliases}


def follow(client: "MlflowClient", journal: Journal, alias: str) -> tuple[int | None, int]:
    """Set an alias to what the journal says until it says the same after as before; the version before, and now."""
    first = has(client, journal.model, alias)
    while True:
        decided = head(journal.entries(), alias)
        if decided is None:
            raise ValueError(f"{journal.folder}: no entry for {alias}")
        if has(client, journal.model, alias) != decided.version:
            client.set_registered_model_alias(journal.model, alias, str(decided.version))
        if head(journal.entries(), alias) == decided:
            tell(client, journal.model, alias, decided.version)
            return first, decided.version


def tell(client: "MlflowClient", name: str, alias: str, version: int) -> None:
    """Tell the Pushgateway, where there is one, which version has the alias, with its headline scores."""
    if os.environ.get(push.GATEWAY):
        run_id = get_version(client, name, version).run_id
        scores = client.get_run(run_id).data.metrics if run_id else {}
        push.alias(name, alias, version, {metric: value for metric, value in scores.items() if HEADLINE.search(metric)})


def has(client: "MlflowClient", name: str, alias: str) -> int | None:
    """The version that has an alias in the registry."""
    version = client.get_registered_model(name).aliases.get(alias)
    return None if version is None else int(version)


def judge_registered(
    tracking_uri: str, journal: str | None, version: Version, alias: str, evidence: Evidence | None, gate: GateParams
) -> list[Verdict]:
    """How an alias's gate judges a version just registered, against the one that has the alias.

    That is whom the journal says, as the registry may be behind; whom the registry says where there is no journal to
    be seen. Without `evidence`, by what was registered with it.
    """
    with registry(tracking_uri) as client:
        if evidence is None:
            evidence = evidence_of(client, get_version(client, version.name, version.version), whole=True)
        if journal is None:
            held = has(client, version.name, alias)
        else:
            decided = head(Journal(journal, version.name).entries(), alias)
            held = None if decided is None else decided.version
        verdicts = judge(evidence, None if held is None else _holder(client, version.name, held), gate)
        note(client, version.name, version.version, alias, verdicts)
    return verdicts


def _holder(client: "MlflowClient", name: str, version: int) -> Evidence:
    """What is known of the version that has the alias; nothing where it was deleted, so that no score is compared."""
    try:
        return evidence_of(client, get_version(client, name, version), whole=False)
    except (ValueError, OSError) as error:
        return Evidence(f"version {version}", {}, problem=str(error))


def note(client: "MlflowClient", name: str, version: int, alias: str, verdicts: Sequence[Verdict]) -> None:
    """Leave a gate's verdict on the version for the registry's own pages: a line as its tag, the table as a file."""
    said = "passed" if passed(verdicts) else f"refused: {refusal(verdicts)}"
    client.set_model_version_tag(name, str(version), f"{GATE}{alias}", said[:TAG_CHARACTERS])
    if run_id := get_version(client, name, version).run_id:
        table = f"# {name} version {version}, gate of {alias}\n\n{said}\n\n{as_markdown(verdicts)}\n"
        client.log_text(run_id, table, f"{VERDICTS}/{alias}.md")


def who() -> str:
    """Who promotes: `OAPSEG_WHO`, or the user and the machine."""
    if said := os.environ.get(WHO):
        return said
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # an id without a name, as in many containers
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"
