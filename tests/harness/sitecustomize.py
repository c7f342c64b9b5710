"""Lets torchvision import beside a torch that its C++ library was not built for.

Python runs this at start-up where the folder is on PYTHONPATH.  torchvision registers meta kernels for
operators that its library defines; where the library does not load, they are defined here just before torchvision
is imported, with kernels in Python for those that its models need.
"""

import ctypes
import importlib.abc
import importlib.machinery
import sys
from pathlib import Path

_SIZES = "SymInt batch_size, SymInt channels, SymInt height, SymInt width"
_POOL = "float spatial_scale, SymInt pooled_height, SymInt pooled_width"
_DEFORM = (
    "SymInt stride_h, SymInt stride_w, SymInt pad_h, SymInt pad_w, SymInt dilation_h, SymInt dilation_w, "
    "SymInt groups, SymInt offset_groups, bool use_mask"
)
_SCHEMAS = (
    "_cuda_version() -> int",
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    f"roi_align(Tensor input, Tensor rois, {_POOL}, int sampling_ratio, bool aligned) -> Tensor",
    f"qroi_align(Tensor input, Tensor rois, {_POOL}, int sampling_ratio, bool aligned) -> Tensor",
    f"_roi_align_backward(Tensor grad, Tensor rois, {_POOL}, {_SIZES}, int sampling_ratio, bool aligned)"
    " -> Tensor",
    f"roi_pool(Tensor input, Tensor rois, {_POOL}) -> (Tensor, Tensor)",
    f"_roi_pool_backward(Tensor grad, Tensor rois, Tensor argmax, {_POOL}, {_SIZES}) -> Tensor",
    f"ps_roi_align(Tensor input, Tensor rois, {_POOL}, int sampling_ratio) -> (Tensor, Tensor)",
    f"_ps_roi_align_backward(Tensor grad, Tensor rois, Tensor channel_mapping, {_POOL}, int sampling_ratio,"
    f" {_SIZES}) -> Tensor",
    f"ps_roi_pool(Tensor input, Tensor rois, {_POOL}) -> (Tensor, Tensor)",
    f"_ps_roi_pool_backward(Tensor grad, Tensor rois, Tensor channel_mapping, {_POOL}, {_SIZES}) -> Tensor",
    f"deform_conv2d(Tensor input, Tensor weight, Tensor offset, Tensor mask, Tensor bias, {_DEFORM}) -> Tensor",
    "_deform_conv2d_backward(Tensor grad, Tensor input, Tensor weight, Tensor offset, Tensor mask, Tensor bias,"
    f" {_DEFORM}) -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
)
_kept = []


class _DefineOperators(importlib.abc.MetaPathFinder):
    """Finds nothing; defines the operators when torchvision is looked for, and says so before it asks."""

    def find_spec(self, fullname, path=None, target=None):
        if fullname == "torchvision" and not _kept:
            spec = importlib.machinery.PathFinder.find_spec(fullname)
            if spec is not None and spec.origin is not None:
                _define(Path(spec.origin).parent)
        elif fullname == "torchvision._meta_registrations":
            sys.meta_path.remove(self)
            if _kept:
                sys.modules["torchvision.extension"]._has_ops = lambda: True


def _define(folder):
    import torch

    try:
        ctypes.CDLL(str(folder / "_C.so"))
    except OSError:
        _kept.append(torch.library.Library("torchvision", "DEF"))
        for schema in _SCHEMAS:
            _kept[0].define(schema)
        from torchvision_kernels import KERNELS

        for name, kernel in KERNELS.items():
            _kept[0].impl(name, kernel, "CPU")
        _kept[0].impl("_cuda_version", lambda: -1, "CompositeExplicitAutograd")


if "torchvision" not in sys.modules and not any(
    type(finder).__name__ == "_DefineOperators" for finder in sys.meta_path
):
    sys.meta_path.insert(0, _DefineOperators())
