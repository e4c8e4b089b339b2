"""The administration of people, teams, tokens and credentials.

Staff see everything here, superusers change it. Each change leaves an audit line beside Django's own log entry.
"""

# Django looks only for `accounts.admin`; importing a module is what registers its pages.
from accounts.admin import audit, credentials, people, sign_in, teams, tokens  # noqa: F401
