"""The pages that say that something is wrong."""

import pytest
from django.db import OperationalError
from django.test import RequestFactory
from django.utils.functional import SimpleLazyObject

from accounts.errors import Conflict
from accounts.roles import Role
from config import errors
from config.middleware import RefusalMiddleware
from tests.factories import MembershipFactory


def nobody_knows():
    raise OperationalError("the database is away")


@pytest.mark.parametrize(
    ("answer", "status", "says"),
    [
        (errors.bad_request, 400, "This request could not be read"),
        (errors.forbidden, 403, "You may not do this"),
        (errors.not_found, 404, "There is nothing here"),
        (errors.server_error, 500, "Something went wrong here"),
        (errors.csrf_failure, 403, "the form was too old"),
    ],
)
def test_error_pages_need_no_database(answer, status, says):
    request = RequestFactory().get("/t/anything/")
    request.user = SimpleLazyObject(nobody_knows)
    request.correlation_id = "c-123"

    response = answer(request)

    assert response.status_code == status
    assert [text in response.content.decode() for text in (says, "c-123")] == [True, True]


@pytest.mark.django_db
@pytest.mark.parametrize(
    "address", ["jobs/%00/", "jobs/new/?from=%00", "jobs/new/?continue=%00", "jobs/cancel/?job=%00", "configs/new/?from=%00"]
)
def test_a_nul_in_an_address_cannot_be_read_and_is_no_fault_of_ours(client, address):
    member = MembershipFactory(role=Role.OWNER)
    client.force_login(member.user)

    assert client.get(f"/t/{member.team.slug}/{address}").status_code == 400


def test_a_refusal_that_no_form_shows_is_a_page():
    request = RequestFactory().post("/t/anything/")
    request.user = SimpleLazyObject(nobody_knows)
    refusal = Conflict("The queue is draining.", hint="Try it again tomorrow.")

    response = RefusalMiddleware(lambda request: None).process_exception(request, refusal)

    assert response.status_code == 409
    assert "The queue is draining. Try it again tomorrow." in response.content.decode()
