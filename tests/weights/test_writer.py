"""The writer: what other readers find in its files, sharding, dtypes, coverage, and memory."""

import json
import os
import subprocess
import sys
import textwrap

import mlx.core as mx
import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from porter.errors import InputError, UsageError
from porter.weights import recipes as r
from porter.weights.readers import ModuleTensors, open_tensors
from porter.weights.writer import check_coverage, write

STATE = {
    "w": torch.randn(4, 3, 2, 2),
    "bf16": torch.randn(5).bfloat16(),
    "f16": torch.randn(3).half(),
    "f64": torch.randn(2, dtype=torch.float64),
    "i": torch.tensor([-(2**40), 3]),
    "u8": torch.tensor([1, 255], dtype=torch.uint8),
    "b": torch.tensor([True, False, True]),
    "s": torch.tensor(2.5),
    "z": torch.zeros(0, 3),
}
TENSORS = ModuleTensors(STATE)
RECIPES = {key: r.source(key) for key in STATE} | {
    "conv.weight": r.permute(r.source("w"), [0, 2, 3, 1])
}


def test_single_file_as_others_read_it(tmp_path):
    written = write(RECIPES, TENSORS, tmp_path, metadata={"porter": "x"})
    assert written.files == ("model.safetensors",)
    assert written.tensors == len(RECIPES)
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]
    found = load_file(tmp_path / "model.safetensors")
    for key, tensor in STATE.items():
        wanted = tensor.float() if key == "f64" else tensor
        assert found[key].dtype == wanted.dtype
        assert torch.equal(found[key], wanted)
    assert torch.equal(found["conv.weight"], STATE["w"].permute(0, 2, 3, 1))
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        assert file.metadata() == {"format": "mlx", "porter": "x"}
    assert set(mx.load(str(tmp_path / "model.safetensors"))) == set(RECIPES)


@pytest.mark.parametrize("limit", [1, 100, 250])
def test_shards(tmp_path, limit):
    written = write(RECIPES, TENSORS, tmp_path, max_shard_bytes=limit)
    count = len(written.files)
    assert written.files[0] == f"model-00001-of-{count:05}.safetensors"
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    assert set(index["weight_map"]) == set(RECIPES)
    assert index["metadata"]["total_size"] == written.nbytes
    tensors = open_tensors(tmp_path)
    for key, recipe in RECIPES.items():
        dtype = "float32" if key == "f64" else None
        assert mx.array_equal(tensors.read(key), r.evaluate(recipe, TENSORS, dtype)).item()
    for file in written.files:
        spec = open_tensors(tmp_path / file)
        sizes = [spec.spec(key).nbytes for key in spec.keys()]  # noqa: SIM118
        assert sum(sizes) <= limit or len([n for n in sizes if n]) == 1


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_dtype_is_for_floating_tensors_that_are_not_cast(tmp_path, dtype):
    recipes = RECIPES | {"kept": r.cast(r.source("w"), "float32")}
    write(recipes, TENSORS, tmp_path, dtype=dtype)
    tensors = open_tensors(tmp_path)
    for key in ("w", "bf16", "f16", "f64", "s", "z", "conv.weight"):
        assert tensors.spec(key).dtype == dtype
    assert [tensors.spec(key).dtype for key in ("kept", "i", "u8", "b")] == [
        "float32",
        "int64",
        "uint8",
        "bool",
    ]
    wanted = STATE["w"].to(getattr(torch, dtype)).float().numpy()
    assert np.array_equal(np.array(tensors.read("w").astype(mx.float32)), wanted)


def test_overflow_in_float16_is_named(tmp_path):
    state = {
        "big": torch.tensor([1e5]),
        "inf": torch.tensor([torch.inf]),
        "fine": torch.tensor([1.0]),
    }
    written = write(
        {k: r.source(k) for k in state}, ModuleTensors(state), tmp_path, dtype="float16"
    )
    assert written.overflowed == ("big",)


def test_names_of_any_kind(tmp_path):
    names = ['a"b', "a\\b", "a\nb", "é😀", "\u2028", " "]
    write({name: r.source("s") for name in names}, TENSORS, tmp_path)
    assert set(load_file(tmp_path / "model.safetensors")) == set(names)


def test_coverage():
    recipes = {"a": r.add(r.source("w"), r.source("gone")), "b": r.constant(1, [1])}
    unused, missing = check_coverage(recipes, TENSORS, ignored=["i", "u8", "b", "s", "z"])
    assert unused == ["bf16", "f16", "f64"]
    assert missing == ["gone"]


def test_missing_keys_are_named_before_anything_is_written(tmp_path):
    recipes = {f"a{i:02}": r.source(f"gone{i:02}") for i in range(12)}
    with pytest.raises(InputError, match=r"lacks 12 .*'gone09' and 2 more"):
        write(recipes, TENSORS, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "recipes", [{}, {"__metadata__": r.source("w")}, {"a": r.permute(r.source("w"), [1, 0])}]
)
def test_what_cannot_be_written(tmp_path, recipes):
    with pytest.raises(InputError):
        write(recipes, TENSORS, tmp_path)
    assert not list(tmp_path.iterdir())


def test_wrong_dtype(tmp_path):
    with pytest.raises(UsageError, match="float8"):
        write({"w": r.source("w")}, TENSORS, tmp_path, dtype="float8_e4m3fn")


def test_failure_leaves_no_file(tmp_path):
    class Failing(ModuleTensors):
        def read(self, key):
            raise InputError("no")

    with pytest.raises(InputError):
        write(RECIPES, Failing(STATE), tmp_path)
    assert not list(tmp_path.iterdir())


def test_progress(tmp_path):
    seen = []
    written = write(RECIPES, TENSORS, tmp_path, progress=lambda *call: seen.append(call))
    assert {name for name, _, _ in seen} == set(RECIPES)
    assert seen[-1][1:] == (written.nbytes, written.nbytes)


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss counts otherwise")
def test_memory_follows_the_largest_tensor(tmp_path):
    """24 tensors of 16 MB are written within the memory that five of them take."""
    code = """
        import resource, sys
        from safetensors.numpy import save_file
        import numpy as np
        from porter.weights import recipes as r
        from porter.weights.readers import open_tensors
        from porter.weights.writer import write
        folder = sys.argv[1]
        peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        for i in range(24):
            save_file({f"t{i}": np.ones((2048, 2048), np.float32)}, f"{folder}/t-{i}.safetensors")
        import json
        index = {"weight_map": {f"t{i}": f"t-{i}.safetensors" for i in range(24)}}
        open(f"{folder}/model.safetensors.index.json", "w").write(json.dumps(index))
        before = peak()
        tensors = open_tensors(folder)
        recipes = {k: r.permute(r.source(k), [1, 0]) for k in tensors.keys()}
        import os; os.mkdir(f"{folder}/out")
        write(recipes, tensors, f"{folder}/out", dtype="bfloat16")
        print(peak() - before)
    """
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)],
        check=True, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert int(result.stdout) < 5 * 16 * 2**20
