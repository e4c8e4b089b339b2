"""A team's settings for the provider, in the words of SimpleTuner's provider config: read, and changed all or nothing.

Source: SimpleTuner docs, documentation/experimental/cloud/REPLICATE.md and OPERATIONS_TUTORIAL.md.
"""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import structlog
from django.conf import settings
from django.db import transaction
from django.utils import timezone

from accounts import audit, credentials
from accounts.addresses import problem_with_public_url
from accounts.callers import Caller
from accounts.errors import InvalidInput
from accounts.models import Credential, CredentialKind, Team
from accounts.roles import Right
from billing import documented, prices
from billing.models import LimitAction, LimitPeriodKind
from jobs import settingkeys
from jobs.models import ProviderSettings, Trainer
from jobs.models.catalogue import MOST_RETRIES, AddressMode
from jobs.services import catalogue, planning, pricing, provider
from jobs.settingkeys import Check, flag, whole

log = structlog.get_logger(__name__)

# What the four documented keys are called in the team's limit.
COST_LIMIT = {
    "cost_limit_enabled": "is_enabled",
    "cost_limit_amount": "amount",
    "cost_limit_period": "period",
    "cost_limit_action": "action",
}
# Settings of SimpleTuner's own service, which this server does not run jobs on.
FOREIGN = ("org_id", "api_base_url")


def read(team: Team) -> dict[str, Any]:
    """Every setting with its value in force; no secret is among them."""
    own = provider.settings_of(team)
    limit = documented.read(team)
    return {
        "webhook_url": own.webhook_url or None,
        "webhook_require_signature": own.webhook_require_signature,
        "webhook_allowed_ips": own.webhook_allowed_ips,
        "webhook_address_mode": own.webhook_address_mode,
        "webhook_rate_limit_max": own.webhook_rate_limit_max,
        "webhook_rate_limit_window": own.webhook_rate_limit_window,
        "webhook_sends_logs": own.webhook_sends_logs,
        "webhook_sends_output": own.webhook_sends_output,
        "s3_rate_limit_max": own.s3_rate_limit_max,
        "s3_rate_limit_window": own.s3_rate_limit_window,
        "cost_limit_enabled": limit.is_enabled,
        "cost_limit_amount": prices.as_number(limit.amount),
        "cost_limit_period": limit.period,
        "cost_limit_action": limit.action,
        "version_override": own.version_override or None,
        "hardware_profile": own.hardware_profile or None,
        "hardware_info": _hardware_info(own),
        "ssl_verify": own.ssl_verify,
        "ssl_ca_bundle": own.ssl_ca_bundle or None,
        "proxy_url": settingkeys.masked(own.proxy_url) or None,
        "http_timeout": float(own.http_timeout or settings.OUTBOUND_TIMEOUT_SECONDS),
        "s3_endpoint_enabled": own.s3_endpoint_enabled,
        "s3_public_url": own.s3_public_url or None,
        "s3_output_path": own.s3_output_path or None,
        "s3_delivery": own.s3_delivery,
        "preferences": own.preferences,
        "max_runtime_minutes": own.max_runtime_minutes,
        "retries_platform_faults": own.retries_platform_faults,
        "org_id": None,
        "api_base_url": None,
    }


