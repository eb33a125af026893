"""A folder of photos with captions: find regions, train, index, search. Without a folder, photos are drawn."""

import argparse
from pathlib import Path

from my_photos import Squares, draw_photos


def main(photos: Path, captions: str | dict, detector: str | None, backbone: str | None, *, epochs: int) -> None:
    """Extract once, train and test, write an index, and search it."""
    from lightning.pytorch import Trainer, seed_everything
    from torch.optim import AdamW

    from itmatch.losses import HardNegativeTripletLoss
    from itmatch.models import chan_gru
    from itmatch.search import Index
    from itmatch.training import MatchingData, MatchingTask, RecallReport
    from itmatch.vision import PhotoFolder, RegionExtractor

    seed_everything(0)
    squares = Squares() if detector is None and backbone is None else backbone
    extractor = RegionExtractor(detector, backbone=squares)
    source = PhotoFolder(photos, captions, extractor, cache="runs/regions", val_share=0.2, test_share=0.2)
    data = MatchingData(source, batch_size=32)
    model = chan_gru(data.vocabulary, region_dim=data.feature_dim, embed_dim=64, word_dim=32)
    loss = HardNegativeTripletLoss(margin=0.1, warmup_epochs=1)
    task = MatchingTask.from_model(model, objective=loss, optimizer=lambda groups: AdamW(groups, lr=3e-3))
    trainer = Trainer(accelerator="cpu", max_epochs=epochs, default_root_dir="runs", callbacks=[RecallReport()])
    trainer.fit(task, data)
    trainer.test(task, data, verbose=False)

    split = source.split("test")
    index = Index.build(task.model, split, "runs/photos_index", overwrite=True)
    hits = index.search(split.captions, top=10)
    found = [split.image_ids[own] in ids for own, ids in zip(split.caption_image, hits.ids, strict=True)]
    tested = float(trainer.callback_metrics["test/t2i_r10"])
    print(f"R@10 of texts by search {100 * sum(found) / len(found):.2f}, by test {tested:.2f}")
    print(f"{split.captions[0]}: {', '.join(hits.ids[0][:3])}")
    # with its extractor, so that it takes photos: itmatch index PHOTOS --model runs/photos_model
    task.model.save_pretrained("runs/photos_model")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, default=Path("data/drawn_photos"), help="without --captions: drawn")
    parser.add_argument("--captions", type=Path, help="a json, a csv, or lines of FILE, tab, caption")
    parser.add_argument("--test-captions", type=Path, help="likewise, of the photos to test with; else a fifth is")
    parser.add_argument("--detector", help="folder or name of D-FINE, DETR, ...")
    parser.add_argument("--backbone", help="folder or name of DINOv2, SigLIP, ...")
    parser.add_argument("--only-draw", action="store_true", help="draw the photos and stop")
    parser.add_argument("--fast", action="store_true", help="one epoch, to see that it runs")
    options = parser.parse_args()
    captions = str(options.captions or draw_photos(options.photos, 300))
    if options.test_captions is not None:  # nothing is selected on them: the last weights are tested
        captions = {"train": captions} | dict.fromkeys(("val", "test"), str(options.test_captions))
    if options.captions and not (options.detector or options.backbone):
        print("no --detector and no --backbone: regions are squares of pixels, which say little of real photos")
    if not options.only_draw:
        main(options.photos, captions, options.detector, options.backbone, epochs=1 if options.fast else 20)
