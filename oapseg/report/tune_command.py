"""Settings of a generator for one's own photos, found without a label.

Coverage, the photo's edges (boundaries that follow one, edges that a boundary follows), stability under flips and crops
and agreement between levels choose; where photos have labels (shards that carry them, or --labels), what every setting
would have scored is told beside, so that the choice can be judged.
"""

import argparse
from collections.abc import Sequence
from html import escape
from typing import Any

import yaml
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from oapseg import storage
from oapseg.encode.load import load_encoder
from oapseg.evaluate.generators import rounded
from oapseg.evaluate.predict import check_side, choose_device
from oapseg.evaluate.tune import Trial, correlations, scored, see, settings_to_try, try_settings
from oapseg.params import Params, Section, load_params
from oapseg.pool import GENERATORS
from oapseg.progress import track
from oapseg.report.compare_command import add_photos, photos_of, with_concepts
from oapseg.report.photos import spread
from oapseg.shards.read import Photos

WIDTH, HEIGHT, MARGIN = 460, 340, 48  # of the picture, in user units
SHOWN = 5  # trials on the console
LOG_COLUMNS = 110  # of a table that goes to a log
STYLE = (
    "svg{color-scheme:light dark;font:12px system-ui,sans-serif;--ink:#1c2126;--soft:#626b74;--line:#e4e6e8;"
    "--dot:#98a1aa;--best:#0b7285;--now:#d9822b;--page:#fbfbfa}"
    "@media(prefers-color-scheme:dark){svg{--ink:#e8eaec;--soft:#98a1aa;--line:#2c3238;--dot:#78818a;--best:#4fc3d7;"
    "--now:#f0a860;--page:#14171a}}"
    ".page{fill:var(--page)}.axis{stroke:var(--line)}text{fill:var(--soft)}.title{fill:var(--ink);font-weight:600}"
    ".dot{fill:var(--dot)}.best{fill:var(--best)}.now{fill:var(--now)}"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("generator", choices=list(GENERATORS), metavar="GENERATOR", help=", ".join(GENERATORS))
    add_photos(parser)
    parser.add_argument("--trials", type=int, help="settings tried besides the present ones; default: tune.trials")
    parser.add_argument("--out", required=True, help="folder for params.yaml, trials.md, trials.json and score.svg")


def main(args: argparse.Namespace) -> None:
    params = load_params(args.params)
    name, trials = args.generator, params.tune.trials if args.trials is None else args.trials
    if name not in params.tune.ranges:
        raise ValueError(f"tune.ranges has no {name}; it has {', '.join(params.tune.ranges)}")
    if trials < 1:
        raise ValueError(f"--trials: must be at least 1, is {trials}")
    tried = _to_try(name, params, trials)
    manifest = photos_of(args, params)
    notes: list[str] = []
    if name == "acseg":
        params, note = with_concepts(params, manifest, args.out)
        print(note)
        notes, tried = [f"{note}."], _to_try(name, params, trials)
    encoder = load_encoder(params.encode).to(choose_device(params.predict.device))
    check_side(params.predict, encoder)
    if (changed := rounded(name, params, encoder)) is not None:
        notes.append(f"{changed}.")
    photos = Photos(manifest)
    samples = [photos[number] for number in spread(params.tune.photos, len(photos))]
    seen = see(samples, encoder, params)
    found = list(track(try_settings(name, tried, seen, params, encoder), f"settings of {name}", len(tried)))
    working = [trial for trial in found if trial.failure is None]
    if not working:
        raise ValueError(f"{name} fails with every setting: {found[0].failure}")
    ranked = scored(working, dict(params.tune.weights))
    best = max(ranked, key=lambda trial: trial.score)
    ordered = sorted(ranked, key=lambda trial: trial.score, reverse=True)
    lines = [*_said(name, ordered, found, best, len(samples)), *notes]
    storage.write_text(
        storage.join(args.out, "params.yaml"), yaml.safe_dump({"pool": {name: best.settings}}, sort_keys=False)
    )
    storage.write_json(storage.join(args.out, "trials.json"), [_plain(trial) for trial in ordered])
    storage.write_text(
        storage.join(args.out, "trials.md"), _markdown(name, ordered, lines, list(params.tune.ranges[name]))
    )
    if best.truth:
        storage.write_text(storage.join(args.out, "score.svg"), scatter(name, ordered, _present(found, ordered)))
    _print(ordered)
    print("\n".join([*lines, f"Written: params.yaml, trials.md, trials.json in {args.out}"]))


def _to_try(name: str, params: Params, trials: int) -> list[Section]:
    try:
        return settings_to_try(params.pool[name], params.tune.ranges[name], trials, params.seed)
    except ValueError as error:
        raise ValueError(f"tune.ranges.{name}: {error}") from None


def scatter(name: str, trials: Sequence[Trial], present: Trial | None) -> str:
    """Score against truth, a dot a setting: the chosen one and the present one marked."""
    truth = [trial.truth["AR"] for trial in trials]
    low, high = min(truth), max(truth)
    best, least = trials[0], trials[-1].score

    def place(trial: Trial) -> tuple[float, float]:
        share = (trial.truth["AR"] - low) / (high - low) if high > low else 0.5
        x = MARGIN + ((trial.score - least) / (best.score - least or 1.0)) * (WIDTH - 2 * MARGIN)
        return round(x, 1), round(HEIGHT - MARGIN - share * (HEIGHT - 2 * MARGIN), 1)

    dots = []
    for trial in trials:
        kind = "best" if trial is best else "now" if trial is present else "dot"
        x, y = place(trial)
        dots.append(f'<circle class="{kind}" cx="{x}" cy="{y}" r="{4 if kind == "dot" else 6}"/>')
        if kind != "dot":
            said = "chosen" if kind == "best" else "present"
            dots.append(f'<text x="{x}" y="{y - 10}" text-anchor="middle">{said}</text>')
    left, bottom, right = MARGIN, HEIGHT - MARGIN, WIDTH - MARGIN
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}"><style>{STYLE}</style>'
        f'<rect class="page" width="{WIDTH}" height="{HEIGHT}"/>'
        f'<text class="title" x="{left}" y="22">{len(trials)} settings of {escape(name)}: score against recall</text>'
        f'<path class="axis" d="M{left} {MARGIN - 8}V{bottom}H{right}" fill="none"/>'
        f'<text x="{left - 6}" y="{bottom}" text-anchor="end">{low:.1f}</text>'
        f'<text x="{left - 6}" y="{MARGIN}" text-anchor="end">{high:.1f}</text>'
        f'<text x="{left}" y="{bottom + 16}">{least:.2f}</text>'
        f'<text x="{right}" y="{bottom + 16}" text-anchor="end">{best.score:.2f}</text>'
        f'<text x="{(left + right) / 2}" y="{bottom + 32}" text-anchor="middle">label-free score</text>'
        f'<text x="14" y="{HEIGHT / 2}" transform="rotate(-90 14 {HEIGHT / 2})" text-anchor="middle">AR, percent</text>'
        f"{''.join(dots)}</svg>\n"
    )


