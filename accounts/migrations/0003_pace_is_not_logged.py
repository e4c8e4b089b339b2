from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("accounts", "0002_audit_is_append_only")]

    operations = [
        # Written by nearly every request, and worth nothing a minute later: without the log no request waits for the
        # disk. PostgreSQL empties such a table after a crash, and a standby has none of it; then the counts begin anew.
        migrations.RunSQL("ALTER TABLE accounts_pacecount SET UNLOGGED", "ALTER TABLE accounts_pacecount SET LOGGED"),
    ]
