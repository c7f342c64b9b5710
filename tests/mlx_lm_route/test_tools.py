"""mlx-lm's own commands on a port: generate, server, convert, lora."""

import json
import re
import socket
import subprocess
import sys
import time
import urllib.request

import pytest

from porter.convert import convert
from tests.mlx_lm_route.folders import save

SECONDS = 240
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def port(tmp_path_factory):
    """A small Llama with a tokenizer of bytes and a chat template, by the route to mlx-lm."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    folder = save(tmp_path_factory.mktemp("llama"), "llama", vocab_size=300, hidden_size=64)
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
    out = tmp_path_factory.mktemp("port") / "llama"
    convert(str(folder), out, route="mlx-lm", proof=False)
    return out


def run(*words):
    done = subprocess.run(
        [sys.executable, "-m", "mlx_lm", *map(str, words)], capture_output=True, text=True, timeout=SECONDS, check=False
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout + done.stderr


def test_generate(port):
    text = run("generate", "--model", port, "--prompt", "hello", "--max-tokens", 6)
    assert re.search(r"Generation: [1-6] tokens", text)


def test_server_answers_a_chat(port):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number = free.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "mlx_lm", "server", "--model", str(port), "--port", str(number)],
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
    run(
        "convert",
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
    assert json.loads((tmp_path / "q" / "config.json").read_text())["quantization"]["bits"] == 8
    assert "Generation" in run(
        "generate", "--model", tmp_path / "q", "--prompt", "hi", "--max-tokens", 3
    )


def test_lora_learns(port, tmp_path):
    for name in ("train", "valid"):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"text": "abcabcabcabcabc"}) + "\n")
    text = run(
        "lora", "--model", port, "--train", "--data", tmp_path, "--iters", 30, "--batch-size", 1, "--num-layers", 2,
        "--learning-rate", 1e-2, "--steps-per-report", 10, "--adapter-path", tmp_path / "adapter",
    )  # fmt: skip
    losses = [float(x) for x in re.findall(r"([0-9.]+) [▼▲]", text)]
    assert losses[-1] < losses[0]
