import numpy as np

from itmatch.data import CaptionDataset, ImageDataset, ImageTextSplit, PairDataset


def test_views():
    features = np.arange(6, dtype=np.float32).reshape(3, 1, 2)
    dataset = ImageTextSplit(features, ["a", "b", "c", "d"], np.array([0, 0, 1, 2]))
    assert len(PairDataset(dataset)) == len(CaptionDataset(dataset)) == 4
    assert len(ImageDataset(dataset)) == 3
    image, caption = PairDataset(dataset)[2]
    assert (image.index, caption.index, caption.image) == (1, 2, 1)
    assert image.features.tolist() == [[2, 3]]
    assert CaptionDataset(dataset)[1].text == "b"
    assert ImageDataset(dataset)[2].index == 2
