"""The table of routes is whole: no address and no method without an entry, no entry without an address."""

from collections import Counter

import pytest

from accounts.roles import Role
from tests.matrix import walking
from tests.matrix.routes import ROUTES
from tests.matrix.table import Route

METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]
# Of Django's administration each address is tried by the same rule: test_administration.py.
ADMINISTRATION = "/admin/"
TABLE = sorted({route.address for route in ROUTES})
# Views of others: django-allauth takes PUT for POST, and leads people on before it looks at the method; Django's choice of
# the language does nothing but for POST.
OTHERS = ("/accounts/", "/language/")

pytestmark = pytest.mark.django_db


def test_every_address_has_an_entry_and_every_entry_an_address():
    walked = [address for address in walking.addresses() if not address.startswith(ADMINISTRATION)]

    assert sorted(set(walked) - set(TABLE)) == []
    assert sorted(set(TABLE) - set(walked)) == []
    assert len(TABLE) > 120


# Ours stand before django-allauth's and Django's.
SHADOWED = {"/accounts/3rdparty/login/error/", "/accounts/password/set/", "/admin/password_change/"}


def test_no_two_patterns_are_spelled_alike():
    # Else one of them would hide behind the other's entry.
    assert {address for address, times in Counter(walking.addresses()).items() if times > 1} == SHADOWED


def test_no_address_and_method_stands_in_the_table_twice():
    assert [name for name, times in Counter(map(str, ROUTES)).items() if times > 1] == []


@pytest.mark.parametrize("address", [address for address in TABLE if not address.startswith(OTHERS)])
def test_a_method_without_an_entry_is_not_allowed(world, address):
    entries = {route.method: route for route in ROUTES if route.address == address}
    known = next(iter(entries.values()))
    owner = next(who for who in world.own.whos if who.role == Role.OWNER and who.is_signed_in)

    answers = {
        method: owner.client().generic(method, known.path(world.own, team=world.own.team.slug)).status_code
        for method in METHODS
        if method not in entries
    }

    assert answers == dict.fromkeys(answers, 405)


@pytest.mark.parametrize(
    ("route", "spelling"),
    [
        ("t/<slug:team>/jobs/<str:job_id>/", "/t/<team>/jobs/<job_id>/"),
        ("api/^cloud/jobs/(?P<job_id>[A-Za-z0-9-]{1,64})/logs/?$", "/api/cloud/jobs/<job_id>/logs"),
        (r"api/cloud/storage^/(?P<bucket>[^/]+)/(?P<name>(?s:.+))\Z", "/api/cloud/storage/<bucket>/<name>"),
        ("", "/"),
    ],
)
def test_patterns_are_spelled_for_people(route, spelling):
    assert walking.spelled(route) == spelling


def test_the_gaps_of_an_address_are_filled_from_the_team_whose_things_are_asked_for(world):
    route = Route(method="GET", address="/t/<team>/jobs/<job_id>/", needs=next(iter(world.own.whos[0].rights)))

    path = route.path(world.foreign, team=world.own.team.slug)

    assert path == f"/t/{world.own.team.slug}/jobs/{world.foreign.running.job_id}/"
