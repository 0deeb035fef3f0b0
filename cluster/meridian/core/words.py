"""What all words of the operator's document have in common."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from meridian.core.patterns import checked_pattern

FIELD_NAME = r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$"  # RFC 9110 section 5.6.2
Regex = Annotated[str, AfterValidator(checked_pattern)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9_.-]{0,61}[a-z0-9])?$", description="lower case, at most 63")]
Seconds = Annotated[float, Field(gt=0, le=86_400)]


class Word(BaseModel):
    """Base of everything in the document: unknown keys are errors and nothing changes after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)
