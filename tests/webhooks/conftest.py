"""The provider of the jobs' tests serves here as well."""

from tests.jobs.conftest import account, at_provider, fresh, no_provider, predictions, provider_process

__all__ = ["account", "at_provider", "fresh", "no_provider", "predictions", "provider_process"]
