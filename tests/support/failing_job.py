"""Work that breaks with a customer's words in its error, for test_jobs."""

from workflow.context import House


def work(house: House) -> int:
    raise RuntimeError(f"no column for Jane Roe in {house.settings.home}")
