"""The documented troubles, as one table: when a job has one, what it means, and what to do."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property

from django.conf import settings
from django.db.models import Q
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy

from accounts.callers import Caller
from accounts.models import Credential, CredentialHealth, CredentialKind
from accounts.roles import Role
from jobs.models import Job
from jobs.replicate import predictions, signs
from jobs.replicate.signs import ONLY_AS_ERROR, SIGNS, Sign
from jobs.services import addresses, catalogue, ending, provider, stuck
from jobs.services.catalogue import Offer
from jobs.states import TERMINAL, State, WaitingReason

NO_WEBHOOK_FOR = timedelta(seconds=60)
# Replicate ends a run after half an hour unless the account's limit was raised. Source: replicate-api.md 5.3.
CUT_OFF_SECONDS = (1740, 1920)
LOG_END_CHARACTERS = 8192
TIMED_OUT = re.compile(r"timed?[ -]?out|time limit|deadline|took too long|maximum (?:run|execution) ?time", re.IGNORECASE)
PROXY = re.compile(r"proxy", re.IGNORECASE)

Words = str | Promise
_ASK = gettext_lazy("Ask an owner of the team: %(owners)s.")


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A documented trouble: when it is one, what it means, and what to do. Words may name what `_facts` finds out.

    `for_owners` and `for_others` say who may do what is done under Settings, on the page `place`; `anchor` is a place
    in the help. One that is `aside` goes along with another.
    """

    code: str
    applies: Callable[[Job, "Surroundings"], bool]
    title: Words
    means: Words
    remedies: tuple[Words, ...] = ()
    for_owners: Words = ""
    for_others: Words = _ASK
    place: str = ""
    anchor: str = ""
    offers: frozenset[str] = frozenset()
    aside: bool = False


class Surroundings:
    """What is to be known beside the jobs of one team, each asked once, when it is first needed."""

    def __init__(self, caller: Caller, jobs: Iterable[Job], *, now: datetime) -> None:
        self.caller = caller
        self.team = caller.team
        self.jobs = list(jobs)
        self.now = now

    @cached_property
    def has_proxy(self) -> bool:
        return bool(provider.settings_of(self.team).proxy_url)

    @cached_property
    def public_base(self) -> str:
        return addresses.public_base(self.team)

    @cached_property
    def health(self) -> dict[int, str]:
        """The credentials with which nothing can be created."""
        theirs = Credential.objects.filter(Q(team=self.team) | Q(team=None), health__in=provider.HELD_HEALTH)
        return dict(theirs.values_list("pk", "health"))

    @cached_property
    def token_owners(self) -> set[int | None]:
        """Whose Replicate tokens are saved in the team; None is the team itself."""
        saved = Credential.objects.in_use().filter(team=self.team, kind=CredentialKind.REPLICATE)
        return set(saved.values_list("user_id", flat=True))

    @cached_property
    def owners(self) -> str:
        """The team's owners by name."""
        people = self.team.memberships.filter(role=Role.OWNER).select_related("user").order_by("user__username")
        return ", ".join(str(member.user) for member in people)

    @cached_property
    def news(self) -> stuck.News:
        return stuck.News(now=self.now)

    @cached_property
    def offers(self) -> list[Offer]:
        return catalogue.offers(now=self.now)

    def has_token(self, job: Job) -> bool:
        is_shared = settings.SHARE_INSTALLATION_CREDENTIALS and bool(settings.REPLICATE_API_TOKEN)
        return is_shared or bool(self.token_owners & {None, job.submitted_by_id})


# --- When it is one ---------------------------------------------------------------------------------------


def _is_unsent(job: Job) -> bool:
    return not job.is_terminal and not job.prediction_id


def _is_refused(job: Job, around: Surroundings) -> bool:
    """A run that is under way goes on, but with a refused token it can be neither watched nor cancelled."""
    if job.is_terminal:
        return False
    is_said = _is_unsent(job) and job.waiting_reason == WaitingReason.CREDENTIAL
    return is_said or around.health.get(job.credential_id) == CredentialHealth.REFUSED


def _is_without_credit(job: Job, around: Surroundings) -> bool:
    if not _is_unsent(job):
        return False
    return job.waiting_reason == WaitingReason.NO_CREDIT or around.health.get(job.credential_id) == CredentialHealth.NO_CREDIT


