"""What docs/serve.md says of transformers serve, on a small model and its own code."""

import json
import re
import socket
import subprocess
import sys
import time
from urllib.request import Request, urlopen

import pytest
from helpers import ROOT
from transformers import AutoTokenizer

QUESTION = {"role": "user", "content": "How many?"}


@pytest.fixture(scope="module")
def served(tiny_model, tmp_path_factory):
    """The folder that the page's program writes."""
    program = re.search(r"<!-- served.py -->\n```python\n(.*?)```", (ROOT / "docs" / "serve.md").read_text(), re.DOTALL)
    folder = tmp_path_factory.mktemp("serve") / "served"
    subprocess.run([sys.executable, "-c", program[1], str(tiny_model), str(folder)], check=True)
    return folder


def test_reasoning_and_calls_are_told_apart_from_the_answer(served):
    tokenizer = AutoTokenizer.from_pretrained(served)
    call = '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>'
    for think, answer, expected in (
        (True, "<think>\nOne and two.\n</think>\nThree.", {"reasoning_content": "One and two.", "content": "Three."}),
        (False, "Three.", {"content": "Three."}),
        (False, call, {"tool_calls": [{"type": "function", "function": {"name": "add", "arguments": {"a": 1}}}]}),
    ):
        prompt = tokenizer.apply_chat_template(
            [QUESTION], add_generation_prompt=True, tokenize=False, enable_thinking=think
        )
        ids = tokenizer(f"{answer}<|im_end|>", add_special_tokens=False).input_ids
        parsed = tokenizer.parse_response(ids, tokenizer.response_template, prefix=prompt)
        told = {name: value.strip() if isinstance(value, str) else value for name, value in parsed.items()}
        assert {name: value for name, value in told.items() if value and name != "role"} == expected


def test_the_mode_is_set_by_argument_and_by_word(served):
    """A server in this process; how long its prompts are tells which mode they are in."""
    serve = pytest.importorskip("transformers.cli.serve")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = serve.Serve(str(served), host="127.0.0.1", port=port, device="cpu", non_blocking=True)
    try:
        end = time.monotonic() + 60
        while not server.server.started:
            assert time.monotonic() < end, "the server did not start"
            time.sleep(0.01)

        def prompt_tokens(messages, **given):
            body = {"model": str(served), "messages": messages, "max_tokens": 1, "temperature": 0, **given}
            asked = Request(f"http://127.0.0.1:{port}/v1/chat/completions", json.dumps(body).encode())
            asked.add_header("content-type", "application/json")
            with urlopen(asked, timeout=60) as reply:
                return json.load(reply)["usage"]["prompt_tokens"]

        tokenizer = AutoTokenizer.from_pretrained(served)
        think, plain = (
            len(
                tokenizer.apply_chat_template([QUESTION], add_generation_prompt=True, enable_thinking=mode)["input_ids"]
            )
            for mode in (True, False)
        )
        assert think < plain
        assert prompt_tokens([QUESTION]) == think
        assert prompt_tokens([QUESTION], chat_template_kwargs={"enable_thinking": False}) == plain
        assert prompt_tokens([{"role": "system", "content": "/no_think"}, QUESTION]) == plain
    finally:
        server.kill_server()
