"""CMSEI's claim on photos: do spatial and semantic relations help? Beside CHAN, SCAN and Hire.

    python examples/results/relations.py DATA/flickr30k_scenes --vectors DATA/word_vectors/glove.8k.100d.txt

Runs every variant with three seeds and prints a table. Encoders, batch, optimizer and augmentation are those of
chan.py. The set is small, so the last epoch is tested, on the first 400 photos.
"""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any

from budget import LABELS, Budget, encoders, images_of, photos, print_table, relations, resg_variants, run_all, scoring

PREDICATES = 50  # of the photo data
MIN_CONFIDENCE = 0.2
MARGIN = 0.05  # as for CHAN; 0.2 is too much for all of them within so few epochs
GEOMETRY = {"geometry": True, "threshold": 0.0, "spatial_weight": "ones"}  # all pairs of boxes, and how they lie
TEST_PHOTOS = 400
TRIPLET = {"negatives": "all"}  # with the hardest CHAN collapses: photos of the same labels look alike here
RESG_GRAPH = {"predicates": PREDICATES, "min_confidence": MIN_CONFIDENCE}
RESG_MARGINS = {"triplet": MARGIN, "center": 0.2, "positive": 0.8, "negative": 0.4}
DEV_PHOTOS = 400


def photos_to_choose_by(options: argparse.Namespace, batch_size: int) -> Any:
    """The photos. Dev is too small to choose by, so the last test photos, which no table tests, are in it as well."""
    data = photos(options, batch_size, test=TEST_PHOTOS)
    dev, test = data.source.split("val"), data.source.split("test")
    more = range(test.num_images - DEV_PHOTOS + dev.num_images, test.num_images)
    data.datasets["val"] = images_of((dev, range(dev.num_images)), (test, more))
    return data


def parts(
    data: Any,
    vectors: str | None,
    *,
    similarity: tuple[str, dict[str, Any]],
    graph: dict[str, Any] | None = None,
    implicit: bool = False,
) -> dict[str, Any]:
    """The parts of one variant: a similarity, the options of the graph (None = no graph), and implicit relations."""
    options = None if graph is None else {"num_predicates": PREDICATES, "min_confidence": MIN_CONFIDENCE, **graph}
    return {
        **encoders(data, vectors, relations=relations(options, implicit=implicit)),
        **scoring(similarity, MARGIN, **TRIPLET),
    }


INTERACTIVE = partial(parts, similarity=("InteractiveSimilarity", {}))
RESG = resg_variants(graph=RESG_GRAPH, margins=RESG_MARGINS, triplet=TRIPLET)
VARIANTS = {
    "cmsei_none": INTERACTIVE,
    "cmsei_both": partial(INTERACTIVE, graph={}),
    "hire": partial(INTERACTIVE, graph={}, implicit=True),
    "cmsei_spatial": partial(INTERACTIVE, graph={"semantic": False}),
    "cmsei_geometry": partial(INTERACTIVE, graph={"semantic": False, **GEOMETRY}),
    "cmsei_semantic": partial(INTERACTIVE, graph={"spatial": False}),
    "scan_t2i": partial(parts, similarity=("CrossAttentionSimilarity", {"query": "words"})),
    "chan": partial(parts, similarity=("HardAligningSimilarity", {})),
    "chan_both": partial(parts, similarity=("HardAligningSimilarity", {}), graph={}),
    "scan_i2t": partial(parts, similarity=("CrossAttentionSimilarity", {"query": "regions"})),
    **RESG,
}
BUDGET = Budget(epochs=5, make_data=photos_to_choose_by, validate_every=0)

if __name__ == "__main__":
    print_table(run_all(VARIANTS, __doc__.splitlines()[0], BUDGET), LABELS)
