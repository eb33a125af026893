"""Reading datasets, tokenising captions and making batches."""

from itmatch.data.arrays import open_array, save_array
from itmatch.data.augmentation import SizeAugmentation
from itmatch.data.caption_relations import CaptionRelations
from itmatch.data.check import CheckReport, check_path
from itmatch.data.collate import Collator
from itmatch.data.dataset import CaptionItem, ImageItem, ImageTextDataset
from itmatch.data.features import ArrayFeatures, FeatureStore, FolderFeatures
from itmatch.data.huggingface import HuggingFaceTokenizer
from itmatch.data.images import ImageFolder, PatchFeatures
from itmatch.data.karpathy import KarpathyDataset
from itmatch.data.precomp import PrecompFolder
from itmatch.data.relation_scenes import RelationScenes
from itmatch.data.scene_graph_files import read_scene_graph_benchmark
from itmatch.data.scene_graph_genome import read_visual_genome
from itmatch.data.scene_graphs import SceneGraphs
from itmatch.data.source import DataSource, Stage
from itmatch.data.text_conllu import ConlluParses
from itmatch.data.text_graphs import AdjacentWords, CaptionParser
from itmatch.data.text_spacy import SpacyParser
from itmatch.data.text_triples import Triples
from itmatch.data.tokenizers import Tokenizer, WordTokenizer
from itmatch.data.views import CaptionDataset, ImageDataset, PairDataset
from itmatch.data.vocabulary import Vocabulary

__all__ = [
    "AdjacentWords",
    "ArrayFeatures",
    "CaptionDataset",
    "CaptionItem",
    "CaptionParser",
    "CaptionRelations",
    "CheckReport",
    "Collator",
    "ConlluParses",
    "DataSource",
    "FeatureStore",
    "FolderFeatures",
    "HuggingFaceTokenizer",
    "ImageDataset",
    "ImageFolder",
    "ImageItem",
    "ImageTextDataset",
    "KarpathyDataset",
    "PairDataset",
    "PatchFeatures",
    "PrecompFolder",
    "RelationScenes",
    "SceneGraphs",
    "SizeAugmentation",
    "SpacyParser",
    "Stage",
    "Tokenizer",
    "Triples",
    "Vocabulary",
    "WordTokenizer",
    "check_path",
    "open_array",
    "read_scene_graph_benchmark",
    "read_visual_genome",
    "save_array",
]
