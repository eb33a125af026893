"""Layer 2: systems, as compositions of blocks."""

from itmatch.models.conversion.convert import Conversion, convert_checkpoint
from itmatch.models.conversion.pickles import PublicCheckpoint, read_public_checkpoint
from itmatch.models.matching import MatchingModel
from itmatch.models.starting import start_from
from itmatch.models.systems.avse import avse_regions_bert, avse_regions_gru, avse_vit
from itmatch.models.systems.chan import chan_bert, chan_gru
from itmatch.models.systems.clip import clip_dual_encoder
from itmatch.models.systems.cmsei import cmsei_bert, cmsei_gru
from itmatch.models.systems.dive import dive_gru
from itmatch.models.systems.hire import hire_bert, hire_gru
from itmatch.models.systems.hrem import hrem_bert, hrem_gru
from itmatch.models.systems.laps import laps_bert, laps_gru, laps_swin, laps_vit
from itmatch.models.systems.resg import resg_bert, resg_gru
from itmatch.models.systems.scan import scan_gru
from itmatch.models.systems.sgraf import sgraf_gru
from itmatch.models.systems.vse import vse_infty_bert, vse_infty_gru, vse_pp_gru

__all__ = [
    "Conversion",
    "MatchingModel",
    "PublicCheckpoint",
    "avse_regions_bert",
    "avse_regions_gru",
    "avse_vit",
    "chan_bert",
    "chan_gru",
    "clip_dual_encoder",
    "cmsei_bert",
    "cmsei_gru",
    "convert_checkpoint",
    "dive_gru",
    "hire_bert",
    "hire_gru",
    "hrem_bert",
    "hrem_gru",
    "laps_bert",
    "laps_gru",
    "laps_swin",
    "laps_vit",
    "read_public_checkpoint",
    "resg_bert",
    "resg_gru",
    "scan_gru",
    "sgraf_gru",
    "start_from",
    "vse_infty_bert",
    "vse_infty_gru",
    "vse_pp_gru",
]
