import pytest
import torch
from helpers_pretrained import save_backbone, save_dual_encoder, save_swin

from itmatch import models
from itmatch.models.systems.by_name import SYSTEMS, system_specs
from itmatch.nn import RegionEncoder
from itmatch.spec import build, noted_spec, only_noted

SMALL = {"embed_dim": 16}


@pytest.mark.parametrize("name", [name for name in SYSTEMS if name.endswith(("_gru", "_bert"))])
def test_the_parts_are_those_of_the_model(name, tiny_bert):
    of_text = {"model_name": tiny_bert} if name.endswith("bert") else {"word_dim": 6}
    size = {} if name.endswith("bert") else {"vocabulary": 9}
    model = SYSTEMS[name](**size, region_dim=5, **SMALL, **of_text)
    specs = system_specs(name, SMALL | of_text)
    image, text = (innermost(specs[part]) for part in ("image_encoder", "text_encoder"))
    assert "in_features" not in image
    assert "vocabulary" not in text
    image["in_features"] = 5
    text |= size
    for part in ("image_encoder", "text_encoder", "similarity"):
        assert build(specs[part]).spec == getattr(model, part).spec, part
    assert ("tokenizer" in specs) == (model.tokenizer is not None) == name.endswith("bert")


def test_the_parts_of_a_dual_encoder_are_those_of_the_model_and_name_it_once(tmp_path):
    folder = save_dual_encoder("siglip", tmp_path)
    model, specs = models.clip_dual_encoder(folder), system_specs("clip_dual_encoder", {"model_name": folder})
    for part in ("image_encoder", "text_encoder", "similarity", "tokenizer", "extractor"):
        assert build(specs[part]).spec == getattr(model, part).spec, part
    assert model.tokenizer.spec["init_args"]["max_length"] == 80  # as the model says


@pytest.mark.parametrize("name", ["laps_vit", "laps_swin", "avse_vit"])
def test_the_parts_of_a_system_that_reads_photos_are_those_of_the_model(name, tmp_path, tiny_bert):
    folder = save_swin(tmp_path) if name == "laps_swin" else save_backbone(tmp_path)
    settings = {"model_name": tiny_bert, "vision_name": folder, "embed_dim": 8}
    settings |= {"block_dim": 4} if name == "avse_vit" else {}
    model, specs = SYSTEMS[name](**settings), system_specs(name, settings)
    for part in ("image_encoder", "text_encoder", "similarity", "tokenizer", "extractor"):
        assert build(specs[part]).spec == getattr(model, part).spec, part
    assert model.extractor.spec["init_args"]["image_size"] == 32


def innermost(spec):
    """The arguments of an encoder, or of the one within it."""
    arguments = spec["init_args"]
    return innermost(arguments["encoder"]) if "encoder" in arguments else arguments


def test_every_public_composition_without_files_of_its_own_is_a_system():
    public = {name for name in models.__all__ if name.endswith(("_gru", "_bert", "_vit", "_swin", "_dual_encoder"))}
    assert public == set(SYSTEMS)
    assert all(getattr(models, name) is function for name, function in SYSTEMS.items())


def test_nothing_is_allocated_or_read():
    specs = system_specs("chan_bert", {"model_name": "no/such", "embed_dim": 10**9})
    assert specs["text_encoder"]["init_args"] == {"model_name": "no/such", "embed_dim": 10**9}
    with only_noted():
        encoder = RegionEncoder(10**9, embed_dim=10**9)
    assert noted_spec(encoder)["init_args"] == {"in_features": 10**9, "embed_dim": 10**9}
    assert isinstance(RegionEncoder(4, 8).state_dict(), dict)  # afterwards, constructors construct
    assert torch.is_tensor(next(RegionEncoder(4, 8).parameters()))


@pytest.mark.parametrize("name", ["nothing", "MatchingModel", "read_public_checkpoint"])
def test_no_other_function_is_called(name):
    with pytest.raises(ValueError, match=f"no system '{name}'; there are avse_regions_bert, "):
        system_specs(name, {})


def test_settings_that_a_system_does_not_have():
    with pytest.raises(ValueError, match=r"^vse_pp_gru: got an unexpected keyword argument 'self_attention'$"):
        system_specs("vse_pp_gru", {"self_attention": True})
    with pytest.raises(ValueError, match="scan_gru: region_dim comes from the data and cannot be set"):
        system_specs("scan_gru", {"region_dim": 3})


def test_a_setting_that_is_nearly_one_is_told():
    with pytest.raises(ValueError, match=r"^chan_gru: got an unexpected .* 'embed_dm'; did you mean 'embed_dim'\?$"):
        system_specs("chan_gru", {"embed_dm": 3})
