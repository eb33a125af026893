"""Targets: whatever data come from."""

import gzip
import json

import helpers_binary_damage as binary
import helpers_text_damage as damage
import numpy as np
import torch
from helpers_cli import write_precomp
from helpers_targets import BYTES, JSON, NPY, NPZ, TEXT, Target, as_json, finite

from itmatch.data import (
    CaptionRelations,
    ConlluParses,
    ImageFolder,
    KarpathyJson,
    PhotoPatches,
    PrecompFolder,
    Triples,
    Vocabulary,
    check_path,
    read_scene_graph_benchmark,
    read_visual_genome,
)
from itmatch.formats.arrays import open_array
from itmatch.formats.word_vectors import load_word_vectors

CAPTIONS = ["A dog sees cats", "two men wearing a hat"]


def everything(dataset):
    """All items of a split."""
    return (
        [dataset.image(i) for i in range(dataset.num_images)],
        [dataset.caption(i) for i in range(dataset.num_captions)],
    )


def wrong_items(found):
    """NaN, infinity or places outside, in items of a dataset."""
    for item in found[0]:
        bad = finite(item.features, *(x for x in (item.boxes, item.relation_scores) if x is not None))
        if bad:
            return bad
        relations = torch.zeros(0, 3) if item.relations is None else item.relations
        if bool((relations < 0).any() | (relations[:, ::2] >= len(item.features)).any()):
            return "a relation of no region"
    return None


def write_array(folder):
    values = np.random.default_rng(0).standard_normal((4, 3, 6)).astype(np.float32)
    np.save(folder / "values.npy", values)


def write_split(folder):
    write_precomp(folder, ("dev",), relations=True)
    np.save(folder / "dev_lengths.npy", np.array([3, 3, 2, 3]))
    relations = np.load(folder / "dev_relations.npy") % 2
    np.save(folder / "dev_relations.npy", relations)
    np.save(folder / "dev_labels.npy", np.arange(12).reshape(4, 3))
    boxes = np.load(folder / "dev_boxes.npy") * 100
    np.save(folder / "dev_boxes.npy", boxes.astype(np.float32))
    np.save(folder / "dev_sizes.npy", np.full((4, 2), 100))
    (folder / "dev_ids.txt").write_text("a\nb\nc\nd\n")
    captions = (folder / "dev_caps.txt").read_text().splitlines()
    CaptionRelations.pack([[[(0, 1), (-1, -1), (2, 5)]]] * len(captions)).save(
        folder / "dev_caption_relations.npz", captions
    )


SPLIT = {
    f"dev_{stem}.npy": NPY for stem in ("ims", "lengths", "relations", "relation_scores", "labels", "boxes", "sizes")
}
SPLIT |= {"dev_caption_relations.npz": NPZ, "dev_ids.txt": TEXT, "dev_caps.txt": TEXT}


def write_karpathy(folder):
    images = [
        {
            "split": split,
            "filename": f"COCO_{i}.jpg",
            "cocoid": i,
            "imgid": i,
            "sentences": [{"raw": "a dog and a cat", "tokens": ["a", "dog"]}] * 4 + [{"raw": "two cats"}],
        }
        for i, split in enumerate(("train", "val", "test", "restval"))
    ]
    as_json(folder / "dataset.json", {"images": images, "dataset": "coco"})
    rng = np.random.default_rng(0)
    (folder / "features").mkdir()
    for i in range(4):
        np.save(folder / "features" / f"{i}.npy", rng.standard_normal((3, 6)).astype(np.float32))
    np.save(folder / "labels.npy", np.zeros((4, 3), np.int64))


def read_karpathy(folder):
    data = KarpathyJson(folder / "dataset.json", folder / "features")
    return everything(data.split("val"))


def write_coco(folder):
    images = [{"id": i, "file_name": f"{i}.jpg"} for i in range(4)]
    annotations = [{"image_id": i, "id": i, "caption": "a dog and a cat"} for i in (3, 1, 0, 2)]
    as_json(folder / "captions_val2014.json", {"images": images, "annotations": annotations})
    np.save(folder / "features.npy", np.random.default_rng(0).standard_normal((4, 3, 6)).astype(np.float32))


def read_coco(folder):
    data = KarpathyJson([str(folder / "captions_val2014.json")], folder / "features.npy", val="val2014")
    return everything(data.split("val"))


def write_pickled_vocabulary(folder):
    """As VSE++ pickles it, by hand: its class is not here."""
    words = ["<pad>", "<start>", "<end>", "<unk>", "a", "dog"]
    ids = b"".join(b"X" + len(w).to_bytes(4, "little") + w.encode() + b"K" + bytes([i]) for i, w in enumerate(words))
    back = b"".join(b"K" + bytes([i]) + b"X" + len(w).to_bytes(4, "little") + w.encode() for i, w in enumerate(words))
    state = b"}(U\x08word2idx}(" + ids + b"uU\x08idx2word}(" + back + b"uU\x03idxK\x06u"
    (folder / "vocab.pkl").write_bytes(b"\x80\x02cvocab\nVocabulary\n)\x81" + state + b"b.")


