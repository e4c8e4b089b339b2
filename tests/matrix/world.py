"""Two teams with the same things in them, and everybody who may come to a door: people of every role, staff, tokens."""

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.core import signing
from django.core.files.base import ContentFile
from django.core.files.storage import storages
from django.test import Client
from django.test.client import ClientHandler
from django.utils import timezone

from accounts.models import APIToken, Credential, CredentialKind, Invite, Membership, ResourceRule, Team, User
from accounts.roles import Right, Role, Scope, rights_of, rights_of_token
from billing.models import Invoice, SpendLimit
from jobs import downloads
from jobs.models import (
    ActiveConfig,
    ApprovalRequest,
    ApprovalRule,
    Artifact,
    DatasetVersion,
    Job,
    JobQuota,
    ProviderSettings,
    ResultDelivery,
    TrainingConfig,
)
from jobs.models.job import Destination
from jobs.services import datasets, submission
from jobs.specs import JobSpec
from jobs.states import State
from tests.billing.factories import USD, SpendLimitFactory
from tests.factories import CredentialFactory, MembershipFactory, TeamFactory, UserFactory, make_token
from tests.jobs.factories import ArtifactFactory
from tests.jobs.ready import CONFIG, caller_of, catalogue, files
from tests.jobs.sandbox.servers import picture
from tests.signing_in import sign_in
from webhooks.models import Delivery

# In the name of everything that the team has whose things are asked for: whoever is not let in must not read it.
MARK = "heron"
OTHER_MARK = "stork"
# Somebody who has an account and is in no team.
NEWCOMER = "newcomer@example.com"
# One for all clients: whitenoise looks for every static file each time that the middleware is loaded, which takes longer
# than most requests.
HANDLER = ClientHandler(enforce_csrf_checks=False)


@dataclass(frozen=True, kw_only=True)
class Who:
    """Somebody at the door, with the rights that the table of rights gives them in their team."""

    name: str
    rights: frozenset[Right] = frozenset()
    # The role, of a token its maker's; "" for who is in no team.
    role: str = ""
    user: User | None = None
    is_token: bool = False
    is_staff: bool = False
    cookie: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.name

    @property
    def is_known(self) -> bool:
        """In a team, by membership or by token."""
        return bool(self.role)

    @property
    def is_signed_in(self) -> bool:
        return bool(self.cookie)

    def client(self) -> Client:
        """A fresh client each time: an answer may take its cookies away."""
        client = Client(raise_request_exception=False, headers=dict(self.headers))
        client.handler = HANDLER
        if self.cookie:
            client.cookies[settings.SESSION_COOKIE_NAME] = self.cookie
        return client


@dataclass(kw_only=True)
class Side:
    """One team and its things. What has no other name was made by the researcher; what is called `colleague_…` by another."""

    mark: str
    team: Team
    members: dict[str, Membership]
    version: DatasetVersion
    config: TrainingConfig
    colleague_config: TrainingConfig
    jobs: dict[str, Job]
    artifact: Artifact
    colleague_artifact: Artifact
    limit: SpendLimit
    credential: Credential
    token: APIToken
    colleague_token: APIToken
    invite: Invite
    rule: ResourceRule
    quota: JobQuota
    approval: ApprovalRequest
    colleague_approval: ApprovalRequest
    approval_rule: ApprovalRule
    delivery: Delivery
    held_delivery: Delivery
    whos: list[Who]

    @property
    def running(self) -> Job:
        return self.jobs["running"]


@dataclass(kw_only=True)
class World:
    """`own` is the team whose things are asked for; `foreign` is the other one, with people and tokens of its own."""

    own: Side
    foreign: Side
    # In no team: nobody at all, staff, superusers.
    outside: list[Who]


