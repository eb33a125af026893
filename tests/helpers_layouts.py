"""The same three photos in every layout: files of features, and what has to come out of them."""

import base64
import json
import pickle

import numpy as np

SIZES = {"101": (640, 480), "102": (300, 400), "103": (500, 500)}  # width, height
COUNTS = {"101": 3, "102": 2, "103": 0}
NUMBERS = 6


def photos():
    """By id: features (R, 6) float32, boxes (R, 4) in pixels, labels (R,)."""
    rng = np.random.default_rng(0)
    found = {}
    for name, count in COUNTS.items():
        width, height = SIZES[name]
        corners = np.sort(rng.random((count, 2, 2)), axis=1) * [width - 1, height - 1]
        boxes = corners.reshape(count, 4).astype(np.float32)
        if count:
            boxes[0] = [0, 0, width - 1, height - 1]  # the whole photo
        features = rng.standard_normal((count, NUMBERS)).astype(np.float32)
        found[name] = features, boxes, rng.integers(0, 1600, count)
    return found


def base64_of(array):
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()


def write_bottom_up(path, *, height_first=False, bytes_of_python_3=False, names=False, extra=()):
    lines = ["image_id\timage_w\timage_h\tnum_boxes\tboxes\tfeatures"] if names else []
    for name, (features, boxes, _) in photos().items():
        sides = SIZES[name][::-1] if height_first else SIZES[name]
        packed = [base64_of(boxes), base64_of(features), *extra]
        packed = [f"b'{text}'" for text in packed] if bytes_of_python_3 else packed
        lines.append("\t".join([name, *map(str, sides), str(len(features)), *packed]))
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def write_lxmert(path):
    """Ten fields, the height before the width."""
    lines = []
    for name, (features, boxes, labels) in photos().items():
        width, height = SIZES[name]
        sure = base64_of(np.ones(len(features), np.float32))
        kinds = [base64_of(labels), sure, base64_of(labels), sure]
        lines.append("\t".join([name, str(height), str(width), *kinds, str(len(features)), base64_of(boxes)]))
        lines[-1] += "\t" + base64_of(features)
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def write_vinvl(folder, *, form="json", lineidx=True, predictions=True, number_last=False):
    folder.mkdir(exist_ok=True)
    lines, boxes_lines = [], []
    for name, (features, boxes, _) in photos().items():
        content = {"num_boxes": len(features), "features": base64_of(features)}
        if number_last:
            content = dict(reversed(content.items()))
        text = json.dumps(content) if form == "json" else f"{len(features)}\t{content['features']}"
        lines.append(f"{name}\t{text}\n")
        objects = [{"class": "dog", "conf": 0.9, "rect": box} for box in boxes.tolist()]
        width, height = SIZES[name]
        boxes_lines.append(f"{name}\t{json.dumps({'objects': objects, 'image_w': width, 'image_h': height})}\n")
    (folder / "features.tsv").write_text("".join(lines))
    if predictions:
        (folder / "predictions.tsv").write_text("".join(reversed(boxes_lines)))
    if lineidx:
        starts = np.cumsum([0, *map(len, lines)])[:-1]
        (folder / "features.lineidx").write_text("".join(f"{start}\n" for start in starts))
    return folder


def write_npz(folder, layout="bottom-up-attention.pytorch", ending=".npz"):
    folder.mkdir(exist_ok=True)
    for name, (features, boxes, labels) in photos().items():
        width, height = SIZES[name]
        fractions = boxes / np.array([width, height, width, height], np.float32)
        content = {
            "bottom-up-attention.pytorch": {
                "x": features, "bbox": boxes, "num_bbox": len(features), "image_w": width, "image_h": height,
                "info": {"objects_id": labels},
            },
            "a column per region": {"x": features.T, "bbox": boxes, "image_w": width, "image_h": height},
            "UNITER": {
                "features": features,
                "norm_bb": np.hstack([fractions, fractions[:, 2:] - fractions[:, :2]]),
                "conf": np.ones(len(features)), "soft_labels": np.ones((len(features), 9), np.float16),
            },
            "feat": {"feat": features},
            "padded": {
                "features": np.vstack([features, np.zeros((4, NUMBERS), np.float32)]),
                "boxes": np.vstack([boxes, np.zeros((4, 4), np.float32)]),
                "num_boxes": len(features), "width": width, "height": height,
            },
        }[layout]  # fmt: skip
        np.savez(folder / f"{name}{ending}", **content)
    return folder


def write_npy(folder, layout="plain"):
    folder.mkdir(exist_ok=True)
    for name, (features, boxes, labels) in photos().items():
        width, height = SIZES[name]
        info = {"image_width": width, "image_height": height, "num_boxes": len(features), "objects": labels}
        if layout == "ViLBERT":  # one pickled dict
            content = {"image_id": name, "image_w": width, "image_h": height, "num_boxes": len(features)}
            features = content | {"features": features, "boxes": boxes, "cls_prob": np.ones((len(features), 9))}
        elif layout == "mmf":  # features, and a pickled dict beside them
            np.save(folder / f"{name}_info.npy", info | {"bbox": boxes}, allow_pickle=True)
        np.save(folder / f"{name}.npy", features, allow_pickle=True)
    return folder


def write_h5(path, layout):
    import h5py

    given = photos()
    most = max(COUNTS.values())

    def padded(place, size):
        rows = [np.vstack([one[place], np.zeros((most - len(one[place]), size), np.float32)]) for one in given.values()]
        return np.stack(rows).astype(np.float32)

    with h5py.File(path, "w") as file:
        if layout == "arrays":
            file["features"], file["bboxes"], file["num_boxes"] = padded(0, NUMBERS), padded(1, 4), [*COUNTS.values()]
            file["image_w"], file["image_h"] = zip(*SIZES.values(), strict=True)
            file["ids"] = [int(name) for name in given] if path.stem != "texts" else list(given)
        elif layout == "starts and ends":  # the adaptive files of bottom-up-attention-vqa
            ends = np.cumsum(list(COUNTS.values()))
            file["image_features"] = np.vstack([one[0] for one in given.values()])
            file["image_bb"] = np.vstack([one[1] for one in given.values()])
            file["pos_boxes"] = np.stack([ends - list(COUNTS.values()), ends], 1).astype(np.int32)
            file["image_w"], file["image_h"] = zip(*SIZES.values(), strict=True)
            ids = {int(name): place for place, name in enumerate(given)}
            path.with_name(f"{path.stem}_imgid2idx.pkl").write_bytes(pickle.dumps(ids, 2))
        else:
            for name, (features, boxes, labels) in given.items():
                width, height = SIZES[name]
                if layout == "groups":  # VL-T5
                    content = {"features": features, "boxes": boxes, "img_w": width, "img_h": height, "obj_id": labels}
                    for key, value in content.items():
                        file[f"{name}/{key}"] = value
                elif layout == "names":  # meshed-memory transformer, DLCT
                    file[f"{name}_features"], file[f"{name}_boxes"] = features, boxes
                    file[f"{name}_size"], file[f"{name}_grids"] = (height, width), np.zeros((4, NUMBERS))
                else:
                    file[name] = features
    return path
