"""Reading datasets, tokenising captions and making batches."""

from itmatch.data.batching.augmentation import SizeAugmentation
from itmatch.data.batching.collate import Collator
from itmatch.data.batching.views import CaptionDataset, ImageDataset, PairDataset
from itmatch.data.caption_graphs.base import AdjacentWords, CaptionParser
from itmatch.data.caption_graphs.conllu import ConlluParses
from itmatch.data.caption_graphs.relations import CaptionRelations
from itmatch.data.caption_graphs.spacy import SpacyParser
from itmatch.data.caption_graphs.triples import Triples
from itmatch.data.check.paths import check_path
from itmatch.data.check.report import CheckReport
from itmatch.data.choices.layouts import read_choices
from itmatch.data.choices.making import make_choices
from itmatch.data.choices.rows import Choice, write_choices
from itmatch.data.conversion.lists import karpathy_lists, text_lists
from itmatch.data.conversion.regions import Conversion, convert_regions
from itmatch.data.items import CaptionItem, ImageItem, Names
from itmatch.data.ratings import RatedPair, read_ratings
from itmatch.data.relation_scenes.source import RelationScenes
from itmatch.data.relevance import CaptionOverlap, PairRelevance
from itmatch.data.resident import RegionRows, ResidentRegions, SharedFeatures
from itmatch.data.scene_graphs.benchmark import read_scene_graph_benchmark
from itmatch.data.scene_graphs.genome import read_visual_genome
from itmatch.data.scene_graphs.graphs import SceneGraphs
from itmatch.data.shuffled import shuffle_captions
from itmatch.data.sources.base import DataSource, Stage
from itmatch.data.sources.features import ArrayFeatures, FeatureStore, FileFeatures, FolderFeatures
from itmatch.data.sources.images import ImageFolder, PatchFeatures
from itmatch.data.sources.karpathy import KarpathyJson
from itmatch.data.sources.patches import PhotoPatches
from itmatch.data.sources.precomp import PrecompFolder
from itmatch.data.split import ImageTextSplit
from itmatch.data.tokenizers.base import Tokenizer
from itmatch.data.tokenizers.characters import CharacterTokenizer
from itmatch.data.tokenizers.huggingface import HuggingFaceTokenizer
from itmatch.data.tokenizers.vocabulary import Vocabulary
from itmatch.data.tokenizers.words import WordTokenizer
from itmatch.formats.arrays import open_array, save_array
from itmatch.formats.features.opening import open_regions

__all__ = [
    "AdjacentWords",
    "ArrayFeatures",
    "CaptionDataset",
    "CaptionItem",
    "CaptionOverlap",
    "CaptionParser",
    "CaptionRelations",
    "CharacterTokenizer",
    "CheckReport",
    "Choice",
    "Collator",
    "ConlluParses",
    "Conversion",
    "DataSource",
    "FeatureStore",
    "FileFeatures",
    "FolderFeatures",
    "HuggingFaceTokenizer",
    "ImageDataset",
    "ImageFolder",
    "ImageItem",
    "ImageTextSplit",
    "KarpathyJson",
    "Names",
    "PairDataset",
    "PairRelevance",
    "PatchFeatures",
    "PhotoPatches",
    "PrecompFolder",
    "RatedPair",
    "RegionRows",
    "RelationScenes",
    "ResidentRegions",
    "SceneGraphs",
    "SharedFeatures",
    "SizeAugmentation",
    "SpacyParser",
    "Stage",
    "Tokenizer",
    "Triples",
    "Vocabulary",
    "WordTokenizer",
    "check_path",
    "convert_regions",
    "karpathy_lists",
    "make_choices",
    "open_array",
    "open_regions",
    "read_choices",
    "read_ratings",
    "read_scene_graph_benchmark",
    "read_visual_genome",
    "save_array",
    "shuffle_captions",
    "text_lists",
    "write_choices",
]
