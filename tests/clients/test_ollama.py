"""The official Ollama package against the real service: settings changed, no code."""

import asyncio
import datetime
import http.client
import json
import os
import signal
import urllib.request

import ollama
import pytest

ASK = [{"role": "user", "content": "Tell me a long story about a coyote in the desert."}]
SYSTEM = {"role": "system", "content": "You are Coyote. Answer in one sentence."}


@pytest.fixture
def chatter(service):
    return ollama.Client(host=service.base)


def greedy(tokens, **more):
    return {"temperature": 0, "num_predict": tokens, **more}


def ask(chatter, messages=ASK, tokens=20, **more):
    more.setdefault("options", greedy(tokens))
    return chatter.chat(model="any", messages=messages, **more)


def as_openai_says(client, messages=ASK, tokens=20):
    reply = client.chat.completions.create(
        model="any", messages=messages, max_tokens=tokens, temperature=0
    )
    return reply.choices[0].message.content


def numbers_are_right(reply, tokens):
    assert reply.done is True and reply.done_reason == "length"
    assert reply.eval_count == tokens and reply.prompt_eval_count > 0
    assert 0 < reply.eval_duration <= reply.total_duration
    assert 0 < reply.prompt_eval_duration <= reply.total_duration
    assert 0 <= reply.load_duration <= reply.total_duration
    # The package leaves it a text.
    made = datetime.datetime.fromisoformat(reply.created_at[:19] + "+00:00")
    assert abs((datetime.datetime.now(datetime.timezone.utc) - made).total_seconds()) < 60


def test_a_chat_says_what_it_says_in_the_other_dialect(client, chatter):
    for messages in (ASK, [SYSTEM, *ASK]):
        reply = ask(chatter, messages)
        assert reply.message.role == "assistant"
        assert reply.message.content == as_openai_says(client, messages)
        numbers_are_right(reply, 20)


def test_a_streamed_chat_gives_the_same_text(chatter):
    whole = ask(chatter)
    pieces = list(ask(chatter, stream=True))
    assert "".join(piece.message.content for piece in pieces) == whole.message.content
    assert [piece.done for piece in pieces] == [False] * (len(pieces) - 1) + [True]
    assert len(pieces) > 10
    numbers_are_right(pieces[-1], 20)


def test_streaming_is_what_happens_unless_told_otherwise(service):
    body = json.dumps({"model": "any", "messages": ASK, "options": greedy(3)}).encode()
    with urllib.request.urlopen(service.base + "/api/chat", body) as reply:
        assert reply.headers["content-type"] == "application/x-ndjson"
        lines = [json.loads(line) for line in reply.read().decode().splitlines()]
    assert lines[-1]["done"] is True and lines[0]["done"] is False


def test_a_prompt_says_what_the_same_conversation_says(client, chatter):
    prompt = ASK[0]["content"]
    reply = chatter.generate(model="any", prompt=prompt, options=greedy(20))
    assert reply.response == as_openai_says(client)
    numbers_are_right(reply, 20)
    pieces = list(chatter.generate(model="any", prompt=prompt, options=greedy(20), stream=True))
    assert "".join(piece.response for piece in pieces) == reply.response
    numbers_are_right(pieces[-1], 20)
    told = chatter.generate(
        model="any", system=SYSTEM["content"], prompt=prompt, options=greedy(20), context=[1, 2]
    )
    assert told.response == as_openai_says(client, [SYSTEM, *ASK])


