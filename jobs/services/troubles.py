"""What is wrong with a job now, what that means and what to do, for the page, the list and the API; `trouble_kinds` has the table.

Nothing is written and nobody is asked but our own rows; the words are in the language in use. Config values are kept
apart (`values`), since not everybody may see them.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from django.urls import reverse
from django.utils.formats import date_format
from django.utils.translation import gettext as _
from django.utils.translation import override

from accounts import credentials
from accounts.callers import Caller
from accounts.models import CredentialKind
from accounts.roles import Right
from billing import prices
from jobs.models import Job
from jobs.replicate import predictions
from jobs.replicate.signs import Sign
from jobs.services import addresses, statuspage, stuck
from jobs.services.trouble_kinds import BY_CODE, FAULTS, KINDS, OF_HEALTH, Kind, Surroundings, sign_of
from jobs.states import State

# What decides about memory, by SimpleTuner's names.
MEMORY_SETTINGS = ("train_batch_size", "gradient_checkpointing", "resolution", "lora_rank")

GIGABYTES = re.compile(r"(\d+)\s*GB")


@dataclass(frozen=True, kw_only=True)
class Trouble:
    """One thing that is wrong with a job or a team, in words. `link` is a path on this server.

    `values` are settings of the job and `evidence` is the line of its log that shows it, both for those who see its
    details; `command` is a line to try; the buttons that help are `offers`: cancel, retry (as it is) and change.
    """

    code: str
    title: str
    message: str
    remedies: list[str]
    link: str
    link_label: str
    values: list[tuple[str, str]] = field(default_factory=list)
    command: str = ""
    offers: frozenset[str] = frozenset()
    evidence: Sign | None = None

    def as_json(self, *, with_details: bool) -> dict[str, object]:
        """As the API's job object has it; the log's line only for those who may see the log."""
        shown = self.evidence if with_details else None
        return {
            "code": self.code,
            "message": self.message,
            "remedies": [*self.remedies, *filter(None, [self.command])],
            "link": self.link,
            "evidence": {"line": shown.line, "text": shown.text} if shown else None,
        }


def of_job(job: Job, *, caller: Caller, now: datetime) -> list[Trouble]:
    """What is wrong with a job now, the most pressing first; nothing for a healthy one."""
    around = Surroundings(caller, [job], now=now)
    return [_described(kind, around, job) for kind in _kinds_of(job, around)]


def of_jobs(jobs: Iterable[Job], *, caller: Caller, now: datetime) -> dict[int, Trouble]:
    """The most pressing trouble of each job that has one, by the job's key, in English: the API's language."""
    around = Surroundings(caller, jobs, now=now)
    with override("en"):
        return {job.pk: _described(kinds[0], around, job) for job in around.jobs if (kinds := _kinds_of(job, around))}


def titles(jobs: Iterable[Job], *, caller: Caller, now: datetime) -> dict[int, str]:
    """The same in a few words, for a list; of jobs that are over only why they failed."""
    around = Surroundings(caller, jobs, now=now)
    found = ((job, kind) for job in around.jobs for kind in _kinds_of(job, around)[:1] if not (kind.aside and job.is_terminal))
    return {job.pk: str(kind.title) for job, kind in found}


def of_team(caller: Caller, *, now: datetime) -> Trouble | None:
    """What stands in the way of any job that the caller would submit: no token, or one that the provider refuses."""
    found = credentials.find(team=caller.team, user=caller.user, kind=CredentialKind.REPLICATE)
    code = "token_not_set" if found is None else OF_HEALTH.get(found.health)
    return _described(BY_CODE[code], Surroundings(caller, [], now=now), None) if code else None


def is_watched_by_asking(job: Job) -> bool:
    """Whether no webhook can come, since nobody has named an address at which the provider reaches us."""
    return not addresses.public_base(job.team)


def _kinds_of(job: Job, around: Surroundings) -> list[Kind]:
    """The first kind that applies, and those that go along with any."""
    main = next((kind for kind in KINDS if not kind.aside and kind.applies(job, around)), None)
    return [*([main] if main else []), *(kind for kind in KINDS if kind.aside and kind.applies(job, around))]


def _described(kind: Kind, around: Surroundings, job: Job | None) -> Trouble:
    facts = _facts(kind, around, job)
    may_manage = around.caller.may(Right.MANAGE)
    remedies = [str(words) % facts for words in kind.remedies]
    if kind.for_owners:
        remedies.insert(0, str(kind.for_owners if may_manage else kind.for_others) % facts)
    if kind.place and may_manage:
        link, label = _settings_page(around, kind.place), _("Open the settings")
    else:
        link, label = reverse("jobs:help", args=[around.team.slug]) + (f"#{kind.anchor}" if kind.anchor else ""), _("More about this")
    return Trouble(
        code=kind.code,
        title=str(kind.title),
        message=str(kind.means) % facts,
        remedies=remedies,
        link=link,
        link_label=label,
        values=_values(job) if job is not None and kind.code == "out_of_memory" else [],
        command=_webhook_test(around) if kind.code == "webhook_silent" else "",
        offers=kind.offers,
        evidence=sign_of(kind.code, job) if job is not None and job.state == State.FAILED else None,
    )


def _settings_page(around: Surroundings, place: str) -> str:
    """A page of the team's settings by its place; those of apps above have no name that we could know."""
    return f"{reverse('settings', args=[around.team.slug])}{place}/"


