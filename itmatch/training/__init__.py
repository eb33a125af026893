"""Layer 3: training and evaluation with Lightning."""

from itmatch.training.data import MatchingData
from itmatch.training.output.fragments import FragmentWriter, read_fragments, write_fragments
from itmatch.training.output.loggers import SafeCSVLogger
from itmatch.training.output.report import RecallReport
from itmatch.training.schedules import CosineSchedule, MilestoneSchedule
from itmatch.training.task import MatchingTask

__all__ = [
    "CosineSchedule",
    "FragmentWriter",
    "MatchingData",
    "MatchingTask",
    "MilestoneSchedule",
    "RecallReport",
    "SafeCSVLogger",
    "read_fragments",
    "write_fragments",
]
