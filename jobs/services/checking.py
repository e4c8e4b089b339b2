"""What a config would be told at submit, all at once and before anything else is looked at."""

from dataclasses import dataclass, field
from typing import Any

from jobs import trainingconfigs


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Sentences for people: errors refuse the config, warnings and suggestions do not."""

    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    suggestions: list[str] = field(default_factory=list)

    @property
    def is_valid(self) -> bool:
        return not self.errors


def check(config: dict[str, Any]) -> Verdict:
    """Judge a config as submission does; no message repeats a secret."""
    try:
        normal, left_out = trainingconfigs.portable(trainingconfigs.normalise(config))
    except trainingconfigs.ConfigProblems as error:
        return Verdict(errors=[problem.message for problem in error.problems])
    warnings = [f"'{key}' is left out: it says nothing about a run at the provider." for key in left_out]
    if problems := trainingconfigs.problems(normal):
        return Verdict(errors=[problem.message for problem in problems], warnings=warnings)
    full = trainingconfigs.completed(normal)
    if not trainingconfigs.max_train_steps(full):
        return Verdict(errors=["The config says how long to train in epochs only. Set max_train_steps: the cost is held by it."])
    added = [f"'{key}' is not set; {full[key]!r} is used." for key in ("model_type", "optimizer") if key not in normal]
    return Verdict(warnings=warnings, suggestions=added)
