"""The pages of approvals, and the link that is mailed to approvers."""

from accounts.roles import Right, Role
from jobs.services import approval_links
from tests.matrix.table import Case, Door, Route, get, has, nobody, page, post
from tests.matrix.world import Side

APPROVALS = "/t/<team>/approvals"
ONE = f"{APPROVALS}/<request_id>"
RULE = f"{APPROVALS}/rules/<rule_id>"
OF_RULE = {"rule_id": lambda side: side.approval_rule.pk}
FORM = {"name": "new", "condition": "cost_exceeds", "threshold": "50", "required_role": "lead", "priority": "0", "is_active": "on"}
COLLEAGUES = Case(name="a colleague's request", at={"request_id": lambda side: side.colleague_approval.pk}, may=has(Right.APPROVE))


def link_of(role: str):
    """The signed part of the link that a member with this role would get."""

    def signed(side: Side) -> str:
        return approval_links.path(side.approval.pk, side.members[role].user.pk).rstrip("/").rpartition("/")[2]

    return signed


ROUTES: list[Route] = [
    # Who may not approve is led to their own requests.
    get(f"{APPROVALS}/", Right.SUBMIT, answers=lambda who: 200 if Right.APPROVE in who.rights else 302),
    get(f"{APPROVALS}/mine/", Right.SUBMIT),
    get(f"{ONE}/", Right.READ, others_need=Right.APPROVE, cases=[COLLEAGUES]),
    post(f"{ONE}/approve/", Right.APPROVE, form={}, answers=302, cases=[COLLEAGUES]),
    post(f"{ONE}/reject/", Right.APPROVE, form={"notes": "no"}, answers=302, cases=[COLLEAGUES]),
    post(f"{ONE}/cancel/", Right.READ, form={}, answers=302, others_need=Right.APPROVE, cases=[COLLEAGUES]),
    get(f"{APPROVALS}/rules/", Right.APPROVE),
    *page(f"{APPROVALS}/rules/new/", Right.MANAGE, form=FORM),
    post(f"{APPROVALS}/rules/suggested/", Right.MANAGE, form={"name": "first"}, answers=302),
    *page(f"{RULE}/", Right.MANAGE, at=OF_RULE, form=FORM),
    *page(f"{RULE}/delete/", Right.MANAGE, at=OF_RULE, form={}),
    # The signature is the lock: whoever has the link is whom it was sent to, signed in or not.
    get(
        "/approvals/by-mail/<signed>/",
        Door.OPEN,
        at={"signed": link_of(Role.LEAD)},
        cases=[
            Case(name="a forged link", at={"signed": "forged"}, may=nobody, refused=410),
            Case(name="a link for who may not approve", at={"signed": link_of(Role.VIEWER)}, may=nobody, refused=403),
        ],
    ),
    post(
        "/approvals/by-mail/<signed>/",
        Door.OPEN,
        at={"signed": link_of(Role.LEAD)},
        form={"decision": "approve"},
        cases=[
            Case(name="a forged link", at={"signed": "forged"}, may=nobody, refused=410),
            Case(name="a link for who may not approve", at={"signed": link_of(Role.VIEWER)}, may=nobody, refused=403),
            Case(name="the link of whoever asked", at={"signed": link_of(Role.RESEARCHER)}, may=nobody, refused=403),
        ],
    ),
]
