"""What authentication costs among very many tokens."""

import pytest
from django.db import connection
from django.utils import timezone

from accounts import tokens
from tests.accounts.test_tokens import fill
from tests.factories import make_token

pytestmark = pytest.mark.django_db


def test_a_token_is_found_among_a_hundred_thousand_as_fast_as_among_ten(median_seconds):
    token, plain = make_token()

    def find() -> None:
        for _ in range(20):
            assert tokens.find(plain, address="", now=timezone.now()) == token

    def measure() -> float:
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE accounts_apitoken")
        return median_seconds(find, runs=60)

    fill(token, 9)
    few = measure()
    token.team.api_tokens.exclude(pk=token.pk).delete()
    fill(token, 99_999)
    many = measure()

    print(f"\ntokens: authentication among 100,000 / among 10: {many / few:.2f}")
    assert many <= few * 1.3
