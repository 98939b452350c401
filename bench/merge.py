"""Soup of four members and the merge with mid, against `mergekit-yaml` run twice, side by side in one run.

    python -m bench.merge [--members 4] [--repeats 3]

Random bfloat16 models of 0.83 GB each. Contestants in turn, each a process of its own:

    mergekit   `mergekit-yaml` on the soup, then on the merge, without model cards
    ours       `python -m merge`: the same two folders, checks, tokenizer, card and content hashes included
    one pass   the same with one_pass: true, so without the soup's folder
    copy       the bytes of both folders copied, the least that writing them can take
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.figures import command, save

CONTESTANTS = ("mergekit", "ours", "one pass", "copy")
SHAPE: dict[str, Any] = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24}
VOCABULARY = 49_152


def main() -> None:
    """Make the models, run the contestants in turn, print a table and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--members", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", help="where the models are made; a temporary folder when not given")
    parser.add_argument("--make", help=argparse.SUPPRESS)
    parser.add_argument("--output", default="bench/results/merge.json")
    options = parser.parse_args()
    if options.make:
        make_models(Path(options.make), options.members)
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        # In a process of its own: a child's peak begins with the size of the parent it was forked from.
        words = [sys.executable, "-m", "bench.merge", f"--members={options.members}", f"--make={folder}"]
        subprocess.run(words, check=True, capture_output=True)
        size = (folder / "mid" / "model.safetensors").stat().st_size
        files = configurations(folder, options.members)
        runs: dict[str, list[dict]] = {contestant: [] for contestant in CONTESTANTS}
        for _ in range(options.repeats):
            for contestant in CONTESTANTS:
                runs[contestant].append(one(contestant, folder, files))
                print(f"{contestant:9} {runs[contestant][-1]}", flush=True)
    seconds = {n: statistics.median(r["seconds"] for r in found) for n, found in runs.items()}
    peaks = {n: max(r["peak_mb"] for r in found) for n, found in runs.items()}
    print(f"\n{options.members} members of {size / 1e9:.2f} GB and mid")
    print(f"{'':9} {'seconds':>8} {'of mergekit':>12} {'peak MB':>8}")
    for name in CONTESTANTS:
        print(f"{name:9} {seconds[name]:8.2f} {seconds[name] / seconds['mergekit']:12.2f} {peaks[name]:8,}")
    options.folder = None
    figures = {"bytes_a_model": size, "runs": runs, "seconds": seconds, "peak_mb": peaks}
    save(options.output, {"command": command(options, "merge"), **figures})


def make_models(folder: Path, members: int) -> None:
    """Random model folders `apo/1..N` and `mid`."""
    import torch
    from transformers import AutoTokenizer, SmolLM3Config, SmolLM3ForCausalLM

    from apo_soup.runs.model_files import file_record, model_files
    from merge.writer import SafetensorsWriter

    heads: dict[str, Any] = {"num_attention_heads": 16, "num_key_value_heads": 4, "tie_word_embeddings": True}
    ids: dict[str, Any] = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    config = SmolLM3Config(vocab_size=VOCABULARY, dtype="bfloat16", **SHAPE, **heads, **ids)
    with torch.device("meta"):
        model = SmolLM3ForCausalLM(config)
    shapes = {n: tuple(p.shape) for n, p in model.named_parameters()}
    tokenizer = AutoTokenizer.from_pretrained("recipes/tiny/base")
    config.architectures = ["SmolLM3ForCausalLM"]
    for number, name in enumerate([*(f"apo/{k + 1}" for k in range(members)), "mid"]):
        generator = torch.Generator().manual_seed(number)
        target = folder / name
        writer = SafetensorsWriter(target, shapes, torch.bfloat16)
        for tensor, shape in shapes.items():
            writer.write(tensor, (0.02 * torch.randn(shape, generator=generator)).bfloat16().flatten())
        writer.close()
        config.save_pretrained(target)
        tokenizer.save_pretrained(target)
        # As every stage leaves it: inputs are not hashed again while their files are untouched.
        outputs = {file.name: file_record(file) for file in model_files(target)}
        (target / "manifest.json").write_text(json.dumps({"stage": name, "outputs": outputs}))


def configurations(folder: Path, members: int) -> dict[str, Path]:
    """The same soup and merge for both programs."""
    import yaml

    types = {"merge_method": "linear", "dtype": "bfloat16"}
    soup = [{"model": str(folder / "apo" / str(k + 1)), "parameters": {"weight": 1.0}} for k in range(members)]
    pair = [("soup", 0.9), ("mid", 0.1)]
    plain = [
        {"model": str(folder / "theirs" / n if n == "soup" else folder / n), "parameters": {"weight": w}}
        for n, w in pair
    ]
    named = [{"model": n, "parameters": {"weight": w}} for n, w in pair]
    recipe = {
        "output_dir": str(folder),
        "soup": {"members": "all", "dtype": "bfloat16"},
        "merge": {**types, "models": named},
    }
    contents = {
        "soup": {**types, "models": soup},
        "merge": {**types, "models": plain},
        "ours": recipe,
        "one pass": {**recipe, "one_pass": True},
    }
    files = {}
    for name, content in contents.items():
        files[name] = folder / f"{name.replace(' ', '_')}.yaml"
        files[name].write_text(yaml.safe_dump(content))
    return files


def one(contestant: str, folder: Path, files: dict[str, Path]) -> dict:
    """Seconds and peak memory of one contestant, whose folders are removed first."""
    for made in ("soup", "merged", "theirs", "copied"):
        subprocess.run(["rm", "-rf", str(folder / made)], check=True)
    script = "from mergekit.scripts.run_yaml import main; main()"
    mergekit = [sys.executable, "-c", script]
    words = {
        "mergekit": [
            [*mergekit, str(files["soup"]), str(folder / "theirs" / "soup"), "--no-write-model-card"],
            [*mergekit, str(files["merge"]), str(folder / "theirs" / "merged"), "--no-write-model-card"],
        ],
        "ours": [[sys.executable, "-m", "merge", "--config", str(files["ours"])]],
        "one pass": [[sys.executable, "-m", "merge", "--config", str(files["one pass"])]],
        "copy": [["cp", "-r", str(folder / "mid"), str(folder / n)] for n in ("copied", "copied_too")],
    }[contestant]
    started, peak = time.perf_counter(), 0
    for command_line in words:
        process = subprocess.Popen(command_line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        assert process.stderr is not None
        errors = process.stderr.read().decode()
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            raise RuntimeError(f"{contestant} failed: {errors[-2000:]}")
        peak = max(peak, usage.ru_maxrss // 1024)
    seconds = time.perf_counter() - started
    subprocess.run(["rm", "-rf", str(folder / "copied_too")], check=True)
    return {"seconds": round(seconds, 2), "peak_mb": peak}


if __name__ == "__main__":
    main()
