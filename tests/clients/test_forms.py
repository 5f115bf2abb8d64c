"""JSON of a schema and tool calls, drawn at temperature 1 from a model too small to manage by itself."""

import json
import os
import random

import jsonschema
import ollama
import openai
import pytest

# `make forms N=1000` asks for more.
REQUESTS = int(os.environ.get("FORMS", "24"))

WEATHER = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 1, "maximum": 7}},
    "required": ["city"],
    "additionalProperties": False,
}
TOOLS = [
    {"type": "function", "function": {"name": "weather", "description": "Tells the weather.", "parameters": WEATHER}},
    {"type": "function", "function": {"name": "close_door", "parameters": {"type": "object", "properties": {}}}},
]


def some_schema(chance, depth=0):
    """A schema of random shape: nested, with enumerations, lists, choices, unicode."""
    kinds = ["string", "short", "integer", "number", "boolean", "enum", "null", "const"]
    if depth < 3:
        kinds += ["object", "object", "array", "either"]
    kind = "object" if depth == 0 else chance.choice(kinds)
    if kind == "object":
        names = chance.sample(["name", "größe", "日本", "a b", "items", "x", "quote\"d", "n_1"], chance.randint(1, 4))
        return {
            "type": "object",
            "properties": {name: some_schema(chance, depth + 1) for name in names},
            "required": names[: chance.randint(0, len(names))],
            "additionalProperties": False,
        }
    if kind == "array":
        least = chance.randint(0, 2)
        return {
            "type": "array",
            "items": some_schema(chance, depth + 1),
            "minItems": least,
            "maxItems": least + chance.randint(0, 3),
        }
    return {
        "string": {"type": "string"},
        "short": {"type": "string", "minLength": 1, "maxLength": chance.randint(1, 12)},
        "integer": {"type": "integer", "minimum": -5, "maximum": chance.randint(0, 5000)},
        "number": {"type": "number"},
        "boolean": {"type": "boolean"},
        "enum": {"enum": ["red", "grün", "青", 7, None]},
        "null": {"type": "null"},
        "const": {"const": "fixed"},
        "either": {"anyOf": [{"type": "string", "maxLength": 8}, {"type": "integer", "minimum": 0}]},
    }[kind]


def form(schema):
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": True}}


def test_every_answer_is_json_of_its_schema(client):
    for seed in range(REQUESTS):
        schema = some_schema(random.Random(seed))
        reply = client.chat.completions.create(
            model="any",
            messages=[{"role": "user", "content": "Fill in the form."}],
            response_format=form(schema),
            temperature=1,
            seed=seed,
            max_tokens=400,
        )
        text = reply.choices[0].message.content
        try:
            jsonschema.validate(json.loads(text), schema)
        except (ValueError, jsonschema.ValidationError) as error:
            pytest.fail(f"seed {seed}: {error}\n{schema}\n{text}")
        assert reply.choices[0].finish_reason == "stop"


def test_any_object_where_no_schema_is_given(client):
    for seed in range(3):
        reply = client.chat.completions.create(
            model="any",
            messages=[{"role": "user", "content": "Tell me about rain as JSON."}],
            response_format={"type": "json_object"},
            temperature=1,
            seed=seed,
            max_tokens=60,
        )
        assert isinstance(json.loads(reply.choices[0].message.content), dict)


def test_a_form_is_streamed_as_it_is_given_whole(client):
    asked = dict(
        model="any",
        messages=[{"role": "user", "content": "Fill in the form."}],
        response_format=form(WEATHER),
        temperature=1,
        seed=5,
    )
    whole = client.chat.completions.create(**asked).choices[0].message.content
    stream = client.chat.completions.create(stream=True, **asked)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == whole


def ask_tools(client, **options):
    messages = [{"role": "user", "content": "How is the weather in Rome?"}]
    options = {"temperature": 1, "seed": 3, "tools": TOOLS} | options
    return client.chat.completions.create(model="any", messages=messages, **options)


