"""What all words of the operator's document have in common."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Name = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9_.-]{0,61}[a-z0-9])?$", description="lower case, at most 63")]
Seconds = Annotated[float, Field(gt=0, le=86_400)]


class Word(BaseModel):
    """Base of everything in the document: unknown keys are errors and nothing changes after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True)
