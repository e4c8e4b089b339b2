"""The inbox's addresses (the documented one and its synonyms), its tests and its settings, and the stream of events."""

from django.urls import path, re_path

from accounts.api.routes import both
from webhooks import api, events_api, inbox_api, inbox_views, ranges_views, settings_views, views

app_name = "webhooks"

DELIVERY = r"(?P<delivery_id>[0-9]{1,18})"
SETTINGS = "t/<slug:team>/settings/webhooks/"

urlpatterns = [
    re_path(r"^api/webhooks/replicate/?$", views.replicate, name="replicate"),
    re_path(r"^api/cloud/webhooks?/replicate/?$", views.replicate),
    re_path(r"^api/webhooks/test/?$", api.TestAddress.as_view(), name="test"),
    re_path(r"^api/cloud/webhook/test/?$", api.TestAddress.as_view()),
    re_path(r"^api/cloud/providers/(?P<provider>[a-z_]+)/test-webhook/?$", api.TestWebhook.as_view(), name="test-own"),
    re_path(
        r"^api/cloud/providers/(?P<provider>[a-z_]+)/test-webhook-external/?$", api.TestWebhookFromOutside.as_view(), name="test-outside"
    ),
    re_path(r"^api/events/?$", events_api.Events.as_view(), name="events"),
    re_path(r"^api/events/stream/?$", events_api.Events.as_view()),
    re_path(r"^api/events/recent/?$", events_api.RecentEvents.as_view(), name="recent-events"),
    re_path(r"^broadcast/?$", events_api.Broadcast.as_view(), name="broadcast"),
    both("api/webhooks/deliveries", inbox_api.Deliveries, "deliveries"),
    both("api/webhooks/deliveries/replay", inbox_api.DeliveriesReplay, "deliveries-replay"),
    both(f"api/webhooks/deliveries/{DELIVERY}", inbox_api.DeliveryDetail, "delivery"),
    both(f"api/webhooks/deliveries/{DELIVERY}/replay", inbox_api.DeliveryReplay, "delivery-replay"),
    both(f"api/webhooks/deliveries/{DELIVERY}/release", inbox_api.DeliveryRelease, "delivery-release"),
    both("api/webhooks/drift", inbox_api.AddressDrift, "drift"),
    path(SETTINGS, settings_views.page, name="settings"),
    path(f"{SETTINGS}test/", settings_views.run_test, name="settings-test"),
    path(f"{SETTINGS}ranges/", ranges_views.page, name="ranges"),
    path(f"{SETTINGS}inbox/", inbox_views.index, name="inbox"),
    path(f"{SETTINGS}inbox/replay/", inbox_views.replay, name="inbox-replay"),
    path(f"{SETTINGS}inbox/<int:delivery_id>/", inbox_views.detail, name="inbox-delivery"),
    path(f"{SETTINGS}inbox/<int:delivery_id>/replay/", inbox_views.replay_one, name="inbox-delivery-replay"),
    path(f"{SETTINGS}inbox/<int:delivery_id>/release/", inbox_views.release, name="inbox-delivery-release"),
]
