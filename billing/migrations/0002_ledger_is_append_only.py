from django.db import migrations

# In SQL, since Django has no operation for triggers, and the rule must hold for everybody who reaches the
# database: our own code, a shell, another program. Triggers on statements also refuse what would match no line.
# TRUNCATE has a trigger of its own, which a test database can switch off alone to be emptied between tests.
FORWARDS = """
CREATE FUNCTION billing_refuse_ledger_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'The ledger is append-only: % is refused.', TG_OP USING ERRCODE = 'restrict_violation';
END
$$;

CREATE TRIGGER ledger_lines_stay BEFORE UPDATE OR DELETE ON billing_ledgerline
    FOR EACH STATEMENT EXECUTE FUNCTION billing_refuse_ledger_change();

CREATE TRIGGER ledger_is_never_emptied BEFORE TRUNCATE ON billing_ledgerline
    FOR EACH STATEMENT EXECUTE FUNCTION billing_refuse_ledger_change();
"""

BACKWARDS = """
DROP TRIGGER ledger_is_never_emptied ON billing_ledgerline;
DROP TRIGGER ledger_lines_stay ON billing_ledgerline;
DROP FUNCTION billing_refuse_ledger_change();
"""


class Migration(migrations.Migration):
    dependencies = [("billing", "0001_initial")]

    operations = [migrations.RunSQL(FORWARDS, BACKWARDS)]
