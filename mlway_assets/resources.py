"""What assets work with, built from the environment: the declared project, the clock, the lake, the stores."""

from dataclasses import dataclass
from functools import cached_property

from configs.clock import Clock, build_clock
from configs.environments import Environment
from configs.load import Project, load_environment, load_project
from mlway_assets.compute.drift_judgement import Expectation, Expectations
from mlway_assets.compute.slice_quality import Promise
from mlway_assets.lake import Lake
from mlway_assets.registry import Registry


@dataclass(frozen=True)
class Platform:
    """One environment's platform. Opening it touches nothing; connections open where they are used."""

    project: Project
    environment: Environment

    @cached_property
    def clock(self) -> Clock:
        """The time now."""
        return build_clock(self.environment.clock)

    @cached_property
    def lake(self) -> Lake:
        """The tables."""
        return Lake(self.environment.lake)

    @cached_property
    def registry(self) -> Registry:
        """Runs and registered models."""
        return Registry(self.environment)

    @cached_property
    def expectations(self) -> Expectations[Expectation]:
        """What days are held against, for as long as the process runs."""
        return Expectations()

    @cached_property
    def promises(self) -> Expectations[Promise]:
        """What the quality of days is held against, for as long."""
        return Expectations()


def open_platform(environment: str | None = None) -> Platform:
    """The platform of an environment, by default that of MLWAY_ENVIRONMENT. Raises ConfigError."""
    return Platform(load_project(), load_environment(environment))
