"""One reason to refuse a request."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reason:
    """``step``: a step of the explanation of a token. "" for a reason of several steps, or of none."""

    step: str
    meaning: str
    remedy: str
