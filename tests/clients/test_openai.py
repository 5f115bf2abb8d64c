"""The official OpenAI package against the real service: settings changed, no code."""

import json
import os
import pathlib
import signal
import threading
import time
import urllib.request

import openai
import pytest

GOLDEN = json.loads(
    (pathlib.Path(__file__).parents[1] / "golden/smollm2-135m-greedy.json").read_text()
)["cases"]
ASK = [{"role": "user", "content": "Tell me a long story about a coyote in the desert."}]


def ask(client, messages=ASK, **options):
    options.setdefault("model", "any")
    options.setdefault("temperature", 0)
    return client.chat.completions.create(messages=messages, **options)


def streamed(stream):
    """Text, finish reason and usage of a streamed answer."""
    text, finish, usage = "", None, None
    for chunk in stream:
        usage = chunk.usage or usage
        for choice in chunk.choices:
            text += choice.delta.content or ""
            finish = choice.finish_reason or finish
    return text, finish, usage


@pytest.mark.parametrize("case", GOLDEN, ids=[str(i) for i in range(len(GOLDEN))])
def test_greedy_answers_begin_as_the_reference_engine_s(client, case):
    reply = ask(client, case["messages"], max_tokens=len(case["token_ids"]))
    stable = case["stable_text"].removesuffix("<|im_end|>")
    assert reply.choices[0].message.content[: len(stable)] == stable  # empty where a near tie comes first
    assert reply.usage.prompt_tokens == len(case["prompt_token_ids"])


def test_an_answer_has_every_field_of_the_published_schema(client):
    reply = ask(client, max_tokens=5).model_dump(mode="json")
    assert reply["object"] == "chat.completion" and reply["id"].startswith("chatcmpl-")
    (choice,) = reply["choices"]
    assert choice["logprobs"] is None and choice["finish_reason"] == "length"
    assert choice["message"]["refusal"] is None and choice["message"]["role"] == "assistant"
    assert reply["usage"]["completion_tokens"] == 5
    assert reply["usage"]["total_tokens"] == reply["usage"]["prompt_tokens"] + 5


def test_streaming_gives_the_same_text_and_the_usage(client):
    whole = ask(client, max_tokens=30)
    text, finish, usage = streamed(
        ask(client, max_tokens=30, stream=True, stream_options={"include_usage": True})
    )
    assert text == whole.choices[0].message.content
    assert finish == whole.choices[0].finish_reason
    assert usage.completion_tokens == whole.usage.completion_tokens


def test_a_stream_ends_with_done(service):
    body = json.dumps({"model": "any", "messages": ASK, "max_tokens": 3, "stream": True}).encode()
    with urllib.request.urlopen(service.base + "/v1/chat/completions", body) as reply:
        assert reply.headers["content-type"].startswith("text/event-stream")
        lines = [line for line in reply.read().decode().splitlines() if line]
    assert lines[-1] == "data: [DONE]"


def test_max_completion_tokens_is_obeyed_as_max_tokens_is(client):
    assert ask(client, max_completion_tokens=4).usage.completion_tokens == 4


def test_a_stop_string_ends_the_answer_and_is_never_sent(client):
    whole = ask(client, max_tokens=60).choices[0].message.content
    stop = whole[20:27]
    reply = ask(client, max_tokens=60, stop=[stop, "never in it"])
    assert reply.choices[0].message.content == whole[: whole.index(stop)]
    assert reply.choices[0].finish_reason == "stop"
    text, finish, _ = streamed(ask(client, max_tokens=60, stop=stop, stream=True))
    assert (text, finish) == (whole[: whole.index(stop)], "stop")


def test_the_same_seed_gives_the_same_text_and_another_seed_another(client):
    texts = [
        ask(client, temperature=1.2, seed=seed, max_tokens=40).choices[0].message.content
        for seed in (7, 7, 8)
    ]
    assert texts[0] == texts[1] != texts[2]


def test_logprobs_come_with_alternatives(client):
    reply = ask(client, max_tokens=6, logprobs=True, top_logprobs=3)
    content = reply.choices[0].logprobs.content
    assert len(content) == 6
    for token in content:
        assert len(token.top_logprobs) == 3
        assert token.top_logprobs[0].token == token.token  # greedy
        assert token.logprob == token.top_logprobs[0].logprob <= 0
    assert "".join(t.token for t in content) == reply.choices[0].message.content


