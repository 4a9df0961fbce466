"""README's table and a chart out of one results file: `python -m bench.report RESULTS.json`.

Writes RESULTS.svg beside the file and puts the table between README's two marks, so that neither
can say anything else than what was measured. RESULTS.json is what bench.compare_llama_cpp writes.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
from html import escape
from pathlib import Path
from typing import Any

README = Path(__file__).parents[1] / "README.md"
BEGIN, END = "<!-- bench.report: begin -->\n", "<!-- bench.report: end -->\n"

# Each figure's title, unit, and whether more of it is better.
FIGURES = {
    "prefill_256": ("prefill of 256 tokens", "tok/s", True),
    "prefill_1024": ("prefill of 1024 tokens", "tok/s", True),
    "decode": ("decode", "tok/s", True),
    "decode_of_8": ("decode of 8 together", "tok/s", True),
    "decode_at_8k": ("decode at 8k tokens", "tok/s", True),
    "first_token_s": ("start to first token", "s", False),
    "peak_resident": ("peak memory", "GB", False),
}
_SCALES = {"GB": 1e-9}
# motet's in one hue, others' in grey; both read on light and on dark paper.
_STYLE = """<style>
text { fill: #222 } .title { font-weight: 600 } .motet { fill: #1d7a8c } .other { fill: #8a8f98 }
@media (prefers-color-scheme: dark) {
text { fill: #ddd } .motet { fill: #4fb3c6 } .other { fill: #b4b8bf } }
</style>"""


def medians(result: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Of each engine, in the file's order, the median of each known figure over the rounds."""
    return {
        engine: {
            name: statistics.median(run[name] for run in runs) * _SCALES.get(FIGURES[name][1], 1)
            for name in FIGURES
            if all(name in run for run in runs)
        }
        for engine, runs in result["runs"].items()
    }


def table(result: dict[str, Any]) -> str:
    """Markdown: an engine a row, a figure a column."""
    engines = medians(result)
    names = [name for name in FIGURES if any(name in figures for figures in engines.values())]
    titles = [f"{FIGURES[name][0]}, {FIGURES[name][1]}" for name in names]
    rows = ["| | " + " | ".join(titles) + " |", "| --- |" + " ---: |" * len(names)]
    for engine, figures in engines.items():
        cells = [number(figures[name]) if name in figures else "" for name in names]
        rows.append(f"| {engine} | " + " | ".join(cells) + " |")
    return "\n".join(rows) + "\n"


def number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def chart(result: dict[str, Any]) -> str:
    """SVG: for each figure one bar an engine."""
    engines = medians(result)
    names = [name for name in FIGURES if any(name in figures for figures in engines.values())]
    bar, gap, left, width, right = 16, 4, 150, 360, 70
    block = len(engines) * (bar + gap) + 34
    height = block * len(names) + 30
    machine = result["machine"]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + width + right}" height="{height}"'
        ' font-family="system-ui, sans-serif" font-size="12">',
        _STYLE,
        f'<text x="0" y="14">{escape(machine["cpu"])}, {machine["cores"]} cores,'
        f" {escape(machine['isa'])}, {escape(result['date'])}</text>",
    ]
    for index, name in enumerate(names):
        title, unit, more = FIGURES[name]
        top = 30 + index * block
        hint = "more is better" if more else "less is better"
        parts.append(f'<text class="title" x="0" y="{top + 12}">{title}, {unit} ({hint})</text>')
        most = max(figures.get(name, 0) for figures in engines.values())
        for row, (engine, figures) in enumerate(engines.items()):
            if name not in figures:
                continue
            y = top + 20 + row * (bar + gap)
            length = width * figures[name] / most
            kind = "motet" if engine.startswith("motet") else "other"
            parts += [
                f'<text x="{left - 6}" y="{y + 12}" text-anchor="end">{escape(engine)}</text>',
                f'<rect class="{kind}" x="{left}" y="{y}" width="{length:.1f}" height="{bar}"/>',
                f'<text x="{left + length + 5:.1f}" y="{y + 12}">{number(figures[name])}</text>',
            ]
    return "\n".join([*parts, "</svg>"]) + "\n"


def section(path: Path) -> str:
    """What stands between README's marks for a results file."""
    link = f"bench/results/{path.name}"
    picture = f"bench/results/{path.with_suffix('.svg').name}"
    return f"{table(json.loads(path.read_text()))}\n[Chart]({picture}), [all runs]({link}).\n"


def put_into_readme(path: Path, readme: Path = README) -> None:
    text = readme.read_text()
    pattern = re.escape(BEGIN) + ".*?" + re.escape(END)
    if not re.search(pattern, text, re.DOTALL):
        raise SystemExit(f"{readme} lacks the marks {BEGIN.strip()} and {END.strip()}")
    whole = BEGIN + section(path) + END
    readme.write_text(re.sub(pattern, lambda _: whole, text, flags=re.DOTALL))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path, help="a JSON file in bench/results")
    path = parser.parse_args().results
    path.with_suffix(".svg").write_text(chart(json.loads(path.read_text())))
    put_into_readme(path)


if __name__ == "__main__":
    main()
