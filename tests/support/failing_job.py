"""Work that breaks with a customer's words in its error, for test_jobs."""

from workflow.context import AppContext


def work(context: AppContext) -> int:
    raise RuntimeError(f"no column for Jane Roe in {context.settings.home}")
