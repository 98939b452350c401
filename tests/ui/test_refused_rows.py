"""Lists of rejected and dropped rows, as preparations leave them."""

import json
import os
import time

from ui_helpers import client_of, site_of

from apo_soup.ui.refused_rows import refused_page


def entry(number: int, **more: str) -> str:
    return (
        json.dumps({"source": "/home/me/rows.jsonl", "row": f"/home/me/rows.jsonl:{number}", "reason": "<b>", **more})
        + "\n"
    )


def test_a_preparation_that_never_ran_left_none(recipe):
    assert refused_page(recipe, "sft", "rejected").rows == []
    assert refused_page(recipe, "eval", "rejected") is None
    assert refused_page(recipe, "sft", "kept") is None
    assert "nothing was prepared yet" in client_of(site_of(recipe)).get("/refused/sft/rejected").text


def test_the_lists_of_the_last_preparation_are_shown_page_by_page(recipe, tmp_path):
    prepared = tmp_path / "runs/mine/prepared"
    for name, age, count in (("sft-0123456789abcdef", 100, 1), ("sft-fedcba9876543210", 50, 3), ("sft-x-0123", 10, 9)):
        (prepared / name).mkdir(parents=True)
        (prepared / name / "dropped.jsonl").write_text("".join(entry(n, kind="long") for n in range(count)))
        os.utime(prepared / name, (time.time() - age,) * 2)
    (prepared / "sft-rejects.jsonl").write_text("".join(entry(n) for n in range(1, 61)) + "{\n")
    shown = refused_page(recipe, "sft", "rejected")
    assert (len(shown.rows), shown.more) == (50, True)
    assert shown.rows[0].place == "/home/me/rows.jsonl:1"
    assert shown.rows[0].source == "rows.jsonl"
    rest = refused_page(recipe, "sft", "rejected", 50)
    assert (len(rest.rows), rest.more) == (11, False)
    assert "not valid JSON" in rest.rows[-1].reason, "a damaged line is a line"
    assert len(refused_page(recipe, "sft", "dropped").rows) == 3, "of the newest folder of this stage"
    page = client_of(site_of(recipe)).get("/refused/sft/rejected").text
    assert "<td>&lt;b&gt;</td>" in page
    assert "/home/me" not in page
    assert 'rel="next" href="../../refused/sft/rejected?from=50"' in page
