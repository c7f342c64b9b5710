"""torch's own samples for every op that has a lowering: what is not refused must be right."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from lowering.check import Case, compare
from lowering.evaluate import lower
from torch._dynamo.exc import UserError

from porter.errors import UnsupportedError
from porter.ir import VerificationError

pytestmark = pytest.mark.slow
SAMPLES = 12

# Ops of the database, by name: what they call is lowered, or they are here for what the samples hold.
OPS = """
abs acos acosh add addcdiv addcmul addmm addmv all amax amin aminmax any arange argmax argmin argsort asin asinh
atan atan2 atanh baddbmm bmm broadcast_tensors broadcast_to cat ceil chunk clamp clamp_max clamp_min clone
contiguous cos cosh count_nonzero cumprod cumsum diagonal div.no_rounding_mode div.floor_rounding
div.trunc_rounding dot eq exp expand expand_as expm1 eye fft.fft fft.fftn fft.irfft fft.rfft flatten flip fliplr
flipud float_power floor floor_divide fmod full full_like gather ge gt index_copy index_fill index_select inner
isfinite isinf isnan le lerp linspace log log10 log1p log2 log_softmax logaddexp logcumsumexp logical_and
logical_not logical_or logical_xor logsumexp lt masked_fill matmul max.binary max.reduction_no_dim
max.reduction_with_dim maximum mean meshgrid.list_of_tensors min.binary min.reduction_no_dim min.reduction_with_dim
minimum mm movedim mul mv nan_to_num narrow ne neg new_full new_ones new_zeros nn.functional.adaptive_avg_pool1d
nn.functional.adaptive_avg_pool2d nn.functional.adaptive_avg_pool3d nn.functional.adaptive_max_pool1d
nn.functional.adaptive_max_pool2d nn.functional.avg_pool1d nn.functional.avg_pool2d nn.functional.avg_pool3d
nn.functional.batch_norm nn.functional.bilinear nn.functional.celu nn.functional.channel_shuffle
nn.functional.conv1d nn.functional.conv2d nn.functional.conv3d nn.functional.conv_transpose1d
nn.functional.conv_transpose2d nn.functional.conv_transpose3d nn.functional.elu nn.functional.embedding
nn.functional.gelu nn.functional.glu nn.functional.group_norm nn.functional.hardshrink nn.functional.hardsigmoid
nn.functional.hardswish nn.functional.hardtanh nn.functional.instance_norm nn.functional.interpolate.bicubic
nn.functional.interpolate.bilinear nn.functional.interpolate.linear nn.functional.interpolate.nearest
nn.functional.interpolate.nearest-exact nn.functional.interpolate.trilinear nn.functional.layer_norm
nn.functional.leaky_relu nn.functional.linear nn.functional.logsigmoid nn.functional.max_pool1d
nn.functional.max_pool2d nn.functional.max_pool3d nn.functional.mish nn.functional.normalize nn.functional.one_hot
nn.functional.pad.circular nn.functional.pad.constant nn.functional.pad.reflect nn.functional.pad.replicate
nn.functional.pixel_shuffle nn.functional.pixel_unshuffle nn.functional.prelu nn.functional.relu
nn.functional.relu6 nn.functional.rms_norm nn.functional.scaled_dot_product_attention nn.functional.selu
nn.functional.silu nn.functional.softmin nn.functional.softplus nn.functional.softshrink nn.functional.softsign
nn.functional.tanhshrink nn.functional.threshold nn.functional.unfold ones_like outer permute pow prod reciprocal
remainder repeat repeat_interleave reshape roll round rsqrt rsub select sigmoid sign sin sinh softmax sort split
split_with_sizes sqrt square squeeze stack std std_mean sub sum t take take_along_dim tan tanh tensor_split tile
topk transpose tril triu true_divide trunc unbind unflatten unfold unsqueeze var var_mean view where xlogy
zeros_like __getitem__ index_put scatter slice_scatter select_scatter
""".split()  # fmt: skip


def database() -> dict[str, Any]:
    from torch.testing._internal.common_methods_invocations import op_db

    return {f"{op.name}.{op.variant_test_name}".rstrip("."): op for op in op_db}


@pytest.mark.parametrize("name", OPS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.int64], ids=str)
def test_samples(name: str, dtype: torch.dtype) -> None:
    op = database()[name]
    if name == "topk" and dtype == torch.int64:
        pytest.skip("which of equal numbers come first is unspecified")
    if dtype not in op.supported_dtypes("cpu"):
        pytest.skip("torch has it not for this type")
    tried = refused = 0
    reasons = set()
    for sample in list(op.sample_inputs("cpu", dtype))[:SAMPLES]:
        flat, spec = torch.utils._pytree.tree_flatten(([sample.input, *sample.args], sample.kwargs))
        tensors = [item for item in flat if isinstance(item, torch.Tensor)]
        if (
            not tensors
            or any(tensor.numel() == 0 for tensor in tensors)
            or any(tensor.is_complex() for tensor in tensors)
        ):
            continue

        def function(*arrays: torch.Tensor, flat=flat, spec=spec) -> Any:
            rest = iter(arrays)
            items = [next(rest) if isinstance(item, torch.Tensor) else item for item in flat]
            args, kwargs = torch.utils._pytree.tree_unflatten(items, spec)
            return op.op(*args, **kwargs)

        case = Case(name, function, tensors, n=max(tensor.numel() for tensor in tensors), kappa=8)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                compare_sample(case, tuple(tensors))
                tried += 1
        except (RuntimeError, UserError) as error:
            if "unbacked" not in str(error) and "data-dependent" not in str(error):
                raise
        except (UnsupportedError, VerificationError) as error:
            if isinstance(error, VerificationError) and "porter does not compute" not in str(error):
                raise
            refused += 1
            reasons.add(str(error).splitlines()[-1].strip()[:160])
    if not tried:
        pytest.skip(f"all {refused} samples are refused: {reasons}")


def compare_sample(case: Case, tensors: tuple[torch.Tensor, ...]) -> None:
    module = case.module()
    compare(case, module, lower(module, tensors), tensors)
