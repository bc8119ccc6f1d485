"""`[workers]`: whether renderer and scorer run in local processes or on many Ray workers."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from bigpe.services.core.values import Value


class WorkerScalingConfig(Value):
    """`[workers.render]` and `[workers.score]`: number and resources of the workers of one kind."""

    min: int = Field(default=1, ge=1, le=4096)
    """Workers that always run."""
    max: int = Field(default=1, ge=1, le=4096)
    """Largest number of workers; another worker starts when all are busy."""
    cpus: float = Field(default=1.0, ge=0, le=512)
    """CPU cores that Ray reserves for each worker."""
    gpus: float = Field(default=0.0, ge=0, le=64)
    """GPUs of each worker; 0.25 puts four workers on one GPU."""
    idle_s: float = Field(default=120.0, gt=0)
    """Idle time after which a worker beyond `min` ends, seconds."""

    @model_validator(mode="after")
    def _ordered(self) -> WorkerScalingConfig:
        if self.max < self.min:
            raise ValueError(f"max = {self.max} is less than min = {self.min}")
        return self


class WorkersConfig(Value):
    """`[workers]`: where the models run that are not HTTP services."""

    backend: Literal["local", "ray"] = "local"
    """"local": processes on this machine; "ray": Ray actors (pip install 'bigpe[ray]')."""
    address: str | None = None
    """Address of a Ray cluster: "auto", or what its head node prints; None: start Ray here."""
    render: WorkerScalingConfig = WorkerScalingConfig()
    score: WorkerScalingConfig = WorkerScalingConfig()
