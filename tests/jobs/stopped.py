"""A process that is stopped while it looks after the queue: in the middle of its transaction, with all its locks."""

import sys

from tests.jobs import many


def main() -> None:
    """Take the turnstile, say so, and do nothing more until the input ends."""
    from django.db import transaction

    from jobs.models import QueueSettings

    with transaction.atomic():
        QueueSettings.objects.select_for_update().get(team=None, provider="")
        print("held", flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    many.load(DATABASE_IDLE_SECONDS="1")
    main()
