"""Verifiers: which answers are right."""

import pytest

from apo_soup.data.sources.rows import RowError
from apo_soup.errors import UserError
from apo_soup.verify.answers import exact_verifier, number_verifier, verifier


@pytest.mark.parametrize(
    ("text", "reference", "right"),
    [
        ("<think>\n1 + 2 = 3\n</think>\n3", "3", True),
        ("<think>\n1 + 2 = 3\n</think>\n4", "3", False),
        ("3", "3", True),
        ("It costs $1,250.00", "1250", True),
        ("-7", "7", False),
        ("no number", "3", False),
        ("<think>\n3\n", "3", False),
        ("#### Step 2: Multiply\n9 * 2 = 18\nSo the answer is 18.", "18", True),
        ("#### Step 2: Multiply\n9 * 2 = 18\nSo the answer is 18.", "2", False),
        ("#### Final Answer\nShe makes $18 every day.", "18", True),
        ("The final answer is:\n- 42", "42", True),
        ("The final answer is:\n- 42", "-42", False),
        ("So the result is 10 - 7", "-7", False),
        ("x = - 5", "-5", True),
        ("**-5**", "-5", True),
        ("Total cost: **12**\n\n3 friends paid it.", "3", True),
        ("**5**\n5", "5", True),
        ("It is **7** 3", "343", False),
        ("2 ** 3", "8", True),
        (r"\boxed{10^{6}}", "10", False),
        (r"\boxed{10^{6}}", "1000000", True),
        (r"5 \times 10^3", "5000", True),
        (r"\boxed{2^{10}}", "2", False),
        (r"\boxed{3\frac{1}{2}}", "3.5", True),
        ("3 1/2", "0.5", False),
        (r"\boxed{2x+3}", "3", False),
        (r"\boxed{2\sqrt{3}}", "3", False),
        (r"\boxed{\frac{\pi}{2}}", "2", False),
        (r"\boxed{x = 18 \text{ apples}}", "18", True),
        (r"\boxed{90^\circ}", "90", True),
        (r"\boxed{27 \text{ cm}^3}", "27", True),
        (r"\boxed{10 m/s}", "10", True),
        (r"\boxed{\text{18 apples}}", "18", True),
        (r"\boxed{x_1 = (18)}", "18", False),
        (r"\boxed{x_1 = 18}", "18", True),
        (r"\boxed{5h}", "5", True),
        (r"\boxed{2x}", "2", False),
        (r"\boxed{18 " + "a" * 5000 + "!}", "18", False),
        ("10^" + "9" * 5000, "3", False),
        ("#### 1. Step\nfoo\nThe answer is 42", "42", True),
        ("10000", "10 000", True),
        ("0", "10 000", False),
        ("1 234", "1234", True),
        ("she has 5 100 dollar notes: 5 100", "100", True),
        (r"\boxed{1\,800}", "1800", True),
        ("1.234,50 €", "1234.5", True),
        ("Der Code von Anna ist 4.821.", "4821", True),
        ("El código es 4.821", "4.821", True),
        ("4\u202f821", "4821", True),
        ("0." + "3" * 4500, "3", False),
        ("1e99999999", "5", False),
        ("-$3", "-3", True),
        ("It is \u22125.", "-5", True),
        (".5", "1/2", True),
        (r"so \frac{1}{2}", "0.5", True),
        ("4,5 kg", "4.5", True),
        ("10-3", "3", True),
        ("27 cm^3", "27", True),
        ("1{,}234", "1,234", True),
        ("1e5", "100000", True),
        ("50%", "50%", True),
        (r"\boxed{18} apples, after 3 steps", "18", True),
        ("#### 18\nThat took 3 steps", "#### 18", True),
        ("9007199254740993", "9007199254740992", False),
        ("1, 2, 3", "3", True),
        ("0.123", "123", False),
        ("0,500", "0.5", True),
        ("0.500", "0.5", True),
        ("\u20135", "-5", True),
        ("\u20135", "5", False),
        ("pages 3\u20135", "5", True),
        ("The answer is minus 5.", "-5", True),
        ("10 minus 5 is 5", "5", True),
        (r"\boxed{\frac34}", "0.75", True),
        (r"\boxed{-\tfrac12}", "-0.5", True),
        ("6.02\u00d710\u00b2\u00b3", "6.02e23", True),
        ("1.5 x 10^-4", "0.00015", True),
        ("1.5*10**4", "15000", True),
        ("3\u00bd", "3.5", True),
        ("-\u00bd", "-0.5", True),
        ("an area of 5 m2", "5", True),
        (r"\boxed{\left(42\right)}", "42", True),
        (r"\boxed{{42}}", "42", True),
        (r"\boxed{\displaystyle 42}", "42", True),
        (r"\boxed{5~\text{cm}}", "5", True),
        (r"\boxed{42\degree}", "42", True),
        (r"\boxed{\approx 42}", "42", True),
        (r"\boxed{Answer: 42}", "42", True),
        (r"\boxed{1:2}", "2", False),
    ],
)
def test_number_verifier(text, reference, right):
    assert number_verifier(text, reference) is right


@pytest.mark.parametrize("reference", ["nan", "3 or 4", "many", "3\u20135"])
def test_a_reference_that_is_no_number_is_told(reference):
    with pytest.raises(RowError, match="expected one number"):
        number_verifier("3", reference)


@pytest.mark.parametrize(
    ("reference", "answer", "right"),
    [
        (r"2\sqrt{3}", r"\boxed{2\sqrt{3}}", True),
        (r"2\sqrt{3}", r"\boxed{2}", False),
        (r"3\pi", r"\boxed{3\pi}", True),
        (r"3\pi", r"\boxed{3}", False),
        ("2x+3", "$3+2x$", True),
        ("0.5", r"$\frac{1}{2}$", True),
        ("5", "It is 5", True),
    ],
)
def test_math_verifier_reads_all_of_a_formula(reference, answer, right):
    assert verifier("math", "here")(answer, reference) is right


def test_a_verifier_of_ones_own_is_named_in_what_goes_wrong(tmp_path, monkeypatch):
    (tmp_path / "own_verifier.py").write_text("def wrong_kind(text, reference):\n    return 'yes'\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(
        UserError,
        match="a score from 0 to 1 from own_verifier:wrong_kind, got 'yes'",
    ):
        verifier("own_verifier:wrong_kind", "here")("a", "b")
    with pytest.raises(UserError, match=r"expected a verdict of math:sqrt, got TypeError on reference 'b'"):
        verifier("math:sqrt", "here")("a", "b")
    with pytest.raises(UserError, match=r"no\.such:thing"):
        verifier("no.such:thing", "here")


def test_exact_verifier_ignores_reasoning_and_outer_space():
    assert exact_verifier("<think>\nx\n</think>\n yes ", "yes")
    assert not exact_verifier("yes!", "yes")
