"""A recipe of two rows and two models."""

import pytest
from helpers import chat
from ui_helpers import EVIL, client_of, recipe_with_models, site_of


@pytest.fixture
def recipe(tmp_path, tiny_model, talking_model):
    rows = [chat("What is 1 + 1?", "It is 2.", False), chat(EVIL, "No <b>script</b> here.", False)]
    return recipe_with_models(tmp_path, rows, {"one": talking_model, "two": tiny_model})


@pytest.fixture
def site(recipe):
    return site_of(recipe)


@pytest.fixture
def client(site):
    return client_of(site)