def _is_cut_off(job: Job, around: Surroundings) -> bool:
    """In words of a time limit, or stopped without a word though nobody had asked for it: no source says which of the two it is."""
    is_told = job.state == State.FAILED and TIMED_OUT.search(job.error)
    is_stopped = job.state == State.CANCELLED and job.prediction_id and not job.error and job.cancel_requested_at is None
    if not (is_told or is_stopped):
        return False
    seconds = float(job.billed_seconds) if job.billed_seconds is not None else job.duration_seconds(now=around.now) or 0.0
    return CUT_OFF_SECONDS[0] <= seconds <= CUT_OFF_SECONDS[1]


def _is_platform_fault(job: Job, around: Surroundings) -> bool:
    return job.state == State.FAILED and predictions.fault_in(job.error) is not None


def _is_stuck(code: str) -> Callable[[Job, Surroundings], bool]:
    return lambda job, around: stuck.RULES[code](job, around.now)


def _is_unreachable(job: Job, around: Surroundings) -> bool:
    """Before it is sent we are told so; afterwards nobody hears anything of any job."""
    if _is_unsent(job):
        return job.waiting_reason == WaitingReason.PROVIDER_DOWN
    return stuck.is_unheard(job, around.now) and not around.news.comes


def _is_alone_unheard(job: Job, around: Surroundings) -> bool:
    return stuck.is_unheard(job, around.now) and around.news.comes


def _is_behind_a_proxy(job: Job, around: Surroundings) -> bool:
    said = job.state == State.FAILED and not job.prediction_id and PROXY.search(job.error)
    return bool(said or (_is_unreachable(job, around) and around.has_proxy))


def _is_without_webhooks(job: Job, around: Surroundings) -> bool:
    """A run of which the provider told us when we asked, and never by itself."""
    if job.started_at is None or not job.prediction_id or around.now - job.started_at <= NO_WEBHOOK_FOR:
        return False
    if job.state != State.RUNNING and job.state not in TERMINAL:
        return False
    progress = getattr(job, "progress", None)
    return progress is not None and progress.heard_at is None and bool(around.public_base)


def _failed_with(name: str) -> Callable[[Job, Surroundings], bool]:
    """Whether the run failed, and this sign stands in its error or where its log ends."""
    return lambda job, around: job.state == State.FAILED and (bool(SIGNS[name].search(_last_words(job))) or _is_at_the_end(name, job))


def _is_at_the_end(name: str, job: Job) -> bool:
    sign = sign_of(name, job)
    return sign is not None and name not in ONLY_AS_ERROR and job.progress.length - sign.at <= LOG_END_CHARACTERS


def sign_of(name: str, job: Job) -> Sign | None:
    """The last line of the job's log that shows this sign."""
    progress = getattr(job, "progress", None)
    return signs.read(name, progress.signs) if progress is not None else None


def _last_words(job: Job) -> str:
    """The error as the provider gave it, and what the trainer named as one in its log."""
    progress = getattr(job, "progress", None)
    named = progress.parser.get("errors", []) if progress is not None else []
    return "\n".join([*named, job.error])


# --- The table --------------------------------------------------------------------------------------------

# Source: Replicate docs, reference/error-codes.
FAULTS: dict[str, Words] = {
    "PA": gettext_lazy("the run was interrupted"),
    "E1000": gettext_lazy("an unknown error"),
    "E4875": gettext_lazy("the webhook's address was empty"),
    "E6716": gettext_lazy("the run did not start in time"),
    "E8367": gettext_lazy("the run was stopped from outside"),
    "E8765": gettext_lazy("the machine's health check failed"),
    "E9243": gettext_lazy("the run could not be started"),
    "E9825": gettext_lazy("a file could not be uploaded"),
    "E9828": gettext_lazy("an unexpected error in the machine's director"),
}
_CHANGE, _RETRY, _CANCEL = frozenset({"change"}), frozenset({"retry"}), frozenset({"cancel"})
_EITHER = _CHANGE | _RETRY
_SAVE_TOKEN = gettext_lazy("Save a valid token under Settings, Credentials.")
_HUB_TOKEN = gettext_lazy("Save a Hub token that may do this under Settings, Credentials.")

