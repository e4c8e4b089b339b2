"""The events of the audit trail by name. A name is kept for good: lines outlive the code that wrote them."""

# Source: simpletuner-api.md, 2.9. Some of them only newer parts of the house write.
DOCUMENTED = (
    *("auth.login.success", "auth.login.failed", "auth.logout", "auth.session.expired", "auth.api_key.used"),
    *("user.created", "user.updated", "user.deleted", "user.password.changed", "user.level.changed", "user.permission.changed"),
    *("api_key.created", "api_key.revoked", "credential.created", "credential.deleted", "credential.used"),
    *("job.submitted", "job.cancelled", "job.approved", "job.rejected", "quota.exceeded", "quota.changed"),
    *("config.changed", "provider.configured", "security.permission_denied", "security.rate_limited", "security.suspicious"),
    *("job.deleted", "job.retried", "job.expired", "webhook.rejected", "token.saved", "backup.created", "backup.restored"),
)
OURS = (
    *("user.mfa.added", "user.mfa.removed", "user.mfa.reset", "user.email.added", "user.email.changed", "user.email.removed"),
    *("team.created", "team.updated", "team.suspended", "team.released", "team.archived", "team.reopened"),
    *("invite.created", "invite.resent", "invite.revoked", "invite.expired", "invite.handed_out"),
    *("member.added", "member.removed", "member.kept", "api_key.rotated", "audit.cut"),
    *("job.refused", "job.dry_run", "job.completed", "job.failed", "job.polled", "job.stop_time_moved", "job.stray_run"),
    *("job.priority_changed", "job.start_moved", "queue.mode_changed", "queue.cleaned"),
    *("job.data_deleted", "job.artifact_received", "job.artifact_deleted"),
    *("dataset.created", "data_consent.given", "totals.rebuilt"),
    *("webhook.replayed", "webhook.released", "webhook.drifted", "webhook.dead", "webhook.check_started"),
    *("quota.topped_up", "spend_alert.tried"),
    *("ledger.adjusted", "hold.reviewed", "invoice.imported"),
    *("config.created", "config.deleted", "config.activated", "job.imported", "delivery.asked"),
    # What the administration saves.
    *("price_line.created", "price_line.updated", "spend_limit.created", "spend_limit.updated", "trainer.created", "trainer.updated"),
    *("registration.created", "registration.updated", "organization.created", "organization.updated"),
    *("trainer_version.created", "trainer_version.updated", "queue_settings.created", "queue_settings.updated"),
    *("approval_rule.created", "approval_rule.updated", "approval_rule.deleted"),
    *("job_quota.created", "job_quota.updated", "breaker.closed"),
)
ALL = tuple(sorted({*DOCUMENTED, *OURS}))
SECURITY = tuple(event for event in ALL if event.startswith("security.") or event in ("auth.login.failed", "webhook.rejected"))

# SimpleTuner's operating guide leaves the first part out.
SHORT = {"rate_limited": "security.rate_limited", "permission_denied": "security.permission_denied"}


def name_of(event: str) -> str:
    """The name that SimpleTuner's clients show: AUTH_LOGIN_SUCCESS."""
    return event.upper().replace(".", "_")


def find(word: str) -> str | None:
    """The event that a client names: as it is, by its upper-case name, or by a short word; None for an unknown one."""
    if word in ALL:
        return word
    by_name = {name_of(event): event for event in ALL}
    return SHORT.get(word.lower()) or by_name.get(word.upper())
