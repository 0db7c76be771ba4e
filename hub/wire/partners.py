"""Partners' paces between the partners file and the domain."""

from __future__ import annotations

from hub.domain.pace import PartnerPace, pace_to_json, read_pace
from schemas.models.partners import DeliveryIn


def pace(told: DeliveryIn | None) -> PartnerPace | None:
    """None: nothing is asked for. Raises Invalid, whose flaws begin inside `delivery`."""
    if told is None:
        return None
    found = read_pace(told.model_dump(by_alias=True, exclude_none=True))
    return None if found == PartnerPace() else found


def delivery_in(pace: PartnerPace) -> DeliveryIn:
    """The inverse."""
    return DeliveryIn.model_validate(pace_to_json(pace))
