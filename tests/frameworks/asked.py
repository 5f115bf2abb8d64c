"""What every framework is asked."""

from typing import Literal

from pydantic import BaseModel, Field

QUESTION = "Tell me about coyotes."
TOKENS = 24
# Room for a form or a call.
FORM_TOKENS = 64
# Of the answer's middle.
STOP = "wildlife"
# More tokens than the demo model's context.
TOO_LONG = "word " * 3000
WEATHER = "How is the weather in Rome?"


class Animal(BaseModel):
    """An animal."""

    name: str = Field(max_length=12)
    legs: int = Field(ge=0, le=8)


class Place(BaseModel):
    """Tells the weather of a city."""

    city: Literal["Rome", "Oslo"]


def weather(city: Literal["Rome", "Oslo"]) -> str:
    """Tells the weather of a city."""
    return f"The sun shines in {city}."
