from django.db import migrations

# What `createcachetable` would make. Worth nothing after a crash, so it needs no log; see 0003.
MAKE_CACHE = """
CREATE UNLOGGED TABLE tunehouse_cache (
    cache_key varchar(255) NOT NULL PRIMARY KEY,
    value text NOT NULL,
    expires timestamp with time zone NOT NULL
);
CREATE INDEX tunehouse_cache_expires ON tunehouse_cache (expires);
"""


class Migration(migrations.Migration):
    dependencies = [("accounts", "0004_audit_retention")]

    operations = [migrations.RunSQL(MAKE_CACHE, "DROP TABLE tunehouse_cache")]
