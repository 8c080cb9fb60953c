"""`mlway retrain`: ask for a training, which the product's sensor opens."""

from typing import Annotated

import typer

from mlway_assets.terminal import EnvironmentOption, choose, clear_errors, console


def retrain(
    product: Annotated[str, typer.Argument(help="A product.")],
    reason: Annotated[str, typer.Option("--reason", help="It is recorded with the run.")],
    environment: EnvironmentOption = None,
) -> None:
    """Ask for a training. The sensor opens one for all who ask, or counts it to the one that is on its way."""
    with clear_errors():
        choose(environment)
        import getpass

        from configs.clock import build_clock
        from configs.environments import SystemClock
        from mlway_assets.local.graph import require_products
        from mlway_assets.resources import open_platform
        from serving.training_requests import TrainingRequests

        platform = open_platform()
        require_products(platform, [product])
        inbox = TrainingRequests(platform.environment.training_requests_folder)
        now = build_clock(SystemClock(kind="system")).now()  # people ask by the machine's clock, as answers are given
        request = inbox.add(product, reason, getpass.getuser(), now)
        console.print(
            f"Asked, as {request.id}: Dagster's sensor retrain_{product} opens the training.", highlight=False
        )
