"""All systems beside each other on photos, within one small budget.

    python examples/results/systems.py DATA/flickr8k --vectors DATA/word_vectors/glove.8k.100d.txt

The budget is smaller than that of the other tables of photos: BUDGET below; its first epoch has all negatives. The
photos that are trained on are copied into memory, which the peak of a run includes. Encoders share their width and
their input; a system adds what it is known for. The margin is 0.2 for systems that compare whole images with whole
captions, as published, and for those with a learned score; 0.05 for those that average alignments, whose scores lie
closer (both were tried for CHAN and for cosines, see the results). Nothing else was tuned. ReSG wants relations of the
captions: ``itmatch data parse DATA/flickr8k train dev test --triples`` writes them.
"""

from __future__ import annotations

import time
from functools import partial
from typing import Any

from budget import EMBED_DIM, Budget, Members, Variant, encoders, photos, print_table, relations, resg, run_all

PREDICATES = 50
GRAPH = {"num_predicates": PREDICATES, "min_confidence": 0.2}
SIMILARITY_DIM = 64
TRAIN_PHOTOS, TEST_PHOTOS = 3000, 400
TIMED = (200, 1000)  # images and captions


def parts(
    data: Any,
    vectors: str | None,
    *,
    similarity: Any,
    margin: float,
    text: Any = dict,
    region: Any = dict,
) -> dict[str, Any]:
    """The parts of a system: its similarity, and what it adds to the encoders; each made by a function."""
    from itmatch.losses import HardNegativeTripletLoss

    return {
        **encoders(data, vectors, text=text(), **region()),
        "similarity": similarity(),
        "objective": HardNegativeTripletLoss(margin=margin, warmup_epochs=1),
    }


def cosine() -> Any:
    """Cosine of one vector a side."""
    from itmatch.nn import CosineSimilarity

    return CosineSimilarity()


def attending(query: str) -> Any:
    """SCAN."""
    from itmatch.nn import CrossAttentionSimilarity

    return CrossAttentionSimilarity(query)  # type: ignore[arg-type]


def hard() -> Any:
    """CHAN."""
    from itmatch.nn import HardAligningSimilarity, MeanPooling

    return HardAligningSimilarity(pooling=MeanPooling())


def interactive() -> Any:
    """CMSEI and Hire."""
    from itmatch.nn import InteractiveSimilarity

    return InteractiveSimilarity()


def vectors_of(head: str) -> Any:
    """SGR, SAF."""
    from itmatch import nn

    return nn.VectorSimilarity(EMBED_DIM, getattr(nn, head)(SIMILARITY_DIM))


def pooled(name: str, **options: Any) -> dict[str, Any]:
    """One vector, by a pooling."""
    from itmatch import nn

    return {"pooling": getattr(nn, name)(), **options}


def related(*, implicit: bool) -> dict[str, Any]:
    """Spatial and semantic graphs of the regions."""
    return {"relations": relations(GRAPH, implicit=implicit)}


