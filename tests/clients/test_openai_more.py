"""Azure's client, several answers, completions and responses: the official package judges."""

import openai
import pytest

from conftest import Service
from test_openai import ASK, ask, streamed

STORY = "Once upon a time a coyote"


@pytest.fixture
def azure(service):
    return openai.AzureOpenAI(
        azure_endpoint=service.base, api_key="any", api_version="2024-10-21", timeout=300, max_retries=0
    )


def test_azure_s_client_gets_what_openai_s_gets(client, azure):
    whole = ask(client, max_tokens=16).choices[0].message.content
    assert ask(azure, max_tokens=16).choices[0].message.content == whole
    assert streamed(ask(azure, max_tokens=16, stream=True))[0] == whole
    with pytest.raises(openai.BadRequestError) as refused:
        ask(azure, temperature="hot")
    assert refused.value.body["param"] == "temperature"


def test_the_next_generation_of_azure_s_paths(service, client):
    newer = openai.OpenAI(base_url=service.base + "/openai/v1/", api_key="any", max_retries=0)
    assert [model.id for model in newer.models.list()] == ["smollm2-135m"]
    same = [ask(talker, max_tokens=8).choices[0].message.content for talker in (newer, client)]
    assert same[0] == same[1]


def test_several_answers_differ_and_come_again(client):
    options = {"n": 3, "temperature": 1.2, "seed": 5, "max_tokens": 12}
    texts = [[c.message.content for c in ask(client, **options).choices] for _ in range(2)]
    assert texts[0] == texts[1] and len(set(texts[0])) == 3
    alone = ask(client, **{**options, "n": 1})
    assert alone.choices[0].message.content == texts[0][0]
    pieces = {}
    for chunk in ask(client, stream=True, stream_options={"include_usage": True}, **options):
        usage = chunk.usage
        for choice in chunk.choices:
            pieces[choice.index] = pieces.get(choice.index, "") + (choice.delta.content or "")
    assert [pieces[index] for index in range(3)] == texts[0]
    assert usage.prompt_tokens == alone.usage.prompt_tokens and usage.completion_tokens <= 36


def test_completions_continue_text(client):
    options = {"model": "any", "prompt": STORY, "max_tokens": 12, "temperature": 0}
    whole = client.completions.create(**options, logprobs=2)
    (choice,) = whole.choices
    assert whole.object == "text_completion" and choice.finish_reason == "length"
    assert whole.usage.completion_tokens == 12
    logprobs = choice.logprobs
    assert "".join(logprobs.tokens) == choice.text
    assert logprobs.text_offset[1] == len(logprobs.tokens[0]) and len(logprobs.top_logprobs[0]) == 2
    streamed_text = "".join(piece.choices[0].text for piece in client.completions.create(**options, stream=True))
    assert streamed_text == choice.text
    both = client.completions.create(**{**options, "prompt": [STORY, "The desert"]})
    assert both.choices[0].text == choice.text and both.choices[1].index == 1
    for wrong, param in [({"echo": True}, "echo"), ({"suffix": "end"}, "suffix"), ({"prompt": [1, 2]}, "prompt")]:
        with pytest.raises(openai.BadRequestError) as refused:
            client.completions.create(**{**options, **wrong})
        assert refused.value.body["param"] == param


def test_responses_say_what_chat_completions_say(client):
    chat = ask(client, [{"role": "system", "content": "You are Coyote."}, *ASK], max_tokens=16)
    expected = chat.choices[0].message.content
    options = {"model": "any", "instructions": "You are Coyote.", "max_output_tokens": 16, "temperature": 0}
    reply = client.responses.create(input=ASK[0]["content"], **options)
    assert reply.output_text == expected and reply.object == "response"
    assert reply.status == "incomplete" and reply.incomplete_details.reason == "max_output_tokens"
    assert reply.usage.input_tokens == chat.usage.prompt_tokens and reply.usage.output_tokens == 16
    assert client.responses.create(input=ASK, **options).output_text == expected

    events = list(client.responses.create(input=ASK, stream=True, **options))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert events[0].type == "response.created" and events[-1].type == "response.incomplete"
    assert "".join(e.delta for e in events if e.type == "response.output_text.delta") == expected
    assert events[-1].response.output_text == expected
    # The package's own helper wants an answer that ended by itself.
    stop = expected[8:14]
    with client.responses.stream(input=ASK, extra_body={"stop": stop}, **options) as stream:
        final = stream.until_done().get_final_response()
    assert (final.output_text, final.status) == (expected[: expected.index(stop)], "completed")
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(reply.id)
    with pytest.raises(openai.BadRequestError) as refused:
        client.responses.create(input="Hi", model="any", previous_response_id=reply.id)
    assert refused.value.body["param"] == "previous_response_id"


def test_a_sentence_is_spoken_where_configured(tmp_path):
    """On one of two addresses; the queue is full, so that the service can only refuse."""
    text = "The coyote is asleep."
    appliance = Service(tmp_path, "[limits]\nqueue = 0\n", spoken=text)
    try:
        running = ask(appliance.client(), stream=True, max_tokens=10_000, logit_bias={"2": -100})
        next(running)
        spoken = openai.OpenAI(base_url=appliance.second + "/v1", api_key="any", max_retries=0)
        reply = spoken.chat.completions.with_raw_response.create(model="any", messages=ASK)
        assert reply.headers["x-llm8850-fallback"] == "E-BUSY"
        assert reply.parse().choices[0].message.content == text
        assert streamed(ask(spoken, stream=True))[0] == text
        assert spoken.responses.create(model="any", input="Hi").output_text == text
        with pytest.raises(openai.RateLimitError):
            ask(appliance.client())
        running.close()
        assert appliance.get("/v1/status")["counters"]["spoken_fallbacks"] == 3
    finally:
        appliance.stop()


def test_an_answer_with_a_deadline_ends_before_its_limit(client):
    # Without the tokens that end an answer it would go on to the limit.
    reply = client.chat.completions.create(
        model="any",
        messages=[{"role": "user", "content": "Tell me a long story."}],
        temperature=0,
        max_tokens=1500,
        logit_bias={"0": -100, "2": -100},
        extra_body={"deadline_ms": 4000},
    )
    assert reply.choices[0].finish_reason == "length" and reply.choices[0].message.content
    assert 0 < reply.usage.completion_tokens < 1500


@pytest.mark.parametrize("name, value", [("x-priority", "urgent"), ("x-deadline-ms", "soon")])
def test_a_wrong_header_is_named(client, name, value):
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(
            model="any", messages=[{"role": "user", "content": "a"}], extra_headers={name: value}
        )
    assert name in str(refused.value)
