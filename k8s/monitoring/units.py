"""Numbers as Grafana writes them beside a panel's unit: three digits that count, scaled where the unit scales."""

import math

SHORT = ("", " K", " Mil", " Bil", " Tri")
BYTES = (" B", " KiB", " MiB", " GiB", " TiB")
TIMES = ((1e-6, " ns"), (1e-3, " µs"), (1, " ms"), (60, " s"), (3600, " min"), (86400, " hour"), (604800, " day"))
TIME_SIZES = (1e-9, 1e-6, 1e-3, 1, 60, 3600, 86400)  # of each of them, in seconds
WEEK_S = 604800


def spelled(value: float, unit: str) -> str:
    """A value of a panel. Errors: `ValueError` of a unit that is not known here."""
    if math.isnan(value):
        return "NaN"
    if unit == "percentunit":
        return digits(100 * value) + "%"
    if unit == "percent":
        return digits(value) + "%"
    if unit == "s":
        return _time(value)
    if unit in ("short", "bytes"):
        factor, names = (1000, SHORT) if unit == "short" else (1024, BYTES)
        power = math.floor(math.log(abs(value), factor) + 1e-12) if math.isfinite(value) and value else 0
        power = min(max(power, 0), len(names) - 1)
        return digits(value / factor**power) + names[power]
    if unit in ("", "none"):
        return digits(value)
    if unit == "reqps":
        return f"{digits(value)} req/s"
    kind, _, word = unit.partition(":")
    if kind == "suffix":
        return f"{digits(value)} {word}"
    raise ValueError(
        f"unit {unit!r}: not one that is drawn here (short, none, s, bytes, percent, percentunit, reqps, suffix:)"
    )


def digits(value: float) -> str:
    """Three digits that count, whole numbers whole, no zero at the end."""
    if not math.isfinite(value):
        return "∞" if value > 0 else "-∞"
    if value % 1 == 0:
        return f"{value:.0f}"
    places = max(0, 2 - math.floor(math.log10(abs(value))))
    text = f"{value:.{places}f}"
    return text.rstrip("0").rstrip(".") if places else text


def _time(value: float) -> str:
    for (upto, name), size in zip(TIMES, TIME_SIZES, strict=True):
        if abs(value) < upto and value:
            number = value / size
            plural = "s" if size >= 60 and abs(number) > 1 else ""
            return f"{digits(number)}{name}{plural}"
    return f"{digits(value / WEEK_S)} weeks" if value else "0 s"
