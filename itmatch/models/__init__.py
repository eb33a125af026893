"""Layer 2: systems, as compositions of blocks."""

from itmatch.models.chan import chan_bert, chan_gru
from itmatch.models.cmsei import cmsei_bert, cmsei_gru
from itmatch.models.evaluation import pair_scores, rank_fragments
from itmatch.models.hire import hire_bert, hire_gru
from itmatch.models.matching import MatchingModel
from itmatch.models.resg import resg_bert, resg_gru

__all__ = [
    "MatchingModel",
    "chan_bert",
    "chan_gru",
    "cmsei_bert",
    "cmsei_gru",
    "hire_bert",
    "hire_gru",
    "pair_scores",
    "rank_fragments",
    "resg_bert",
    "resg_gru",
]
