from django.db import migrations

# In SQL, as the ledger's own triggers: what money was held or booked by must not change by any way, one row or many.
FORWARDS = """
CREATE FUNCTION billing_refuse_used_price_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM billing_hold WHERE price_line_id = OLD.id)
        OR EXISTS (SELECT FROM billing_ledgerline WHERE price_line_id = OLD.id) THEN
        RAISE EXCEPTION 'Money was held by the price of % from %: % is refused.', OLD.hardware, OLD.effective_from, TG_OP
            USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
END
$$;

CREATE TRIGGER used_prices_do_not_change BEFORE UPDATE ON billing_priceline
    FOR EACH ROW WHEN (OLD.* IS DISTINCT FROM NEW.*) EXECUTE FUNCTION billing_refuse_used_price_change();

CREATE TRIGGER used_prices_stay BEFORE DELETE ON billing_priceline
    FOR EACH ROW EXECUTE FUNCTION billing_refuse_used_price_change();
"""

BACKWARDS = """
DROP TRIGGER used_prices_stay ON billing_priceline;
DROP TRIGGER used_prices_do_not_change ON billing_priceline;
DROP FUNCTION billing_refuse_used_price_change();
"""


class Migration(migrations.Migration):
    dependencies = [("billing", "0003_price_book")]

    operations = [migrations.RunSQL(FORWARDS, BACKWARDS)]
