"""What stands after --config."""

import yaml

from itmatch.cli.running.configs import resolve_config

BEFORE = """
model:
  similarity:
    class_path: itmatch.nn.CrossAttentionSimilarity
    init_args: {direction: i2t, lambda_softmax: 4.0}
  objective:
    class_path: itmatch.losses.SelectiveHardNegativeLoss
    init_args: {margin: 0.1, epsilon: 0.02}
"""


def test_the_configuration_of_an_earlier_run_gets_the_names_of_now(tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text(BEFORE)
    model = yaml.safe_load(resolve_config(str(file)))["model"]
    assert model["similarity"]["init_args"] == {"query": "regions", "temperature": 0.25}
    rule = {"class_path": "itmatch.losses.SelectiveNegatives", "init_args": {"epsilon": 0.02}}
    assert model["objective"] == {
        "class_path": "itmatch.losses.HardNegativeTripletLoss",
        "init_args": {"margin": 0.1, "negatives": rule},
    }


def test_a_whole_configuration_stays_the_file_that_it_is(tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text("model:\n  similarity:\n    class_path: itmatch.nn.CosineSimilarity\n")
    assert resolve_config(str(file)) == str(file)
