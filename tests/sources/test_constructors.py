"""What record_constructors sees of a module's arguments."""

import time

import pytest
import torch

from porter.sources.constructors import record_constructors


class Base(torch.nn.Module):
    def __init__(self, dim, heads=4, act=torch.nn.ReLU, bias=True):
        super().__init__()
        self.act = act()
        self.proj = torch.nn.Linear(dim, dim, bias=bias, dtype=torch.float16)


class Derived(Base):
    def __init__(self, width, *, ratio=2.0, sizes=(1, [2, 3]), other=None):
        super().__init__(width * 2, heads=1)
        self.inner = Base(width)


class Gathering(Base):
    def __init__(self, *args, extra="x", **kwargs):
        super().__init__(*args, **kwargs)


class Closure(torch.nn.Module):
    def __init__(self, size):
        super().__init__()
        self.size = lambda: self.size


def build(factory):
    with record_constructors() as log:
        module = factory()
    return log.by_path(module)


def test_the_most_derived_class_is_recorded():
    found = build(lambda: Derived(8, ratio=3.0))
    assert found[""] == {"width": 8, "ratio": 3.0, "sizes": (1, [2, 3]), "other": None}
    assert found["inner"] == {"dim": 8, "heads": 4, "bias": True}
    assert found["inner.proj"]["in_features"] == 8
    assert found["proj"]["in_features"] == 16
    assert found["proj"]["dtype"] == "float16"
    assert found["act"] == {"inplace": False}


def test_gathered_arguments_get_the_names_of_the_inner_class():
    assert build(lambda: Gathering(8, 2))[""] == {"extra": "x", "dim": 8, "heads": 2, "bias": True}
    assert build(lambda: Gathering(8, bias=False))[""]["bias"] is False


def test_self_in_a_closure():
    assert build(lambda: Closure(3)) == {"": {"size": 3}}


def test_containers_hold_no_modules():
    found = build(lambda: torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Conv2d(3, 4, 5)))
    assert found[""] == {}
    assert found["1"]["kernel_size"] == 5
    assert found["1"]["stride"] == 1


def test_init_is_put_back_after_an_error():
    original = torch.nn.Module.__init__
    with pytest.raises(ZeroDivisionError), record_constructors():
        raise ZeroDivisionError
    assert torch.nn.Module.__init__ is original


def test_modules_built_outside_are_left_out():
    outside = torch.nn.Linear(2, 2)
    assert build(lambda: torch.nn.Sequential(outside)) == {"": {}}


def test_timm_vit():
    timm = pytest.importorskip("timm")
    found = build(lambda: timm.create_model("vit_tiny_patch16_224", pretrained=False))
    assert found[""]["embed_dim"] == 192
    assert found[""]["depth"] == 12
    assert found[""]["patch_size"] == 16
    assert found["blocks.0"]["dim"] == 192
    assert found["blocks.0"]["num_heads"] == 3
    assert found["blocks.0"]["mlp_ratio"] == 4.0
    assert found["blocks.11.attn.qkv"]["out_features"] == 576


def test_recording_costs_less_than_half_of_building():
    timm = pytest.importorskip("timm")

    def seconds(recorded):
        start = time.process_time()
        if recorded:
            with record_constructors():
                timm.create_model("resnet50", pretrained=False)
        else:
            timm.create_model("resnet50", pretrained=False)
        return time.process_time() - start

    seconds(True)
    plain, recorded = (min(seconds(kind) for _ in range(3)) for kind in (False, True))
    assert recorded < 1.5 * plain + 0.05
