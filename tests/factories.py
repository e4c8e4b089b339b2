"""Rows of the accounts app. Factories make rows; what has rules is made by the service that has them."""

from typing import Any

import factory
from factory.django import DjangoModelFactory

from accounts import credentials, tokens
from accounts.models import APIToken, Credential, CredentialKind, Membership, Team, User
from accounts.roles import Role, Scope

PASSWORD = "correct horse battery staple"


class UserFactory(DjangoModelFactory):
    class Meta:
        model = User
        skip_postgeneration_save = True

    username = factory.Sequence("person-{}".format)
    email = factory.LazyAttribute(lambda user: f"{user.username}@example.com")
    password = factory.django.Password(PASSWORD)


class TeamFactory(DjangoModelFactory):
    class Meta:
        model = Team

    name = factory.Sequence("Team {}".format)
    slug = factory.Sequence("team-{}".format)


class MembershipFactory(DjangoModelFactory):
    class Meta:
        model = Membership

    team = factory.SubFactory(TeamFactory)
    user = factory.SubFactory(UserFactory)
    role = Role.OWNER


def make_token(membership: Membership | None = None, *, scopes: list[str] | None = None, **options: Any) -> tuple[APIToken, str]:
    """A token of a member (a new owner unless given) with all scopes unless said, and its text."""
    membership = membership or MembershipFactory()
    return tokens.create(team=membership.team, by=membership.user, name=options.pop("name", "ci"), scopes=scopes or Scope.values, **options)


class CredentialFactory(DjangoModelFactory):
    class Meta:
        model = Credential

    team = factory.SubFactory(TeamFactory)
    kind = CredentialKind.REPLICATE
    secret = factory.Sequence("r8_{:037d}".format)
    fingerprint = factory.LazyAttribute(lambda credential: credentials.fingerprint(credential.secret))
    last_four = factory.LazyAttribute(lambda credential: credential.secret[-4:])
