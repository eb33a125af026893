"""``itmatch fit | validate | test | predict``: a thin LightningCLI."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from typing import Any

from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities import rank_zero_warn

from itmatch.training import FragmentWriter, MatchingData, MatchingTask, RecallReport


class MatchingCLI(LightningCLI):
    """LightningCLI whose parts know one another.

    The text encoder gets its vocabulary, and the image encoder its feature size, from the data. ``fit`` ends with a
    test of the best checkpoint.
    """

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Links, callbacks and defaults."""
        parser.link_arguments(
            "data", "model.text_encoder.init_args.vocabulary", compute_fn=_vocabulary, apply_on="instantiate"
        )
        parser.link_arguments(
            "data", "model.image_encoder.init_args.in_features", compute_fn=_feature_dim, apply_on="instantiate"
        )
        parser.add_lightning_class_args(ModelCheckpoint, "checkpoint")
        parser.add_lightning_class_args(RecallReport, "report")
        parser.add_lightning_class_args(FragmentWriter, "fragments")
        parser.add_argument("--test_after_fit", type=bool, default=True, help="Test the best checkpoint after fit.")
        parser.set_defaults(
            {
                "checkpoint.monitor": "val/rsum",
                "checkpoint.mode": "max",
                "checkpoint.save_last": True,
                "checkpoint.filename": "best",
            }
        )

    def _parse_ckpt_path(self) -> None:
        before = self._given("model")
        super()._parse_ckpt_path()
        changed = _differences(before, self._given("model"))
        if changed:
            rank_zero_warn(f"the checkpoint's settings win over those given: {'; '.join(changed)}")

    def _given(self, key: str) -> dict[str, Any]:
        group = self.config[self.config["subcommand"]].get(key)
        return {} if group is None else group.as_flat().__dict__

    def after_fit(self) -> None:
        """Test the best checkpoint."""
        best = getattr(self.trainer.checkpoint_callback, "best_model_path", "")  # empty after a fast_dev_run
        if best and self._get(self.config, "test_after_fit"):
            print(f"best checkpoint: {best}")
            self.trainer.test(self.model, datamodule=self.datamodule, ckpt_path="best", verbose=False)


def run(args: Sequence[str]) -> MatchingCLI:
    """Parse arguments and run their subcommand."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    sys.argv = ["itmatch", *args]  # LightningCLI warns of arguments that are given beside those of the process
    return MatchingCLI(
        MatchingTask,
        MatchingData,
        save_config_kwargs={"overwrite": True},
        seed_everything_default=0,
        auto_configure_optimizers=False,
        load_from_checkpoint_support=False,
        trainer_defaults={
            "gradient_clip_val": 2.0,
            "logger": {"class_path": "lightning.pytorch.loggers.CSVLogger", "init_args": {"save_dir": "runs"}},
            "callbacks": [LearningRateMonitor(logging_interval="epoch")],
        },
    )


def _vocabulary(data: MatchingData) -> Any:
    return data.vocabulary


def _feature_dim(data: MatchingData) -> int:
    return data.feature_dim


def _differences(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    return [
        f"{key} is {after[key]!r}, not {before[key]!r}"
        for key in sorted(before)
        if key in after and before[key] is not None and before[key] != after[key]
    ]
