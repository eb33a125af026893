"""Photos to regions: detectors, backbones, and what both make of a batch of photos."""

from itmatch.extractor import Extractor
from itmatch.vision.backbones import Backbone, PretrainedBackbone
from itmatch.vision.extractor import PhotoRegions, RegionExtractor
from itmatch.vision.folder import PhotoFolder
from itmatch.vision.relations import box_relations

__all__ = [
    "Backbone",
    "Extractor",
    "PhotoFolder",
    "PhotoRegions",
    "PretrainedBackbone",
    "RegionExtractor",
    "box_relations",
]
