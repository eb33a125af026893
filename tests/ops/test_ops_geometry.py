import math

import torch

from itmatch.ops import box_area, box_iou, edge_geometry


def random_boxes(*shape):
    torch.manual_seed(0)
    corner = torch.rand(*shape, 2, dtype=torch.double)
    return torch.cat((corner, corner + torch.rand(*shape, 2, dtype=torch.double)), -1)


def test_iou_equals_loop():
    a, b = random_boxes(2, 5), random_boxes(2, 4).flip(0)
    iou = box_iou(a, b)
    assert iou.shape == (2, 5, 4)
    for n in range(2):
        for i in range(5):
            for j in range(4):
                p, q = a[n, i].tolist(), b[n, j].tolist()
                width = max(0.0, min(p[2], q[2]) - max(p[0], q[0]))
                height = max(0.0, min(p[3], q[3]) - max(p[1], q[1]))
                union = (p[2] - p[0]) * (p[3] - p[1]) + (q[2] - q[0]) * (q[3] - q[1]) - width * height
                assert math.isclose(iou[n, i, j].item(), width * height / union, abs_tol=1e-12)


def test_disjoint_touching_and_empty_boxes():
    boxes = torch.tensor([[0.0, 0, 1, 1], [2, 2, 3, 3], [1, 0, 2, 1], [5, 5, 5, 5]], requires_grad=True)
    iou = box_iou(boxes, boxes)
    torch.testing.assert_close(iou, torch.diag(torch.tensor([1.0, 1.0, 1.0, 0.0])))
    iou.sum().backward()
    assert torch.isfinite(boxes.grad).all()
    assert torch.equal(box_area(torch.tensor([1.0, 1.0, 0.0, 0.0])), torch.tensor(0.0))


def test_edge_geometry():
    target, source = torch.tensor([0.0, 0.0, 0.2, 0.4]), torch.tensor([0.3, 0.5, 0.7, 0.7])
    found = edge_geometry(target, source)
    iou, distance = 0.0, math.hypot(0.4, 0.4)
    ratios = math.log(0.4 / 0.2), math.log(0.2 / 0.4)
    expected = torch.tensor([0.4, 0.4, *ratios, 0.4 / distance, 0.4 / distance, iou, distance])
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(edge_geometry(source, target)[[0, 1, 4, 5]], -found[[0, 1, 4, 5]])
    torch.testing.assert_close(edge_geometry(target, target), torch.tensor([0.0] * 6 + [1.0, 0.0]))


def test_edge_geometry_of_all_pairs():
    boxes = random_boxes(2, 3)
    found = edge_geometry(boxes[:, :, None], boxes[:, None])
    assert found.shape == (2, 3, 3, 8)
    torch.testing.assert_close(found[1, 0, 2], edge_geometry(boxes[1, 0], boxes[1, 2]))
