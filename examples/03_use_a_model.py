"""Encode, score, rank, align, save and load: a model without any training loop."""

import argparse
from pathlib import Path

import torch

from itmatch import MatchingModel, MatchingTask, Regions
from itmatch.data import RelationScenes
from itmatch.evaluation import rank_fragments, recall_table, retrieval_metrics
from itmatch.models import chan_gru
from itmatch.ops import lengths_to_mask


def main(checkpoint: Path | None, *, images: int) -> None:
    """Use the model of a checkpoint of example 01, or one with random weights."""
    if checkpoint is None:
        torch.manual_seed(0)
        words = ["<pad>", "<start>", "<end>", "<unk>", *RelationScenes.words()]
        model = chan_gru(words, region_dim=64, embed_dim=128, word_dim=64)
    else:
        model = MatchingTask.load_from_checkpoint(checkpoint, map_location="cpu").model
    test = RelationScenes(num_test=images).split("test")
    shown = test.image(0)

    # The score of one image with any captions. Features are (I, R, F): regions of one image, here all of them real.
    captions = [test.captions[0], "a small red dog chasing a cat"]
    for caption, score in zip(captions, model.score(shown.features[None], captions)[0].tolist(), strict=True):
        print(f"{score:7.3f}  {caption}")

    # Which region each word met.
    alignment = model.align(shown.features[None], captions[0])  # (R, W), <start> and <end> among the words
    print("best region of each token:", alignment.argmax(0).tolist())

    # All images and captions: encode each once, keep the fragments, rank.
    batch = [test.image(i).features for i in range(test.num_images)]
    features = torch.nn.utils.rnn.pad_sequence(batch, batch_first=True)  # (I, R, F)
    regions = Regions(features, lengths_to_mask(torch.tensor([len(rows) for rows in batch]), features.shape[1]))
    image, text = model.encode_images(regions), model.encode_texts(test.captions)
    ranks = rank_fragments(model.similarity, image, text, torch.as_tensor(test.caption_image))
    print(recall_table(retrieval_metrics(ranks), title=f"{test.num_images} images"))

    # Save, load, compare.
    model.save_pretrained("runs/my-model")
    again = MatchingModel.from_pretrained("runs/my-model")
    assert torch.equal(again.score(image, text), model.score(image, text))
    print("saved to runs/my-model")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path, nargs="?", help="best.ckpt of example 01; without it, random weights")
    parser.add_argument("--fast", action="store_true", help="fewer images")
    options = parser.parse_args()
    main(options.checkpoint, images=10 if options.fast else 100)
