"""What every section of the configuration is: a frozen record that knows its keys."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """Root of the configuration's sections; an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)
