"""The console app as tests build it: the real one, with cheap passwords and compiled templates."""

import tempfile
from functools import cache

from flask import Flask
from jinja2 import FileSystemBytecodeCache

from console.app import create_app
from workflow.context import AppContext


def build_app(context: AppContext) -> Flask:
    """Return a console app over a context.

    Hashing a password costs 140 ms on purpose and compiling the templates 200 ms once a process:
    a test that makes its own app would spend most of its time on these two.
    """
    app = create_app(context)
    app.jinja_env.bytecode_cache = _make_template_cache()
    security = app.extensions["security"]
    security.pwd_context = security.pwd_context.copy(
        argon2__time_cost=1, argon2__memory_cost=8, argon2__parallelism=1
    )
    return app


@cache
def _make_template_cache() -> FileSystemBytecodeCache:
    """Return the cache of this test process. Its files are in a folder that ends with it."""
    folder = tempfile.TemporaryDirectory(prefix="intake-templates-")
    cache_of_files = FileSystemBytecodeCache(folder.name)
    # The folder is removed with the object that made it.
    cache_of_files.folder = folder  # type: ignore[attr-defined]
    return cache_of_files
