"""The history of a training step: what `history.jsonl` holds, one number a column."""

import json
from collections.abc import Iterable
from pathlib import Path

HISTORY = "history.jsonl"
TABLE = "history.csv"  # the same as a table, brought up to date with checkpoints (`oapseg.monitor.table`)

Column = list[tuple[float, float]]  # (step, value)


def read_history(folder: Path) -> dict[str, Column]:
    """Every logged quantity over the steps; where a step was logged twice (a resumed run), the later line counts.

    Errors: `ValueError` where there is no history or a line is not an object with a step.
    """
    path = folder / HISTORY
    try:
        lines = path.read_text().splitlines()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror}); the training step writes it") from None
    rows: dict[float, dict[str, float]] = {}
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            rows[row["step"]] = row
        except (json.JSONDecodeError, TypeError, KeyError):
            raise ValueError(f"{path}, line {number}: not an object with a step") from None
    columns: dict[str, Column] = {}
    for step, row in sorted(rows.items()):
        for name, value in row.items():
            if name != "step" and isinstance(value, int | float):
                columns.setdefault(name, []).append((float(step), float(value)))
    return columns


def rows_of(columns: dict[str, Column]) -> list[dict[str, float]]:
    """The lines again, in the order of their steps."""
    rows: dict[float, dict[str, float]] = {}
    for name, column in columns.items():
        for step, value in column:
            rows.setdefault(step, {"step": step})[name] = value
    return [row for _, row in sorted(rows.items())]


def history_csv(columns: dict[str, Column], also: Iterable[str] = ()) -> str:
    """The same as a table, a row a step, as `dvc plots` draws it.

    Of `also`, what this training does not say is an empty column: a plot of it is empty and no error.
    """
    names = sorted({*columns, *also} - {"step"})
    values = {name: dict(columns.get(name, [])) for name in names}
    steps = sorted({step for column in columns.values() for step, _ in column})
    rows = [
        ",".join([f"{step:.0f}", *(repr(values[name].get(step, "")).strip("'") for name in names)]) for step in steps
    ]
    return "\n".join([",".join(["step", *names]), *rows]) + "\n"
