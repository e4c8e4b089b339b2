"""The administration is the platform's: each of its addresses lets in staff alone, and only superusers change a row."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from django.apps import apps
from django.contrib.contenttypes.models import ContentType
from django.db import transaction
from django.urls import reverse

from accounts.models import Team
from accounts.roles import Role
from tests.matrix import rows, walking
from tests.matrix.cells import outcome_of
from tests.matrix.table import SIGN_IN, Outcome
from tests.matrix.world import Who, World

pytestmark = pytest.mark.django_db

# The ways in and out, and the change of a password, are those of all pages.
DOORS = {"/admin/login/", "/admin/logout/", "/admin/password_change/"}
ADDRESSES = sorted({address for address in walking.addresses() if address.startswith("/admin/")} - DOORS)
OF_A_ROW = re.compile(r"/admin/(\w+)/(\w+)/<(object_id|id)>/")


@pytest.fixture(scope="module")
def untouched(world):
    return rows.standing()


def strangers(world: World) -> list[Who]:
    """Nobody, the least and the most that there is in a team, and a token that manages."""
    of_the_team = {str(who): who for who in world.own.whos}
    return [world.outside[0], *(of_the_team[name] for name in ("viewer", "owner", "token of admin, made by owner"))]


def path_of(address: str, world: World) -> str:
    """The address with the newest row of its model, or one that is not there where nothing has been kept yet."""
    if found := OF_A_ROW.match(address):
        row = apps.get_model(found[1], found[2])._default_manager.order_by("-pk").first()
        return address.replace(f"<{found[3]}>", str(row.pk if row else 1))
    team = str(ContentType.objects.get_for_model(Team).pk)
    return (
        address.replace("<content_type_id>", team)
        .replace("<object_id>", str(world.own.team.pk))
        .replace("<url>", "nowhere")
        .replace("<by>", "team")
        .replace("<app_label>", "accounts")
    )


def tried(who: Who, method: str, path: str, form: Any = None) -> tuple[Outcome, bool]:
    """What came of a request, and whether anything was written that may have changed a row."""
    with transaction.atomic():
        with rows.watched() as watch:
            response = getattr(who.client(), method)(path, form)
        transaction.set_rollback(True)
    return outcome_of(response), watch.may_differ


@pytest.mark.parametrize("address", ADDRESSES)
def test_the_administration_is_open_to_staff_alone(world, address):
    path, staff = path_of(address, world), world.outside[1]
    # Django's last word on an address that is none is 404.
    welcome = {200, 302, 403, 404} if address in ("/admin/<url>", "/admin/r/<content_type_id>/<object_id>/") else {200, 302, 403}

    wrong = []
    for who in [*strangers(world), staff]:
        outcomes = {method: tried(who, method, path, {"post": "yes"} if method == "post" else None) for method in ("get", "post")}
        if who is staff:
            right = outcomes["get"][0] in welcome and not outcomes["post"][1]
        else:
            right = outcomes == dict.fromkeys(outcomes, (SIGN_IN, False))
        wrong += [] if right else [f"{who}: {outcomes}"]

    assert wrong == []


def chosen(action: str, *found: Any) -> dict[str, Any]:
    return {"action": action, "_selected_action": [row.pk for row in found]}


def of(label: str, name: str, *args: Any) -> str:
    return reverse(f"admin:{label.replace('.', '_')}_{name}", args=args)


CHANGES: dict[str, Callable[[World], tuple[str, dict[str, Any]]]] = {
    "cancel a job": lambda world: (of("jobs.job", "changelist"), chosen("cancel", world.own.running)),
    "revoke a token": lambda world: (of("accounts.apitoken", "changelist"), chosen("revoke", world.own.token)),
    "remove a credential": lambda world: (of("accounts.credential", "changelist"), chosen("remove", world.own.credential)),
    "adjust a team": lambda world: (
        of("billing.ledgerline", "adjust_team"),
        {"team": world.own.team.pk, "amount": "1", "reason": "a credit note"},
    ),
    "open registration": lambda world: (of("accounts.registration", "add"), {"is_open": "on", "default_role": "viewer"}),
    "set a password": lambda world: (
        reverse("admin:auth_user_password_change", args=[world.own.members[Role.OWNER].user.pk]),
        {"password1": "a much better staple", "password2": "a much better staple", "usable_password": "true"},
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_a_superuser_changes_nobody_else_does(world, untouched, change):
    path, form = CHANGES[change](world)

    changed = {}
    for who in [*strangers(world), *world.outside[1:]]:
        with transaction.atomic():
            who.client().post(path, form)
            changed[str(who)] = rows.changed(untouched, rows.standing())
            transaction.set_rollback(True)

    superuser = changed.pop("platform-superuser")
    assert superuser != []
    assert [who for who, tables in changed.items() if tables] == []


def test_the_administration_has_no_sign_in_of_its_own(world):
    assert {outcome_of(world.outside[0].client().get(address)) for address in DOORS} == {SIGN_IN}
