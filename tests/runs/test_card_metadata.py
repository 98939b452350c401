"""A card's metadata in the Hub's format."""

from inspect import signature

from huggingface_hub import ModelCardData

from apo_soup.runs.card_metadata import card_metadata, index_results
from apo_soup.runs.results import EvaluatedCheckpoint


def checkpoint(**values: float | None) -> EvaluatedCheckpoint:
    metrics = {
        name: {"value": value, "low": None, "high": None, "headline": name != "hidden", "better": better}
        for (name, value), better in zip(values.items(), ("higher", "lower", "higher"), strict=False)
    }
    return EvaluatedCheckpoint("merged", {"metrics": metrics, "tasks": {}}, None)


def test_headline_scores_stand_in_the_cards_index():
    first, second = index_results(checkpoint(think=0.90001, loss=1.5, hidden=0.1))
    assert first["metrics"] == [{"type": "accuracy", "name": "think", "value": 0.9}]
    assert second["metrics"] == [{"type": "loss", "name": "loss", "value": 1.5}]
    assert index_results(checkpoint(think=None)) == []


def test_a_local_model_is_no_base_model_of_the_hub(tmp_path):
    source = {"source": "runs/tiny/data/rows.jsonl"}
    line = {str(tmp_path / "mid"): {"metrics": {"data": [source]}}, str(tmp_path): None}
    assert card_metadata("merged", line, None) == {
        "library_name": "transformers", "tags": ["merge", "apo-soup"], "pipeline_tag": "text-generation",
    }  # fmt: skip
    line = {"mid": {"metrics": {"data": [{"source": "maker/rows:english"}]}}, "maker/base@v1": None}
    metadata = card_metadata("merged", line, None, parameters=7)
    assert (metadata["base_model"], metadata["datasets"]) == (["maker/base"], ["maker/rows"])
    fields = signature(ModelCardData.__init__).parameters
    assert metadata.keys() - fields == {"parameters", "base_model_relation"}
