from django.db import migrations

# In SQL, since the rule must hold for everybody who reaches the database: our own code, a shell, another program.
# TRUNCATE passes triggers on rows by, so it has one of its own.
FORWARDS = """
CREATE FUNCTION accounts_refuse_audit_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'The audit trail is append-only: % is refused.', TG_OP USING ERRCODE = 'restrict_violation';
END
$$;

CREATE TRIGGER audit_lines_stay BEFORE UPDATE OR DELETE ON accounts_auditline
    FOR EACH ROW EXECUTE FUNCTION accounts_refuse_audit_change();

CREATE TRIGGER audit_is_never_emptied BEFORE TRUNCATE ON accounts_auditline
    FOR EACH STATEMENT EXECUTE FUNCTION accounts_refuse_audit_change();
"""

BACKWARDS = """
DROP TRIGGER audit_is_never_emptied ON accounts_auditline;
DROP TRIGGER audit_lines_stay ON accounts_auditline;
DROP FUNCTION accounts_refuse_audit_change();
"""


class Migration(migrations.Migration):
    dependencies = [("accounts", "0001_initial")]

    operations = [migrations.RunSQL(FORWARDS, BACKWARDS)]
