"""A figure that is drawn on in pixels, with Grafana's colours."""

import re
import textwrap
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH_PX, DPI = 1600, 100
LINE_PX, LETTER_PX = 17, 8.4  # of text, a letter at size 10
PALETTE = ("#73bf69", "#f2cc0c", "#5794f2", "#ff780a", "#f2495c", "#b877d9", "#37872d", "#e0b400", "#1f60c4", "#c4162a")
COLOURS = {"green": "#56a64b", "red": "#e02f44", "orange": "#ff780a", "yellow": "#e0b400", "blue": "#3274d9"}
INK, FAINT, CARD, EDGE = "#24292e", "#8e8e8e", "#ffffff", "#dcdde0"

Box = tuple[float, float, float, float]  # left, top, width, height in pixels


class Canvas:
    """Pixels count from the upper left corner."""

    def __init__(self, figure: "Figure", height: float) -> None:
        self.figure, self.height = figure, height

    def text(self, x: float, y: float, words: str, **style: Any) -> None:
        style = {"color": INK, "va": "center", "parse_math": False} | style
        self.figure.text(x / WIDTH_PX, 1 - y / self.height, words, **style)

    def block(self, box: Box, colour: str, edge: str = "none", behind: int = 1) -> None:
        from matplotlib.patches import Rectangle

        place = self._place(box)
        self.figure.add_artist(
            Rectangle(
                place[:2],
                *place[2:],
                transform=self.figure.transFigure,
                facecolor=colour,
                edgecolor=edge,
                zorder=-behind,
            )
        )

    def axes(self, box: Box) -> "Axes":
        return self.figure.add_axes(self._place(box), facecolor=CARD)

    def markdown(self, box: Box, content: str) -> None:
        """Paragraphs as they are written; headings bold, of links and pictures their words and where they lead."""
        x, y, wide, _ = box
        for line in re.sub(r"!?\[([^\]]*)\]\(([^)]*)\)", r"\1 (\2)", content).splitlines():
            heading = line.startswith("#")
            for part in textwrap.wrap(line.lstrip("# "), int(wide / LETTER_PX)) or [""]:
                self.text(x, y + 8, part, size=12 if heading else 10, weight="bold" if heading else "normal")
                y += LINE_PX + 2

    def _place(self, box: Box) -> Box:
        x, y, wide, high = box
        return x / WIDTH_PX, 1 - (y + high) / self.height, wide / WIDTH_PX, high / self.height


def cut(text: str, wide_px: float, size: float = 10) -> str:
    """As much of a text as there is room for."""
    most = max(int(wide_px / (LETTER_PX * size / 10)), 1)
    return text if len(text) <= most else text[: most - 1] + "…"
