"""What approval rules say of a job: each condition, whom a rule is about, which of several decides, and patterns that stay quick."""

import time

import pytest

from accounts.errors import InvalidInput
from jobs.models import ApprovalRule
from jobs.services import approval_rules
from jobs.services.approval_rules import Facts

USD = 1_000_000


def facts(**said):
    usual = {
        "worst_case": 60 * USD, "provider": "replicate", "hardware": ("L40S (48GB)", "1x L40S", "gpu-l40s", "l40s"),
        "config_name": "flux-lora", "role": "researcher", "jobs_today": 1, "is_first": False,
    }  # fmt: skip
    return Facts(**{**usual, **said})


def rule(condition, threshold="", **fields):
    return ApprovalRule(**{"name": "r", "condition": condition, "threshold": threshold, "pk": 1, **fields})


def asks(condition, threshold="", *, said=None, **fields):
    return approval_rules.first_match([rule(condition, threshold, **fields)], facts(**(said or {}))) is not None


@pytest.mark.parametrize(
    ("condition", "threshold", "said", "fits"),
    [
        ("cost_exceeds", "50", {}, True),
        ("cost_exceeds", "60", {}, False),
        ("cost_exceeds", "59.999999", {}, True),
        ("hardware_type", "gpu-l40*", {}, True),
        ("hardware_type", "L40S", {}, True),
        ("hardware_type", "*48gb*", {}, True),
        ("hardware_type", "*h100*", {}, False),
        ("provider", "replicate", {}, True),
        ("provider", "sandbox", {}, False),
        ("user_level", "lead", {}, True),
        ("user_level", "researcher", {}, False),
        ("user_level", "lead", {"role": "owner"}, False),
        ("daily_jobs_exceed", "3", {"jobs_today": 3}, False),
        ("daily_jobs_exceed", "3", {"jobs_today": 4}, True),
        ("first_job", "", {"is_first": True}, True),
        ("first_job", "", {}, False),
        ("config_pattern", "flux*", {}, True),
        ("config_pattern", "FLUX-LORA", {}, True),
        ("config_pattern", "lora", {}, False),
        ("config_pattern", "^flux", {}, True),
        ("config_pattern", "lora$", {}, True),
        ("config_pattern", "^(?:sdxl|flux)-[a-z]+$", {}, True),
        ("config_pattern", "^lora", {}, False),
        ("config_pattern", "*", {"config_name": ""}, True),
    ],
)
def test_each_condition_is_true_of_what_it_says(condition, threshold, said, fits):
    assert asks(condition, threshold, said=said) is fits


@pytest.mark.parametrize(
    ("fields", "fits"),
    [
        ({}, True),
        ({"is_active": False}, False),
        ({"exempt_roles": ["researcher", "owner"]}, False),
        ({"exempt_roles": ["lead"]}, True),
        ({"applies_to_role": "researcher"}, True),
        ({"applies_to_role": "lead"}, False),
        ({"applies_to_provider": "replicate"}, True),
        ({"applies_to_provider": "sandbox"}, False),
    ],
)
def test_a_rule_speaks_only_of_those_whom_it_is_about(fields, fits):
    assert asks("cost_exceeds", "50", **fields) is fits


def test_the_highest_priority_decides_and_of_equals_the_oldest():
    rules = [rule("cost_exceeds", "50", pk=pk, priority=priority) for pk, priority in ((1, 0), (3, 5), (2, 5), (4, 9))]
    rules[-1].threshold = "100"

    assert approval_rules.first_match(rules, facts()).pk == 2


@pytest.mark.parametrize(
    ("condition", "threshold", "said"),
    [
        ("cost_exceeds", "50", "The rule 'r' asks for an approval: the job can cost up to $60.00, more than $50.00."),
        ("hardware_type", "*l40s*", "The rule 'r' asks for an approval: it trains on L40S (48GB), which is like *l40s*."),
        (
            "user_level",
            "lead",
            "The rule 'r' asks for an approval: whoever submits it is researcher, which is less than lead.",
        ),
        ("daily_jobs_exceed", "3", "The rule 'r' asks for an approval: it is the person's job number 1 of the day, more than 3."),
        ("first_job", "", "The rule 'r' asks for an approval: it is the person's first job in the team."),
        ("config_pattern", "*", "The rule 'r' asks for an approval: the config flux-lora is named like *."),
        ("provider", "replicate", "The rule 'r' asks for an approval: it goes to replicate."),
    ],
)
def test_the_reason_is_a_sentence(condition, threshold, said):
    assert approval_rules.reason(rule(condition, threshold), facts()) == said


@pytest.mark.parametrize(
    ("condition", "given", "kept"),
    [
        ("cost_exceeds", " 50.00 ", "50"),
        ("cost_exceeds", "1e2", "100"),
        ("cost_exceeds", "0", "0"),
        ("daily_jobs_exceed", "05", "5"),
        ("user_level", "admin", "owner"),
        ("user_level", "member", "researcher"),
        ("provider", "Replicate", "replicate"),
        ("first_job", "whatever", ""),
        ("hardware_type", " *h100* ", "*h100*"),
        ("config_pattern", "^a+b*c{1,3}$", "^a+b*c{1,3}$"),
        ("config_pattern", r"^flux[*+(]\(x\)*$", r"^flux[*+(]\(x\)*$"),
    ],
)
def test_a_threshold_is_kept_in_one_spelling(condition, given, kept):
    assert approval_rules.checked(condition, given) == kept


@pytest.mark.parametrize(
    ("condition", "given"),
    [
        *(("cost_exceeds", wrong) for wrong in ("", "fifty", "-1", "nan", "inf", "1e99", "$50")),
        *(("daily_jobs_exceed", wrong) for wrong in ("", "1.5", "-1", "many", "99999999", "٣")),
        *(("user_level", wrong) for wrong in ("", "boss", "viewer")),
        *(("provider", wrong) for wrong in ("", "modal")),
        ("hardware_type", ""),
        ("config_pattern", "x" * 201),
        ("config_pattern", "^(flux"),
        ("config_pattern", "^a{99999999999}$"),
    ],
)
def test_a_threshold_that_its_condition_cannot_compare_with_is_refused(condition, given):
    with pytest.raises(InvalidInput) as refused:
        approval_rules.checked(condition, given)

    assert refused.value.field == "threshold"


@pytest.mark.parametrize(
    "slow",
    [
        "^(a+)+$", "^(a|a)*$", "^(a|aa)+b$", "^(?:a*){2,}$", r"^(a)\1$", "^(?=a)b$", "^(?P<x>a)(?P=x)$", "^a*a*a*a*b$",
        "^" + "a?" * 30 + "$", "^" + "(a|a)" * 20 + "$", "a*b*c*d*e$",
    ],
)  # fmt: skip
def test_an_expression_that_could_run_for_long_is_refused(slow):
    with pytest.raises(InvalidInput):
        approval_rules.checked("config_pattern", slow)


@pytest.mark.parametrize("pattern", ["a*a*a*b$", "^a*a*a*b$", "a*a*(a|a)(a|a)(a|a)b$", "(a|a)(a|a)(a|a)(a|a)(a|a)(a|a)(a|a)a*b$"])
def test_the_slowest_expression_that_is_let_in_is_quick_enough(pattern):
    threshold = approval_rules.checked("config_pattern", pattern)
    begin = time.monotonic()

    assert not asks("config_pattern", threshold, said={"config_name": "a" * 128})
    assert time.monotonic() - begin < 5