def dive(data: Any, vectors: str | None) -> dict[str, Any]:
    """DivE: four vectors a side, and losses that keep them apart."""
    from itmatch import losses, nn

    def slots() -> Any:
        return nn.SlotPooling(EMBED_DIM, head_dim=EMBED_DIM // 4, depth=2)

    text = {"normalize": False, "pooling": nn.LastPooling()}
    found = encoders(data, vectors, text=text, mlp=True, normalize=False, pooling=nn.MaxPooling())
    return {
        "image_encoder": nn.SlotImageEncoder(found["image_encoder"], slots()),
        "text_encoder": nn.SlotTextEncoder(found["text_encoder"], slots()),
        "similarity": nn.SetSimilarity("smooth_chamfer"),
        "objective": losses.Objective(
            {
                "triplet": losses.HardNegativeTripletLoss(margin=0.1, reduction="mean", warmup_epochs=1),
                "discrepancy": losses.DiscrepancyLoss(),
                "uniformity": losses.SetUniformityLoss(),
            },
            weights={"discrepancy": 0.01, "uniformity": 0.01},
        ),
    }


def views(data: Any, vectors: str | None) -> dict[str, Any]:
    """AVSE on regions: two views of an image, compared with a caption block by block."""
    from itmatch import losses, nn

    text = {"normalize": False, "pooling": nn.LayerNormPooling(nn.GeneralizedPooling(), EMBED_DIM)}
    found = encoders(data, vectors, text=text, normalize=False)
    return {
        "image_encoder": nn.RegionViewEncoder(found["image_encoder"]),
        "text_encoder": found["text_encoder"],
        "similarity": nn.BlockSimilarity(EMBED_DIM // 4),
        "objective": losses.Objective(
            {
                "triplet": losses.HardNegativeTripletLoss(margin=0.2, warmup_epochs=1),
                "redundancy": losses.ViewRedundancyLoss(divided_twice=True),
            }
        ),
    }


def slimmed() -> Any:
    """LAPS."""
    from itmatch.nn import PatchSlimmingSimilarity

    return PatchSlimmingSimilarity(EMBED_DIM, 36, 0.8, 0.6, class_token=False)


def batch_relations(data: Any, vectors: str | None) -> dict[str, Any]:
    """HREM: one vector a side, which learn from each other in training; the graph in the second epoch alone."""
    from itmatch import losses, nn

    def pooling() -> Any:
        return nn.TransformerPooling(EMBED_DIM, 8)

    triplet = losses.HardNegativeTripletLoss(margin=0.2, warmup_epochs=1)
    return {
        **encoders(data, vectors, text={"pooling": pooling()}, mlp=True, pooling=pooling()),
        "similarity": cosine(),
        "objective": losses.BatchRelationLoss(EMBED_DIM, triplet, 8, warmup_epochs=1),
    }


VARIANTS: dict[str, Variant | Members] = {
    "vse_pp": partial(
        parts,
        similarity=cosine,
        margin=0.2,
        text=partial(pooled, "LastPooling", bidirectional=False),
        region=partial(pooled, "MeanPooling"),
    ),
    "vse_infty": partial(
        parts,
        similarity=cosine,
        margin=0.2,
        text=partial(pooled, "GeneralizedPooling"),
        region=partial(pooled, "GeneralizedPooling", mlp=True),
    ),
    "scan_t2i": partial(parts, similarity=partial(attending, "words"), margin=0.05),
    "scan_i2t": partial(parts, similarity=partial(attending, "regions"), margin=0.05),
    "sgr": partial(parts, similarity=partial(vectors_of, "SimilarityReasoning"), margin=0.2),
    "saf": partial(parts, similarity=partial(vectors_of, "SimilarityFiltration"), margin=0.2),
    "chan": partial(parts, similarity=hard, margin=0.05),
    "cmsei": partial(parts, similarity=interactive, margin=0.05, region=partial(related, implicit=False)),
    "hire": partial(parts, similarity=interactive, margin=0.05, region=partial(related, implicit=True)),
    "resg": partial(
        resg,
        graph={"predicates": PREDICATES, "min_confidence": 0.2},
        margins={"triplet": 0.05, "center": 0.2, "positive": 0.8, "negative": 0.4},
        terms=("triplet", "center", "positive_negative"),
    ),
    "dive": dive,
    "hrem": batch_relations,
    "avse": views,
    "laps": partial(
        parts,
        similarity=slimmed,
        margin=0.2,
        text=partial(dict, normalize=False),
        region=partial(dict, normalize=False),
    ),
    "scan": ("scan_t2i", "scan_i2t"),
    "sgraf": ("sgr", "saf"),
}
LABELS = {
    "vse_pp": "VSE++",
    "vse_infty": "VSE-infinity",
    "scan_t2i": "SCAN t2i",
    "scan_i2t": "SCAN i2t",
    "scan": "SCAN, both",
    "sgr": "SGR",
    "saf": "SAF",
    "sgraf": "SGRAF, both",
    "chan": "CHAN",
    "cmsei": "CMSEI",
    "hire": "Hire",
    "resg": "ReSG",
    "dive": "DivE",
    "hrem": "HREM",
    "avse": "AVSE, regions",
    "laps": "LAPS, regions",
}


def pair_time(task: Any, data: Any, seed: int) -> dict[str, Any]:
    """Microseconds that scoring takes for a pair of an encoded image and an encoded caption of the test set."""
    from itmatch.data import CaptionDataset, Collator, ImageDataset

    model, collate, dataset = task.model, Collator(data.tokenizer), data.dataset("test")
    images, captions = ImageDataset(dataset), CaptionDataset(dataset)
    image = model.encode_images(collate([images[i] for i in range(TIMED[0])]).regions)
    text = model.encode_texts(collate([captions[i] for i in range(TIMED[1])]).captions)
    times = []
    for _ in range(3):
        start = time.perf_counter()
        model.score(image, text)
        times.append(time.perf_counter() - start)
    return {"pair_us": 1e6 * min(times) / (len(image) * len(text))}


BUDGET = Budget(
    epochs=2,
    make_data=partial(photos, train=TRAIN_PHOTOS, test=TEST_PHOTOS),
    batch_size=32,
    validate_every=0,
    also=pair_time,
    keep_models=True,
)

if __name__ == "__main__":
    print_table(run_all(VARIANTS, __doc__.splitlines()[0], BUDGET), LABELS, {"pair_us": "µs a pair"})
