"""Random numbers as a function of where a run is, not of what it has drawn so far."""

from __future__ import annotations

import hashlib

import torch


def mix_seed(*parts: int) -> int:
    """One 63-bit seed from several numbers; near numbers give unrelated seeds."""
    text = ",".join(str(int(part)) for part in parts).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 1


def seed_step(run_seed: int, epoch: int, batch: int, rank: int) -> None:
    """Seed torch for one training batch, so that a resumed run draws what an uninterrupted one would have drawn."""
    torch.manual_seed(mix_seed(run_seed, epoch, batch, rank))
