"""The table of the benchmarks: ratios point the right way, and a goal that is missed is called so."""

from __future__ import annotations

from benchmarks.report import US, Goal, Result, Row, text


def test_more_is_better() -> None:
    """Of rates the larger median wins, with any extremes."""
    result = Result("one file", "MiB/s", [Row(US, [150, 300, 1]), Row("curl", [100, 90, 999])])
    assert result.ratio("curl") == 1.5


def test_less_is_better() -> None:
    """Of durations the smaller median wins."""
    result = Result("import", "ms", [Row(US, [10]), Row("other", [40])], more_is_better=False)
    assert result.ratio("other") == 4


def test_a_missed_goal_says_by_how_much() -> None:
    """A missed goal is in the table with its distance, in both directions."""
    result = Result(
        "one file", "MiB/s", [Row(US, [100])], goals=[Goal("rate", 0.9, 1.2), Goal("CPU", 2, 1, False)]
    )
    table = text([result])
    assert "| rate | ≥ 1.2 | 0.90 | missed by 25% |" in table
    assert "| CPU | ≤ 1 | 2.00 | missed by 100% |" in table


def test_a_peer_that_was_skipped_sets_no_goal() -> None:
    """If a peer is missing, there is no ratio and no goal against it."""
    result = Result("one file", "MiB/s", [Row(US, [100])])
    result.want_ratio("curl -T", 1.25)
    assert result.ratio("curl -T") is None
    assert result.goals == []
