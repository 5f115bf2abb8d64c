"""Pydantic AI with its providers for OpenAI and Ollama."""

import asyncio

import pytest
from pydantic_ai import Agent, ModelHTTPError, NativeOutput, ToolOutput
from pydantic_ai.models.ollama import OllamaModel
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.ollama import OllamaProvider
from pydantic_ai.providers.openai import OpenAIProvider

from asked import FORM_TOKENS, QUESTION, STOP, TOKENS, TOO_LONG, WEATHER, Animal, weather


def of_openai(service, path="/v1"):
    return OpenAIChatModel("any", provider=OpenAIProvider(base_url=service.base + path, api_key="unused"))


def of_ollama(service, path="/v1"):
    return OllamaModel("any", provider=OllamaProvider(base_url=service.base + path))


every = pytest.mark.parametrize("make", [of_openai, of_ollama])


def agent(model, tokens=TOKENS, **options):
    settings = {"max_tokens": tokens, **options.pop("settings", {})}
    return Agent(model, model_settings=settings, retries=0, **options)


@every
def test_chat_stream_and_usage(service, make, expected, text):
    def usage_is_right(usage):
        assert (usage.input_tokens, usage.output_tokens) == (expected.usage.prompt_tokens, TOKENS)

    async def streamed():
        async with agent(make(service)).run_stream(QUESTION) as reply:
            pieces = [piece async for piece in reply.stream_text(delta=True, debounce_by=None)]
            return pieces, reply.usage

    reply = agent(make(service)).run_sync(QUESTION)
    assert reply.output == text
    usage_is_right(reply.usage)
    pieces, usage = asyncio.run(streamed())
    assert "".join(pieces) == text and len(pieces) > 3
    usage_is_right(usage)


@every
def test_stop(service, make, text):
    reply = agent(make(service), settings={"stop_sequences": [STOP]}).run_sync(QUESTION)
    assert reply.output == text[: text.index(STOP)]


@every
@pytest.mark.parametrize("form", [NativeOutput, ToolOutput])
def test_structured_output(service, make, form):
    reply = agent(make(service), FORM_TOKENS, output_type=form(Animal)).run_sync("Name an animal.")
    assert isinstance(reply.output, Animal)


@every
def test_a_call_and_its_result(service, make):
    def settings(context):
        # The first step must call, the second one speaks.
        return {"max_tokens": FORM_TOKENS, "tool_choice": ["weather"] if context.run_step == 1 else "none"}

    asked = Agent(make(service), model_settings=settings, tools=[weather], retries=0)
    reply = asked.run_sync(WEATHER)
    parts = [part for message in reply.all_messages() for part in message.parts]
    (call,) = [part for part in parts if part.part_kind == "tool-call"]
    (result,) = [part for part in parts if part.part_kind == "tool-return"]
    assert call.tool_name == "weather" and result.content == weather(**call.args_as_dict())
    assert reply.output and reply.usage.requests == 2


@every
def test_errors(service, make):
    for model, settings, question, status, code in [
        (make(service), {"temperature": 9}, QUESTION, 400, "invalid_value"),
        (make(service), {}, TOO_LONG, 400, "context_length_exceeded"),
        (make(service, "/nowhere"), {}, QUESTION, 404, "unknown_url"),
    ]:
        with pytest.raises(ModelHTTPError) as refused:
            agent(model, settings=settings).run_sync(question)
        assert (refused.value.status_code, refused.value.body["code"]) == (status, code)
