"""How mlx.nn's layers are constructed: which arguments go by position, and which are the default."""

from __future__ import annotations

from typing import Any

_CONV: tuple[tuple[str, ...], dict[str, Any]] = (
    ("in_channels", "out_channels", "kernel_size"),
    {"stride": 1, "padding": 0, "dilation": 1, "groups": 1, "bias": True},
)
_CONV_TRANSPOSE = (
    _CONV[0],
    {"stride": 1, "padding": 0, "dilation": 1, "output_padding": 0, "bias": True},
)
_POOL = (("kernel_size",), {"stride": None, "padding": 0})

#: layer -> (arguments by position, arguments by name with their defaults)
CONSTRUCTORS: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "nn.Linear": (("input_dims", "output_dims"), {"bias": True}),
    "nn.Conv1d": _CONV,
    "nn.Conv2d": _CONV,
    "nn.Conv3d": _CONV,
    "nn.ConvTranspose1d": _CONV_TRANSPOSE,
    "nn.ConvTranspose2d": _CONV_TRANSPOSE,
    "nn.ConvTranspose3d": _CONV_TRANSPOSE,
    "nn.BatchNorm": (
        ("num_features",),
        {"eps": 1e-5, "momentum": 0.1, "affine": True, "track_running_stats": True},
    ),
    "nn.LayerNorm": (("dims",), {"eps": 1e-5, "affine": True, "bias": True}),
    "nn.RMSNorm": (("dims",), {"eps": 1e-5}),
    "nn.GroupNorm": (
        ("num_groups", "dims"),
        {"eps": 1e-5, "affine": True, "pytorch_compatible": False},
    ),
    "nn.RoPE": (("dims",), {"traditional": False, "base": 10000.0, "scale": 1.0}),
    "nn.SwitchLinear": (("input_dims", "output_dims", "num_experts"), {"bias": True}),
    "nn.SwitchGLU": (("input_dims", "hidden_dims", "num_experts"), {"bias": False}),
    "nn.InstanceNorm": (("dims",), {"eps": 1e-5, "affine": False}),
    "nn.PReLU": ((), {"num_parameters": 1}),
    **{f"nn.{cell}": (("input_size", "hidden_size"), {"bias": True}) for cell in ("LSTM", "GRU")},
    "nn.RNN": (("input_size", "hidden_size"), {"bias": True, "nonlinearity": None}),
    "nn.Upsample": (("scale_factor",), {"mode": "nearest", "align_corners": False}),
    "nn.Embedding": (("num_embeddings", "dims"), {}),
    **{f"nn.{kind}Pool{rank}d": _POOL for kind in ("Max", "Avg") for rank in (1, 2, 3)},
}

#: Layers that mlx-lm has and mlx.nn lacks.
MLX_LM = {"nn.SwitchLinear": "SwitchLinear", "nn.SwitchGLU": "SwitchGLU"}

#: Other names under which sources know a constructor argument.
SYNONYMS: dict[str, tuple[str, ...]] = {
    "input_dims": ("in_features", "dim", "hidden_size", "in_dim"),
    "output_dims": ("out_features", "dim", "hidden_size", "out_dim"),
    "in_channels": ("in_chs", "in_chans", "inplanes", "in_channels", "num_channels", "dim"),
    "out_channels": ("out_chs", "planes", "out_channels", "embed_dim", "hidden_size", "dim"),
    "num_features": ("num_features", "planes", "out_chs"),
    "dims": ("dim", "hidden_size", "embed_dim", "d_model"),
    "num_embeddings": ("vocab_size", "num_embeddings"),
    "eps": ("eps", "norm_eps", "layer_norm_eps", "layer_norm_epsilon", "rms_norm_eps"),
    "kernel_size": ("kernel_size", "patch_size"),
    "stride": ("stride", "patch_size"),
    "hidden_dims": ("moe_intermediate_size", "intermediate_size", "intermediate_dim"),
    "num_experts": ("num_experts", "num_local_experts", "n_routed_experts"),
    "length": ("max_position_embeddings", "max_source_positions", "n_positions", "n_ctx"),
    "rotary_dim": ("rotary_dim", "head_dim", "dim"),
    "rope_theta": ("rope_theta", "rotary_emb_base", "rope_base", "base"),
}