def write_vocabulary(folder):
    Vocabulary.build([["a", "dog"], ["a", "cat"]], min_count=1).to_json(folder / "vocab.json")


def wrong_vocabulary(vocabulary):
    return None if all(isinstance(word, str) for word in vocabulary.words) else "words that are no strings"


def write_benchmark(folder):
    as_json(
        folder / "custom_data_info.json",
        {
            "idx_to_files": ["photos/a.jpg", "photos/b_000007.jpg"],
            "ind_to_classes": ["__background__", "ball", "dog"],
            "ind_to_predicates": ["__background__", "with", "on", "near"],
        },
    )
    as_json(folder / "sizes.json", {"a.jpg": [1200, 600], "b_000007.jpg": [600, 900]})
    entry = {
        "bbox": [[0, 0, 500, 250], [500, 250, 999, 499]],
        "bbox_labels": [2, 1],
        "bbox_scores": [0.9, 0.8],
        "rel_pairs": [[0, 1], [1, 0]],
        "rel_labels": [1, 3],
        "rel_scores": [0.5, 0.9],
    }
    other = {key: [] for key in entry}
    as_json(folder / "custom_prediction.json", {"0": entry, "1": other})


def read_benchmark(folder):
    return read_scene_graph_benchmark(
        folder / "custom_prediction.json", folder / "custom_data_info.json", folder / "sizes.json"
    )


def wrong_graphs(graphs):
    scores = () if graphs.relation_scores is None else (graphs.relation_scores,)
    return finite(graphs.boxes, *scores)


def write_genome(folder):
    def thing(number, name, x):
        return {"object_id": number, "name": name, "x": x, "y": 10, "w": 50, "h": 40}

    relations = [
        {"predicate": "on", "subject": thing(1, "dog", 0), "object": thing(2, "grass", 30)},
        {"predicate": "near", "subject": thing(2, "grass", 30), "object": thing(3, "tree", 60)},
    ]
    as_json(
        folder / "relationships.json",
        [{"image_id": 1, "relationships": relations}, {"image_id": 2, "relationships": []}],
    )
    sizes = [{"image_id": i, "width": 200, "height": 100, "coco_id": i + 7, "flickr_id": None} for i in (1, 2)]
    as_json(folder / "image_data.json", sizes)


def read_genome(folder):
    return read_visual_genome(folder / "relationships.json", folder / "image_data.json")


CONLLU = (
    "1\tA\t_\t_\t_\t_\t2\tdet\t_\t_\n2\tdog\t_\t_\t_\t_\t3\tnsubj\t_\t_\n3\tsees\t_\t_\t_\t_\t0\troot\t_\t_\n"
    "4\tcats\t_\t_\t_\t_\t3\tobj\t_\t_\n\n1\ttwo\t_\t_\t_\t_\t2\tnummod\t_\t_\n2\tmen\t_\t_\t_\t_\t0\troot\t_\t_\n"
    "3\twearing\t_\t_\t_\t_\t2\tacl\t_\t_\n4\ta\t_\t_\t_\t_\t5\tdet\t_\t_\n5\that\t_\t_\t_\t_\t3\tobj\t_\t_\n"
)


def chain(data, random):
    """A caption's parse with a chain of thousands of words."""
    count = random.choice((900, 3000))
    rows = (f"{i + 1}\tw\t_\t_\t_\t_\t{i}\t{'conj' if i else 'root'}\t_\t_" for i in range(count))
    return ("\n".join(rows) + "\n\n" + CONLLU.split("\n\n")[1]).encode()


