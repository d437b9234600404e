"""Results and their output: rows to compare, ratios, and whether goals are met."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from benchmarks.measure import Sample, median

MIB, GIB = 1024**2, 1024**3
US = "this package"


@dataclass(frozen=True)
class Row:
    """The figures of one program in a scenario.

    :param who: the measured program.
    :param values: one for each run, in the scenario's unit.
    :param cpu: processor seconds per GiB, the median; None if not of interest.
    :param peak: memory in bytes, the largest of all runs; None if not of interest.
    """

    who: str
    values: Sequence[float]
    cpu: float | None = None
    peak: int | None = None

    @property
    def median(self) -> float:
        return median(self.values)


@dataclass(frozen=True)
class Goal:
    """A goal of a scenario."""

    what: str
    measured: float
    wanted: float
    at_least: bool = True

    @property
    def met(self) -> bool:
        return self.measured >= self.wanted if self.at_least else self.measured <= self.wanted


@dataclass
class Result:
    """The result of one scenario.

    :param title: the name of the scenario, with its sizes.
    :param unit: the unit of the rows' values, for example ``MiB/s``.
    :param more_is_better: whether larger values are better.
    :param notes: skipped parts with the reason, or explanations of the rows.
    """

    title: str
    unit: str
    rows: list[Row]
    more_is_better: bool = True
    goals: list[Goal] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def row(self, who: str) -> Row | None:
        return next((row for row in self.rows if row.who == who), None)

    def ratio(self, who: str) -> float | None:
        """Return how many times better this package is than another program."""
        ours, theirs = self.row(US), self.row(who)
        if not ours or not theirs:
            return None
        better = ours.median / theirs.median
        return better if self.more_is_better else 1 / better

    def want(self, what: str, measured: float, wanted: float, *, at_least: bool = True) -> None:
        """Add a goal of this scenario."""
        self.goals.append(Goal(f"{self.title}: {what}", measured, wanted, at_least))

    def want_ratio(self, who: str, wanted: float) -> None:
        """Add a goal: how many times better this package should be than another program."""
        ratio = self.ratio(who)
        if ratio is not None:
            self.want(f"times {who}", ratio, wanted)


def moved(samples: dict[str, list[Sample]], size: int) -> list[Row]:
    """Return rows of MiB/s for runs that transferred this number of bytes."""
    return [
        Row(
            who,
            [size / MIB / sample.seconds for sample in runs],
            cpu=median(sample.cpu for sample in runs) / (size / GIB),
            peak=max(sample.peak for sample in runs),
        )
        for who, runs in samples.items()
    ]


def text(results: Sequence[Result]) -> str:
    """Return the table of all scenarios and the table of goals, as Markdown."""
    lines = ["| | median | lowest to highest | this package is … times better | CPU s per GiB | peak MiB |"]
    lines += ["|---|--:|--:|--:|--:|--:|"]
    for result in results:
        lines.append(f"| **{result.title}** ({result.unit}) | | | | | |")
        lines += [_line(result, row) for row in result.rows]
    lines += ["", *(f"- {result.title}: {note}" for result in results for note in result.notes)]
    lines += ["", "| goal | wanted | measured | |", "|---|--:|--:|---|"]
    lines += [_goal(goal) for result in results for goal in result.goals]
    return "\n".join(lines)


def _line(result: Result, row: Row) -> str:
    ratio = result.ratio(row.who)
    cells = [
        row.who,
        _number(row.median),
        f"{_number(min(row.values))} to {_number(max(row.values))}",
        "" if ratio is None or row.who == US else f"{ratio:.2f}",
        "" if row.cpu is None else f"{row.cpu:.2f}",
        "" if not row.peak else f"{row.peak / MIB:.0f}",
    ]
    return f"| {' | '.join(cells)} |"


def _goal(goal: Goal) -> str:
    sign = "≥" if goal.at_least else "≤"
    off = abs(1 - goal.measured / goal.wanted)
    said = "met" if goal.met else f"missed by {off:.0%}"
    return f"| {goal.what} | {sign} {goal.wanted:g} | {goal.measured:.2f} | {said} |"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
