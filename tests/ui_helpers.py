"""A recipe with rows and two small models, and its page without a server."""

import json
import re
import time
from pathlib import Path

import yaml
from helpers import TRAINING
from programs import Programs
from starlette.testclient import TestClient

from apo_soup.cli.order import states_of_steps
from apo_soup.cli.ui import opened_file
from apo_soup.ui.address import Address
from apo_soup.ui.app import Site, guarded_app

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
URL = "http://127.0.0.1:7860"
EVIL = "</pre><script>alert(1)</script>"


def recipe_with_models(folder: Path, rows: list[dict], models: dict[str, Path]) -> Path:
    """A recipe that trains on `rows.jsonl` and evaluates these models."""
    recipe = folder / "mine"
    recipe.mkdir()
    (recipe / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    first = str(next(iter(models.values())))
    training = TRAINING | {"model_name_or_path": first, "output_dir": str(folder / "runs/mine/sft")}
    training |= {"chat_template": "apo-soup", "assistant_only_loss": True, "max_length": 128}
    training["dataset_mixture"] = {"datasets": [{"id": "rows.jsonl"}]}
    suite = {
        "output_dir": str(folder / "runs/mine/evals"),
        "models": {name: str(path) for name, path in models.items()},
    }
    suite |= {"chat_template": "apo-soup"}
    suite["tasks"] = [{"name": "loss", "kind": "loss", "data": "rows.jsonl"}]
    for name, values in (("sft", training), ("eval", suite)):
        (recipe / f"{name}.yaml").write_text(yaml.safe_dump(values))
    return recipe


def site_of(recipe: Path, **address: object) -> Site:
    """The page of a recipe on this machine's own address."""
    given = {"host": "127.0.0.1", "port": 7860, "token": "", "names": LOOPBACK, "literals": False} | address
    return Site(recipe, opened_file, lambda: states_of_steps(recipe), Address(**given))


def client_of(site: Site, url: str = URL, **options: object) -> TestClient:
    """A client that follows no redirection by itself."""
    return TestClient(guarded_app(site), base_url=url, follow_redirects=False, **options)


def events_of(text: str) -> list[dict]:
    """The events of a stream."""
    return [json.loads(part[6:]) for part in text.split("\n\n") if part.startswith("data: ")]


def started(*words: str | Path) -> tuple[Programs, str]:
    """The program and the address that it printed."""
    page = Programs("-m", "apo_soup", "ui", *words)
    deadline = time.monotonic() + 60
    while not (found := re.search(r"http://\S+", page.output())):
        assert page.running(), page.output("stderr")
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return page, found[0]
