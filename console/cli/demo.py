"""`intake demo`: send one item through each channel, and show the tickets as they move."""

import click


@click.command()
def demo() -> None:
    r"""Send one item through each channel, and show the tickets as they move.

    \b
    Example:  intake demo

    A mail by SMTP, a signed form by HTTP, a workbook saved into the watched folder, a call. Then
    the four tickets are worked through to 6-Completed; for one customer in all four that sends one
    survey. Uses the system that runs on this INTAKE_HOME, or starts one of its own in a temporary
    folder. Exit code 0 only if every step succeeds.
    """
    from console.demo.run import run_demo

    run_demo()
