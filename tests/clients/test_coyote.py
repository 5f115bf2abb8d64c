"""The first client, coyote_interactive: what it sends to each of its three back ends, turn for turn."""

import itertools
import json

import openai
import pytest
import requests

from conftest import Service

TURNS = 60
# Small, so that conversations outgrow it soon.
CONTEXT = 1024
SYSTEM = "You are Coyote, a trickster who lives in a television set. Answer in one or two sentences."
OVERHEARD = "He said that the river was dry and she said that it had never been a river at all. "


@pytest.fixture(scope="module")
def appliance(tmp_path_factory):
    running = Service(tmp_path_factory.mktemp("coyote"), f"context = {CONTEXT}\n")
    yield running
    running.stop()


def heard(turn):
    """What a visitor says, or what the microphone made of it."""
    if turn % 10 == 9:
        return f"Transcript {turn}: " + OVERHEARD * 8
    return f"Visitor {turn} asks: what do you see in the desert tonight?"


def as_sent_back(answer):
    """How it keeps an answer: with the escapes of JSON, without asterisks and quotation marks."""
    return json.dumps(answer)[1:-1].replace("*", "").replace('\\"', "").replace('"', "")


def ever_growing(ask):
    """Two thirds of a visit, a reset, and the rest; sometimes two people speak in a row."""
    messages = [{"role": "system", "content": SYSTEM}]
    lengths = []
    for turn in range(TURNS):
        if turn == TURNS // 2:
            messages = messages[:1]
        messages.append({"role": "user", "content": heard(turn)})
        if turn % 7 == 3:
            messages.append({"role": "user", "content": "And another voice: tell us more."})
        answer, prompt_tokens = ask(messages)
        assert isinstance(answer, str)
        messages.append({"role": "assistant", "content": as_sent_back(answer)})
        lengths.append(prompt_tokens)
    assert all(length < CONTEXT for length in lengths)
    # Something was left out: what was kept of some turn is shorter than of the one before.
    assert any(after < before for before, after in zip(lengths[:29], lengths[1:29]))
    assert lengths[TURNS // 2] < lengths[0] + 20, "a reset begins anew"


def test_azure(appliance):
    client = openai.AzureOpenAI(
        # Older versions double the slash.
        azure_endpoint=appliance.base + "/",
        api_key="secret",
        api_version="2024-02-15-preview",
        timeout=600,
        max_retries=0,
    )
    cached = []

    def ask(messages):
        reply = client.chat.completions.create(
            model="coyote-gpt-4",
            messages=messages,
            temperature=0.9,
            max_tokens=125,
            top_p=0.95,
            frequency_penalty=0,
            presence_penalty=0,
            stop=None,
        )
        usage = reply.usage
        assert usage.completion_tokens <= 125
        cached.append(usage.prompt_tokens_details.cached_tokens > usage.prompt_tokens / 2)
        return reply.choices[0].message.content, usage.prompt_tokens

    ever_growing(ask)
    # Every few turns the oldest ones go, and most of the prompt is new to the card.
    assert sum(cached) > TURNS / 4, cached


def test_ollama(appliance):
    # The URL is a setting: normally with the path, in its guides only host and port.
    urls = itertools.cycle([appliance.second + "/api/chat", appliance.second])

    def ask(messages):
        reply = requests.post(
            next(urls),
            json={
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
                    "num_predict": 100,
                    "stop": ["#", "["],
                },
                "messages": messages,
            },
        )
        # It never looks at the status.
        answer = reply.json()
        assert answer["done"] is True and answer["eval_count"] <= 100
        assert not set("#[") & set(answer["message"]["content"])
        return answer["message"]["content"], answer["prompt_eval_count"]

    ever_growing(ask)


class Resident:
    """The back end `ax650`: the server keeps the conversation."""

    def __init__(self, appliance):
        self.appliance = appliance

    def reset(self):
        stopped = requests.get(self.appliance.base + "/api/stop", timeout=30)
        stopped.raise_for_status()
        body = {"system_prompt": SYSTEM}
        reset = requests.post(self.appliance.base + "/api/reset", json=body, timeout=30)
        reset.raise_for_status()
        assert stopped.json() == reset.json() == {"status": "ok"}

    def ask(self, prompt):
        body = {"model": "qwen3", "prompt": prompt, "stream": False}
        reply = requests.post(self.appliance.second + "/api/generate", json=body, timeout=30)
        reply.raise_for_status()
        answer = reply.json()
        assert isinstance(answer["response"], str) and answer["eval_count"] <= 80
        return answer["response"], answer["prompt_eval_count"]


def test_ax650(appliance):
    coyote = Resident(appliance)
    coyote.reset()
    lengths = []
    for turn in range(TURNS):
        if turn == TURNS // 2:
            coyote.reset()
        _, length = coyote.ask(heard(turn))
        lengths.append(length)
    assert all(length < CONTEXT for length in lengths)
    assert lengths[1] > lengths[0] + 20, "the second prompt has the first turn before it"
    assert any(after < before for before, after in zip(lengths[:29], lengths[1:29]))
    assert abs(lengths[TURNS // 2] - lengths[0]) < 5, "a reset begins anew"


def test_the_resident_conversation_is_the_one_that_was_held(appliance):
    coyote = Resident(appliance)
    coyote.reset()
    first, _ = coyote.ask(heard(0))
    _, length = coyote.ask(heard(1))
    # The same as messages is the same prompt, and it is on the card.
    messages = [
        {"role": "system", "content": SYSTEM},
        {"role": "user", "content": heard(0)},
        {"role": "assistant", "content": first},
        {"role": "user", "content": heard(1)},
    ]
    usage = appliance.client().chat.completions.create(model="any", messages=messages, max_tokens=1).usage
    assert usage.prompt_tokens == length
    assert usage.prompt_tokens_details.cached_tokens == length - 1
