"""A model for the harness's English, and one that a server has."""

import json

import pytest
from helpers import TINY_SHAPE


@pytest.fixture(scope="session")
def english_model(tmp_path_factory):
    """A random SmolLM3 with a tokenizer that writes RULER's English in few tokens, and room for 2 048 of them."""
    import torch
    import wonderwords
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast, SmolLM3Config, SmolLM3ForCausalLM

    from apo_soup.runs.chat_template import template_text
    from apo_soup.toy.tokenizer import SPECIAL

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=8000,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    lines = (
        "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again.\n",
        "Memorize and track the chain(s) of variable assignment hidden in the following text. VAR = ",
        "Question: Find all variables that are assigned the value in the text above. Answer: According to the",
        "One of the special magic numbers for is: What are all the special magic uuids mentioned in the text?",
        "VAR ABC = 12345 VAR XYZ = VAR ABC",
    )
    words = [word for kind in wonderwords.RandomWord()._categories.values() for word in kind]
    core.train_from_iterator([*lines * 50, *(f" {word}" for word in words)], trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="<|endoftext|>",
        eos_token="<|im_end|>",
        chat_template=template_text("apo-soup", "x"),
        clean_up_tokenization_spaces=False,
    )
    torch.manual_seed(0)
    config = SmolLM3Config(
        **TINY_SHAPE,
        vocab_size=len(tokenizer),
        max_position_embeddings=2048,
        pad_token_id=0,
        eos_token_id=2,
        bos_token_id=None,
    )
    folder = tmp_path_factory.mktemp("english")
    SmolLM3ForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def served(tiny_model, tokenizer):
    """A server of the random model, with the routes for chats and for tokens; `fault` alters what it says of tokens."""
    import torch
    from transformers import AutoModelForCausalLM

    from apo_soup.models.completion import Sampling
    from apo_soup.models.generation import generate
    from bench.serving import Proxy

    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32).eval()

    def scores(ids):
        """In the form of vLLM, which names the likeliest token beside the prompt's own."""
        logits = model(torch.tensor([ids])).logits[0, :-1].log_softmax(-1)
        own, top = logits[range(len(ids) - 1), ids[1:]].tolist(), logits.max(-1)
        words = [tokenizer.decode([i]) for i in ids]
        tops = [{"own": o, "top": t} for o, t in zip(own, top.values.tolist(), strict=True)]
        return {"tokens": words, "token_logprobs": [None, *own], "top_logprobs": [None, *tops]}

    class Serves(Proxy):
        fault = staticmethod(lambda found: found)

        def reply(self, number, path, body):
            asked, kind = json.loads(body), {"content-type": "application/json"}
            sampling = Sampling(asked["max_tokens"])
            with self.lock, torch.no_grad():
                if path.endswith("/chat/completions"):
                    told = {"enable_thinking": asked["chat_template_kwargs"]["enable_thinking"]}
                    text = tokenizer.apply_chat_template(
                        asked["messages"], tokenize=False, add_generation_prompt=True, **told
                    )
                    (said,) = generate(model, tokenizer, [text], sampling, 1, {tokenizer.eos_token_id})
                    choice = {"message": {"role": "assistant", "content": cut(said.text, asked)}}
                else:
                    found = self.fault({"logprobs": scores(asked["prompt"])} if asked.get("echo") else {})
                    if isinstance(found, int):
                        return found, kind, json.dumps({"error": {"message": "no such thing"}}).encode()
                    prompt = tokenizer.decode(asked["prompt"])
                    (said,) = generate(model, tokenizer, [prompt], sampling, 1, {tokenizer.eos_token_id})
                    choice = {"text": cut(said.text, asked), **found}
            choice |= {"index": 0, "finish_reason": "stop" if said.finished else "length"}
            return 200, kind, json.dumps({"id": "x", "choices": [choice]}).encode()

    def cut(text, asked):
        return min((text.split(stop)[0] for stop in asked.get("stop", [])), key=len, default=text)

    made = Serves("http://127.0.0.1:9/v1")
    yield made
    made.close()