def write_triples(folder):
    lines = [[["dog", "see", "cat"]], {"objects": ["man", "hat"], "relations": [[0, "wear", 1]]}]
    (folder / "triples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def write_vectors(folder):
    rows = ["3 4", "dog 0.5 1.0 2 3", "cat 0.25 2.0 1 1", "new york 1 2 3 4"]
    (folder / "vectors.txt").write_text("\n".join(rows) + "\n")


def check_report(path, features=None):
    """The report of ``itmatch data check``; problems are raised, as other readers do."""
    report = check_path(path, features=features)
    if not report.ok:
        raise ValueError("; ".join(report.problems[:3]))
    return str(report)


def write_photos(folder):
    from PIL import Image

    values = np.random.default_rng(0).integers(0, 256, (24, 20, 3), dtype=np.uint8)
    for name in ("a.png", "b.jpg", "c.gif", "d.bmp", "e.tiff", "f.webp", "g.ppm"):
        Image.fromarray(values).save(folder / name)
    (folder / "dev_ids.txt").write_text("a.png\nb.jpg\nc.gif\nd.bmp\ne.tiff\nf.webp\ng.ppm\n")
    (folder / "dev_caps.txt").write_text("a dog\n" * 7)


def read_photos(folder):
    return everything(ImageFolder(folder, extractor=PhotoPatches(image_size=16, patch_size=8)).split("val"))


PHOTOS = dict.fromkeys(("b.jpg", "c.gif", "d.bmp", "e.tiff", "f.webp", "g.ppm"), (binary.png_of, binary.png_of, *BYTES))
PHOTOS |= {"a.png": (binary.png_of, binary.png_of, binary.thin_png, *BYTES), "dev_ids.txt": TEXT}

DATA = [
    Target(".npy", "array", write_array, lambda f: np.array(open_array(f / "values.npy")), {"values.npy": NPY}),
    Target(".npy", "data check", write_array, lambda f: check_report(f / "values.npy"), {"values.npy": NPY}),
    Target(
        "folder of features",
        "PrecompFolder",
        write_split,
        lambda f: everything(PrecompFolder(f, val="dev").split("val")),
        SPLIT,
        wrong_items,
        ("/dev: ", "/dev_"),
    ),
    Target("folder of features", "data check", write_split, check_report, SPLIT, named=("/dev: ", "/dev_")),
    Target("Karpathy's json", "KarpathyJson", write_karpathy, read_karpathy, {"dataset.json": JSON}, wrong_items),
    Target(
        "Karpathy's json",
        "features",
        write_karpathy,
        read_karpathy,
        {"features/1.npy": NPY},
        wrong_items,
        ("dataset.json",),
    ),
    Target(
        "Karpathy's json",
        "data check",
        write_karpathy,
        lambda f: check_report(f / "dataset.json"),
        {"dataset.json": JSON},
        named=("unknown to WordTokenizer",),
    ),
    Target(
        "Karpathy's json",
        "check of features",
        write_karpathy,
        lambda f: check_report(f / "dataset.json", f / "features"),
        {"features/1.npy": NPY},
        named=("dataset.json", "features"),
    ),
    Target("COCO's captions", "KarpathyJson", write_coco, read_coco, {"captions_val2014.json": JSON}, wrong_items),
    Target(
        "COCO's captions",
        "data check",
        write_coco,
        lambda f: check_report(f / "captions_val2014.json"),
        {"captions_val2014.json": JSON},
        named=("unknown to WordTokenizer",),
    ),
    Target(
        "vocabulary",
        "pickled",
        write_pickled_vocabulary,
        lambda f: Vocabulary.from_file(f / "vocab.pkl"),
        {"vocab.pkl": BYTES},
        wrong_vocabulary,
    ),
    Target(
        "vocabulary",
        "from_file",
        write_vocabulary,
        lambda f: Vocabulary.from_file(f / "vocab.json"),
        {"vocab.json": JSON},
        wrong_vocabulary,
    ),
    Target(
        "vocabulary", "data check", write_vocabulary, lambda f: check_report(f / "vocab.json"), {"vocab.json": JSON}
    ),
    Target(
        "scene graphs",
        "benchmark",
        write_benchmark,
        read_benchmark,
        dict.fromkeys(("custom_data_info.json", "sizes.json", "custom_prediction.json"), JSON),
        wrong_graphs,
        ("custom_prediction.json", "sizes.json"),
    ),
    Target(
        "scene graphs",
        "Visual Genome",
        write_genome,
        read_genome,
        dict.fromkeys(("relationships.json", "image_data.json"), JSON),
        wrong_graphs,
        ("relationships.json",),
    ),
    Target(
        "parses of captions",
        "CoNLL-U",
        lambda f: (f / "parses.conllu").write_text(CONLLU),
        lambda f: ConlluParses(f / "parses.conllu").parse(CAPTIONS),
        {"parses.conllu": (chain, *TEXT)},
    ),
    Target(
        "parses of captions",
        "triples",
        write_triples,
        lambda f: Triples(f / "triples.jsonl").parse(CAPTIONS),
        {"triples.jsonl": (damage.json_lines_of, damage.json_lines_of, *BYTES)},
    ),
    Target(
        "word vectors",
        "load_word_vectors",
        write_vectors,
        lambda f: load_word_vectors(f / "vectors.txt", ["dog", "cat"])[0],
        {"vectors.txt": TEXT},
        finite,
    ),
    Target(
        "word vectors", "data check", write_vectors, lambda f: check_report(f / "vectors.txt"), {"vectors.txt": TEXT}
    ),
    Target(
        "word vectors",
        "packed",
        lambda f: (f / "vectors.vec.gz").write_bytes(gzip.compress(b"3 2\ndog 1 2\ncat 3 4\na 5 6\n")),
        lambda f: load_word_vectors(f / "vectors.vec.gz", ["dog", "cat"])[0],
        {"vectors.vec.gz": BYTES},
        finite,
    ),
    Target(
        "pictures",
        "data check",
        write_photos,
        check_report,
        PHOTOS,
        named=("(dev): ", ": no such file", "no image that"),
    ),
    Target("pictures", "ImageFolder", write_photos, read_photos, PHOTOS, wrong_items, ("(dev): ", ": no such file")),
]
