"""A page of SVG: boxes, lines, arrows and text, written by hand: no package is needed. It knows no figure."""

from __future__ import annotations

from xml.sax.saxutils import escape

FONT = "Helvetica, Arial, 'Noto Sans CJK SC', 'PingFang SC', 'Microsoft YaHei', sans-serif"
INK = "#1f2933"
SOFT = "#7b8794"
ARROW = 7  # length of an arrow head


class Page:
    """A white page; coordinates are pixels from the top left corner."""

    def __init__(self, width: int, height: int):
        self.size = (width, height)
        self.parts: list[str] = []
        self.rect(0, 0, width, height, "#ffffff")

    def rect(self, x: float, y: float, w: float, h: float, fill: str, stroke: str = "none", radius: float = 0) -> None:
        """Draw a rectangle; without rounding its edges lie on whole pixels, so that neighbours leave no seam."""
        crisp = "" if radius else ' shape-rendering="crispEdges"'
        self.parts.append(
            f'<rect x="{number(x)}" y="{number(y)}" width="{number(w)}" height="{number(h)}" rx="{number(radius)}" '
            f'fill="{fill}" stroke="{stroke}"{crisp}/>'
        )

    def text(
        self, x: float, y: float, text: str, size: int = 13, anchor: str = "start", fill: str = INK, bold: bool = False
    ) -> None:
        """Write a line; `anchor` is start, middle or end."""
        weight = ' font-weight="bold"' if bold else ""
        self.parts.append(
            f'<text x="{number(x)}" y="{number(y)}" font-size="{size}" text-anchor="{anchor}" fill="{fill}"{weight}>'
            f"{escape(text)}</text>"
        )

    def line(self, points: list[tuple[float, float]], stroke: str = INK, width: float = 1.2, dash: str = "") -> None:
        """Draw a line through points."""
        path = " ".join(f"{number(x)},{number(y)}" for x, y in points)
        dashes = f' stroke-dasharray="{dash}"' if dash else ""
        self.parts.append(f'<polyline points="{path}" fill="none" stroke="{stroke}" stroke-width="{width}"{dashes}/>')

    def arrow(self, points: list[tuple[float, float]], stroke: str = INK) -> None:
        """Draw a line through points with a head at the last; the last piece is level or upright."""
        self.line(points, stroke)
        (x0, y0), (x, y) = points[-2], points[-1]
        along = ((x > x0) - (x < x0), (y > y0) - (y < y0))
        base = (x - ARROW * along[0], y - ARROW * along[1])
        side = (ARROW / 2 * along[1], ARROW / 2 * along[0])
        corners = [(x, y), (base[0] + side[0], base[1] + side[1]), (base[0] - side[0], base[1] - side[1])]
        path = " ".join(f"{number(cx)},{number(cy)}" for cx, cy in corners)
        self.parts.append(f'<polygon points="{path}" fill="{stroke}"/>')

    def box(self, x: float, y: float, w: float, lines: list[str], fill: str) -> float:
        """Draw a box with a bold first line about the column `x` and return the y of its lower edge."""
        height = 12 + 17 * len(lines)
        self.rect(x - w / 2, y, w, height, fill, "#9aa5b1", 5)
        for row, line in enumerate(lines):
            self.text(x, y + 19 + 17 * row, line, 13 if row == 0 else 12, "middle", INK, bold=row == 0)
        return y + height

    def svg(self) -> str:
        """Return the file."""
        width, height = self.size
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
            f'viewBox="0 0 {width} {height}" font-family="{FONT}">'
        )
        return "\n".join([head, *self.parts, "</svg>"]) + "\n"


def number(value: float) -> str:
    """Return a coordinate with at most one decimal, so that files are small and the same everywhere."""
    return f"{round(value, 1):g}"


def colour(rgb: tuple[float, float, float] | list[float]) -> str:
    """Return a colour of three numbers 0..1 in SVG's form."""
    return "#" + "".join(f"{round(255 * value):02x}" for value in rgb)
