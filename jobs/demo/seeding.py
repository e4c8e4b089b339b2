"""Two demo teams with people of every role, tokens, a config, a dataset and limits. Safe to repeat."""

import io
import json
import secrets
from typing import Any

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from accounts import credentials, tokens
from accounts.callers import Caller
from accounts.models import CredentialKind, Membership, Team, User
from accounts.roles import Role, Scope, rights_of
from billing.models import LimitAction, LimitPeriodKind, LimitScope, SpendLimit
from jobs.demo.drawing import drawings
from jobs.models import Dataset, Trainer, TrainerVersion, TrainingConfig
from jobs.replicate import inputs
from jobs.sandbox import catalogue
from jobs.services import datasets
from jobs.trainingexamples import FLUX_LORA

TEAMS = {"atelier": "Atelier", "foundry": "Foundry"}
# What the sandbox lets in, each with the team's number behind it.
TOKENS = {
    CredentialKind.REPLICATE: "r8_Sandbox0Sandbox0Sandbox0Sandbox0Team",
    CredentialKind.HUGGINGFACE: "hf_Sandbox0Sandbox0Sandbox0Sandbox0W",
}
CONFIG = "flux-lora"
DATASET = "houses-by-the-sea"
# Micro-dollars.
LIMITS = {"atelier": (200_000_000, LimitPeriodKind.MONTHLY), "foundry": (100_000_000, LimitPeriodKind.WEEKLY)}
SCOPES = {
    Role.VIEWER: [Scope.READ],
    Role.RESEARCHER: [Scope.READ, Scope.SUBMIT, Scope.CANCEL, Scope.DATASETS],
    # All that the role may do: a lead's approves and runs the queue, and manages nobody all the same.
    Role.LEAD: list(Scope),
    Role.OWNER: list(Scope),
}


def seed() -> dict[str, Any]:
    """Make what is missing and return how to get in: the JSON object of `seed_demo --json`."""
    know_the_sandbox()
    kept = _kept()
    seeded = {slug: _team(slug, number, kept.get(slug, {})) for number, slug in enumerate(TEAMS, start=1)}
    _keep(seeded)
    return {"teams": seeded}


def know_the_sandbox() -> None:
    """Put the sandbox's trainers into the catalogue: of these we know that they unpack archives, since we wrote them."""
    for trainer in Trainer.objects.filter(model__startswith=f"{catalogue.OWNER}/"):
        newest = catalogue.versions(trainer.model.partition("/")[2], "five")[0]
        TrainerVersion.objects.get_or_create(
            trainer=trainer,
            version=newest.id,
            defaults={"input_schema": inputs.input_schema(newest.render()["openapi_schema"]), "unpacks_archives": True},
        )


def _team(slug: str, number: int, kept: dict[str, Any]) -> dict[str, Any]:
    with transaction.atomic():
        team, _ = Team.objects.get_or_create(slug=slug, defaults={"name": TEAMS[slug]})
        people = {role: _person(team, role, kept) for role in Role}
        owner = people[Role.OWNER][0]
        caller = _caller(team, owner, Role.OWNER)
        for kind, token in TOKENS.items():
            if credentials.find(team=team, user=None, kind=kind) is None:
                credentials.save(team=team, kind=kind, secret=f"{token}{number}", by=owner, caller=caller)
        _limit(team)
    dataset = _dataset(_caller(team, people[Role.RESEARCHER][0], Role.RESEARCHER))
    TrainingConfig.objects.get_or_create(
        team=team,
        name=CONFIG,
        defaults={"description": "A small LoRA of Flux", "config": FLUX_LORA, "dataset": dataset, "created_by": owner},
    )
    return {
        "users": {role.value: {"email": user.email, "password": password} for role, (user, password) in people.items()},
        "tokens": {role.value: _token(team, role, people[role][0], kept) for role in Role},
        "config": CONFIG,
        "dataset": DATASET,
    }


def _person(team: Team, role: Role, kept: dict[str, Any]) -> tuple[User, str]:
    """The demo person of this role, and a password that works."""
    name = f"{team.slug}-{role.value}"
    user, _ = User.objects.get_or_create(
        username=name, defaults={"email": f"{role.value}@{team.slug}.example", "display_name": name.title()}
    )
    password = kept.get("users", {}).get(role.value, {}).get("password") or secrets.token_urlsafe(9)
    if not user.check_password(password):
        user.set_password(password)
        user.save()
    Membership.objects.get_or_create(team=team, user=user, defaults={"role": role})
    return user, password


def _token(team: Team, role: Role, user: User, kept: dict[str, Any]) -> str:
    """A token that works: the one that was made before, or a new one."""
    plain = str(kept.get("tokens", {}).get(role.value, ""))
    found = tokens.find(plain, address="", now=timezone.now())
    if found is not None and found.team_id == team.pk:
        return plain
    return tokens.create(team=team, by=user, name=f"demo {role.value}", scopes=SCOPES[role])[1]


def _caller(team: Team, user: User, role: Role) -> Caller:
    return Caller(team=team, user=user, role=role, rights=rights_of(role), token=None, address="")


def _dataset(caller: Caller) -> Dataset:
    found = caller.team.datasets.filter(name=DATASET, removed_at=None).first()
    if found is not None:
        return found
    files = []
    for drawing in drawings():
        files.append(_in_memory(drawing.name, drawing.jpeg))
        files.append(_in_memory(drawing.name.replace(".jpg", ".txt"), drawing.caption.encode()))
    description = "Twelve drawings that came with the demo."
    return datasets.create(caller, name=DATASET, description=description, files=files).dataset


def _in_memory(name: str, content: bytes) -> datasets.Incoming:
    return datasets.Incoming(name=name, open=lambda: io.BytesIO(content))


def _limit(team: Team) -> None:
    amount, period = LIMITS[team.slug]
    SpendLimit.objects.get_or_create(
        scope=LimitScope.TEAM, team=team, name="team", period=period, defaults={"amount": amount, "action": LimitAction.BLOCK}
    )


def _kept() -> dict[str, Any]:
    """What an earlier run made; tokens and passwords can be read nowhere else."""
    path = settings.DATA_DIR / "demo.json"
    return json.loads(path.read_text()) if path.exists() else {}


def _keep(seeded: dict[str, Any]) -> None:
    path = settings.DATA_DIR / "demo.json"
    path.touch(mode=0o600)
    path.write_text(json.dumps(seeded, indent=1))
