"""What `seed_demo` hands to scripts."""

from accounts.roles import Role, rights_of, rights_of_token
from jobs.demo import seeding


def test_the_demos_tokens_of_leads_and_owners_may_all_that_these_may():
    for role in (Role.LEAD, Role.OWNER):
        assert rights_of_token(role, list(seeding.SCOPES[role])) == rights_of(role)
