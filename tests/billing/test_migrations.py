import pytest
from django.core.management import call_command
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from billing.models import PriceLine

TRIGGERS = "SELECT count(*) FROM pg_trigger WHERE tgrelid = 'billing_ledgerline'::regclass AND NOT tgisinternal"
TRUNCATE_TRIGGER = "ALTER TABLE billing_ledgerline DISABLE TRIGGER ledger_is_never_emptied"


@pytest.fixture
def migrated_back():
    """Whatever happens, the other tests find the tables as they were."""
    yield
    call_command("migrate", verbosity=0)
    with connection.cursor() as cursor:
        cursor.execute(TRUNCATE_TRIGGER)


def triggers():
    with connection.cursor() as cursor:
        cursor.execute(TRIGGERS)
        return cursor.fetchone()[0]


@pytest.mark.django_db(transaction=True)
def test_the_triggers_and_the_price_book_go_back_and_come_again(migrated_back):
    MigrationExecutor(connection).migrate([("billing", "0001_initial")])
    assert (triggers(), PriceLine.objects.count()) == (0, 0)

    MigrationExecutor(connection).migrate([("billing", "0003_price_book")])
    assert (triggers(), PriceLine.objects.count()) == (2, 17)
