"""Targets: what ``itmatch compare`` and the protocols on COCO's annotations read."""

import numpy as np
import torch
import yaml
from helpers_targets import BYTES, JSON, NPY, NPZ, Target, as_json, called, damage

from itmatch.evaluation import Cxc, EccvCaption, PlausibleMatch, ScoredSplit, retrieval_ranks, streamed_hits

FIGURES = {f"{way}_r{k}": 10.0 * k for way in ("i2t", "t2i") for k in (1, 5, 10)} | {"rsum": 320.0, "i2t_medr": 2.0}

CONFIG = {
    "trainer": {"max_epochs": 1, "logger": {"init_args": {"save_dir": "runs"}}},
    "data": {"source": {"class_path": "itmatch.data.RelationScenes", "init_args": {"seed": 0}}},
    "protocol": [{"class_path": "itmatch.evaluation.Coco1K", "init_args": {"num_images": 4, "folds": 2}}],
    "ckpt_path": None,
}


def write_runs(folder):
    for name, shift in (("one", 0), ("two", 1)):
        (folder / name).mkdir()
        as_json(folder / name / "test_metrics.json", FIGURES)
        np.savez_compressed(
            folder / name / "test_ranks.npz",
            image_to_text=np.arange(4) + shift,
            text_to_image=np.arange(8) % 3,
            caption_image=np.arange(8) // 2,
            image_ids=np.array(["a", "b", "c", "d"]),
            captions_digest=np.array("0123456789abcdef"),
        )
        (folder / name / "config.yaml").write_text(yaml.safe_dump(CONFIG | {"seed_everything": shift}))


def read_runs(folder):
    return called("compare", folder / "one", folder / "two", "--samples=50", "--over-seeds")


def wrong_comparison(text):
    return "nan or inf is printed" if " nan" in text or " inf" in text or "+inf" in text else None


class Matrix(ScoredSplit):
    """A split whose scores are a matrix."""

    def __init__(self, scores, caption_image):
        super().__init__(caption_image, len(scores), [str(i) for i in range(len(scores))])
        self.scores = scores

    def ranks(self, images=slice(None)):
        return retrieval_ranks(self.scores, self.caption_image)

    def hits(self, relevance, places=10, images=None):
        rows = torch.arange(self.num_images)[slice(None) if images is None else images]
        captions = torch.isin(self.caption_image, rows).nonzero()[:, 0]
        score = lambda i, t: self.scores[rows[i]][:, captions[t]]  # noqa: E731
        return streamed_hits(score, rows, captions, relevance, places=places)


def write_annotations(folder):
    captions, images = [(7 * i + 3) % 100 for i in range(20)], [500 + 3 * i for i in range(4)]
    np.save(folder / "coco_test_ids.npy", np.array(captions))
    as_json(folder / "original_caption_to_image.json", {str(c): [images[k // 5]] for k, c in enumerate(captions)})
    for kind in ("eccv", "cxc"):
        as_json(folder / f"{kind}_image_to_caption.json", {str(images[1]): captions[:3], str(images[2]): captions[3:9]})
        as_json(folder / f"{kind}_caption_to_image.json", {str(captions[0]): images[:2], str(captions[9]): images[:1]})
    as_json(
        folder / "instances_val2014.json",
        {
            "categories": [{"id": 18, "name": "dog"}, {"id": 17, "name": "cat"}],
            "annotations": [{"image_id": images[i % 4], "category_id": 17 + i % 2, "id": i} for i in range(6)],
        },
    )


def measure(protocol):
    scores = torch.randn(4, 20, generator=torch.Generator().manual_seed(0))
    split = Matrix(scores, torch.arange(20) // 5)
    protocol.check(split.caption_image, split.num_images)
    return protocol.measure(split)


def wrong_figures(figures):
    good = all(isinstance(value, float) and 0 <= value <= 100 for value in figures.values())
    return None if good else f"figures {figures}"


ANNOTATIONS = {"coco_test_ids.npy": NPY, "original_caption_to_image.json": JSON}


def annotations(kind):
    names = (f"{kind}_image_to_caption.json", f"{kind}_caption_to_image.json")
    return ANNOTATIONS | dict.fromkeys(names, JSON)


EVALUATION = [
    Target(
        "compare: test_ranks.npz",
        "compare",
        write_runs,
        read_runs,
        {"one/test_ranks.npz": NPZ, "two/test_ranks.npz": NPZ},
        wrong_comparison,
    ),
    Target(
        "compare: metrics.json", "compare", write_runs, read_runs, {"two/test_metrics.json": JSON}, wrong_comparison
    ),
    Target(
        "compare: config.yaml",
        "compare",
        write_runs,
        read_runs,
        {"two/config.yaml": (damage.yaml_of, damage.yaml_of, *BYTES)},
        wrong_comparison,
    ),
    Target(
        "annotations",
        "ECCV",
        write_annotations,
        lambda f: measure(EccvCaption(f)),
        annotations("eccv"),
        wrong_figures,
        ("coco_test_ids.npy", "eccv_"),
    ),
    Target(
        "annotations",
        "CxC",
        write_annotations,
        lambda f: measure(Cxc(f)),
        annotations("cxc"),
        wrong_figures,
        ("coco_test_ids.npy", "cxc_"),
    ),
    Target(
        "annotations",
        "PMRP",
        write_annotations,
        lambda f: measure(PlausibleMatch(f / "instances_val2014.json", f)),
        ANNOTATIONS | {"instances_val2014.json": JSON},
        wrong_figures,
        ("coco_test_ids.npy", "instances_val2014.json"),
    ),
]
