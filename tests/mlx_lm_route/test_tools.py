"""mlx-lm's own commands on a port: generate, server, convert, lora, fuse, prompt caches, batches, speculative decoding."""

import json
import re
import socket
import subprocess
import sys
import time
import urllib.request

import mlx.core as mx
import pytest

from porter.convert import convert
from tests.mlx_lm_route.folders import save

SECONDS = 240
pytestmark = pytest.mark.slow


#: An architecture that mlx-lm lacks, by its graph; one that it has, by its own file; a mixture of experts by its graph.
PORTS = {"opt": "graph", "llama": "mlx-lm", "qwen3_moe": "graph"}
FIELDS = {
    "opt": {"ffn_dim": 64, "word_embed_proj_dim": 64},
    "qwen3_moe": {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "head_dim": 16},
}  # fmt: skip


@pytest.fixture(scope="module", params=PORTS)
def port(request, tmp_path_factory):
    """A small decoder with a tokenizer of bytes and a chat template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    kind = request.param
    fields = {"vocab_size": 300, "hidden_size": 64, "max_position_embeddings": 256}
    folder = save(tmp_path_factory.mktemp(kind), kind, **fields, **FIELDS.get(kind, {}))
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate(["<s>", "</s>", *letters])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")
    fast.chat_template = (
        "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    fast.save_pretrained(folder)
    out = tmp_path_factory.mktemp("port") / kind
    convert(str(folder), out, route=PORTS[kind], proof=False)
    return out


def run(command, *words):
    done = subprocess.run(
        [sys.executable, "-m", "mlx_lm", command, "--trust-remote-code", *map(str, words)],
        capture_output=True, text=True, timeout=SECONDS, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout + done.stderr


def loaded(folder):
    from mlx_lm.utils import load

    return load(str(folder), trust_remote_code=True)


def test_generate(port):
    text = run("generate", "--model", port, "--prompt", "hello", "--max-tokens", 6)
    assert re.search(r"Generation: [1-6] tokens", text)


def test_prompt_cache(port, tmp_path):
    file = tmp_path / "cache.safetensors"
    run("cache_prompt", "--model", port, "--prompt", "once upon", "--prompt-cache-file", file)
    words = ("--model", port, "--prompt", "a time", "--prompt-cache-file", file, "--max-tokens", 4)
    assert "Generation: " in run("generate", *words)


def greedy(model, tokenizer, ids, count):
    """The likeliest tokens without a cache: the whole text each time."""
    text, end = list(ids), set(tokenizer.eos_token_ids)
    for _ in range(count):
        text.append(int(model(mx.array([text]))[0, -1].argmax()))
        if text[-1] in end:
            break
    return text[len(ids) :]


def test_generated_tokens_are_the_likeliest(port):
    from mlx_lm.generate import batch_generate, generate_step

    model, tokenizer = loaded(port)
    prompts = [tokenizer.encode(text) for text in ("hello", "good morning to you", "a")]
    alone = [greedy(model, tokenizer, ids, 8) for ids in prompts]
    for ids, expected in zip(prompts, alone, strict=True):
        steps = generate_step(mx.array(ids), model, max_tokens=8)
        found = [token for token, _ in steps]
        assert found[: len(expected)] == expected
    batch = batch_generate(model, tokenizer, prompts, max_tokens=8, return_token_ids=True)
    for found, expected in zip(batch.token_ids, alone, strict=True):
        end = set(tokenizer.eos_token_ids)
        assert list(found) == [token for token in expected if token not in end]


def test_speculative_decoding_draws_the_same_tokens(port, tmp_path):
    from mlx_lm.generate import speculative_generate_step

    words = (
        "--hf-path",
        port,
        "--mlx-path",
        tmp_path / "draft",
        "-q",
        "--q-bits",
        4,
        "--q-group-size",
        32,
    )
    run("convert", *words)
    model, tokenizer = loaded(port)
    draft, _ = loaded(tmp_path / "draft")
    ids = tokenizer.encode("hello")
    steps = speculative_generate_step(mx.array(ids), model, draft, num_draft_tokens=3, max_tokens=8)
    found = [token for token, *_ in steps]
    expected = greedy(model, tokenizer, ids, 8)
    assert found[: len(expected)] == expected


def test_server_answers_a_chat(port):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number = free.getsockname()[1]
    server = subprocess.Popen(
        [
            sys.executable, "-m", "mlx_lm", "server", "--trust-remote-code", "--model", str(port), "--port", str(number)
        ],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        body = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 4}
        request = urllib.request.Request(
            f"http://127.0.0.1:{number}/v1/chat/completions",
            json.dumps(body).encode(), {"Content-Type": "application/json"},
        )  # fmt: skip
        end = time.monotonic() + SECONDS
        while True:
            try:
                with urllib.request.urlopen(request, timeout=60) as answer:
                    found = json.load(answer)
                break
            except OSError:
                assert time.monotonic() < end
                assert server.poll() is None
                time.sleep(1)
    finally:
        server.terminate()
        server.wait(30)
    assert found["choices"][0]["message"]["role"] == "assistant"
    assert found["usage"]["completion_tokens"] > 0


def test_quantizes(port, tmp_path):
    words = (
        "--hf-path",
        port,
        "--mlx-path",
        tmp_path / "q",
        "-q",
        "--q-bits",
        8,
        "--q-group-size",
        32,
    )
    run("convert", *words)
    assert json.loads((tmp_path / "q" / "config.json").read_text())["quantization"]["bits"] == 8
    words = ("--model", tmp_path / "q", "--prompt", "hi", "--max-tokens", 3)
    assert "Generation" in run("generate", *words)
    model, tokenizer = loaded(port)
    small, _ = loaded(tmp_path / "q")
    ids = mx.array([tokenizer.encode("good morning")])
    exact, near = model(ids), small(ids)
    assert mx.abs(near - exact).max() < 0.1 * mx.abs(exact).max()


def test_lora_learns_and_fuses(port, tmp_path):
    for name in ("train", "valid"):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"text": "abcabcabcabcabc"}) + "\n")
    adapter, fused = tmp_path / "adapter", tmp_path / "fused"
    text = run(
        "lora", "--model", port, "--train", "--data", tmp_path, "--iters", 30, "--batch-size", 1, "--num-layers", 2,
        "--learning-rate", 1e-2, "--steps-per-report", 10, "--adapter-path", adapter,
    )  # fmt: skip
    losses = [float(x) for x in re.findall(r"([0-9.]+) [▼▲]", text)]
    assert losses[-1] < losses[0]
    run("fuse", "--model", port, "--adapter-path", adapter, "--save-path", fused)
    from mlx_lm.utils import load

    adapted, tokenizer = load(str(port), adapter_path=str(adapter), trust_remote_code=True)
    ids = mx.array([tokenizer.encode("abcabc")])
    whole, apart, before = loaded(fused)[0](ids), adapted(ids), loaded(port)[0](ids)
    assert mx.abs(whole - apart).max() < 1e-3 * mx.abs(apart).max()
    assert mx.abs(whole - before).max() > 1e-2 * mx.abs(before).max()
