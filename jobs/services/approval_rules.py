"""What approval rules say of a job. Pure functions over rules and facts: nothing is asked and nothing written.

Source: simpletuner-api.md 2.7. Patterns do not tell capital letters from small ones: a rule shall not be passed by spelling.
"""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from fnmatch import fnmatchcase

from accounts import levels
from accounts.errors import InvalidInput, NotFound
from accounts.roles import Role
from billing.prices import MICROS_PER_USD, dollars
from jobs.models.admission import ApprovalCondition, ApprovalRule
from jobs.models.catalogue import Provider

LONGEST_PATTERN = 200
LONGEST_NAME = 128
MOST_USD = 1_000_000
MOST_JOBS = 10_000
# About as many steps as a regular expression may need at worst for the longest name: some tenths of a second.
MOST_STEPS = 13_000_000
# What a regular expression must not have, each with the word for it: with these its worst case cannot be told.
UNBOUNDED = {
    r"\\[1-9]": "a reference to a group",
    r"\(\?(?!:)": "an extension like (?=…)",
    r"\)\s*[*+{]": "a group that is repeated",
}


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What rules look at: the worst case in micro-dollars, all names of the hardware, and `jobs_today` with this one."""

    worst_case: int
    provider: str
    hardware: tuple[str, ...]
    config_name: str
    role: str
    jobs_today: int
    is_first: bool


def first_match(rules: Iterable[ApprovalRule], facts: Facts) -> ApprovalRule | None:
    """The rule that decides: the first that fits, the highest priority first and then the oldest; None if nothing must be approved."""
    in_order = sorted(rules, key=lambda rule: (-rule.priority, rule.pk))
    return next((rule for rule in in_order if fits(rule, facts)), None)


def fits(rule: ApprovalRule, facts: Facts) -> bool:
    """Whether the rule is in force, speaks of such a job and such a person, and its condition is true."""
    if not rule.is_active or facts.role in rule.exempt_roles:
        return False
    if rule.applies_to_provider and rule.applies_to_provider != facts.provider:
        return False
    if rule.applies_to_role and rule.applies_to_role != facts.role:
        return False
    return _is_true(rule, facts)


def _is_true(rule: ApprovalRule, facts: Facts) -> bool:
    match rule.condition:
        case ApprovalCondition.COST_EXCEEDS:
            return facts.worst_case > micros(rule)
        case ApprovalCondition.HARDWARE_TYPE:
            return any(_is_like(name, rule.threshold) for name in facts.hardware if name)
        case ApprovalCondition.PROVIDER:
            return facts.provider == rule.threshold
        case ApprovalCondition.USER_LEVEL:
            return rank(facts.role) < rank(rule.threshold)
        case ApprovalCondition.DAILY_JOBS_EXCEED:
            return facts.jobs_today > int(rule.threshold)
        case ApprovalCondition.FIRST_JOB:
            return facts.is_first
        case ApprovalCondition.CONFIG_PATTERN:
            return _is_named_like(facts.config_name, rule.threshold)
    return False


def reason(rule: ApprovalRule, facts: Facts) -> str:
    """Why the rule asks for an approval of such a job, in a sentence."""
    return f"The rule {rule.name!r} asks for an approval: {_why(rule, facts)}."


def ground(rule: ApprovalRule, facts: Facts) -> dict[str, object]:
    """The same as plain values: what the rule compares with, and what it saw; of money in micro-dollars."""
    seen: dict[str, object] = {
        ApprovalCondition.COST_EXCEEDS: facts.worst_case,
        ApprovalCondition.HARDWARE_TYPE: facts.hardware[0],
        ApprovalCondition.PROVIDER: facts.provider,
        ApprovalCondition.USER_LEVEL: facts.role,
        ApprovalCondition.DAILY_JOBS_EXCEED: facts.jobs_today,
        ApprovalCondition.FIRST_JOB: "",
        ApprovalCondition.CONFIG_PATTERN: facts.config_name,
    }
    threshold = micros(rule) if rule.condition == ApprovalCondition.COST_EXCEEDS else rule.threshold
    return {"asks": rule.condition, "rule": rule.name, "threshold": threshold, "seen": seen[rule.condition]}


def _why(rule: ApprovalRule, facts: Facts) -> str:
    match rule.condition:
        case ApprovalCondition.COST_EXCEEDS:
            return f"the job can cost up to {dollars(facts.worst_case)}, more than {dollars(micros(rule))}"
        case ApprovalCondition.HARDWARE_TYPE:
            return f"it trains on {facts.hardware[0]}, which is like {rule.threshold}"
        case ApprovalCondition.PROVIDER:
            return f"it goes to {rule.threshold}"
        case ApprovalCondition.USER_LEVEL:
            return f"whoever submits it is {facts.role}, which is less than {rule.threshold}"
        case ApprovalCondition.DAILY_JOBS_EXCEED:
            return f"it is the person's job number {facts.jobs_today} of the day, more than {rule.threshold}"
        case ApprovalCondition.FIRST_JOB:
            return "it is the person's first job in the team"
    return f"the config {facts.config_name or '(without a name)'} is named like {rule.threshold}"


def micros(rule: ApprovalRule) -> int:
    """The amount above which a rule of costs asks, in micro-dollars."""
    return int(Decimal(rule.threshold) * MICROS_PER_USD)


def rank(role: str) -> int:
    """Which of two roles is higher. Nothing else follows from it."""
    return levels.of_role(role).priority


def checked(condition: str, threshold: str) -> str:
    """The threshold of a rule as it is kept. Raises InvalidInput for one that its condition cannot compare with."""
    threshold = threshold.strip()
    match condition:
        case ApprovalCondition.COST_EXCEEDS:
            return _amount(threshold)
        case ApprovalCondition.DAILY_JOBS_EXCEED:
            return _count(threshold)
        case ApprovalCondition.USER_LEVEL:
            return _role(threshold)
        case ApprovalCondition.PROVIDER:
            return _provider(threshold)
        case ApprovalCondition.FIRST_JOB:
            return ""
    if not 1 <= len(threshold) <= LONGEST_PATTERN:
        raise InvalidInput(f"The pattern must have 1 to {LONGEST_PATTERN} characters.", field="threshold")
    if condition == ApprovalCondition.CONFIG_PATTERN and _is_expression(threshold):
        _require_bounded(threshold)
    return threshold


def _amount(given: str) -> str:
    try:
        amount = Decimal(given)
    except InvalidOperation:
        amount = Decimal(-1)
    if not amount.is_finite() or not 0 <= amount <= MOST_USD:
        raise InvalidInput(f"The threshold must be an amount in US dollars from 0 to {MOST_USD}, like 50 or 49.99.", field="threshold")
    return f"{round(amount, 6).normalize():f}"


def _count(given: str) -> str:
    if not (given.isascii() and given.isdecimal() and len(given) < 9 and int(given) <= MOST_JOBS):
        raise InvalidInput(f"The threshold must be a whole number of jobs from 0 to {MOST_JOBS}.", field="threshold")
    return str(int(given))


def _role(given: str) -> str:
    try:
        role = levels.named(given, field="threshold").role
    except NotFound as unknown:
        raise InvalidInput(f"The threshold must be a level. {unknown.detail}", field="threshold") from None
    if role == Role.VIEWER:
        raise InvalidInput("Nobody is less than a viewer, so such a rule would never ask.", field="threshold")
    return role.value


def _provider(given: str) -> str:
    if given.lower() not in Provider.values:
        raise InvalidInput(f"The threshold must be a provider: {', '.join(Provider.values)}.", field="threshold")
    return given.lower()


# --- Patterns ---------------------------------------------------------------------------------------------


def _is_like(name: str, pattern: str) -> bool:
    return fnmatchcase(name.casefold(), pattern.casefold())


def _is_named_like(name: str, pattern: str) -> bool:
    if not _is_expression(pattern):
        return _is_like(name, pattern)
    return re.search(pattern, name[:LONGEST_NAME], re.IGNORECASE) is not None


def _is_expression(pattern: str) -> bool:
    """Whether it is a regular expression, and not one of the shell's patterns."""
    return pattern.startswith("^") or pattern.endswith("$")


def _require_bounded(pattern: str) -> None:
    """Raise InvalidInput for a regular expression that is none, or that some name could keep busy for long.

    Python's engine tries every way in which repeats and alternatives can share a name. Without groups that are repeated
    these can be counted beforehand.
    """
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise InvalidInput(f"The pattern is no regular expression: {error}.", field="threshold") from None
    bare = re.sub(r"\[\^?\]?[^\]]*\]", "x", re.sub(r"\\[^1-9]", "x", pattern))
    for sign, name in UNBOUNDED.items():
        if re.search(sign, bare):
            raise InvalidInput(f"The pattern has {name}, which can take too long.", field="threshold", hint="Write it without.")
    repeats, doublings = len(re.findall(r"[*+{]", bare)), len(re.findall(r"\?|\|", bare.replace("(?:", "(")))
    if math.comb(LONGEST_NAME + repeats + 1, repeats + 1) * 2**doublings > MOST_STEPS:
        raise InvalidInput(
            "The pattern has so many repeats and alternatives that it can take too long.",
            field="threshold",
            hint="Up to three of * + and {} are fine, or fewer of them with alternatives.",
        )
