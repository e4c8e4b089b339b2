"""What a config would be told at submit, all at once and before anything else is looked at."""

from dataclasses import dataclass, field
from typing import Any

from jobs import trainingconfigs
from jobs.trainingconfigs import KeyProblem

ONLY_EPOCHS = "The config says how long to train in epochs only. Set max_train_steps: the cost is held by it."
NEEDS_REPOSITORY = "The config pushes to the Hugging Face Hub: name the repository in 'hub_model_id' when you submit a job with it."


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Sentences for people: problems refuse the config, warnings and suggestions do not."""

    problems: list[KeyProblem] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    suggestions: list[str] = field(default_factory=list)

    @property
    def is_valid(self) -> bool:
        return not self.problems

    @property
    def errors(self) -> list[str]:
        return [problem.message for problem in self.problems]


def check(config: dict[str, Any]) -> Verdict:
    """Judge a config as submission does; no message repeats a secret. One that pushes to the Hub is judged for a job that goes there."""
    try:
        normal = trainingconfigs.normalise(config)
    except trainingconfigs.ConfigProblems as error:
        return Verdict(problems=error.problems)
    pushes = trainingconfigs.asks_for_hub(normal)
    portable, left_out = trainingconfigs.portable(normal, goes_to_hub=pushes)
    warnings = [f"'{key}' is left out: it says nothing about a run at the provider." for key in left_out]
    warnings += [NEEDS_REPOSITORY] * pushes
    if problems := trainingconfigs.problems(portable):
        return Verdict(problems=problems, warnings=warnings)
    full = trainingconfigs.completed(portable)
    if not trainingconfigs.max_train_steps(full):
        return Verdict(problems=[KeyProblem("max_train_steps", ONLY_EPOCHS, "missing")], warnings=warnings)
    added = [f"'{key}' is not set; {full[key]!r} is used." for key in ("model_type", "optimizer") if key not in portable]
    return Verdict(warnings=warnings, suggestions=added)
