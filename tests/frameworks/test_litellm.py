"""LiteLLM by its three routes."""

import json
import os

# Or it would fetch its list of prices.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import litellm  # noqa: E402
import pytest  # noqa: E402

from asked import FORM_TOKENS, QUESTION, STOP, TOKENS, TOO_LONG, WEATHER, Animal, Place, weather  # noqa: E402

litellm.suppress_debug_info = True
PLACE = {**Place.model_json_schema(), "additionalProperties": False}
TOOL = {"type": "function", "function": {"name": "weather", "description": PLACE["description"], "parameters": PLACE}}


def by_openai(service, path="/v1"):
    return {"model": "openai/any", "api_base": service.base + path, "api_key": "unused"}


def by_azure(service, path=""):
    return {
        "model": "azure/any", "api_base": service.base + path, "api_key": "unused", "api_version": "2024-10-21"
    }


def by_ollama(service, path=""):
    return {"model": "ollama_chat/any", "api_base": service.base + path}


every = pytest.mark.parametrize("route", [by_openai, by_azure, by_ollama])


def ask(route, content=QUESTION, **options):
    messages = [{"role": "user", "content": content}] if isinstance(content, str) else content
    return litellm.completion(messages=messages, **{"max_tokens": TOKENS, "num_retries": 0, **route, **options})


@every
def test_chat_stream_and_usage(service, route, expected, text):
    reply = ask(route(service))
    assert reply.choices[0].message.content == text and reply.choices[0].finish_reason == "length"
    assert reply.usage.prompt_tokens == expected.usage.prompt_tokens
    assert reply.usage.completion_tokens == TOKENS
    pieces = list(ask(route(service), stream=True, stream_options={"include_usage": True}))
    assert "".join(piece.choices[0].delta.content or "" for piece in pieces if piece.choices) == text
    assert pieces[-1].usage.completion_tokens == TOKENS


@every
def test_stop(service, route, text):
    reply = ask(route(service), stop=[STOP])
    assert reply.choices[0].message.content == text[: text.index(STOP)]
    assert reply.choices[0].finish_reason == "stop"


@every
def test_structured_output(service, route):
    reply = ask(route(service), "Name an animal.", response_format=Animal, max_tokens=FORM_TOKENS)
    Animal.model_validate_json(reply.choices[0].message.content)


def called(city):
    function = {"name": "weather", "arguments": json.dumps({"city": city})}
    return {"role": "assistant", "content": None, "tool_calls": [{"id": city, "type": "function", "function": function}]}


@every
def test_a_call_and_its_result(service, route):
    # On Ollama's route no call can be demanded: the model is shown how.
    options = {} if route is by_ollama else {"tool_choice": "required"}
    asked = {"role": "user", "content": WEATHER}
    shown = [asked, called("Rome"), {"role": "user", "content": "And in Oslo?"}, called("Oslo"), asked]
    message = ask(route(service), shown, tools=[TOOL], max_tokens=FORM_TOKENS, **options).choices[0].message
    (call,) = message.tool_calls
    place = Place.model_validate_json(call.function.arguments)
    assert call.function.name == "weather" and call.id
    result = {"role": "tool", "tool_call_id": call.id, "content": weather(place.city)}
    reply = ask(route(service), [asked, message.model_dump(), result])
    assert reply.choices[0].message.content


@every
def test_errors(service, route):
    with pytest.raises(litellm.BadRequestError, match="temperature"):
        ask(route(service), temperature=9)
    # On its other routes it does not look for this one.
    wanted = litellm.ContextWindowExceededError if route is by_openai else litellm.BadRequestError
    with pytest.raises(wanted, match="E-CONTEXT"):
        ask(route(service), TOO_LONG)
    # It takes what OpenAI's route says of a wrong address for a wrong request, OpenAI's own answer too.
    wanted = litellm.BadRequestError if route is by_openai else litellm.NotFoundError
    with pytest.raises(wanted, match="/nowhere/"):
        ask(route(service, "/nowhere"))
