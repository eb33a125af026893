#!/usr/bin/env bash
# Train CHAN on RelationScenes, the built-in data, and test it. Options go on to `itmatch fit`:
#   bash examples/01_train_demo.sh --trainer.max_epochs 3
set -euo pipefail

itmatch fit --config demo "$@"
