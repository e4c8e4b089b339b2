"""The wiring of Tunehouse: nobody imports it, settings are read through django.conf."""

from config.celery import app as celery_app

__all__ = ["celery_app"]
