"""LangChain with its packages for OpenAI and Ollama."""

import ollama
import openai
import pytest
from langchain_core.exceptions import ContextOverflowError
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_ollama import ChatOllama
from langchain_openai import AzureChatOpenAI, ChatOpenAI

from asked import FORM_TOKENS, QUESTION, STOP, TOKENS, TOO_LONG, WEATHER, Animal, weather


def of_openai(service, tokens=TOKENS, path="/v1", **options):
    return ChatOpenAI(
        base_url=service.base + path, api_key="unused", model="any", max_retries=0, max_tokens=tokens, **options
    )


def of_azure(service, tokens=TOKENS, **options):
    return AzureChatOpenAI(
        azure_endpoint=service.base,
        api_key="unused",
        api_version="2024-10-21",
        azure_deployment="any",
        max_retries=0,
        max_tokens=tokens,
        **options,
    )


def of_ollama(service, tokens=TOKENS, path="", **options):
    return ChatOllama(base_url=service.base + path, model="any", num_predict=tokens, **options)


every = pytest.mark.parametrize("make", [of_openai, of_azure, of_ollama])


@every
def test_chat_stream_and_usage(service, make, expected, text):
    usage = {"input_tokens": expected.usage.prompt_tokens, "output_tokens": TOKENS}
    reply = make(service).invoke(QUESTION)
    assert reply.content == text and usage.items() <= reply.usage_metadata.items()
    # ChatOllama always tells it.
    streaming = make(service) if make is of_ollama else make(service, stream_usage=True)
    pieces = list(streaming.stream(QUESTION))
    whole = sum(pieces[1:], pieces[0])
    assert whole.content == text and len(pieces) > 3
    assert usage.items() <= whole.usage_metadata.items()


@every
def test_stop(service, make, text):
    reply = make(service).invoke(QUESTION, stop=[STOP])
    assert reply.content == text[: text.index(STOP)]


@every
@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
def test_structured_output(service, make, method):
    if (make, method) == (of_ollama, "function_calling"):
        pytest.skip("needs a model that calls of its own accord: Ollama's own API cannot demand a call")
    reply = make(service, FORM_TOKENS).with_structured_output(Animal, method=method).invoke("Name an animal.")
    assert isinstance(reply, Animal)


@every
def test_a_call_and_its_result(service, make):
    # ChatOllama cannot demand a call: the model is shown how.
    options = {} if make is of_ollama else {"tool_choice": "weather"}
    model = make(service, FORM_TOKENS).bind_tools([tool(weather)], **options)
    messages = [
        message
        for city in ("Oslo", "Rome")
        for message in (
            HumanMessage(f"How is the weather in {city}?"),
            AIMessage("", tool_calls=[{"name": "weather", "args": {"city": city}, "id": city}]),
        )
    ]
    messages.append(HumanMessage(WEATHER))
    reply = model.invoke(messages)
    (call,) = reply.tool_calls
    assert call["name"] == "weather" and call["args"]["city"] in ("Rome", "Oslo") and call["id"]
    pieces = list(model.stream(messages))
    (streamed,) = sum(pieces[1:], pieces[0]).tool_calls
    assert streamed["args"] == call["args"]
    result = ToolMessage(weather(**call["args"]), tool_call_id=call["id"])
    assert make(service).invoke([HumanMessage(WEATHER), reply, result]).content


def test_errors_of_openai(service):
    with pytest.raises(openai.BadRequestError, match="temperature"):
        of_openai(service, temperature=9).invoke(QUESTION)
    with pytest.raises(ContextOverflowError):
        of_openai(service).invoke(TOO_LONG)
    with pytest.raises(openai.NotFoundError):
        of_openai(service, path="/nowhere").invoke(QUESTION)


def test_errors_of_ollama(service):
    for wrong, question, status, words in [
        (of_ollama(service, temperature=9), QUESTION, 400, "options.temperature"),
        (of_ollama(service), TOO_LONG, 400, "E-CONTEXT"),
        (of_ollama(service, path="/api"), QUESTION, 404, "/api/api/chat"),
    ]:
        with pytest.raises(ollama.ResponseError, match=words) as refused:
            wrong.invoke(question)
        assert refused.value.status_code == status
