"""The results of `gpu` in Markdown."""

from statistics import median
from typing import Any

Result = dict[str, Any]


def table(results: Result) -> list[str]:
    """The results in Markdown: the UNet's contenders, and every other stage as a list."""
    lines = []
    for stage, result in results.items():
        lines += [f"## {stage}", ""]
        if stage == "UNet" and "failed" not in result:
            lines += ["| contender | ms (min-max) | times as fast as eager | memory |", "|---|---|---|---|"]
            for name, found in result.items():
                if isinstance(found, dict):
                    lines.append(f"| {name} | {_cells(found)} |")
        else:
            lines += [f"- {name}: {_shown(value)}" for name, value in result.items()]
        lines.append("")
    return lines


def _cells(found: Result) -> str:
    if "seconds" not in found:
        return f"{found.get('skipped') or found.get('failed')} | | "
    low, middle, high = (1e3 * f(found["seconds"]) for f in (min, median, max))
    memory = "" if found["memory"] is None else f"{found['memory'] / 1e9:.2f} GB"
    return f"{middle:.1f} ({low:.1f}-{high:.1f}) | {found['speed']:.2f} | {memory}"


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_shown(own)}" for name, own in value.items())
    return f"{value:.4g}" if isinstance(value, float) else str(value)
