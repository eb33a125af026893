"""Regions with boxes and scene graphs, and the graph convolution written out in loops."""

import math

import torch

from itmatch.batch import SceneGraph
from itmatch.ops import box_iou, lengths_to_mask

LENGTHS, WIDTH, SIZE, PREDICATES = (5, 4, 1), 6, 8, 3
MASK = lengths_to_mask(torch.tensor(LENGTHS), WIDTH)


def random_features(dtype=torch.double, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(len(LENGTHS), WIDTH, SIZE, generator=generator, dtype=torch.double).to(dtype)


def random_boxes(dtype=torch.double, seed=0):
    """Every row has a box apart from the others, the last of its real ones, if it has several."""
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(len(LENGTHS), WIDTH, 2, generator=generator, dtype=torch.double) * 0.4
    boxes = torch.cat((corner, corner + 0.2 + 0.3 * torch.rand(corner.shape, generator=generator).double()), -1)
    boxes[0, 4] = boxes[1, 3] = torch.tensor([0.95, 0.95, 1.0, 1.0]).double()
    return boxes.to(dtype)


def scene_graph(**fields):
    """Six edges in two of three rows; place 2 of row 0 is at no edge; the last edge is there twice."""
    edges = torch.tensor([[0, 1, 3, 0, 3, 3], [1, 3, 0, 2, 2, 2]])
    kinds = torch.tensor([2, 0, 1, 1, 0, 0])
    confidence = torch.tensor([1.0, 0.9, 0.3, 0.6, 0.5, 0.8], dtype=torch.double)
    given = {"predicate": kinds, "confidence": confidence}
    return SceneGraph(edges, torch.tensor([0, 0, 0, 1, 1, 1]), len(LENGTHS), **(given | fields))


def moved(module, seed=0):
    """The module with parameters that are not at their start, where it does nothing."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.double)
    return module


def geometry(target, source):
    """The eight numbers of box ``source`` as seen from box ``target``."""
    (a, b, c, d), (p, q, r, s) = target.tolist(), source.tolist()
    dx, dy = (p + r - a - c) / 2, (q + s - b - d) / 2
    distance = math.hypot(dx, dy)
    iou = float(box_iou(target[None], source[None]))
    numbers = (dx, dy, math.log((r - p) / (c - a)), math.log((s - q) / (d - b)))
    return torch.tensor([*numbers, dx / distance, dy / distance, iou, distance], dtype=torch.double)


def edges_of_row(relation, row, boxes, graph):
    """(kind, target, source, weight, type) of every edge of a row; the type of a spatial edge is None."""
    found = []
    for i in range(LENGTHS[row]):
        for j in range(LENGTHS[row]):
            iou = float(box_iou(boxes[row, i : i + 1], boxes[row, j : j + 1]))
            if boxes is not None and i != j and iou >= relation.threshold:
                found.append(("spatial", i, j, iou if relation.spatial_weight == "iou" else 1.0, None))
    for k in range(len(graph.row)):
        source, target = graph.edge_index[:, k].tolist()
        kind, weight = int(graph.predicate[k]), float(graph.confidence[k])
        if int(graph.row[k]) == row and weight >= relation.min_confidence:
            found.append(("semantic", target, source, weight, kind))
            found.append(("semantic", source, target, weight, kind + PREDICATES))
    return found


def branch_in_loops(relation, name, features, boxes, graph):
    """What a branch of a :class:`SpatialSemanticGCN` adds, node by node and edge by edge."""
    update = torch.zeros_like(features)
    for layer in relation.branches[name].layers:
        x, added = features + update, torch.zeros_like(features)
        for row, length in enumerate(LENGTHS):
            edges = [edge for edge in edges_of_row(relation, row, boxes, graph) if edge[0] == name]
            for i in range(length):
                total, message = 0.0, torch.zeros(SIZE, dtype=torch.double)
                for _, target, source, weight, number in edges:
                    if target != i:
                        continue
                    heads = factor(layer, boxes[row, i], boxes[row, source], number)
                    message = message + weight * heads.repeat_interleave(SIZE // layer.num_heads) * layer.value(
                        x[row, source]
                    )
                    total = total + weight
                if total > 0:
                    added[row, i] = layer.output(layer.norm(message / total))
        update = update + added
    return update


def factor(layer, target, source, number):
    """(H,) factors of one edge."""
    for module in layer.factors:
        if hasattr(module, "table"):
            return module.table[number]
        perceptron = module.perceptron
        return 1 + perceptron.output(perceptron.hidden(geometry(target, source)).relu())
    return torch.ones(layer.num_heads, dtype=torch.double)


def in_loops(relation, features, boxes, graph):
    """A :class:`SpatialSemanticGCN`, written out."""
    updates = [branch_in_loops(relation, name, features, boxes, graph) for name in relation.branches]
    return features + sum(updates) / len(updates)
