"""The pages of signing in and of one's own account, which are django-allauth's. A form is sent empty: who gets as far is what is asked."""

from tests.matrix.table import CONFIRM, SIGN_IN, Door, Outcome, Route, also_at, get, post
from tests.matrix.world import Who

COMPANY = {"provider_id": "company"}


def for_strangers(who: Who) -> Outcome:
    """Whoever is signed in is led home."""
    return 302 if who.is_signed_in else 200


def on_the_way_in(who: Who) -> Outcome:
    """A step between password and door: nobody here has come that far."""
    return 302 if who.is_signed_in else SIGN_IN


ROUTES: list[Route] = [
    *also_at(
        ["/accounts/login/", "/accounts/signup/"],
        [get("", Door.OPEN, answers=for_strangers), post("", Door.OPEN, form={}, answers=for_strangers, changes=False)],
    ),
    *also_at(
        ["/accounts/login/code/confirm/", "/accounts/2fa/authenticate/", "/accounts/2fa/webauthn/login/"],
        [get("", Door.OPEN, answers=on_the_way_in), post("", Door.OPEN, form={}, answers=on_the_way_in, changes=False)],
    ),
    *also_at(
        [
            "/accounts/inactive/",
            "/accounts/confirm-email/",
            "/accounts/password/reset/done/",
            "/accounts/password/reset/key/done/",
        ],
        get("", Door.OPEN),
    ),
    *also_at(["/accounts/password/reset/"], [get("", Door.OPEN), post("", Door.OPEN, form={}, changes=False)]),
    # What the mail's link knows is the key; with a wrong one there is a page that says so.
    get("/accounts/confirm-email/<key>/", Door.OPEN, at={"key": "wrong"}),
    post("/accounts/confirm-email/<key>/", Door.PROOF, at={"key": "wrong"}, form={}, answers=404),
    *also_at(
        ["/accounts/password/reset/key/<uidb36>-<key>/"],
        [
            get("", Door.OPEN, at={"uidb36": "1", "key": "wrong"}),
            post("", Door.PROOF, at={"uidb36": "1", "key": "wrong"}, form={"password1": "x", "password2": "x"}, answers=200),
        ],
    ),
    get("/accounts/logout/", Door.SIGNED_IN),
    post("/accounts/logout/", Door.SIGNED_IN, form={}, answers=SIGN_IN, changes=False),
    *also_at(
        [
            "/accounts/reauthenticate/",
            "/accounts/password/change/",
            "/accounts/2fa/totp/activate/",
            "/accounts/2fa/recovery-codes/generate/",
            "/accounts/2fa/webauthn/add/",
            "/accounts/3rdparty/",
        ],
        [get("", Door.SIGNED_IN), post("", Door.SIGNED_IN, form={}, changes=False)],
    ),
    # They have a password, and change it.
    get("/accounts/password/set/", Door.SIGNED_IN, answers=302),
    get("/accounts/email/", Door.SIGNED_IN),
    # The page takes down the address that the person has, first of all.
    post("/accounts/email/", Door.SIGNED_IN, form={}, answers=302),
    *also_at(["/accounts/2fa/", "/accounts/2fa/webauthn/"], get("", Door.SIGNED_IN)),
    get("/accounts/sessions/", Door.SIGNED_IN),
    # Ends all but this one, of which there are none.
    post("/accounts/sessions/", Door.SIGNED_IN, form={}, answers=302, changes=False),
    # Nobody here has a second factor.
    *also_at(
        ["/accounts/2fa/reauthenticate/", "/accounts/2fa/webauthn/reauthenticate/"],
        [get("", Door.SIGNED_IN, answers=CONFIRM), post("", Door.SIGNED_IN, form={}, answers=CONFIRM, changes=False)],
    ),
    *also_at(
        ["/accounts/2fa/totp/deactivate/"],
        [get("", Door.SIGNED_IN, answers=404), post("", Door.SIGNED_IN, form={}, answers=404, changes=False)],
    ),
    *also_at(["/accounts/2fa/recovery-codes/", "/accounts/2fa/recovery-codes/download/"], get("", Door.SIGNED_IN, answers=404)),
    *also_at(
        ["/accounts/2fa/webauthn/keys/<pk>/edit/", "/accounts/2fa/webauthn/keys/<pk>/remove/"],
        [
            get("", Door.SIGNED_IN, at={"pk": "1"}, answers=404),
            post("", Door.SIGNED_IN, at={"pk": "1"}, form={}, answers=404, changes=False),
        ],
    ),
    # Signing in by the company's directory, of which none is set up here.
    get("/accounts/3rdparty/login/cancelled/", Door.OPEN),
    get("/accounts/3rdparty/login/error/", Door.OPEN, answers=401),
    *also_at(["/accounts/3rdparty/signup/"], [get("", Door.PROOF, answers=SIGN_IN), post("", Door.PROOF, form={}, answers=SIGN_IN)]),
    *also_at(
        ["/accounts/oidc/<provider_id>/login/", "/accounts/oidc/<provider_id>/login/callback/"],
        [get("", Door.PROOF, at=COMPANY, answers=404), post("", Door.PROOF, at=COMPANY, form={}, answers=404)],
    ),
    # Addresses that these pages had before.
    *also_at(
        [
            "/accounts/social/login/cancelled/",
            "/accounts/social/login/error/",
            "/accounts/social/signup/",
            "/accounts/social/connections/",
        ],
        get("", Door.SIGNED_IN, answers=301),
    ),
]
