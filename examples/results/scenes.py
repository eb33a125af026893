"""Do relations tell who does what to whom? All systems on RelationScenes, and what wrong edges do to them.

    python examples/results/scenes.py

Trains every variant with three seeds on the built-in data, twins in one batch, and prints two tables of
docs/results.md: recall and twin accuracy, and twin accuracy while edges of the test graphs are dropped or rewired.
plot_corruption.py draws the second from the same results. The scenes are those of difficulty "medium" made smaller,
with one relation a caption, so that a run takes minutes on one core. The global vectors of CMSEI and Hire are left out:
two short runs learnt less with them.
"""

from __future__ import annotations

import argparse
import statistics
from functools import partial
from typing import Any

from budget import LABELS, Budget, encoders, relations, resg_variants, run_all, scoring

PREDICATES = 10  # of RelationScenes
SHARES = (0.0, 0.2, 0.4, 0.6, 0.8)  # of the true edges
SCENES = {"num_train": 1500, "num_test": 400, "max_objects": 6, "two_relations": 0.0}
MARGIN, WORD_DIM = 0.1, 64
RESG_GRAPH = {"predicates": PREDICATES, "neighbours": SCENES["max_objects"] - 1}  # all pairs
RESG_MARGINS = {"triplet": MARGIN, "center": 0.2, "positive": 1.0, "negative": 0.5}
GRAPH = {"threshold": 0.0, "spatial_weight": "ones", "geometry": True, "num_predicates": PREDICATES}


def scenes(_: argparse.Namespace, batch_size: int) -> Any:
    """RelationScenes; the twin of every image is in its batch."""
    from itmatch.data import RelationScenes
    from itmatch.training import MatchingData

    return MatchingData(RelationScenes(**SCENES, text_graphs=True), batch_size=batch_size, keep_twins=True)


def corrupted(task: Any, data: Any, _: int) -> dict[str, Any]:
    """Semantic twin accuracy of the tested model with shares of the test graphs' edges dropped, and rewired."""
    from itmatch.data import RelationScenes

    blocks = task.model.image_encoder.spec["init_args"]["relations"] or []
    if not any(block["init_args"].get("semantic") for block in blocks):
        return {}
    found: dict[str, Any] = {}
    for kind in ("edge_dropout", "edge_rewiring"):
        for share in SHARES:
            known = found.get(f"edge_dropout_{share:.1f}") if share == 0 else None
            dataset = RelationScenes(**SCENES, text_graphs=True, **{kind: share}).split("test")
            found[f"{kind}_{share:.1f}"] = known or semantic_twins(task.model, dataset, data.tokenizer)
    return {"corrupted": found}


def semantic_twins(model: Any, dataset: Any, tokenizer: Any) -> dict[str, float]:
    """Twin accuracy of the captions that tell a semantic relation, in percent."""
    import torch

    from itmatch.data import CaptionDataset, Collator, ImageDataset
    from itmatch.evaluation import FragmentScores, twin_accuracy

    collator = Collator(tokenizer)
    images, captions = ImageDataset(dataset), CaptionDataset(dataset)
    image = model.encode_images(collator([images[i] for i in range(len(images))]).regions)
    text = model.encode_texts(collator([captions[i] for i in range(len(captions))]).captions)
    chosen = torch.tensor([i for i, kind in enumerate(dataset.caption_twin_kind) if kind == "semantic"])
    rows = [torch.from_numpy(column)[chosen] for column in (dataset.caption_image, dataset.caption_twin)]
    scores = FragmentScores([(model.similarity, image, text)])
    own, twin = (scores.pairs(row, chosen) for row in rows)
    return twin_accuracy(own, twin, ["semantic"] * len(chosen))


def parts(
    data: Any,
    _: str | None,
    *,
    similarity: tuple[str, dict[str, Any]],
    graph: dict[str, Any] | None = None,
    implicit: bool = False,
) -> dict[str, Any]:
    """The parts of one variant: a similarity, the options of the graph (None = no graph), and implicit relations."""
    blocks = relations(None if graph is None else {**GRAPH, **graph}, implicit=implicit)
    return {**encoders(data, None, WORD_DIM, relations=blocks), **scoring(similarity, MARGIN)}


INTERACTIVE = partial(parts, similarity=("InteractiveSimilarity", {"cross_level": None}))
RESG = resg_variants(graph=RESG_GRAPH, margins=RESG_MARGINS, word_dim=WORD_DIM)
VARIANTS = {
    "cmsei_both": partial(INTERACTIVE, graph={}),
    "hire": partial(INTERACTIVE, graph={}, implicit=True),
    "cmsei_refined": partial(parts, similarity=("InteractiveSimilarity", {}), graph={}),
    "hire_refined": partial(parts, similarity=("InteractiveSimilarity", {}), graph={}, implicit=True),
    "cmsei_none": INTERACTIVE,
    "cmsei_spatial": partial(INTERACTIVE, graph={"semantic": False}),
    "cmsei_semantic": partial(INTERACTIVE, graph={"spatial": False}),
    "chan": partial(parts, similarity=("HardAligningSimilarity", {})),
    "scan_t2i": partial(parts, similarity=("CrossAttentionSimilarity", {})),
    "cosine": partial(parts, similarity=("CosineSimilarity", {})),
    "chan_both": partial(parts, similarity=("HardAligningSimilarity", {}), graph={}),
    **RESG,
}
BUDGET = Budget(epochs=8, validate_every=0, needs_root=False, make_data=scenes, also=corrupted)


def cell(values: list[float]) -> str:
    """Mean and standard deviation."""
    spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.1f}{spread}"


def print_tables(results: dict[str, list[dict[str, Any]]]) -> None:
    """Recall and twins of every variant; then the corrupted graphs, for variants that look at the edges."""
    columns = {
        "rSum": "rsum",
        "R@1 image to text": "i2t_r1",
        "R@1 text to image": "t2i_r1",
        "twins": "twin_accuracy",
        "spatial twins": "twin_accuracy_spatial",
        "semantic twins": "twin_accuracy_semantic",
    }
    print("| | " + " | ".join(columns) + " | parameters | ms a step |\n" + "|---" * (len(columns) + 3) + "|")
    for name in (name for name in LABELS if name in results):
        runs = results[name]
        cells = [cell([run["test"][column] for run in runs]) for column in columns.values()]
        cells += [f"{runs[0]['parameters']:,}", f"{min(run['step_ms'] for run in runs):.0f}"]
        print("| " + " | ".join([LABELS[name], *cells]) + " |")
    print("\n| semantic twins | " + " | ".join(f"{share:.0%}" for share in SHARES) + " |\n" + "|---" * 6 + "|")
    for name in ("cmsei_semantic", "cmsei_both", "hire", "chan_both", "resg_triplet", "resg_all"):
        if name not in results:
            continue
        for kind, word in (("edge_dropout", "dropped"), ("edge_rewiring", "rewired")):
            values = [[run["corrupted"][f"{kind}_{share:.1f}"] for run in results[name]] for share in SHARES]
            cells = [cell([twins["twin_accuracy_semantic"] for twins in runs]) for runs in values]
            print("| " + " | ".join([f"{LABELS[name]}, edges {word}", *cells]) + " |")


if __name__ == "__main__":
    print_tables(run_all(VARIANTS, __doc__.splitlines()[0], BUDGET))
