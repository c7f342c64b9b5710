"""Example inputs by modality: what a tiny model of each kind is given, and that it runs on it."""

import pytest
import torch

transformers = pytest.importorskip("transformers")

from porter.sources.dry_run import dry_run, runs  # noqa: E402
from porter.sources.huggingface_inputs import example_inputs  # noqa: E402

TEXT = {
    "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "vocab_size": 60,
}  # fmt: skip
VISION = {
    "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "image_size": 16,
    "patch_size": 8,
}  # fmt: skip
KINDS = {
    "video": (
        "VideoMAEModel", "VideoMAEConfig", VISION | {"num_frames": 4},
        {"pixel_values": (2, 4, 3, 16, 16)},
    ),
    "codec": (
        "EncodecModel", "EncodecConfig", {"num_filters": 2, "hidden_size": 8, "codebook_size": 8, "codebook_dim": 8},
        {"input_values": (2, 1, 16_000)},
    ),
    "spectrogram by time": (
        "Wav2Vec2BertModel", "Wav2Vec2BertConfig", TEXT | {"feature_projection_input_dim": 10},
        {"input_features": (2, 128, 10)},
    ),
    "layout": (
        "LayoutLMModel", "LayoutLMConfig", TEXT | {"max_2d_position_embeddings": 64},
        {"input_ids": (2, 16), "bbox": (2, 16, 4)},
    ),
    "steps of an episode": (
        "DecisionTransformerModel", "DecisionTransformerConfig",
        {"state_dim": 3, "act_dim": 2, "hidden_size": 16, "n_layer": 1, "n_head": 2},
        {"states": (2, 16, 3), "actions": (2, 16, 2), "returns_to_go": (2, 16, 1), "timesteps": (2, 16)},
    ),
    "flat patches": (
        "Pix2StructVisionModel", "Pix2StructVisionConfig",
        {"hidden_size": 16, "d_ff": 16, "d_kv": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "seq_len": 32,
         "patch_embed_hidden_size": 12},
        {"flattened_patches": (2, 16, 14)},
    ),
    "noise beside a spectrogram": (
        "UnivNetModel", "UnivNetConfig",
        {"model_in_channels": 4, "model_hidden_channels": 4, "num_mel_bins": 6, "kernel_predictor_hidden_channels": 4,
         "resblock_kernel_sizes": [3], "resblock_stride_sizes": [2], "resblock_dilation_sizes": [[1]]},
        {"input_features": (2, 128, 6), "noise_sequence": (2, 128, 4)},
    ),
    "sound with a mask of its frames": (
        "AudioFlamingo3Encoder", "AudioFlamingo3EncoderConfig",
        {"num_mel_bins": 8, "d_model": 16, "encoder_layers": 1, "encoder_attention_heads": 2, "encoder_ffn_dim": 16,
         "max_source_positions": 50},
        {"input_features": (2, 8, 100), "input_features_mask": (2, 100)},
    ),
    "text with a picture for a model in the model": (
        "ColPaliForRetrieval", "ColPaliConfig",
        {"embedding_dim": 8, "vlm_config": {
            "model_type": "paligemma", "image_token_index": 59, "projection_dim": 16,
            "text_config": {"model_type": "gemma", "num_key_value_heads": 2, "head_dim": 8, **TEXT},
            "vision_config": {"model_type": "siglip_vision_model", **VISION},
        }},
        {"input_ids": (2, 20), "pixel_values": (2, 3, 16, 16)},
    ),
    "a tower that is told where its patches are": (
        "Gemma4VisionModel", "Gemma4VisionConfig",
        VISION | {"num_key_value_heads": 2, "head_dim": 8, "pooling_kernel_size": 1},
        {"pixel_values": (3, 6, 192)},
    ),
    "a tower that is told how patches are merged": (
        "VideoLlama3VisionModel", "VideoLlama3VisionConfig", VISION, {"pixel_values": (3, 6, 192)},
    ),
    "ids of several codebooks": (
        "KyutaiSpeechToTextModel", "KyutaiSpeechToTextConfig",
        TEXT | {"num_codebooks": 3, "codebook_vocab_size": 60, "ffn_dim": 16, "max_position_embeddings": 32,
                "audio_pad_token_id": 5},
        {"input_ids": (2, 16, 4)},
    ),
    "codebooks of a decoder": (
        "DiaModel", "DiaConfig",
        {"encoder_config": TEXT | {"head_dim": 8, "num_key_value_heads": 2},
         "decoder_config": TEXT | {"head_dim": 8, "num_key_value_heads": 2, "cross_num_attention_heads": 2,
                                   "cross_head_dim": 8, "cross_num_key_value_heads": 2, "cross_hidden_size": 16,
                                   "num_channels": 3, "pad_token_id": 50},
         "delay_pattern": [0, 1, 2]},
        {"decoder_input_ids": (2, 8, 3)},
    ),
    "frames that are stacked": (
        "GraniteSpeech5Encoder", "GraniteSpeech5EncoderConfig",
        TEXT | {"num_mel_bins": 6, "head_dim": 8, "num_key_value_heads": 2, "context_size": 16,
                "max_position_embeddings": 32, "subsample_layers": [0]},
        {"input_features": (2, 128, 24)},
    ),
    "a mask that is boolean": (
        "Gemma3nAudioEncoder", "Gemma3nAudioConfig",
        {"hidden_size": 16, "conf_num_attention_heads": 2, "conf_num_hidden_layers": 1, "input_feat_size": 16,
         "sscp_conv_channel_size": [4, 2]},
        {"audio_mel": (2, 128, 16), "audio_mel_mask": (2, 128)},
    ),
    "sound under a name that says nothing": (
        "SpeechEncoderDecoderModel", "SpeechEncoderDecoderConfig",
        {"encoder": {"model_type": "wav2vec2", "conv_dim": [8] * 7, "num_conv_pos_embedding_groups": 2, **TEXT},
         "decoder": {"model_type": "bert", "is_decoder": True, "add_cross_attention": True, **TEXT}},
        {"inputs": (2, 16_000)},
    ),
    "states that are as wide as documented": (
        "MuseGlimmerAssistantModel", "MuseGlimmerAssistantConfig",
        TEXT | {"head_dim": 8, "num_key_value_heads": 2, "block_size": 16, "target_layer_ids": [0, 1, 2],
                "layer_types": ["full_attention"], "mask_token_id": 3, "pad_token_id": 4},
        {"noise_embeds": (2, 16, 16), "context_hidden_states": (2, 16, 48)},
    ),
    "series": (
        "PatchTSTModel", "PatchTSTConfig", {"d_model": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "ffn_dim": 8},
        {"past_values": (2, 32, 1)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_shapes_of_a_kind(kind):
    cls, config_class, settings, expected = KINDS[kind]
    config = getattr(transformers, config_class)(**settings)
    module = getattr(transformers, cls)(config).eval()
    examples = example_inputs(module, config, 0)
    shapes = {name: tuple(value.shape) for name, value in examples.values.items()}
    assert expected.items() <= shapes.items()
    assert examples.dynamic.keys() == examples.values.keys()
    with torch.no_grad():
        module(**examples.values)


def llava():
    config = transformers.LlavaConfig(
        text_config={"model_type": "llama", "num_key_value_heads": 2, **TEXT},
        vision_config={"model_type": "clip_vision_model", **VISION}, image_token_index=59, vision_feature_layer=-1,
    )  # fmt: skip
    return transformers.LlavaModel(config).eval(), config


def test_a_picture_has_as_many_tokens_as_features():
    module, config = llava()
    examples = example_inputs(module, config, 0)
    ids = examples.values["input_ids"]
    assert (ids == 59).sum(dim=1).tolist() == [4, 4]  # 2 by 2 patches
    assert ids.shape == examples.values["attention_mask"].shape == (2, 20)
    with torch.no_grad():
        module(**examples.values)


def test_a_dry_run_takes_parameters_on_meta():
    module, config = llava()
    pixels = example_inputs(module, config, 0).values["pixel_values"]
    module = module.to("meta")
    found = dry_run(module, "get_image_features", {"pixel_values": pixels})
    assert [tuple(features.shape) for features in found.pooler_output] == [(4, 16), (4, 16)]
    assert next(module.parameters()).is_meta
    assert runs(module.vision_tower, {"pixel_values": pixels})
    assert not runs(module.vision_tower, {"pixel_values": pixels[0, 0]})


class Caching(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.proj = torch.nn.Linear(4, 4)
        self.kept = None

    def forward(self, x):
        if self.kept is None:
            self.kept = torch.arange(4)
        return self.proj(x) + self.kept


def test_a_dry_run_leaves_nothing_fake_behind():
    module = Caching()
    assert runs(module, {"x": torch.zeros(2, 4)})
    assert module.kept is None
    assert type(module(torch.zeros(2, 4))) is torch.Tensor


class Padding(torch.nn.Module):
    """As codecs have it: a tensor that is neither a parameter nor a buffer."""

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv1d(1, 2, 3)
        self.total = torch.tensor([2])

    def forward(self, x):
        return self.conv(torch.nn.functional.pad(x, (2, 0))) + self.total


def test_a_dry_run_takes_a_tensor_that_is_a_plain_attribute():
    assert runs(Padding(), {"x": torch.zeros(2, 1, 8)})
    assert not runs(Padding(), {"x": torch.zeros(2, 8)})


def test_a_decoder_whose_pictures_are_unknown_is_given_text_alone():
    """Padding is the cache's business then, as for a decoder that knows nothing else."""

    class Tiled(torch.nn.Module):
        main_input_name = "input_ids"

        def can_generate(self):
            return True

        def forward(self, input_ids, pixel_values=None, attention_mask=None):
            if pixel_values is not None:
                raise ValueError("tiles of pictures are wanted")
            return input_ids

    config = transformers.LlavaConfig(
        vision_config=VISION | {"model_type": "clip_vision_model"}, text_config=TEXT
    )
    examples = example_inputs(Tiled(), config, 0)
    assert list(examples.values) == ["input_ids"]
    assert ["text alone" in note for note in examples.notes] == [True]


def test_an_encoder_decoder_that_writes_text_returns_no_states_of_its_decoder():
    """T5Gemma returns the last of them whatever it is asked for."""
    text = TEXT | {"num_key_value_heads": 2, "head_dim": 8, "pad_token_id": 0}
    config = transformers.T5GemmaConfig(encoder=dict(text), decoder=dict(text), vocab_size=60)
    module = transformers.T5GemmaForConditionalGeneration(config).eval()
    module.config.use_cache = config.encoder.use_cache = config.decoder.use_cache = False
    values = example_inputs(module, config, 0).values
    with torch.no_grad():
        assert sorted(module(**values)) == ["encoder_last_hidden_state", "logits"]


def test_pictures_whose_features_an_inner_model_works_out():
    vision = VISION | {"model_type": "siglip_vision_model"}
    config = transformers.DeepseekVLConfig(
        text_config=TEXT | {"model_type": "llama"}, vision_config=vision, image_token_id=55
    )
    module = transformers.DeepseekVLForConditionalGeneration(config).eval()
    module.config.use_cache = config.text_config.use_cache = False
    values = example_inputs(module, config, 0).values
    assert values["pixel_values"].shape == (3, 3, 16, 16)
    assert (values["input_ids"] == 55).sum() == 3 * 4
    with torch.no_grad():
        assert list(module(**values)) == ["logits"]


def test_grids_whose_processor_tells_nothing_of_token_types_are_pictures_too():
    """GLM-OCR's: its token types are those that positions are counted by."""
    vision = {
        "depth": 1, "hidden_size": 32, "num_heads": 2, "intermediate_size": 40, "out_hidden_size": 48, "patch_size": 4,
        "image_size": 16,
    }  # fmt: skip
    text = TEXT | {
        "hidden_size": 48, "intermediate_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 12,
        "vocab_size": 200, "pad_token_id": 0,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 2, 2]},
    }  # fmt: skip
    config = transformers.GlmOcrConfig(vision_config=vision, text_config=text, image_token_id=190)
    module = transformers.GlmOcrForConditionalGeneration(config).eval()
    module.config.use_cache = config.text_config.use_cache = False
    examples = example_inputs(module, config, 0)
    assert list(examples.values) == ["input_ids", "pixel_values"], examples.notes


def test_inputs_are_told_by_documentation():
    """Shapes in terms of the batch, of other inputs and of settings, kinds by the class of tensor."""
    from porter.sources.documented_inputs import documented, documented_shape, documented_value

    class Series(torch.nn.Module):
        def forward(self, values, values_padding, freq, series_mask, wide):
            """Continues a series.

            values (`torch.FloatTensor` of shape `(batch_size, sequence_length)`):
                The series.
            values_padding (`torch.LongTensor` of shape `(batch_size, sequence_length)`):
                Where it is padding.
            freq (`torch.LongTensor` of shape `(batch_size, 1)`):
                How often.
            series_mask (`torch.BoolTensor` of shape `(total (>= batch_size), sequence_length)`):
                No size tells how many.
            wide (`torch.Tensor` of shape `[batch_size, 2 * config.hidden_size]`, *optional*):
                Features.
            """

    config = transformers.BertConfig(**TEXT)
    values, dynamic = {"values": torch.zeros(2, 24)}, {"values": {0: "batch", 1: "time"}}

    def told(name):
        return documented_shape(Series(), config, name, values, dynamic)

    assert told("values_padding") == ((2, 24), {0: "batch", 1: "time"})
    assert told("freq") == ((2, 1), {0: "batch"})
    assert told("wide") == ((2, 32), {0: "batch"})
    assert told("series_mask") is None
    assert documented(Series(), "nothing") is None
    draw = torch.Generator().manual_seed(0)
    assert not documented_value("values_padding", "Long", (2, 24), draw).any()
    assert documented_value("series_mask", "Bool", (2, 24), draw).all()
    assert documented_value("wide", "", (2, 32), draw).is_floating_point()


def test_two_lengths_have_two_names():
    """The samples of a sound are not the tokens of the text beside it."""
    from porter.sources.examples import Examples

    examples = Examples()
    examples.add("input_ids", torch.zeros(2, 16), {0: "batch", 1: "length"})
    examples.add("input_values", torch.zeros(2, 1, 16_000), {0: "batch", 2: "length"})
    examples.add("input_values_mask", torch.zeros(2, 16_000), {0: "batch", 1: "length"})
    examples.add("attention_mask", torch.zeros(2, 16), {0: "batch", 1: "length"})
    assert examples.dynamic == {
        "input_ids": {0: "batch", 1: "length"},
        "input_values": {0: "batch", 2: "input_values_length"},
        "input_values_mask": {0: "batch", 1: "input_values_length"},
        "attention_mask": {0: "batch", 1: "length"},
    }


def test_patches_side_by_side_are_no_rows_of_patches():
    """MiniCPM-V's pictures lie in one long one: a patch a row would be taken for a picture."""
    from porter.sources.huggingface_sized import forms

    config = transformers.SiglipVisionConfig(**VISION)
    assert [f.shape for f in forms(config, {"target_sizes": None})] == [(6, 3 * 8 * 8)]
    assert [f.shape for f in forms(config, {"image_grid_thw": None})] == [(6, 192), (6, 3, 8, 8)]
