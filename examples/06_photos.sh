#!/usr/bin/env bash
# A folder of photos with captions: find regions, train, index, search. Options go on to `itmatch fit`.
set -euo pipefail
cd "$(dirname "$0")"  # where my_photos.py is

python 06_photos.py --photos data/drawn_photos --only-draw
# With photos of your own, leave out the two lines about the extractor: D-FINE is then taken from the Hugging Face hub.
itmatch fit --config photos \
  --data.source.root data/drawn_photos --data.source.captions data/drawn_photos/captions.json \
  --data.source.val_share 0.2 --data.source.test_share 0.2 --data.source.cache runs/regions \
  --data.source.extractor.detector none \
  --data.source.extractor.backbone my_photos.Squares \
  --trainer.accelerator cpu --trainer.logger.save_dir runs/photos "$@"
run=$(ls -td runs/photos/lightning_logs/version_* | head -1)
# The model knows how to read photos. --trust, since its backbone is a class of ours and not of the library.
itmatch index data/drawn_photos --model "$run" --trust my_photos --out runs/photos_index --overwrite
itmatch search runs/photos_index "a red circle left of a blue square" --trust my_photos --html runs/found.html
