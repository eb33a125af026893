"""Small pretrained models with random weights, as ``save_pretrained`` writes them."""

import torch

_SIZES = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
_PATCHES = {**_SIZES, "image_size": 32, "patch_size": 8}
PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "red", "green", "blue", "white", "beside", "the", "left", "is"]


def save_backbone(folder):
    """A ViT that makes maps of 4 x 4 places, and its processor; returns its path."""
    import transformers

    with torch.random.fork_rng():
        torch.manual_seed(0)
        transformers.ViTModel(transformers.ViTConfig(**_PATCHES)).save_pretrained(folder)
    transformers.ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)
    return str(folder)


def save_swin(folder):
    """A Swin that reads 32 x 32 pixels as 4 x 4 patches in its last stage, and its processor; returns its path."""
    import transformers

    sizes = {"image_size": 32, "patch_size": 4, "embed_dim": 8, "depths": [1, 1], "num_heads": [2, 2], "window_size": 4}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        transformers.SwinModel(transformers.SwinConfig(**sizes)).save_pretrained(folder)
    mean = [0.485, 0.456, 0.406]
    transformers.ViTImageProcessorPil(size={"height": 32, "width": 32}, image_mean=mean).save_pretrained(folder)
    return str(folder)


def save_dual_encoder(family, folder):
    """A CLIP or SigLIP that reads 32 x 32 pixels as 4 x 4 patches, and its tokenizer; returns its path."""
    import transformers

    (folder / "vocab.txt").write_text("\n".join(PIECES) + "\n")
    transformers.BertTokenizerFast(str(folder / "vocab.txt"), do_lower_case=True).save_pretrained(folder)
    text = {**_SIZES, "vocab_size": len(PIECES), "max_position_embeddings": 80, "eos_token_id": 3, "pad_token_id": 0}
    more = {"projection_dim": 16} if family == "clip" else {}
    config = transformers.AutoConfig.for_model(family, text_config=text, vision_config=_PATCHES, **more)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        transformers.AutoModel.from_config(config).save_pretrained(folder)
    return str(folder)
