"""A process that reads and writes credentials until its input ends; it says how often, and dies of anything that goes wrong."""

import os
import sys
import threading

import django

os.environ["DJANGO_SETTINGS_MODULE"] = "config.settings"
django.setup()

from accounts import credentials  # noqa: E402
from accounts.models import Credential, Membership  # noqa: E402


def main(number: int) -> None:
    is_over = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), is_over.set()), daemon=True).start()
    owner = Membership.objects.select_related("team", "user").get()
    rounds = 0
    while not is_over.is_set():
        credentials.save(
            team=owner.team, kind="s3", name=f"of-{number}", secret=f"secret {number} {rounds}".replace(" ", "-"), by=owner.user
        )
        for credential in Credential.objects.in_use().order_by("?")[:50]:
            assert credentials.fingerprint(credential.reveal()) == credential.fingerprint
        rounds += 1
        if rounds == 1:
            print("busy", flush=True)
    print(f"done {rounds}", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