# --- What the words name ----------------------------------------------------------------------------------


def _facts(kind: Kind, around: Surroundings, job: Job | None) -> dict[str, object]:
    facts: dict[str, object] = {}
    if kind.for_owners and not around.caller.may(Right.MANAGE):
        facts["owners"] = around.owners
    if job is None:
        return facts
    if kind.code in ("stuck_in_queued", "provider_down", "proxy", "provider_silent", "upload_slow"):
        facts["status"] = _status(now=around.now)
    if since := stuck.since(kind.code, job):
        facts["minutes"] = int((around.now - since).total_seconds() // 60)
    if kind.code in ("ceiling_reached", "never_began"):
        facts["minutes"] = job.ceiling_seconds // 60
    if kind.code == "stuck_in_queued" and job.queued_at:
        facts["until"] = _moment(job.stop_at or job.queued_at + timedelta(seconds=job.stop_after_seconds), around)
    if kind.code == "not_stopped":
        facts["since"] = _moment(job.cancel_requested_at or job.stop_at or around.now, around)
        facts["ceiling"] = _moment(job.ceiling_at or around.now, around)
    if kind.code == "out_of_memory":
        facts["hardware"] = _larger_hardware(job, around)
    if kind.code == "platform_fault":
        fault = predictions.fault_in(job.error) or ""
        facts["fault"], facts["meaning"] = fault, FAULTS.get(fault, FAULTS["E1000"])
    return facts


def _status(*, now: datetime) -> str:
    words = {
        "operational": _("operational"),
        "maintenance": _("maintenance"),
        "degraded": _("degraded"),
    }
    return words.get(statuspage.standing(now=now).word, _("unknown"))


def _moment(at: datetime, around: Surroundings) -> str:
    local = at.astimezone(ZoneInfo(around.team.time_zone))
    return f"{date_format(local, 'M j, H:i')} {local.tzname()}"


def _larger_hardware(job: Job, around: Surroundings) -> str:
    """The cheapest trainer whose GPUs have more memory than the job's, with its price; GPUs beside it give each no more."""
    memory = _gigabytes(job.trainer.hardware_type)
    larger = [offer for offer in around.offers if _gigabytes(offer.trainer.hardware_type) > memory]
    if not larger:
        return _("the catalogue has none that is larger")
    offer = min(larger, key=lambda offer: offer.price_line.usd_per_second)
    hour = prices.dollars(prices.worst_case(usd_per_second=offer.price_line.usd_per_second, seconds=3600))
    return _("%(profile)s, %(gpu)s at %(price)s an hour") % {"profile": offer.profile, "gpu": offer.trainer.hardware_type, "price": hour}


def _gigabytes(hardware_type: str) -> int:
    found = GIGABYTES.search(hardware_type)
    return int(found[1]) if found else 0


def _values(job: Job) -> list[tuple[str, str]]:
    """What the job used of what decides about memory."""
    used = [(name, json.dumps(job.config[name])) for name in MEMORY_SETTINGS if job.config.get(name) is not None]
    return [*used, ("hardware_profile", f"{job.trainer.profile}, {job.trainer.hardware_type}")]


def _webhook_test(around: Surroundings) -> str:
    address = around.public_base + reverse("webhooks:replicate")
    return f"curl -i -X POST -H 'Content-Type: application/json' -d '{{}}' {address}"