def _present(found: Sequence[Trial], ranked: Sequence[Trial]) -> Trial | None:
    return next((trial for trial in ranked if trial.settings == found[0].settings), None)


def _said(name: str, ranked: Sequence[Trial], found: Sequence[Trial], best: Trial, photos: int) -> list[str]:
    """What was chosen, and how far the choice can be trusted."""
    changed = {key: value for key, value in best.settings.items() if value != found[0].settings[key]}
    said = ", ".join(f"{key}: {value}" for key, value in changed.items()) or "the present settings"
    lines = [f"{len(ranked)} settings of {name} on {photos} photos; chosen without labels: {said}."]
    if failed := [trial for trial in found if trial.failure is not None]:
        lines.append(f"{len(failed)} settings failed, such as: {failed[0].failure}.")
    present = _present(found, ranked)
    if best.truth and present is not None:
        most = max(trial.truth["AR"] for trial in ranked)
        lines.append(
            f"By the labels, which chose nothing: AR {best.truth['AR']:.2f}, AP50 {best.truth['AP50']:.2f}; "
            f"the present settings {present.truth['AR']:.2f}, {present.truth['AP50']:.2f}; "
            f"the best AR of any setting {most:.2f}."
        )
        for truth in ("AR", "AP50"):
            told = ", ".join(f"{key} {value:+.2f}" for key, value in correlations(ranked, truth).items())
            lines.append(f"Rank correlation with {truth}: {told}.")
    else:
        lines.append("No labels: whether the choice is right is not known; look at it with `oapseg compare`.")
    return lines


def _markdown(name: str, ranked: Sequence[Trial], lines: Sequence[str], tuned: Sequence[str]) -> str:
    measures, truths = list(ranked[0].measures), list(ranked[0].truth)
    head = ["score", *measures, "masks", *truths, *tuned]
    rows = [f"# Settings of {name}", "", *(f"{line}  " for line in lines), "", f"| {' | '.join(head)} |"]
    rows.append(f"|{'---:|' * len(head)}")
    for trial in ranked:
        cells = [f"{trial.score:.3f}", *(f"{trial.measures[key]:.3f}" for key in measures), f"{trial.masks:.1f}"]
        cells += [f"{trial.truth[key]:.2f}" for key in truths] + [str(trial.settings[key]) for key in tuned]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


def _plain(trial: Trial) -> dict[str, Any]:
    """A trial as JSON has it: what could not be measured is left out."""
    measures = {key: value for key, value in trial.measures.items() if value == value}
    return {
        "settings": trial.settings,
        "score": trial.score,
        "measures": measures,
        "masks": trial.masks,
        "truth": trial.truth,
    }


def _print(ranked: Sequence[Trial]) -> None:
    measures, truths = list(ranked[0].measures), list(ranked[0].truth)
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for head in ("score", *measures, "masks", *truths):
        table.add_column(head, justify="right")
    for trial in ranked[:SHOWN]:
        values = [f"{trial.measures[key]:.3f}" for key in measures]
        table.add_row(
            f"{trial.score:.3f}", *values, f"{trial.masks:.1f}", *(f"{trial.truth[key]:.2f}" for key in truths)
        )
    console = Console(highlight=False)
    console.width = max(console.width, 0 if console.is_terminal else LOG_COLUMNS)
    console.print(table)
