"""The web application as `manage.py up` serves it: the ASGI application, in a process that does not outlive its server."""

import multiprocessing

from config.embedded.tether import die_with

if parent := multiprocessing.parent_process():
    die_with(parent.pid or 0)

from config.asgi import application

__all__ = ["application"]
