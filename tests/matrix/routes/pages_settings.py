"""The pages of credentials, network, results and webhooks."""

from accounts.roles import Right, Role
from tests.matrix.table import Route, get, nobody, page, post

CREDENTIALS = "/t/<team>/settings/credentials"
MINE = "/t/<team>/settings/my-credentials"
WEBHOOKS = "/t/<team>/settings/webhooks"
RANGES = '{"prefixes": [{"ipv4Prefix": "34.82.0.0/16", "scope": "us-west1"}]}'
BUCKET = {
    "bucket": "results",
    "region": "us-east-1",
    "endpoint_url": "http://127.0.0.1:9",
    "access_key_id": "a" * 16,
    "secret_access_key": "s" * 16,
}

ROUTES: list[Route] = [
    get(f"{CREDENTIALS}/", Right.MANAGE),
    post(f"{CREDENTIALS}/validate/", Right.MANAGE, answers=302),
    post(f"{CREDENTIALS}/huggingface/validate/", Right.MANAGE, answers=302),
    *page(f"{CREDENTIALS}/<kind>/save/", Right.MANAGE, at={"kind": "replicate"}, form={"secret": "r8_" + "n" * 37}),
    *page(f"{CREDENTIALS}/<credential_id>/remove/", Right.MANAGE, form={}),
    get(f"{MINE}/", Right.SUBMIT),
    post(f"{MINE}/validate/", Right.SUBMIT, answers=302),
    *page(f"{MINE}/<kind>/save/", Right.SUBMIT, at={"kind": "replicate"}, form={"secret": "r8_" + "n" * 37}),
    # The researcher's, and no right makes it anybody else's.
    *page(
        f"{MINE}/<credential_id>/remove/",
        Right.SUBMIT,
        at={"credential_id": lambda side: side.members[Role.RESEARCHER].user.credentials.get().pk},
        form={},
        others_need=nobody,
        others_get=404,
    ),
    *page("/t/<team>/settings/network/", Right.MANAGE, form={"http_timeout": "12", "ssl_verify": "on"}),
    post("/t/<team>/settings/network/try/", Right.MANAGE, answers=302),
    *page("/t/<team>/settings/results/", Right.MANAGE, form={"s3_public_url": "https://here.example.com"}),
    *page("/t/<team>/settings/results/bucket/", Right.MANAGE, form=BUCKET),
    post("/t/<team>/settings/results/bucket/test/", Right.MANAGE, answers=302, changes=False),
    *page("/t/<team>/settings/results/bucket/remove/", Right.MANAGE, form={}),
    *page(f"{WEBHOOKS}/", Right.MANAGE, form={"webhook_rate_limit_max": "7", "webhook_rate_limit_window": "60"}),
    post(f"{WEBHOOKS}/test/", Right.MANAGE, answers=302),
    *page(f"{WEBHOOKS}/ranges/", Right.MANAGE, form={"ranges": RANGES, "before": "", "regions": "us-west1", "save": "1"}),
    get(f"{WEBHOOKS}/inbox/", Right.MANAGE),
    get(f"{WEBHOOKS}/inbox/<delivery_id>/", Right.MANAGE),
    post(f"{WEBHOOKS}/inbox/replay/", Right.MANAGE, form={"which": "all"}, answers=302),
    post(f"{WEBHOOKS}/inbox/<delivery_id>/replay/", Right.MANAGE, form={}, answers=302),
    post(
        f"{WEBHOOKS}/inbox/<delivery_id>/release/",
        Right.MANAGE,
        form={},
        answers=302,
        at={"delivery_id": lambda side: side.held_delivery.pk},
    ),
]
