"""`[pool]`: whether renderer and scorer work here or on many workers."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class WorkersConfig(BaseModel):
    """`[pool.render]` and `[pool.score]`: workers of one kind."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    min: int = Field(default=1, ge=1, le=4096)
    """Workers that are always there."""
    max: int = Field(default=1, ge=1, le=4096)
    """Workers at most; another is started when all are busy."""
    cpus: float = Field(default=1.0, ge=0, le=512)
    """CPU cores that Ray sets aside for each."""
    gpus: float = Field(default=0.0, ge=0, le=64)
    """GPUs for each; 0.25 puts four workers on one."""
    idle_s: float = Field(default=120.0, gt=0)
    """A worker beyond `min` that has had nothing to do for so long is ended, seconds."""

    @model_validator(mode="after")
    def _ordered(self) -> WorkersConfig:
        if self.max < self.min:
            raise ValueError(f"max = {self.max} is less than min = {self.min}")
        return self


class PoolConfig(BaseModel):
    """`[pool]`: where models that are not HTTP services run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    backend: Literal["local", "ray"] = "local"
    """"local": one process each on this machine; "ray": actors (pip install 'bigpe[ray]')."""
    address: str | None = None
    """Of a Ray cluster: "auto", or what its head node tells; None: a Ray of this run's own."""
    render: WorkersConfig = WorkersConfig()
    score: WorkersConfig = WorkersConfig()