def test_the_first_client_s_request_is_answered(client):
    reply = ask(
        client,
        [{"role": "system", "content": "You are Coyote."}, *ASK, *ASK],
        temperature=0.9,
        max_tokens=25,
        top_p=0.95,
        frequency_penalty=0,
        presence_penalty=0,
        stop=None,
    )
    assert isinstance(reply.choices[0].message.content, str)


def test_unknown_fields_are_ignored_and_text_parts_joined(client):
    parts = [{"type": "text", "text": ASK[0]["content"][:10]}, {"type": "text", "text": ASK[0]["content"][10:]}]
    odd = ask(client, [{"role": "user", "content": parts}], max_tokens=8, extra_body={"nobody": {"knows": 1}})
    assert odd.usage.prompt_tokens >= ask(client, max_tokens=8).usage.prompt_tokens


@pytest.mark.parametrize(
    "options, param",
    [
        ({"temperature": "hot"}, "temperature"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"stop": [str(i) for i in range(17)]}, "stop"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "nobody", "content": "x"}]}, "messages"),
    ],
)
def test_a_wrong_request_is_refused_naming_the_parameter(client, options, param):
    with pytest.raises(openai.BadRequestError) as refused:
        ask(client, **options)
    assert refused.value.body["param"].startswith(param)
    assert refused.value.body["type"] == "invalid_request_error"


def test_models_are_listed_and_unknown_ones_not_found(client):
    models = client.models.list().data
    assert [m.id for m in models] == ["smollm2-135m"]
    assert client.models.retrieve("smollm2-135m").object == "model"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-4")


def test_a_client_that_goes_away_frees_the_card(service, client):
    stream = ask(client, max_tokens=1500, stream=True)
    next(iter(stream))
    stream.close()
    # Answered although the abandoned answer would have taken far longer than its limit.
    reply = service.client().with_options(timeout=20).chat.completions.create(
        model="any", messages=ASK, max_tokens=2
    )
    assert reply.usage.completion_tokens == 2


def test_requests_at_once_are_queued_and_all_answered(client):
    alone = ask(client, max_tokens=12).choices[0].message.content
    texts = [None] * 6

    def run(i):
        texts[i] = ask(client, max_tokens=12).choices[0].message.content

    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(texts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert texts == [alone] * len(texts)


def test_fifty_turns_outgrow_the_context_and_are_still_answered(service, client):
    messages = [{"role": "system", "content": "You are a coyote. You answer in one sentence."}]
    cached = []
    for turn in range(50):
        filler = f"Turn {turn}. " + "The desert is wide and the night is long. " * 6
        messages.append({"role": "user", "content": filler + "What do you see?"})
        reply = ask(client, messages, max_tokens=24)
        text = reply.choices[0].message.content
        assert isinstance(text, str) and reply.usage.completion_tokens > 0
        messages.append({"role": "assistant", "content": text})
        cached.append(reply.usage.prompt_tokens_details.cached_tokens / reply.usage.prompt_tokens)
    context = service.get("/v1/status")["model"]["context"]
    assert reply.usage.prompt_tokens + 24 <= context
    assert reply.usage.prompt_tokens < sum(len(m["content"]) for m in messages) / 5, "nothing was trimmed"
    assert sum(c > 0.5 for c in cached) >= 35, "most turns find their beginning on the card"


def test_an_answer_survives_its_worker_s_death_at_every_tenth_token(service, client):
    options = {"temperature": 0.8, "seed": 3, "max_tokens": 60}
    whole = ask(client, **options).choices[0].message.content
    for at in range(10, 60, 10):
        text = ""
        for seen, chunk in enumerate(ask(client, stream=True, **options)):
            if seen == at:
                os.kill(service.worker(), signal.SIGKILL)
            for choice in chunk.choices:
                text += choice.delta.content or ""
        assert text == whole
    deadline = time.monotonic() + 60
    while service.worker() is None and time.monotonic() < deadline:
        pass
    assert service.get("/v1/status")["counters"]["restarts"] >= 5
