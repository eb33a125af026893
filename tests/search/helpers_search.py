"""Small models of every system, and splits to index."""

import numpy as np
import torch

from itmatch import models
from itmatch.data import ImageTextSplit, RelationScenes, WordTokenizer
from itmatch.nn import (
    BlockSimilarity,
    GRUTextEncoder,
    HardAligningSimilarity,
    MeanPooling,
    PatchSlimmingSimilarity,
    RegionEncoder,
    SetSimilarity,
    SimilarityFiltration,
    SimilarityReasoning,
)

SCENES = RelationScenes("medium", num_train=40, num_val=20, num_test=30, text_graphs=True)
TOKENIZER = WordTokenizer(["<pad>", "<start>", "<end>", "<unk>", *SCENES.words()])
SMALL = {"region_dim": 64, "embed_dim": 16, "word_dim": 8}


def composed(similarity, pooling=None):
    """Plain encoders with a similarity of one's own."""

    def build(words, region_dim, embed_dim, word_dim):
        image = RegionEncoder(region_dim, embed_dim)
        text = GRUTextEncoder(words, embed_dim, word_dim=word_dim, pooling=pooling)
        return models.MatchingModel(image, text, similarity())

    return build


BUILDERS = {
    "vse_pp": models.vse_pp_gru,
    "vse_infty": models.vse_infty_gru,
    "scan t2i": lambda words, **sizes: models.scan_gru(words, query="words", **sizes),
    "scan i2t": lambda words, **sizes: models.scan_gru(words, query="regions", **sizes),
    "chan": models.chan_gru,
    "saf": lambda words, **sizes: models.sgraf_gru(words, SimilarityFiltration(8), **sizes),
    "sgr": lambda words, **sizes: models.sgraf_gru(words, SimilarityReasoning(8), **sizes),
    "cmsei": models.cmsei_gru,
    "hire": models.hire_gru,
    "resg": models.resg_gru,
    "sets": composed(SetSimilarity),
    "blocks": composed(lambda: BlockSimilarity(8), MeanPooling()),
    "slimming": composed(lambda: PatchSlimmingSimilarity(16, 10, class_token=False)),
    "best pair": composed(lambda: SetSimilarity("max")),
}


def system(name="chan", seed=0):
    """A model with random weights, all of them away from where they start."""
    torch.manual_seed(seed)
    model = BUILDERS[name](TOKENIZER.vocabulary, **SMALL)
    model.tokenizer = TOKENIZER
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def hard(query="words"):
    """A model whose score is MaxSim, divided by the number of fragments of the query."""
    model = system()
    model.similarity = HardAligningSimilarity(query, MeanPooling())
    return model


def part(split, first, last):
    """Some consecutive images of a split with their captions, features alone."""
    chosen = np.flatnonzero((split.caption_image >= first) & (split.caption_image < last))
    features = np.zeros((last - first, split.features.num_regions, split.feature_dim), np.float32)
    lengths = []
    for row in range(first, last):
        found = split.image(row).features.numpy()
        features[row - first, : len(found)] = found
        lengths.append(len(found))
    return ImageTextSplit(
        features,
        [split.captions[i] for i in chosen],
        split.caption_image[chosen] - first,
        image_ids=split.image_ids[first:last],
        lengths=np.array(lengths),
    )


def save_clip(path, tiny_bert):
    """The folder of a small CLIP with random weights."""
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    tower = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    tokenizer = AutoTokenizer.from_pretrained(tiny_bert)
    text = {**tower, "vocab_size": len(tokenizer), "max_position_embeddings": 12}
    text |= {"pad_token_id": tokenizer.pad_token_id, "bos_token_id": tokenizer.cls_token_id}
    text |= {"eos_token_id": tokenizer.sep_token_id}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        vision = {**tower, "image_size": 24, "patch_size": 8}
        config = AutoConfig.for_model("clip", text_config=text, vision_config=vision, projection_dim=10)
        AutoModel.from_config(config).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return str(path)
