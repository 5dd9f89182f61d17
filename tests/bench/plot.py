# SPDX-License-Identifier: GPL-2.0
"""Plots as SVG: lines over two logarithmic axes, and bars over one."""
import math
from html import escape

COLOURS = ["#0b5fa5", "#c8501e", "#2b8a3e", "#7a3e9d", "#8a6d00", "#555555", "#c2185b"]
STYLE = ("font-family='DejaVu Sans, Helvetica, Arial, sans-serif' font-size='13' "
         "fill='#222'")


def short(value):
    """1234567 as 1.2 M."""
    for limit, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= limit:
            return f"{value / limit:.3g}{unit}"
    return f"{value:.3g}"


def decades(lo, hi):
    return range(math.floor(math.log10(lo)), math.ceil(math.log10(hi)) + 1)


class Svg:
    def __init__(self, width, height, title):
        self.parts = [
            f"<svg xmlns='http://www.w3.org/2000/svg' width='{width}' height='{height}' "
            f"viewBox='0 0 {width} {height}' {STYLE}>",
            f"<title>{escape(title)}</title>",
            f"<rect width='{width}' height='{height}' fill='#fff'/>",
        ]
        self.text(16, 24, title, "start", "font-size='15' font-weight='bold'")

    def text(self, x, y, text, anchor="middle", more=""):
        self.parts.append(f"<text x='{x:.1f}' y='{y:.1f}' text-anchor='{anchor}' {more}>"
                          f"{escape(text)}</text>")

    def line(self, x1, y1, x2, y2, colour="#ddd", width=1):
        self.parts.append(f"<line x1='{x1:.1f}' y1='{y1:.1f}' x2='{x2:.1f}' y2='{y2:.1f}' "
                          f"stroke='{colour}' stroke-width='{width}'/>")

    def add(self, part):
        self.parts.append(part)

    def write(self, path):
        with open(path, "w") as f:
            f.write("\n".join(self.parts + ["</svg>"]) + "\n")


def lines(path, title, x_label, y_label, series, x_name):
    """series: [(name, [(x, y)...])]; both axes are logarithmic, x_name(x) its ticks."""
    series = [(name, sorted(points)) for name, points in series if points]
    xs = sorted({x for _, points in series for x, _ in points})
    ys = [y for _, points in series for _, y in points]
    width, left, top, plot_w, plot_h = 760, 70, 44, 440, 300
    height = top + plot_h + 62
    svg = Svg(width, height, title)
    y_exp = decades(min(ys), max(ys))

    def px(x):
        span = math.log(xs[-1] / xs[0]) or 1
        return left + plot_w * math.log(x / xs[0]) / span

    def py(y):
        return top + plot_h * (1 - (math.log10(y) - y_exp[0]) / (y_exp[-1] - y_exp[0]))

    for e in y_exp:
        svg.line(left, py(10 ** e), left + plot_w, py(10 ** e))
        svg.text(left - 8, py(10 ** e) + 4, short(10 ** e), "end")
    for x in xs:
        svg.line(px(x), top, px(x), top + plot_h)
        svg.text(px(x), top + plot_h + 18, x_name(x))
    svg.text(left + plot_w / 2, height - 14, x_label)
    svg.add(f"<text transform='translate(18 {top + plot_h / 2:.0f}) rotate(-90)' "
            f"text-anchor='middle'>{escape(y_label)}</text>")
    # Names stand where their lines end, pushed apart where these are close.
    ends = sorted(((py(points[-1][1]), i) for i, (_, points) in enumerate(series)))
    last = 0
    for y, i in ends:
        name, points = series[i]
        colour = COLOURS[i % len(COLOURS)]
        at = max(y, last + 16)
        last = at
        shape = " ".join(f"{px(x):.1f},{py(y):.1f}" for x, y in points)
        svg.add(f"<polyline points='{shape}' fill='none' stroke='{colour}' stroke-width='2'/>")
        for x, v in points:
            svg.add(f"<circle cx='{px(x):.1f}' cy='{py(v):.1f}' r='3' fill='{colour}'/>")
        svg.line(px(points[-1][0]) + 5, y, left + plot_w + 14, at, colour, 0.7)
        svg.text(left + plot_w + 18, at + 4, name, "start", f"fill='{colour}'")
    svg.write(path)


def bars(path, title, x_label, groups):
    """groups: [(heading, [(name, value, note)])]; the axis is logarithmic."""
    values = [v for _, rows in groups for _, v, _ in rows if v]
    exps = decades(min(values), max(values))
    width, left, plot_w, step = 760, 250, 380, 22
    height = 44 + sum(26 + step * len(rows) for _, rows in groups) + 46
    svg = Svg(width, height, title)

    def px(v):
        return left + plot_w * (math.log10(v) - exps[0]) / (exps[-1] - exps[0])

    bottom = height - 44
    for e in exps:
        svg.line(px(10 ** e), 44, px(10 ** e), bottom)
        svg.text(px(10 ** e), bottom + 17, short(10 ** e))
    svg.text(left + plot_w / 2, height - 8, x_label)
    y = 44
    for heading, rows in groups:
        svg.text(16, y + 18, heading, "start", "font-weight='bold'")
        y += 26
        for name, value, note in rows:
            colour = COLOURS[0] if name.startswith("gmemfd") else "#9a9a9a"
            svg.text(left - 8, y + 14, name, "end")
            svg.add(f"<rect x='{left}' y='{y + 3}' width='{max(px(value) - left, 1):.1f}' "
                    f"height='15' fill='{colour}'/>")
            svg.text(px(value) + 6, y + 15, note or short(value), "start")
            y += step
    svg.write(path)