# What stands in the gap of an address, unless the route says something else. A function of the team is a thing of a team.
THINGS: dict[str, Any] = {
    "team": lambda side: side.team.slug,
    "job_id": lambda side: side.running.job_id,
    "artifact_id": lambda side: side.artifact.pk,
    "dataset_id": lambda side: side.version.dataset_id,
    "file_id": lambda side: side.version.files.get().pk,
    "config_id": lambda side: side.config.pk,
    "limit_id": lambda side: side.limit.pk,
    "hold_id": lambda side: side.running.hold_id,
    "credential_id": lambda side: side.credential.pk,
    "token_id": lambda side: side.token.pk,
    "key_id": lambda side: side.token.pk,
    "membership_id": lambda side: side.members[Role.VIEWER].pk,
    "user_id": lambda side: side.members[Role.VIEWER].user.pk,
    "invite_id": lambda side: side.invite.pk,
    "rule_id": lambda side: side.rule.pk,
    # A job quota's number is even, a spend limit's odd.
    "quota_id": lambda side: 2 * side.quota.pk,
    "request_id": lambda side: side.approval.pk,
    "delivery_id": lambda side: side.delivery.pk,
    "upload_id": lambda side: side.running.upload_id,
    "signed": lambda side: signing.dumps(side.artifact.pk, salt=downloads.SALT),
    "provider": "replicate",
    # The installation is the one organization; the third level is that of leads.
    "org": "1",
    "level_id": "3",
}


def build() -> World:
    """Both teams, within whatever transaction there is."""
    catalogue()
    own, foreign = _side(MARK), _side(OTHER_MARK)
    staff = UserFactory(username="platform-staff", is_staff=True)
    superuser = UserFactory(username="platform-superuser", is_staff=True, is_superuser=True)
    UserFactory(username="newcomer", email=NEWCOMER)
    Invoice.objects.create(account="acme", name="2026-11", sha256="0" * 64, first_on="2026-11-01", last_on="2026-11-30", total=0)
    outside = [
        Who(name="anonymous"),
        *(Who(name=user.username, user=user, is_staff=True, cookie=_session(user)) for user in (staff, superuser)),
    ]
    return World(own=own, foreign=foreign, outside=outside)


def is_staff(who: Who) -> bool:
    """Whether somebody is of the platform's staff and here in person."""
    return who.is_staff and not who.is_token


def _side(mark: str) -> Side:
    team = TeamFactory(name=f"Team {mark}", slug=mark)
    ProviderSettings.objects.create(team=team, data_consent="allow")
    members = {role.value: _member(team, role, role.value) for role in Role}
    researcher, colleague, owner = members[Role.RESEARCHER], _member(team, Role.RESEARCHER, "colleague"), members[Role.OWNER]
    # The colleague has things as well, and the partner lets the owner go away.
    others = {"colleague": colleague, "partner": _member(team, Role.OWNER, "partner")}
    members |= {"staff": _member(team, Role.VIEWER, "staff", is_staff=True)}
    credential = CredentialFactory(team=team, name="api_token")
    CredentialFactory(team=team, kind=CredentialKind.HUGGINGFACE, secret=f"hf_{mark}".ljust(37, "0"))
    version = datasets.create(caller_of(researcher), name=f"{mark}-houses", files=files({"a.jpg": picture(), "a.txt": mark.encode()}))
    config, colleague_config = [
        TrainingConfig.objects.create(team=team, name=f"{mark}-{name}", config=CONFIG, dataset=version.dataset, created_by=maker.user)
        for name, maker in (("flux", researcher), ("colleague-flux", colleague))
    ]
    for member in [*members.values(), *others.values()]:
        CredentialFactory(team=team, user=member.user, name="own")
        ActiveConfig.objects.create(team=team, user=member.user, config=config)
    limit = SpendLimitFactory(team=team, name=f"{mark}-limit", amount=1000 * USD)
    jobs = {"waiting": _job(researcher, config)}
    # In force for these two jobs only, since others are submitted in the course of the matrix.
    approval_rule = ApprovalRule.objects.create(team=team, name=f"{mark}-ask", condition="cost_exceeds", threshold="0")
    jobs |= {"blocked": _job(researcher, config, State.BLOCKED), "colleague_blocked": _job(colleague, config, State.BLOCKED)}
    ApprovalRule.objects.filter(pk=approval_rule.pk).update(is_active=False)
    for name, maker in (("", researcher), ("colleague_", colleague)):
        for state in (State.RUNNING, State.FAILED, State.COMPLETED):
            jobs[f"{name}{state.value}"] = _job(maker, config, state)
    return Side(
        mark=mark,
        team=team,
        members=members | others,
        version=version,
        config=config,
        colleague_config=colleague_config,
        jobs=jobs,
        artifact=_result(jobs["completed"]),
        colleague_artifact=_result(jobs["colleague_completed"]),
        limit=limit,
        credential=credential,
        token=make_token(researcher, name=f"{mark}-ci")[0],
        colleague_token=make_token(colleague, name=f"{mark}-ci")[0],
        invite=Invite.objects.create(
            team=team,
            email=f"{mark}-guest@example.com",
            invited_by=owner.user,
            secret_hash=hashlib.sha256(f"{mark}-secret".encode()).hexdigest(),
            sent_at=timezone.now(),
            expires_at=timezone.now() + timedelta(days=7),
        ),
        rule=ResourceRule.objects.create(
            team=team, name=f"{mark}-rule", resource_type="config", pattern="*", action="allow", roles=[Role.LEAD]
        ),
        quota=JobQuota.objects.create(team=team, scope="each", kind="concurrent_jobs", limit_value=1000),
        approval=jobs["blocked"].approval,
        colleague_approval=jobs["colleague_blocked"].approval,
        approval_rule=approval_rule,
        delivery=_delivery(jobs["running"], "applied"),
        held_delivery=_delivery(jobs["running"], "held"),
        whos=[*map(_by_cookie, members.values()), *_tokens(owner, researcher, members[Role.VIEWER])],
    )