def test_a_demanded_call_has_arguments_of_its_schema(client):
    for seed in range(4):
        reply = ask_tools(client, tool_choice="required", parallel_tool_calls=False, seed=seed)
        (choice,) = reply.choices
        (call,) = choice.message.tool_calls
        assert choice.finish_reason == "tool_calls" and call.type == "function" and call.id
        arguments = json.loads(call.function.arguments)
        if call.function.name == "weather":
            jsonschema.validate(arguments, WEATHER)
        else:
            assert call.function.name == "close_door"


def test_a_named_tool_is_called_and_streamed_in_pieces(client):
    named = {"type": "function", "function": {"name": "weather"}}
    whole = ask_tools(client, tool_choice=named).choices[0].message.tool_calls[0]
    name, arguments, ids, pieces, finish = "", "", set(), 0, None
    for chunk in ask_tools(client, tool_choice=named, stream=True):
        for choice in chunk.choices:
            finish = choice.finish_reason or finish
            for call in choice.delta.tool_calls or []:
                assert call.index == 0
                pieces += 1
                ids |= {call.id} - {None}
                name += call.function.name or ""
                arguments += call.function.arguments or ""
    assert (name, arguments, finish) == ("weather", whole.function.arguments, "tool_calls")
    assert len(ids) == 1 and pieces > 2
    jsonschema.validate(json.loads(arguments), WEATHER)


def test_responses_call_tools_and_go_on_with_what_they_gave(client):
    asked = [{"role": "user", "content": "How is the weather in Rome?"}]
    tools = [{"type": "function", "strict": True} | tool["function"] for tool in TOOLS]
    named = {"type": "function", "name": "weather"}
    options = {"model": "any", "tools": tools, "temperature": 1, "extra_body": {"seed": 3}}
    reply = client.responses.create(input=asked, tool_choice=named, **options)
    (call,) = reply.output
    assert (call.type, call.name, call.status, reply.status) == ("function_call", "weather", "completed", "completed")
    jsonschema.validate(json.loads(call.arguments), WEATHER)
    # The official package puts the stream together again.
    with client.responses.stream(input=asked, tool_choice=named, **options) as stream:
        pieces = [event.delta for event in stream if event.type == "response.function_call_arguments.delta"]
        (streamed,) = stream.get_final_response().output
    assert "".join(pieces) == streamed.arguments == call.arguments and len(pieces) > 2
    given = {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}
    after = client.responses.create(input=[*asked, call, given], tool_choice="none", max_output_tokens=20, **options)
    assert after.output_text and [item.type for item in after.output] == ["message"]


def test_a_conversation_goes_on_after_a_call(client):
    messages = [
        {"role": "user", "content": "How is the weather in Rome?"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Rome"}'}}
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "sunny"},
    ]
    reply = client.chat.completions.create(
        model="any", messages=messages, tools=TOOLS, tool_choice="none", max_tokens=20, temperature=0
    )
    message = reply.choices[0].message
    assert message.content and message.tool_calls is None


@pytest.mark.parametrize(
    "wrong, words",
    [
        ({"response_format": form({"type": "nonsense"})}, "nonsense"),
        ({"response_format": form({"$ref": "http://127.0.0.1:9/x"})}, "form"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        ({"response_format": {"type": "grammar"}}, "response_format.type"),
        ({"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "none"}}}, "tool_choice"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name"),
    ],
)
def test_what_cannot_be_held_to_is_refused(client, wrong, words):
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model="any", messages=[{"role": "user", "content": "a"}], **wrong)
    assert words in str(refused.value)


def test_ollama_forms_and_tools(service):
    talk = ollama.Client(host=service.base)
    asked = [{"role": "user", "content": "How is the weather in Rome?"}]
    options = {"temperature": 1, "seed": 2, "num_predict": 200}
    reply = talk.chat("any", asked, format=WEATHER, options=options)
    jsonschema.validate(json.loads(reply.message.content), WEATHER)
    reply = talk.generate("any", "Tell me about rain as JSON.", format="json", options=options)
    assert isinstance(json.loads(reply.response), dict)
    # A demand is beyond Ollama's own parameters.
    body = {"model": "any", "messages": asked, "tools": TOOLS, "tool_choice": "required", "stream": False}
    reply = talk._request(ollama.ChatResponse, "POST", "/api/chat", json=body | {"options": options})
    call = reply.message.tool_calls[0].function
    assert call.name in ("weather", "close_door") and isinstance(call.arguments, dict)
