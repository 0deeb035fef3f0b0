"""A rollout in the words of the API. By itself, for workers import `status`, and must not import the store."""

from meridian.admin.status import RolloutStatus
from meridian.control.rollout_record import RolloutRecord


def rollout_status(record: RolloutRecord | None) -> RolloutStatus | None:
    """From the control room's words."""
    if record is None:
        return None
    own = RolloutStatus.model_fields.keys() & RolloutRecord.__dataclass_fields__.keys()
    return RolloutStatus(**{name: getattr(record, name) for name in own}, min_exchanges=record.rules.min_exchanges)
