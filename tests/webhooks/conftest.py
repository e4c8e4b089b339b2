"""The provider of the jobs' tests serves here as well."""

from tests.jobs.conftest import account, no_provider, predictions, provider_process

__all__ = ["account", "no_provider", "predictions", "provider_process"]
