"""The administration of jobs: to see what runs and why not, to cancel and to look again.

What services write is only shown. Edited here are the trainer catalogue, the queue's settings, the platform's approval rules and quotas.
"""

# Django looks only for `jobs.admin`; importing a module is what registers its pages.
from jobs.admin import approvals, catalogue, datasets, job, provider, queue, quotas, results  # noqa: F401
