"""`python -m k8s.monitoring`: write the alert rules, the dashboards and where Prometheus asks.

They lie beside this file. `python -m k8s.monitoring draw --prometheus URL --out FOLDER` draws each dashboard as a
picture of what Prometheus answers there. It needs no Grafana, and none has drawn what it draws.
"""

import argparse
import json
import sys
from pathlib import Path

import yaml

from k8s.monitoring.alerts import groups, rules_text
from k8s.monitoring.scrapes import pod_monitors, prometheus_yml

FOLDER = Path(__file__).parent
DASHBOARDS = FOLDER / "grafana" / "dashboards"
HEADER = "# Made by `python -m k8s.monitoring`.\n"


def files() -> dict[str, str]:
    """Every file that is made, by its path from here."""
    from grafana_foundation_sdk.cog.encoder import JSONEncoder

    from k8s.monitoring.boards import BOARDS
    from k8s.monitoring.dashboards import build

    made = {"rules.yaml": rules_text(), "prometheus-rule.yaml": prometheus_rule()}
    made |= {"pod-monitors.yaml": HEADER + pod_monitors(), "prometheus.yml": HEADER + prometheus_yml()}
    for name in BOARDS:
        made[f"grafana/dashboards/{name}.json"] = JSONEncoder(sort_keys=True, indent=1).encode(build(name)) + "\n"
    return made


def prometheus_rule() -> str:
    """The same rules as an object of the Prometheus operator."""
    thing = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "oapseg", "labels": {"app.kubernetes.io/name": "oapseg"}},
        "spec": groups(),
    }
    return HEADER + yaml.safe_dump(thing, sort_keys=False, width=120)


def write() -> None:
    """All files, in their places."""
    for name, text in files().items():
        (FOLDER / name).parent.mkdir(parents=True, exist_ok=True)
        (FOLDER / name).write_text(text)


def draw(args: argparse.Namespace) -> None:
    """A picture of each dashboard, all of them or none. Errors: `ValueError`, `OSError`."""
    from k8s.monitoring.ask import Prometheus, Window, asker, duration_s, moment
    from k8s.monitoring.draw import answers, picture, png

    prometheus = Prometheus(args.prometheus)
    source = yaml.safe_load((FOLDER / "grafana" / "datasource.yaml").read_text())["datasources"][0]
    boards = {path.stem: json.loads(path.read_text()) for path in sorted(DASHBOARDS.glob("*.json"))}
    chosen = {name: value.split(",") for name, _, value in (each.partition("=") for each in args.var)}
    known = {each["name"] for board in boards.values() for each in board["templating"].get("list", [])}
    if unknown := sorted(set(chosen) - known):
        raise ValueError(f"--var {unknown[0]}: no dashboard has it; there are {', '.join(sorted(known))}")
    pictures = {}
    for name, board in boards.items():
        start, stop = (moment(args.start or board["time"]["from"]), moment(args.stop or board["time"]["to"]))
        if start >= stop:
            raise ValueError(f"--from: must be before --to; is {args.start or board['time']['from']}")
        asks = asker(board, prometheus, Window(start, stop, duration_s(source["jsonData"]["timeInterval"])), chosen)
        try:
            pictures[name] = png(picture(board, asks, answers(board, asks)))
        except ValueError as error:
            raise ValueError(f"{name}.json, {error}") from None
    args.out.mkdir(parents=True, exist_ok=True)
    for name, content in pictures.items():
        (args.out / f"{name}.png").write_bytes(content)
    print(f"Written: {', '.join(f'{name}.png' for name in pictures)} in {args.out}")


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m k8s.monitoring", description=__doc__)
    commands = parser.add_subparsers(dest="command")
    drawing = commands.add_parser("draw", help="draw the dashboards from what a Prometheus answers")
    drawing.add_argument("--prometheus", required=True, metavar="URL", help="such as http://localhost:9090")
    drawing.add_argument("--out", required=True, type=Path, metavar="FOLDER", help="where the pictures go")
    drawing.add_argument("--from", dest="start", metavar="TIME", help="now-3h, a date, seconds since 1970; the board's")
    drawing.add_argument("--to", dest="stop", metavar="TIME", help="likewise")
    drawing.add_argument("--var", action="append", default=[], metavar="NAME=VALUE[,VALUE]", help="run=mine; all")
    args = parser.parse_args(words)
    if args.command is None:
        write()
        return 0
    try:
        draw(args)
    except (ValueError, OSError) as error:
        print(f"draw: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