def save(caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Change the settings that are given, and return all of them. Null puts a setting back to its default.

    Raises InvalidInput for the first thing that is wrong, with all of them in its details; nothing is saved then.
    """
    caller.require(Right.MANAGE, permission="admin.config")
    with transaction.atomic():
        # Two who save at once take turns, so that each line of the audit trail says what was there before.
        team = Team.objects.select_for_update(no_key=True).get(pk=caller.team.pk)
        own, _ = ProviderSettings.objects.get_or_create(team=team)
        checked = _checked(own, given)
        before = read(team)
        _keep(caller, own, checked)
        after = read(team)
        changed = [name for name in after if after[name] != before[name]]
        if changed or checked.get("s3_secret"):
            audit.record(
                team=team,
                caller=caller,
                event_type="provider.configured",
                action=f"Changed the provider settings: {', '.join(changed) or 's3_delivery'}"[:300],
                target_type="provider",
                target_id="replicate",
                before={name: before[name] for name in changed},
                after={name: after[name] for name in changed},
            )
            log.info("provider.configured", team=team.slug, settings=changed)
    return after


def advanced(team: Team) -> dict[str, Any]:
    """The settings of network and allowlist that SimpleTuner's pages show apart."""
    own = provider.settings_of(team)
    return {
        "ssl_verify": own.ssl_verify,
        "ssl_ca_bundle": own.ssl_ca_bundle or None,
        "proxy_url": settingkeys.masked(own.proxy_url) or None,
        "http_timeout": round(own.http_timeout or settings.OUTBOUND_TIMEOUT_SECONDS),
        "webhook_ip_allowlist_enabled": bool(own.webhook_allowed_ips),
        "webhook_allowed_ips": own.webhook_allowed_ips,
    }


def save_advanced(caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Change some of these. The allowlist is on exactly while it has entries, so switching it off empties it.

    Raises InvalidInput; nothing is saved then.
    """
    unknown = settingkeys.refuse_unknown(given, advanced(caller.team))
    if unknown:
        raise _all_in_one(unknown)
    asked = dict(given)
    enabled = asked.pop("webhook_ip_allowlist_enabled", None)
    if enabled is not None:
        flag("webhook_ip_allowlist_enabled", enabled)
        addresses = asked.get("webhook_allowed_ips", provider.settings_of(caller.team).webhook_allowed_ips)
        if enabled and not addresses:
            raise InvalidInput("An allowlist without addresses lets everybody in. Name them.", field="webhook_allowed_ips")
        if not enabled and asked.get("webhook_allowed_ips"):
            raise InvalidInput("The allowlist cannot be off and have addresses.", field="webhook_ip_allowlist_enabled")
        if not enabled:
            asked["webhook_allowed_ips"] = []
    save(caller, asked)
    return advanced(caller.team)


def environment() -> dict[str, str]:
    """What this server's environment says of proxies, in the order in which it counts, without passwords; "" for what is not set."""
    said = {name: os.environ.get(name.lower()) or os.environ.get(name, "") for name in ("HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")}
    return {name: _without_password(value) for name, value in said.items()}


def _without_password(url: str) -> str:
    try:
        return settingkeys.masked(url)
    except ValueError:
        return "(…)"


# --- Checks -----------------------------------------------------------------------------------------------


def _checked(own: ProviderSettings, given: dict[str, Any]) -> dict[str, Any]:
    """The given settings as they will be kept, by key; the S3 secret under a key of its own. Raises InvalidInput."""
    checks = _checks(own)
    refusals = settingkeys.refuse_unknown(given, checks)
    found: dict[str, Any] = {}
    for key, value in given.items():
        if key not in checks:
            continue
        try:
            found[key] = _default(key) if value is None else checks[key](key, value)
        except InvalidInput as refusal:
            refusals.append(refusal)
    if refusals:
        raise _all_in_one(refusals)
    if "s3_delivery" in found:
        found["s3_delivery"], found["s3_secret"] = found["s3_delivery"] or ({}, "")
    return found


def _all_in_one(refusals: list[InvalidInput]) -> InvalidInput:
    listed = [{"field": refusal.field, "message": refusal.detail, "type": refusal.details.get("type", "invalid")} for refusal in refusals]
    return InvalidInput(refusals[0].detail, field=refusals[0].field, details={"errors": listed})


def _default(key: str) -> Any:
    if key in COST_LIMIT:
        return getattr(documented.CostLimit(), COST_LIMIT[key])
    if key in FOREIGN or key == "s3_delivery":
        return None
    return getattr(ProviderSettings(), key)


def _checks(own: ProviderSettings) -> dict[str, Check]:
    """The check of every setting, by key: what is not here is unknown."""
    return {
        "webhook_url": _public(settingkeys.base_url),
        "webhook_require_signature": flag,
        "webhook_allowed_ips": settingkeys.networks,
        "webhook_address_mode": settingkeys.one_of(AddressMode.values),
        "webhook_rate_limit_max": whole(1, 10_000),
        "webhook_rate_limit_window": whole(1, 3_600),
        "webhook_sends_logs": flag,
        "webhook_sends_output": flag,
        "s3_rate_limit_max": whole(1, 10_000),
        "s3_rate_limit_window": whole(1, 3_600),
        "cost_limit_enabled": flag,
        "cost_limit_amount": settingkeys.dollars,
        "cost_limit_period": settingkeys.one_of(LimitPeriodKind.values),
        "cost_limit_action": settingkeys.one_of(LimitAction.values),
        "version_override": _pinned,
        "hardware_profile": _profile,
        "hardware_info": _overrides,
        "ssl_verify": flag,
        "ssl_ca_bundle": settingkeys.ca_bundle,
        "proxy_url": lambda key, value: own.proxy_url if value == settingkeys.masked(own.proxy_url) else settingkeys.proxy(key, value),
        "http_timeout": settingkeys.seconds,
        "s3_endpoint_enabled": flag,
        "s3_public_url": _public(_trimmed),
        "s3_output_path": _output_path,
        "s3_delivery": lambda key, value: _delivery(own, key, value),
        "preferences": settingkeys.plain_object,
        "retries_platform_faults": whole(0, MOST_RETRIES),
        "max_runtime_minutes": whole(1, min(pricing.LONGEST_RUN_SECONDS // 60, settings.MAX_RUNTIME_MINUTES)),
        **dict.fromkeys(FOREIGN, _foreign),
    }


def _public(check: Check) -> Check:
    """An address that the provider must reach, or none."""

    def checked(key: str, value: Any) -> str:
        url = str(check(key, value))
        if url and (problem := problem_with_public_url(url)):
            raise InvalidInput(f"{key}: {problem}", field=key)
        return url

    return checked


def _trimmed(key: str, value: Any) -> str:
    url = settingkeys.text(key, value).rstrip("/")
    parts = settingkeys.split(key, url)
    if parts.query or parts.fragment or parts.username is not None:
        raise InvalidInput(f"{key} must be an address without a query and without a user name.", field=key)
    return url


def _pinned(key: str, value: Any) -> str:
    given = settingkeys.pinned(key, value)
    model = given.partition(":")[0]
    if model and not Trainer.objects.filter(model=model).exists():
        raise InvalidInput(f"{key}: the catalogue has no trainer {model}.", field=key)
    return given


def _profile(key: str, value: Any) -> str:
    given = settingkeys.text(key, value, most=60)
    return planning.trainer_for(given, field=key).profile if given else ""


def _output_path(key: str, value: Any) -> str:
    """Where results lie on this server is the operator's to say, so the only path to name is the one in force."""
    given = settingkeys.text(key, value)
    if given and Path(given) != settings.OUTPUTS_DIR:
        raise InvalidInput(
            f"{key}: where results lie on this server is set by its operator (TUNEHOUSE_OUTPUTS), and not by a team.", field=key
        )
    return given


def _foreign(key: str, value: Any) -> None:
    if value != "":
        raise InvalidInput(f"{key} is a setting of simpletuner_io; this server runs jobs on replicate.", field=key)


# --- Shown prices -----------------------------------------------------------------------------------------


def _hardware_info(own: ProviderSettings) -> dict[str, dict[str, Any]]:
    """One entry for each profile, by the price book, with what the team wants shown instead; and the hardware that it named itself."""
    named, now = own.hardware_info, timezone.now()
    profiles = {
        offer.profile: {**offer.info, **_rates(named.get(offer.trainer.hardware, {})), **named.get(offer.profile, {})}
        for offer in catalogue.offers(now=now)
    }
    return profiles | {sku: {**info, **named[sku]} for sku, info in catalogue.hardware(now=now).items() if sku in named}


def _rates(entry: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in entry.items() if name != "name"}


def _overrides(key: str, value: Any) -> dict[str, dict[str, Any]]:
    """What differs from the price book, by profile, or by the provider's name of the hardware, whose rate goes for its profiles.

    It changes what the team is shown; money is held and charged by the book.
    """
    settingkeys.plain_object(key, value)
    now = timezone.now()
    profiles, skus = {offer.profile: offer.info for offer in catalogue.offers(now=now)}, catalogue.hardware(now=now)
    found = {}
    for name, entry in value.items():
        shipped = profiles.get(name) or skus.get(name)
        if shipped is None:
            raise InvalidInput(f"{key}: unknown hardware '{name[:60]}'. Valid ones: {', '.join([*profiles, *skus])}.", field=key)
        if (differing := _override(f"{key}.{name}", entry, shipped)) or name not in profiles:
            found[name] = differing
    return found


def _override(key: str, entry: Any, shipped: dict[str, Any]) -> dict[str, Any]:
    """The name and the rate of one profile, where they differ; what the catalogue knows may come along unchanged."""
    if not isinstance(entry, dict):
        raise InvalidInput(f"{key} must be an object with name and cost_per_second.", field=key)
    if unknown := settingkeys.refuse_unknown(entry, shipped, inside=key):
        raise unknown[0]
    for name in ("hardware_type", "gpu_count"):
        if entry.get(name, shipped[name]) != shipped[name]:
            raise InvalidInput(f"{key}.{name} is a fact of the catalogue and cannot be changed here.", field=f"{key}.{name}")
    rate, label = entry.get("cost_per_second", shipped["cost_per_second"]), entry.get("name", shipped["name"])
    if not settingkeys.is_number(rate) or not 0 <= rate <= 1000:
        raise InvalidInput(f"{key}.cost_per_second must be a number of US dollars, 0 or more.", field=key)
    changed: dict[str, Any] = {}
    if settingkeys.text(f"{key}.name", label, most=100) != shipped["name"]:
        changed["name"] = label
    if rate != shipped["cost_per_second"]:
        changed |= {"cost_per_second": float(rate), "cost_per_hour": round(rate * 3600, 6)}
    return changed


# --- External S3 ------------------------------------------------------------------------------------------


def _delivery(own: ProviderSettings, key: str, value: Any) -> tuple[dict[str, Any], str] | None:
    """The bucket as it is kept, and the secret that came along, "" for the one that is kept. An empty object clears."""
    if not isinstance(value, dict):
        raise InvalidInput(f"{key} must be an object.", field=key)
    if not value:
        return None
    if unknown := settingkeys.refuse_unknown(value, [*_DELIVERY, "secret_access_key"], inside=key):
        raise unknown[0]
    place = {}
    for name, (check, default) in _DELIVERY.items():
        place[name] = default if value.get(name) is None else check(f"{key}.{name}", value[name])
    for name in ("bucket", "access_key_id"):
        if not place[name]:
            raise InvalidInput(f"{key}.{name} is missing.", field=f"{key}.{name}")
    secret = value.get("secret_access_key") or ""
    if not isinstance(secret, str):
        raise InvalidInput(f"{key}.secret_access_key must be text.", field=f"{key}.secret_access_key")
    if problem := credentials.problem_with_secret(CredentialKind.S3, secret) if secret else "":
        raise InvalidInput(f"{key}.secret_access_key: {problem}", field=f"{key}.secret_access_key")
    kept = _s3_credential(own.team)
    if not secret and (kept is None or own.s3_delivery.get("access_key_id") != place["access_key_id"]):
        raise InvalidInput(f"{key}.secret_access_key is missing for this access key.", field=f"{key}.secret_access_key")
    return place, secret


def bucket_for_test(team: Team, given: dict[str, Any]) -> tuple[dict[str, Any], str, str]:
    """A bucket and its pair of keys, checked: what is given, and what the team has saved for the rest. Raises InvalidInput."""
    if unknown := settingkeys.refuse_unknown(given, [*_DELIVERY, "secret_access_key"]):
        raise _all_in_one(unknown)
    own = provider.settings_of(team)
    asked = {**own.s3_delivery, **{name: value for name, value in given.items() if value is not None}}
    if not asked:
        raise InvalidInput("No bucket is saved, and none is given.", field="bucket")
    try:
        checked = _delivery(own, "s3_delivery", asked)
    except InvalidInput as refusal:
        # The same words, about a body that has the fields at its top.
        field = (refusal.field or "").removeprefix("s3_delivery.")
        raise InvalidInput(refusal.detail.replace("s3_delivery.", ""), field=field) from refusal
    place, secret = checked or ({}, "")
    kept = _s3_credential(team)
    return place, place["access_key_id"], secret or (kept.reveal().partition(":")[2] if kept else "")


def _bucket(key: str, value: Any) -> str:
    given = settingkeys.text(key, value)
    if not settingkeys.BUCKET.fullmatch(given):
        raise InvalidInput(f"{key} must be the name of a bucket: 3 to 63 letters, digits, hyphens and points.", field=key)
    return given


def _access_key(key: str, value: Any) -> str:
    given = settingkeys.text(key, value, most=200)
    if problem := credentials.problem_with_secret(CredentialKind.S3, given) or (":" in given and "It has a colon in it."):
        raise InvalidInput(f"{key}: {problem}", field=key)
    return given


def _prefix(key: str, value: Any) -> str:
    given = settingkeys.text(key, value).strip("/")
    if any(part in ("", ".", "..") for part in given.split("/")) and given:
        raise InvalidInput(f"{key} must be a path inside the bucket.", field=key)
    return given


# Everything of an external bucket that is no secret, with its default.
_DELIVERY: dict[str, tuple[Callable[[str, Any], Any], Any]] = {
    "bucket": (_bucket, ""),
    "region": (settingkeys.text, "us-east-1"),
    "endpoint_url": (lambda key, value: _public(_trimmed)(key, value) or None, None),
    "access_key_id": (_access_key, ""),
    "path_prefix": (_prefix, ""),
    "use_path_style": (flag, False),
    "public_read": (flag, False),
}


def _s3_credential(team: Team) -> Credential | None:
    return Credential.objects.in_use().filter(team=team, user=None, kind=CredentialKind.S3, name="api_token").first()


# --- Keeping ----------------------------------------------------------------------------------------------


def _keep(caller: Caller, own: ProviderSettings, checked: dict[str, Any]) -> None:
    limit = {COST_LIMIT[key]: value for key, value in checked.items() if key in COST_LIMIT}
    if limit:
        documented.save(caller.team, replace(documented.read(caller.team), **limit))
    columns = [key for key in checked if key not in COST_LIMIT and key not in FOREIGN and key != "s3_secret"]
    for key in columns:
        setattr(own, key, checked[key])
    own.save(update_fields=[*columns, "updated_at"])
    if "s3_delivery" in checked:
        _keep_s3(caller, checked["s3_delivery"], checked["s3_secret"])


def _keep_s3(caller: Caller, place: dict[str, Any], secret: str) -> None:
    """Keep the pair of keys with its place as the team's S3 credential, or remove it with the bucket.

    Jobs keep the pair that they were admitted with, and with it the place: another place is another credential.
    """
    kept = _s3_credential(caller.team)
    pair = f"{place['access_key_id']}:{secret}" if secret else ""
    if not pair and place and kept is not None and kept.details != place:
        pair = kept.reveal()
    if pair:
        credentials.save(team=caller.team, kind=CredentialKind.S3, secret=pair, by=caller.user, caller=caller, details=place)
    elif not place and kept is not None:
        credentials.remove(kept, by=caller.user, caller=caller)
