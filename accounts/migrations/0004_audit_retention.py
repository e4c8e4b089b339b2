from django.db import migrations

# In SQL, like the rule that it loosens: lines stay but for those that an anchor covers, whoever reaches the database. An
# anchor must name a line that is there, by its hash, and is itself never changed or removed. What no line of the chain
# tells of is found by `verify_audit`, so an anchor that somebody slips in hides nothing.
FORWARDS = """
CREATE OR REPLACE FUNCTION accounts_refuse_audit_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        -- Not IS NOT DISTINCT FROM, which no index answers.
        IF EXISTS (
            SELECT 1 FROM accounts_auditanchor
            WHERE (team_id = OLD.team_id OR (team_id IS NULL AND OLD.team_id IS NULL)) AND sequence >= OLD.sequence
        ) THEN
            RETURN OLD;
        END IF;
    END IF;
    RAISE EXCEPTION 'The audit trail is append-only: % is refused.', TG_OP USING ERRCODE = 'restrict_violation';
END
$$;

CREATE FUNCTION accounts_refuse_anchor_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'The anchors of the audit trail are append-only: % is refused.', TG_OP USING ERRCODE = 'restrict_violation';
END
$$;

CREATE FUNCTION accounts_require_anchored_line() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (
        SELECT 1 FROM accounts_auditline
        WHERE (team_id = NEW.team_id OR (team_id IS NULL AND NEW.team_id IS NULL)) AND sequence = NEW.sequence AND hash = NEW.hash
    ) THEN
        RAISE EXCEPTION 'An anchor of the audit trail must name a line that is there.' USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END
$$;

CREATE TRIGGER audit_anchors_stay BEFORE UPDATE OR DELETE ON accounts_auditanchor
    FOR EACH ROW EXECUTE FUNCTION accounts_refuse_anchor_change();

CREATE TRIGGER audit_anchors_are_never_emptied BEFORE TRUNCATE ON accounts_auditanchor
    FOR EACH STATEMENT EXECUTE FUNCTION accounts_refuse_anchor_change();

CREATE TRIGGER audit_anchors_name_a_line BEFORE INSERT ON accounts_auditanchor
    FOR EACH ROW EXECUTE FUNCTION accounts_require_anchored_line();
"""

BACKWARDS = """
DROP TRIGGER audit_anchors_name_a_line ON accounts_auditanchor;
DROP TRIGGER audit_anchors_are_never_emptied ON accounts_auditanchor;
DROP TRIGGER audit_anchors_stay ON accounts_auditanchor;
DROP FUNCTION accounts_require_anchored_line();
DROP FUNCTION accounts_refuse_anchor_change();

CREATE OR REPLACE FUNCTION accounts_refuse_audit_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'The audit trail is append-only: % is refused.', TG_OP USING ERRCODE = 'restrict_violation';
END
$$;
"""


class Migration(migrations.Migration):
    dependencies = [("accounts", "0003_pace_is_not_logged")]

    operations = [migrations.RunSQL(FORWARDS, BACKWARDS)]
