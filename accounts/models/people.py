"""People, and what the installation says to them."""

from django.conf import settings
from django.contrib.auth.models import AbstractUser, UserManager
from django.core.validators import MinLengthValidator, RegexValidator
from django.db import models
from django.db.models.functions import Lower
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts.fields import LowercaseEmailField
from accounts.roles import Role

# As Django's own column, and the one in which django-allauth keeps what is to be confirmed.
LONGEST_EMAIL = 254


class User(AbstractUser):
    """A person. Signs in by e-mail; the user name is what SimpleTuner's clients print."""

    username = models.CharField(
        _("user name"),
        max_length=50,
        unique=True,
        validators=[MinLengthValidator(3), RegexValidator(r"^[A-Za-z0-9_-]+$", _("Use letters, digits, hyphens and underscores."))],
    )
    email = LowercaseEmailField(_("e-mail address"), max_length=LONGEST_EMAIL)
    display_name = models.CharField(_("display name"), max_length=100, blank=True)
    # Of the pages while they are signed in, and of their mails; "" while none is known.
    language = models.CharField(_("language"), max_length=10, choices=settings.LANGUAGES, blank=True)

    objects = UserManager()  # type: ignore[misc]  # the stubs call Django's own class variable one

    USERNAME_FIELD = "username"
    EMAIL_FIELD = "email"
    REQUIRED_FIELDS = ["email"]

    class Meta:
        verbose_name = _("person")
        verbose_name_plural = _("people")
        constraints = [models.UniqueConstraint(Lower("email"), name="one_person_per_email")]

    def __str__(self) -> str:
        return self.display_name or self.username


class Organization(models.Model):
    """The installation, which is what SimpleTuner's clients call an organization: one row, made when it is first changed."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1, editable=False)
    name = models.CharField(_("name"), max_length=100, default="Tunehouse")
    description = models.CharField(_("description"), max_length=500, blank=True)

    class Meta:
        verbose_name = _("organization")
        verbose_name_plural = _("organization")
        constraints = [models.CheckConstraint(condition=models.Q(pk=1), name="organization_has_one_row")]

    def __str__(self) -> str:
        return self.name


class Registration(models.Model):
    """Whether people may make accounts for themselves: one row for the installation, made when it is first changed."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1, editable=False)
    is_open = models.BooleanField(_("people may make accounts for themselves"), default=False)
    default_role = models.CharField(
        _("role that is offered first"),
        max_length=10,
        choices=[(role.value, role.label) for role in (Role.VIEWER, Role.RESEARCHER)],
        default=Role.RESEARCHER,
        help_text=_("When an owner adds a member. An account alone is in no team."),
    )

    class Meta:
        verbose_name = _("registration")
        verbose_name_plural = _("registration")
        constraints = [models.CheckConstraint(condition=models.Q(pk=1), name="registration_has_one_row")]

    def __str__(self) -> str:
        return str(_("open") if self.is_open else _("closed"))


class DismissedHint(models.Model):
    """A hint that a person does not want to see any more, by the name that SimpleTuner's pages have for it."""

    user = models.ForeignKey(User, models.CASCADE, related_name="dismissed_hints")
    name = models.CharField(_("name"), max_length=60)
    dismissed_at = models.DateTimeField(_("dismissed at"), default=timezone.now, editable=False)

    class Meta:
        verbose_name = _("dismissed hint")
        verbose_name_plural = _("dismissed hints")
        ordering = ["name"]
        constraints = [models.UniqueConstraint(fields=["user", "name"], name="one_dismissal_per_person_and_hint")]

    def __str__(self) -> str:
        return self.name