# In the order in which they are looked for.
KINDS = (
    Kind(
        code="token_not_set",
        applies=lambda job, around: _is_unsent(job) and _is_refused(job, around) and not around.has_token(job),
        title=gettext_lazy("No Replicate token is saved"),
        means=gettext_lazy("Without a token of the team's account at Replicate, no job can be sent there."),
        for_owners=gettext_lazy("Save a token under Settings, Credentials. It is made in your account at Replicate and begins with r8_."),
        place="credentials",
        anchor="token-not-set",
    ),
    Kind(
        code="invalid_token",
        applies=_is_refused,
        title=gettext_lazy("Replicate refuses the token"),
        means=gettext_lazy(
            "Replicate does not accept the team's token. Jobs that wait go on by themselves as soon as a valid one is saved; "
            "a run that is under way goes on, and its ceiling still ends it."
        ),
        for_owners=_SAVE_TOKEN,
        place="credentials",
        anchor="invalid-token",
    ),
    Kind(
        code="no_credit",
        applies=_is_without_credit,
        title=gettext_lazy("Out of credit at Replicate"),
        means=gettext_lazy(
            "The team's account at Replicate has no credit left. Jobs wait, cost nothing meanwhile, and go on by themselves "
            "some minutes after credit was added, or at once when the token is validated then."
        ),
        for_owners=gettext_lazy("Add credit in the team's account at Replicate, or save the token of another account."),
        place="credentials",
        anchor="invalid-token",
    ),
    Kind(
        code="not_stopped",
        applies=_is_stuck("not_stopped"),
        title=gettext_lazy("Not stopped yet"),
        means=gettext_lazy(
            "This job was to be stopped at %(since)s, and Replicate has not said that it ended. Replicate is told again every few seconds. "
            "Whatever happens, it ends the run itself by %(ceiling)s, and more than what is held is never paid."
        ),
        remedies=(
            gettext_lazy("If it still runs in ten minutes, end it on Replicate's own page and ask whoever runs this server to look."),
        ),
        anchor="stuck-in-queued",
    ),
    Kind(
        code="proxy",
        applies=_is_behind_a_proxy,
        title=gettext_lazy("Replicate is not reached through the proxy"),
        means=gettext_lazy(
            "This server calls Replicate through the team's outbound proxy, and does not get there. The job waits and goes on by itself. "
            "Replicate's own status page says: %(status)s."
        ),
        for_owners=gettext_lazy("Check the proxy's address, its password and the CA bundle under Settings, Network."),
        place="network",
        anchor="proxy",
    ),
    Kind(
        code="provider_down",
        applies=_is_unreachable,
        title=gettext_lazy("Replicate is not reached"),
        means=gettext_lazy(
            "Replicate does not answer this server. The job waits, costs nothing, and goes on by itself. "
            "Replicate's status page says: %(status)s."
        ),
        remedies=(
            gettext_lazy("If the status page says operational, the way out of this network is blocked: ask whoever runs this server."),
        ),
        anchor="proxy",
    ),
    Kind(
        code="stuck_in_queued",
        applies=_is_stuck("stuck_in_queued"),
        title=gettext_lazy("Queued for long"),
        means=gettext_lazy(
            "Replicate has had this job for %(minutes)s minutes and has not begun it. Replicate's status page says: %(status)s. "
            "Waiting costs nothing, and a job that has not begun by %(until)s is ended unpaid."
        ),
        remedies=(
            gettext_lazy("Wait: large machines are scarce at times."),
            gettext_lazy("Or cancel it, which is free now, and run it on other hardware."),
        ),
        anchor="stuck-in-queued",
        offers=_CANCEL,
    ),
    Kind(
        code="provider_silent",
        applies=_is_alone_unheard,
        title=gettext_lazy("No news of this job"),
        means=gettext_lazy(
            "Replicate has not told anything of this job for %(minutes)s minutes, though it answers for others. "
            "The run may go on all the same; its ceiling ends it in any case. Replicate's status page says: %(status)s."
        ),
        remedies=(
            gettext_lazy("Look at the run on Replicate's own page: it may have been removed there."),
            gettext_lazy("Or cancel it, and run it again."),
        ),
        offers=_CANCEL,
    ),
    Kind(
        code="uncertain",
        applies=_is_stuck("uncertain"),
        title=gettext_lazy("Nobody knows yet whether it runs"),
        means=gettext_lazy(
            "Replicate's answer to this job was lost, and its list of runs cannot be read to the end. The job is sent again only "
            "once it is certain that nothing runs, so that nothing is paid twice."
        ),
        remedies=(gettext_lazy("Wait: it is looked for every few seconds, and goes on by itself."),),
        anchor="proxy",
    ),
    Kind(
        code="server_disk_full",
        applies=_is_stuck("server_disk_full"),
        title=gettext_lazy("This server's disk is full"),
        means=gettext_lazy(
            "The job's data cannot be packed, since this server has no room for it. It goes on by itself once there is room."
        ),
        remedies=(gettext_lazy("Ask whoever runs this server to make room."),),
    ),
    Kind(
        code="upload_slow",
        applies=_is_stuck("upload_slow"),
        title=gettext_lazy("The upload stands still"),
        means=gettext_lazy(
            "The job's data has not moved on its way to Replicate for %(minutes)s minutes. Nothing is paid meanwhile. "
            "Replicate's status page says: %(status)s."
        ),
        remedies=(
            gettext_lazy("Wait: an upload that broke off is taken up again by itself."),
            gettext_lazy("If no job gets on, this server's workers do not run: ask whoever runs it."),
        ),
        anchor="proxy",
        offers=_CANCEL,
    ),
    Kind(
        code="silent",
        applies=_is_stuck("silent"),
        title=gettext_lazy("Silent for long"),
        means=gettext_lazy(
            "Replicate says that the run goes on, but it has printed nothing for %(minutes)s minutes. It may be hanging, "
            "and each minute is paid."
        ),
        remedies=(
            gettext_lazy("Look at the last line of the log: loading a large model or caching a large dataset takes a while."),
            gettext_lazy("If that is not it, cancel the job; what it has stored by then is kept."),
        ),
        offers=_CANCEL,
    ),
    Kind(
        code="cut_off",
        applies=_is_cut_off,
        title=gettext_lazy("Cut off after 30 minutes"),
        means=gettext_lazy(
            "Replicate ended the run after half an hour, which is its limit for an account until it is raised. "
            "Nothing was wrong with the settings."
        ),
        remedies=(
            gettext_lazy("Ask Replicate's support to raise the run-time limit of the team's account."),
            gettext_lazy("Or train fewer steps, or on faster hardware, so that the run ends before."),
        ),
        offers=_CHANGE,
    ),
    Kind(
        code="never_began",
        applies=lambda job, around: job.state == State.CANCELLED and job.error == ending.TOO_LATE,
        title=gettext_lazy("It never began"),
        means=gettext_lazy(
            "Replicate had no machine for the job within %(minutes)s minutes, its ceiling, and ended it unbegun. It cost nothing."
        ),
        remedies=(
            gettext_lazy("Run it again as it is: large machines are scarce at times."),
            gettext_lazy("Or choose other hardware, or more time."),
        ),
        offers=_EITHER,
    ),
    Kind(
        code="ceiling_reached",
        applies=lambda job, around: job.state == State.CANCELLED and job.error == ending.AT_THE_CEILING,
        title=gettext_lazy("Stopped at its ceiling"),
        means=gettext_lazy(
            "The run was not done after %(minutes)s minutes, its ceiling, and Replicate ended it there. "
            "That is what keeps a job from costing more than what is held."
        ),
        remedies=(
            gettext_lazy("Run it again with more time, or continue it from a checkpoint that it has stored."),
            gettext_lazy("Or train fewer steps, or on faster hardware."),
        ),
        offers=_CHANGE,
    ),
    Kind(
        code="out_of_memory",
        applies=_failed_with("out_of_memory"),
        title=gettext_lazy("Out of memory"),
        means=gettext_lazy("The GPU's memory did not suffice for these settings. The same run would end the same way."),
        remedies=(
            gettext_lazy("Make the batch smaller (train_batch_size)."),
            gettext_lazy("Switch gradient checkpointing on (gradient_checkpointing)."),
            gettext_lazy("Train a LoRA instead of the full model, or with a lower rank or resolution."),
            gettext_lazy("Choose larger hardware: %(hardware)s."),
        ),
        anchor="out-of-memory",
        offers=_CHANGE,
    ),
    Kind(
        code="gated_model",
        applies=_failed_with("gated_model"),
        title=gettext_lazy("The base model is gated"),
        means=gettext_lazy("The Hugging Face Hub gives the base model only to accounts that have accepted its licence."),
        for_owners=gettext_lazy("Accept the licence on the model's page at the Hub, with the account of the team's Hub token."),
        for_others=gettext_lazy("Ask an owner of the team to accept the licence with the account of its Hub token: %(owners)s."),
        remedies=(gettext_lazy("Then run it again as it is."),),
        place="credentials",
        offers=_EITHER,
    ),
    Kind(
        code="bad_hub_token",
        applies=_failed_with("bad_hub_token"),
        title=gettext_lazy("The Hub refuses the token"),
        means=gettext_lazy("The Hugging Face Hub did not accept the token, or the token may not read or write that repository."),
        for_owners=_HUB_TOKEN,
        remedies=(gettext_lazy("Look at the Hub repository's name, owner/name: the token's account must be allowed to write there."),),
        place="credentials",
        offers=_EITHER,
    ),
    Kind(
        code="model_not_found",
        applies=_failed_with("model_not_found"),
        title=gettext_lazy("The model was not found"),
        means=gettext_lazy("The Hugging Face Hub has no repository of that name, or none that the token's account may see."),
        remedies=(
            gettext_lazy("Look at the names in the config: pretrained_model_name_or_path and the like are written owner/name."),
            gettext_lazy("Is it a private repository? Then the team's Hub token must be of an account that may read it."),
        ),
        offers=_CHANGE,
    ),
    Kind(
        code="bucket_refused",
        applies=_failed_with("bucket_refused"),
        title=gettext_lazy("The bucket refuses the result"),
        means=gettext_lazy("The trainer could not store the result: the bucket does not exist, or the keys may not write there."),
        for_owners=gettext_lazy("Test the bucket under Settings, Results, and save keys that may write below its prefix."),
        place="results",
        offers=_EITHER,
    ),
    Kind(
        code="storage_unreachable",
        applies=_failed_with("storage_unreachable"),
        title=gettext_lazy("The trainer did not reach the storage"),
        means=gettext_lazy(
            "The trainer could not connect to the place where its data lies or its result goes: this server or the bucket was away "
            "at that moment, or cannot be reached from outside."
        ),
        remedies=(
            gettext_lazy("Look at the address in the log's line: it must be reachable from the internet."),
            gettext_lazy("Then run it again, or have the result brought to a Hub repository."),
        ),
        offers=_EITHER,
    ),
    Kind(
        code="archive_not_unpacked",
        applies=_failed_with("archive_not_unpacked"),
        title=gettext_lazy("The trainer cannot unpack archives"),
        means=gettext_lazy("This version of the trainer fails to unpack any archive of images, a good one too."),
        for_owners=gettext_lazy("Set this server's public address, so that trainers read datasets from here, or pin another version."),
        offers=_CHANGE,
    ),
    Kind(
        code="archive_unreadable",
        applies=_failed_with("archive_unreadable"),
        title=gettext_lazy("The trainer could not open the archive"),
        means=gettext_lazy("The archive of images did not reach the trainer whole, or is none that it knows."),
        remedies=(gettext_lazy("Run it again as it is: the data is packed and uploaded anew."),),
        offers=_RETRY,
    ),
    Kind(
        code="no_data",
        applies=_failed_with("no_data"),
        title=gettext_lazy("The trainer was given no data"),
        means=gettext_lazy("Neither an archive of images nor a dataloader reached the trainer, so there was nothing to train on."),
        remedies=(gettext_lazy("Choose a dataset, or write a dataloader that reads from elsewhere, and run it again with changes."),),
        offers=_CHANGE,
    ),
    Kind(
        code="config_unreadable",
        applies=_failed_with("config_unreadable"),
        title=gettext_lazy("The trainer could not read the config"),
        means=gettext_lazy("What reached the trainer as its config was no JSON that it could read, or nothing."),
        remedies=(gettext_lazy("Run it again with changes: look for values that were pasted whole, such as JSON within a text."),),
        offers=_CHANGE,
    ),
    Kind(
        code="no_images",
        applies=_failed_with("no_images"),
        title=gettext_lazy("The trainer found no images"),
        means=gettext_lazy("None of the dataset's images was usable: missing, unreadable, or smaller than the settings ask for."),
        remedies=(
            gettext_lazy("Look at the dataset: the images must be JPEG, PNG or WebP files that open."),
            gettext_lazy("Lower the resolution or the smallest image size, or take a batch no larger than the number of images."),
        ),
        offers=_CHANGE,
    ),
    Kind(
        code="nan_loss",
        applies=_failed_with("nan_loss"),
        title=gettext_lazy("The loss became NaN"),
        means=gettext_lazy("Training went astray: its loss is no number any more, so its weights are of no use."),
        remedies=(
            gettext_lazy("Lower the learning rate, or use more warm-up steps."),
            gettext_lazy("Use bf16 instead of fp16, and look for damaged images or empty captions."),
        ),
        offers=_CHANGE,
    ),
    Kind(
        code="nsfw",
        applies=_failed_with("nsfw"),
        title=gettext_lazy("Stopped by the content check"),
        means=gettext_lazy(
            "The trainer on Replicate checks images for adult content, cannot be told not to, and stopped at what it found."
        ),
        remedies=(gettext_lazy("Take the images that it may mean out of the dataset. The log names them where it can."),),
        offers=_CHANGE,
    ),
    Kind(
        code="disk_full",
        applies=_failed_with("disk_full"),
        title=gettext_lazy("The machine's disk was full"),
        means=gettext_lazy("The model, the caches and the checkpoints did not fit on the disk of the machine at Replicate."),
        remedies=(
            gettext_lazy("Keep fewer checkpoints (checkpoints_total_limit), or save them more rarely (checkpointing_steps)."),
            gettext_lazy("Train on fewer images, or at a lower resolution: their caches take room as well."),
        ),
        offers=_CHANGE,
    ),
    Kind(
        code="killed",
        applies=_failed_with("killed"),
        title=gettext_lazy("Killed by the machine"),
        means=gettext_lazy("The trainer was killed from outside, which mostly means that the machine's main memory was used up."),
        remedies=(
            gettext_lazy("Load less at once: fewer dataloader workers, and no offloading to main memory."),
            gettext_lazy("Or choose hardware with more GPUs; such machines have more main memory, too."),
        ),
        offers=_CHANGE,
    ),
    Kind(
        code="platform_fault",
        applies=_is_platform_fault,
        title=gettext_lazy("Platform fault"),
        means=gettext_lazy("Replicate's platform ended the run (%(fault)s: %(meaning)s). It is not your fault, nor your settings'."),
        remedies=(gettext_lazy("Run it again as it is. It may well succeed."),),
        offers=_RETRY,
    ),
    Kind(
        code="gpu_fault",
        applies=_failed_with("gpu_fault"),
        title=gettext_lazy("The GPU failed"),
        means=gettext_lazy(
            "The GPU or the link between GPUs broke off in the middle of the run. It is most likely not your settings' fault."
        ),
        remedies=(gettext_lazy("Run it again as it is. If it fails at the same step, it is the settings after all."),),
        offers=_EITHER,
    ),
    Kind(
        code="unknown_at_provider",
        applies=lambda job, around: job.state == State.FAILED and job.error.startswith("unknown_at_provider"),
        title=gettext_lazy("Lost at the provider"),
        means=gettext_lazy(
            "It could not be found out whether Replicate ran this job, so it is charged to its ceiling until the invoice was looked at."
        ),
        remedies=(gettext_lazy("Ask whoever runs this server to compare Replicate's invoice. Then run it again."),),
        offers=_RETRY,
    ),
    Kind(
        code="trainer_stopped",
        applies=_failed_with("trainer_stopped"),
        title=gettext_lazy("The trainer stopped with an error"),
        means=gettext_lazy("The trainer itself gave up, and its words do not fit any cause that we know."),
        remedies=(gettext_lazy("Read the log from that line upwards: the first error is mostly the cause of all others."),),
        offers=_CHANGE,
    ),
    Kind(
        code="webhook_silent",
        applies=_is_without_webhooks,
        title=gettext_lazy("No webhook came"),
        means=gettext_lazy(
            "The run began more than a minute ago, and Replicate's webhooks do not arrive. The job is not in danger: "
            "Replicate is asked as well, only a little later."
        ),
        for_owners=gettext_lazy("Send a test under Settings, Webhooks."),
        for_others=gettext_lazy("Ask an owner of the team to send a test under Settings, Webhooks: %(owners)s."),
        remedies=(gettext_lazy("Or try this line from outside this network; the answer 401 is right, since it is not signed:"),),
        place="webhooks",
        anchor="webhook-silent",
        aside=True,
    ),
)
BY_CODE = {kind.code: kind for kind in KINDS}
OF_HEALTH = {CredentialHealth.REFUSED.value: "invalid_token", CredentialHealth.NO_CREDIT.value: "no_credit"}
