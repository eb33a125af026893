"""Layer 2: systems, as compositions of blocks."""

from itmatch.models.chan import chan_bert, chan_gru
from itmatch.models.evaluation import pair_scores, rank_fragments
from itmatch.models.matching import MatchingModel

__all__ = ["MatchingModel", "chan_bert", "chan_gru", "pair_scores", "rank_fragments"]
