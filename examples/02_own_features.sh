#!/usr/bin/env bash
# Train on a folder of region features: write a small one, check it, train, test. Options go on to `itmatch fit`.
set -euo pipefail
here=$(dirname "$0")

python "$here/02_own_features.py" --root data/toy_precomp --only-write
itmatch data check data/toy_precomp
# A preset, made small; every option can stand in a YAML file of your own instead.
itmatch fit --config chan_gru_f30k \
  --data.source.root data/toy_precomp --data.batch_size 32 --data.num_workers 0 \
  --model.image_encoder.embed_dim 64 --model.text_encoder.embed_dim 64 --model.text_encoder.word_dim 32 \
  --trainer.max_epochs 10 --trainer.logger.save_dir runs/toy "$@"
# Test again, from the files of the run.
run=$(ls -td runs/toy/lightning_logs/version_* | head -1)
itmatch test --config "$run/config.yaml" --ckpt_path "$run/checkpoints/best.ckpt"
