"""Telling Replicate's deliveries from everybody else's."""

import base64
import hmac
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook

from webhooks.signatures import BadSignature, MissingSignature, NoSigningSecret, StaleTimestamp, WrongSignature, verify

SECRET = "whsec_c2ltcGxldHVuZXItc2FuZGJveC1rMDAx"
OTHER = "whsec_" + "b3RoZXItc2VjcmV0LW90aGVyLXNlY3JldC0x"
BODY = (
    b'{"id":"k3m8v0b5t1rgm0cqy7nsd2w4ez","model":"simpletuner/advanced-trainer-h100","status":"succeeded",'
    b'"output":"https://huggingface.co/acme/my-lora","error":null}'
)
SIGNED_AT = datetime(2026, 1, 1, tzinfo=UTC)
SIGNATURE = "v1,9eUXbhbMd59PwVE8wp8+ayScCDbaVY61CUskDaWRyfA="
HEADERS = {"webhook-id": "msg_01JZ8S4NDBOX0000000000001", "webhook-timestamp": "1767225600", "webhook-signature": SIGNATURE}


def signed_by(secret, body=BODY, at=SIGNED_AT):
    return {**HEADERS, "webhook-signature": Webhook(secret).sign(HEADERS["webhook-id"], at, body.decode())}


def check(headers=HEADERS, body=BODY, *, secrets=(SECRET,), seconds_later=0):
    verify(headers, body, secrets=secrets, now=SIGNED_AT + timedelta(seconds=seconds_later))


def test_a_delivery_of_replicate_is_accepted():
    assert len(BODY) == 160

    check()


def test_names_of_headers_come_in_any_case():
    check({name.title(): value for name, value in HEADERS.items()})


def test_one_matching_signature_among_many_is_enough():
    check({**HEADERS, "webhook-signature": f"v1,AAAA {SIGNATURE} v2,xyz"}, seconds_later=120)


def test_during_a_rotation_either_secret_will_do():
    check(signed_by(OTHER), secrets=[SECRET, OTHER])
    check(secrets=iter([OTHER, SECRET]))


@pytest.mark.parametrize("seconds", [-300, 300])
def test_the_clock_may_be_five_minutes_off(seconds):
    check(seconds_later=seconds)


@pytest.mark.parametrize("seconds", [-301, 301])
def test_an_old_delivery_or_one_of_the_future_is_stale(seconds):
    with pytest.raises(StaleTimestamp):
        check(seconds_later=seconds)


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        (HEADERS, BODY + b" "),
        (HEADERS, b""),
        (HEADERS | {"webhook-id": "msg_01JZ8S4NDBOX0000000000002"}, BODY),
        (HEADERS | {"webhook-id": "msg_\udcff"}, BODY),
        (HEADERS | {"webhook-timestamp": "1767225601"}, BODY),
        (HEADERS | {"webhook-signature": SIGNATURE.replace("v1,", "v2,")}, BODY),
        (HEADERS | {"webhook-signature": SIGNATURE.replace("v1,", "")}, BODY),
        (HEADERS | {"webhook-signature": SIGNATURE.replace("v1,", "v1")}, BODY),
        (HEADERS | {"webhook-signature": SIGNATURE + "!"}, BODY),
        (HEADERS | {"webhook-signature": "v1,"}, BODY),
        (HEADERS | {"webhook-signature": ","}, BODY),
        (HEADERS | {"webhook-signature": "v1,ñ"}, BODY),
        (HEADERS | {"webhook-signature": "v1,AAAA " * 1000 + SIGNATURE}, BODY),
        (signed_by(OTHER), BODY),
    ],
)
def test_whatever_does_not_match_is_refused_in_the_documented_words(headers, body):
    with pytest.raises(WrongSignature) as refused:
        check(headers, body)

    assert str(refused.value) == "Invalid webhook signature"


@pytest.mark.parametrize("stamp", ["now", "-1767225600", "1767225600.5", "１７６７２２５６００", "9" * 400, "1_767_225_600"])
def test_a_time_that_is_none_is_refused(stamp):
    with pytest.raises(WrongSignature):
        check(HEADERS | {"webhook-timestamp": stamp})


@pytest.mark.parametrize("missing", list(HEADERS))
@pytest.mark.parametrize("value", [None, "", " "])
def test_an_unsigned_delivery_is_told_that_a_signature_is_required(missing, value):
    headers = {name: content for name, content in HEADERS.items() if name != missing} | ({} if value is None else {missing: value})

    with pytest.raises(MissingSignature) as refused:
        check(headers, secrets=[])

    assert str(refused.value) == "Webhook signature required but not provided."


@pytest.mark.parametrize("secrets", [[], [""], ["whsec_"], ["whsec_not base64!"]])
def test_without_a_usable_secret_nothing_is_accepted(secrets):
    with pytest.raises(NoSigningSecret) as refused:
        check(secrets=secrets)

    assert str(refused.value) == "Webhook signature verification failed: no signing secret configured."


def test_a_malformed_secret_does_not_disturb_a_good_one():
    check(secrets=["whsec_not base64!", SECRET])


def test_an_empty_secret_signs_nothing():
    signed = f"{HEADERS['webhook-id']}.{HEADERS['webhook-timestamp']}.".encode() + BODY
    forged = base64.b64encode(hmac.digest(b"", signed, "sha256")).decode()

    with pytest.raises(WrongSignature):
        check(HEADERS | {"webhook-signature": f"v1,{forged}"}, secrets=["whsec_", SECRET])


@given(st.dictionaries(st.sampled_from([*HEADERS, "Webhook-Id"]), st.text()), st.binary(), st.lists(st.text()))
def test_no_header_body_or_secret_breaks_the_check(headers, body, secrets):
    with pytest.raises(BadSignature):
        verify(headers, body, secrets=[*secrets, SECRET], now=SIGNED_AT)


@given(st.binary())
def test_what_standard_webhooks_signs_is_accepted(content):
    body = content.hex().encode()

    check(signed_by(SECRET, body), body)
