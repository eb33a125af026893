import math

import torch

from itmatch.ops import box_area, box_iou, polar_geometry, relative_geometry


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


def test_relative_geometry():
    boxes = torch.tensor([[0.0, 0.0, 2.0, 4.0], [1.0, 1.0, 5.0, 2.0]])
    relative = relative_geometry(boxes)
    assert relative.shape == (2, 2, 4)
    expected = torch.tensor([(3.0 - 1) / 2, (1.5 - 2) / 4, math.log(2), math.log(1 / 4)])
    torch.testing.assert_close(relative[0, 1], expected)
    torch.testing.assert_close(relative.diagonal(dim1=0, dim2=1), torch.zeros(4, 2))
    assert torch.isfinite(relative_geometry(torch.zeros(3, 4))).all()


def test_polar_geometry():
    boxes = torch.tensor([[0.0, 0.0, 2.0, 2.0], [3.0, 4.0, 5.0, 6.0], [0.0, 0.0, 2.0, 2.0]], requires_grad=True)
    polar = polar_geometry(boxes)
    torch.testing.assert_close(polar[0, 1], torch.tensor([5.0, math.atan2(4, 3)]))
    torch.testing.assert_close(polar[1, 0], torch.tensor([5.0, math.atan2(-4, -3)]))
    assert (polar[0, 2] == 0).all()  # coinciding centres
    polar.sum().backward()
    assert torch.isfinite(boxes.grad).all()


def test_batch_dimensions():
    boxes = random_boxes(2, 3, 4)
    for function in (relative_geometry, polar_geometry):
        assert torch.equal(function(boxes)[1, 2], function(boxes[1, 2]))
