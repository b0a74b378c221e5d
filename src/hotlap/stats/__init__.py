"""Statistics of runs: intervals, comparisons, summaries. Pure numbers in, pure numbers out; no torch.

SciPy is imported inside the functions that need it, so importing this package costs milliseconds.
"""

from hotlap.stats.comparison import (
    MeanDifference,
    TimeRatio,
    paired_difference,
    runs_to_resolve,
    time_ratio,
    welch_difference,
)
from hotlap.stats.intervals import (
    mean,
    mean_interval,
    mean_lower_bound,
    median,
    median_interval,
    p_mean_below,
    share_interval,
    standard_deviation,
)
from hotlap.stats.summary import group_runs, summarise

__all__ = [
    "MeanDifference",
    "TimeRatio",
    "group_runs",
    "mean",
    "mean_interval",
    "mean_lower_bound",
    "median",
    "median_interval",
    "p_mean_below",
    "paired_difference",
    "runs_to_resolve",
    "share_interval",
    "standard_deviation",
    "summarise",
    "time_ratio",
    "welch_difference",
]
