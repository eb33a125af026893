#!/usr/bin/env bash
# Put a similarity of your own, from my_similarity.py, in the place of ours. Options go on to `itmatch fit`.
set -euo pipefail
cd "$(dirname "$0")"  # where my_similarity.py is: classes are named as file.Class

itmatch fit --config demo --model.similarity my_similarity.TopKSimilarity --model.similarity.k 2 "$@"
