from django.core.management.base import BaseCommand, CommandError

from accounts import rekeying


class Command(BaseCommand):
    help = (
        "Encrypts every stored secret anew with the first key of TUNEHOUSE_ENCRYPTION_KEYS, while everything runs. "
        "Safe to kill and to repeat. Exit 1 if a secret opens with none of the keys."
    )

    def handle(self, *args, **options):
        results = rekeying.renew()
        for result in results:
            text = f"{result.column}: {result.found} secrets, {result.renewed} put on the first key"
            self.stdout.write(text + (f", {result.unreadable} open with no key" if result.unreadable else ""))
        unreadable = sum(result.unreadable for result in results)
        if unreadable:
            raise CommandError(f"{unreadable} secrets open with no key of the list. Put the key that is missing back at its end.")
        self.stdout.write("All secrets are on the first key; the others can be taken from the list.")
