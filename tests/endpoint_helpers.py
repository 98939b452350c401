"""What several tests of endpoints read."""

import json


def answers_of(folder):
    """What the journals hold: (side, prompt) to completions, each once."""
    found = {}
    for file in (folder.parent / "answers").glob("*.jsonl"):
        for line in file.read_text().splitlines():
            for answer in json.loads(line):
                key = (file.name.partition("-")[0], answer["prompt"])
                assert key not in found, "no answer is kept twice"
                found[key] = answer["completions"]
    return found
