"""What all sections of the configuration have in common."""

from __future__ import annotations

from pydantic import ConfigDict

from tasks.artifacts import Record


class Settings(Record):
    """Base of the configuration's sections: numbers are finite (JSON, which carries them between sites, has no inf)."""

    model_config = ConfigDict(allow_inf_nan=False)