def _member(team: Team, role: str, name: str, **user: Any) -> Membership:
    return MembershipFactory(team=team, role=role, user=UserFactory(username=f"{team.slug}-{name}", **user))


def _job(maker: Membership, config: TrainingConfig, state: str = State.PENDING) -> Job:
    """A job as admission leaves it, moved on to a state."""
    job = submission.submit(caller_of(maker), JobSpec(config_name=config.name, run_name=f"{config.team.slug} run")).job
    now = timezone.now()
    changes: dict[str, Any] = {"upload_id": f"upload-{job.job_id}"}
    if state not in (State.PENDING, State.BLOCKED):
        changes |= {"state": state, "prediction_id": secrets.token_hex(13), "started_at": now}
    if state not in (State.PENDING, State.BLOCKED, State.RUNNING):
        changes |= {"ended_at": now}
    Job.objects.filter(pk=job.pk).update(**changes)
    job.refresh_from_db()
    return job


def _result(job: Job) -> Artifact:
    """A file in our storage, and one at the Hub that may be looked at again."""
    stored_as = storages["artifacts"].save(f"{job.team.slug}/{job.job_id}/weights.safetensors", ContentFile(b"data"))
    ResultDelivery.objects.create(
        job=job, destination=Destination.HUB, target=f"{job.team.slug}/lora", state="delivered", delivered_at=timezone.now(),
        receipt={"files": 1, "size_bytes": 4, "url": "https://hub.test", "files_url": "https://hub.test/", "listing": []},
    )  # fmt: skip
    return ArtifactFactory(job=job, key="weights.safetensors", stored_as=stored_as)


def _delivery(job: Job, state: str) -> Delivery:
    """A webhook that says nothing new."""
    return Delivery.objects.create(
        webhook_id=f"{job.job_id}-{state}", job=job, event="start", body_sha256="0" * 64, body_bytes=2, state=state,
        content={"id": job.prediction_id, "status": "processing"}, address="203.0.113.7",
    )  # fmt: skip


def _by_cookie(member: Membership) -> Who:
    name = member.user.username.partition("-")[2]
    return Who(
        name=f"{name} (staff of the platform, viewer here)" if member.user.is_staff else name,
        rights=rights_of(member.role), role=member.role, user=member.user, is_staff=member.user.is_staff, cookie=_session(member.user),
    )  # fmt: skip


def _tokens(owner: Membership, researcher: Membership, viewer: Membership) -> list[Who]:
    """A token of each scope that an owner made, and two of all scopes whose makers may less than these."""
    each = [_by_token(owner, [scope]) for scope in Scope.values]
    return [*each, _by_token(researcher, Scope.values), _by_token(viewer, Scope.values)]


def _by_token(maker: Membership, scopes: list[str]) -> Who:
    token, plain = make_token(maker, scopes=scopes)
    # Used a moment ago, so that its use is not written down again: see tokens.mark_used.
    APIToken.objects.filter(pk=token.pk).update(last_used_at=timezone.now() + timedelta(days=1))
    named = scopes[0] if len(scopes) == 1 else "every scope"
    return Who(
        name=f"token of {named}, made by {maker.role}",
        rights=rights_of_token(maker.role, scopes),
        role=maker.role,
        user=maker.user,
        is_token=True,
        headers={"Authorization": f"Bearer {plain}"},
    )


def _session(user: User) -> str:
    """The cookie of somebody who typed their password a moment ago, so that no page asks for it again."""
    client = Client()
    sign_in(client, user)
    return client.cookies[settings.SESSION_COOKIE_NAME].value