def test_a_raw_prompt_is_taken_as_it_is(chatter):
    chat = ask(chatter, [SYSTEM, *ASK])
    rendered = "".join(f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n" for m in [SYSTEM, *ASK])
    raw = chatter.generate(
        model="any", raw=True, prompt=rendered + "<|im_start|>assistant\n", options=greedy(20)
    )
    assert (raw.response, raw.prompt_eval_count) == (chat.message.content, chat.prompt_eval_count)


def test_options_have_their_effect(chatter):
    whole = ask(chatter, tokens=60).message.content
    stop = whole[20:27]
    reply = ask(chatter, options=greedy(60, stop=[stop, "never in it"]))
    assert (reply.message.content, reply.done_reason) == (whole[: whole.index(stop)], "stop")
    assert ask(chatter, options={"top_k": 1, "num_predict": 60}).message.content == whole
    assert ask(chatter, options=greedy(60, repeat_penalty=1.8)).message.content != whole

    def seeded(seed):
        return ask(chatter, options={"temperature": 1.2, "seed": seed, "num_predict": 30}).message.content

    assert seeded(7) == seeded(7) != seeded(8)
    small = ask(chatter, options=greedy(-2, num_ctx=64))
    assert small.done_reason == "length"
    assert small.prompt_eval_count + small.eval_count == 64


def test_the_first_client_s_request_is_answered(service):
    body = {
        "model": "llama3.2:3b",
        "think": False,
        "keep_alive": -1,
        "stream": False,
        "options": {
            "temperature": 0.99,
            "top_k": 85,
            "top_p": 0.9,
            "repeat_last_n": 64,
            "repeat_penalty": 1.5,
            "num_predict": 20,
            "stop": ["#", "["],
        },
        "messages": [SYSTEM, *ASK, *ASK],
    }
    # Its guides leave the path out.
    for path in ("/api/chat", "", "/"):
        with urllib.request.urlopen(service.base + path, json.dumps(body).encode()) as reply:
            assert isinstance(json.load(reply)["message"]["content"], str)
    body = {"model": "ax650", "prompt": "What do you see?", "stream": False}
    with urllib.request.urlopen(service.base + "/api/generate", json.dumps(body).encode()) as reply:
        assert isinstance(json.load(reply)["response"], str)


def test_thinking_and_logprobs_are_taken(chatter):
    reply = ask(chatter, tokens=6, think=False, logprobs=True, top_logprobs=2)
    assert "".join(token.token for token in reply.logprobs) == reply.message.content
    assert all(len(token.top_logprobs) == 2 for token in reply.logprobs)
    assert ask(chatter, tokens=3, think=True).eval_count == 3


def test_an_empty_request_asks_for_the_model(chatter):
    assert chatter.chat(model="any", messages=[], keep_alive=-1).done_reason == "load"
    assert chatter.generate(model="any", keep_alive="5m").done_reason == "load"


@pytest.mark.parametrize(
    "wrong, told",
    [
        ({"options": {"temperature": "hot"}}, "options.temperature"),
        ({"options": {"num_predict": 1.5}}, "options.num_predict"),
        ({"options": {"stop": 5}}, "options.stop"),
        ({"messages": [{"role": "nobody", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": "x", "images": [b"image"]}]}, "messages[0].images"),
        ({"format": {"type": "nonsense"}}, "nonsense"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_a_wrong_request_is_refused_naming_the_parameter(chatter, wrong, told, stream):
    with pytest.raises(ollama.ResponseError) as refused:
        reply = ask(chatter, stream=stream, **wrong)
        list(reply)
    assert refused.value.status_code == 400
    assert told in refused.value.error


def test_what_is_not_offered_is_said_so(chatter):
    for call in (
        lambda: chatter.embed(model="any", input="x"),
        lambda: chatter.embeddings(model="any", prompt="x"),
        lambda: chatter.delete("smollm2-135m"),
        lambda: chatter.copy("smollm2-135m", "mine"),
        lambda: chatter.create(model="mine", from_="smollm2-135m"),
        lambda: chatter.push("smollm2-135m"),
    ):
        with pytest.raises(ollama.ResponseError) as refused:
            call()
        assert refused.value.status_code == 501 and isinstance(refused.value.error, str)
    with pytest.raises(ollama.ResponseError, match="does not support embeddings"):
        chatter.embed(model="any", input="x")


def test_the_model_that_is_there_can_be_pulled_and_no_other(chatter):
    assert chatter.pull("smollm2-135m").status == "success"
    steps = [step.status for step in chatter.pull("smollm2-135m:latest", stream=True)]
    assert steps[0] == "pulling manifest" and steps[-1] == "success"
    with pytest.raises(ollama.ResponseError) as refused:
        chatter.pull("llama3.2")
    assert refused.value.status_code == 404


def test_the_loaded_model_is_told(service, chatter):
    (listed,) = chatter.list().models
    assert listed.model == "smollm2-135m" and listed.size > 0 and len(listed.digest) == 64
    assert listed.modified_at.tzinfo is not None
    (running,) = chatter.ps().models
    assert running.digest == listed.digest and running.size_vram == running.size > 0
    assert running.expires_at > listed.modified_at
    context = service.get("/v1/status")["model"]["context"]
    assert running.context_length == context
    for name in ("smollm2-135m", "llama3.2:3b"):
        shown = chatter.show(name)
        architecture = shown.modelinfo["general.architecture"]
        assert shown.modelinfo[f"{architecture}.context_length"] == context
        assert "completion" in shown.capabilities
    assert ask(chatter, tokens=1).model == "smollm2-135m"


def test_the_root_and_the_version_are_what_clients_probe(service):
    assert [int(part) for part in service.get("/api/version")["version"].split(".")] >= [0, 6, 4]
    with urllib.request.urlopen(service.base) as reply:
        assert reply.read() == b"Ollama is running"
    connection = http.client.HTTPConnection(service.address)
    connection.request("HEAD", "/")
    assert connection.getresponse().status == 200
    connection.close()


def test_the_asynchronous_client_is_answered_too(service, chatter):
    async def talk():
        client = ollama.AsyncClient(host=service.base)
        whole = await client.chat(model="any", messages=ASK, options=greedy(12))
        stream = await client.chat(model="any", messages=ASK, options=greedy(12), stream=True)
        text = "".join([piece.message.content async for piece in stream])
        at_once = await asyncio.gather(
            *(client.generate(model="any", prompt=ASK[0]["content"], options=greedy(12)) for _ in range(3))
        )
        return whole.message.content, text, [reply.response for reply in at_once]

    expected = ask(chatter, tokens=12).message.content
    assert asyncio.run(talk()) == (expected, expected, [expected] * 3)


def test_a_client_that_goes_away_frees_the_card(service, chatter):
    stream = ask(chatter, tokens=-1, stream=True)
    next(stream)
    stream.close()
    # Answered although the abandoned answer would have taken far longer than its limit.
    assert ask(ollama.Client(host=service.base, timeout=20), tokens=2).eval_count == 2


def test_an_answer_survives_its_worker_s_death(service, chatter):
    options = {"temperature": 0.8, "seed": 3, "num_predict": 40}
    whole = ask(chatter, options=options).message.content
    text = ""
    for seen, piece in enumerate(ask(chatter, options=options, stream=True)):
        if seen == 10:
            os.kill(service.worker(), signal.SIGKILL)
        text += piece.message.content
    assert text == whole
