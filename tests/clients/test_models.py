"""Several models on one emulated card: loaded on demand, kept, unloaded, refused."""

import pathlib
import sys
from concurrent.futures import ThreadPoolExecutor

import ollama
import openai
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "campaign"))

import rig  # noqa: E402

QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
# Of the card's 7040 MiB as much is left as two of the demo model need (170 MiB each, 128 in
# reserve, and more while one loads), and no third.
TAKEN_MIB = 6470


def other(name, rest=""):
    return f'[[model.others]]\ndir = "{rig.MODEL}"\nname = "{name}"\n{rest}'


@pytest.fixture(scope="module")
def appliance(tmp_path_factory):
    extra = other("second", 'aliases = ["gpt-4o-mini"]\ncontext = 512\n') + other("third", "keep_alive_s = -1\n")
    running = rig.Appliance(tmp_path_factory.mktemp("models"), extra=extra)
    running.wait_ready()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def client(appliance):
    return openai.OpenAI(base_url=appliance.base + "/v1", api_key="x", max_retries=0, timeout=120)


@pytest.fixture(scope="module")
def llama(appliance):
    return ollama.Client(host=appliance.base, timeout=120)


def ask(client, model, **more):
    answer = client.chat.completions.create(model=model, messages=QUESTION, temperature=0, max_tokens=12, **more)
    return answer.model, answer.choices[0].message.content


def renew_worker(appliance):
    """The next worker comes up with the first model, and sees the card's memory anew."""
    restarts = appliance.status()["counters"]["restarts"]
    appliance.signal_worker(9)
    rig.wait_until(lambda: appliance.status()["counters"]["restarts"] > restarts, 60, "the next worker")
    appliance.wait_ready()


def loaded(llama):
    return sorted(model.model for model in llama.ps().models)


def test_every_model_is_listed_and_only_the_first_is_loaded(client, llama):
    assert [model.id for model in client.models.list()] == ["demo", "second", "gpt-4o-mini", "third"]
    assert [model.model for model in llama.list().models] == ["demo", "second", "gpt-4o-mini", "third"]
    assert loaded(llama) == ["demo"]
    assert client.models.retrieve("second").id == "second"
    assert llama.show("second").modelinfo["general.basename"] == "second"


def test_a_model_is_loaded_by_asking_for_it_and_told_by_name(client, llama, appliance):
    model, first = ask(client, "demo")
    assert model == "demo"
    model, text = ask(client, "gpt-4o-mini")
    assert (model, text) == ("second", first), "the same files answer the same"
    assert loaded(llama) == ["demo", "second"]
    at = {model.model: model for model in llama.ps().models}
    assert at["second"].context_length == 512 and at["demo"].context_length > 512
    assert at["second"].expires_at < at["demo"].expires_at
    assert client.models.retrieve("second").max_model_len == 512
    assert ask(client, "something else")[0] == "demo"
    assert 'model="second"' in appliance.metrics()


def test_a_model_is_loaded_and_unloaded_without_a_question(llama):
    assert llama.generate(model="second", keep_alive=0).done_reason == "unload"
    rig.wait_until(lambda: loaded(llama) == ["demo"], 60, "the unloading")
    assert llama.chat(model="second", messages=[], keep_alive="10m").done_reason == "load"
    assert loaded(llama) == ["demo", "second"]
    answer = llama.chat(model="second", messages=QUESTION, keep_alive=0, options={"num_predict": 4})
    assert answer.model == "second"
    rig.wait_until(lambda: loaded(llama) == ["demo"], 60, "the unloading after an answer")
    # The model that the appliance is for stays, whatever a client says.
    assert llama.generate(model="demo", keep_alive=0).done_reason == "unload"
    llama.chat(model="demo", messages=QUESTION, keep_alive=0, options={"num_predict": 4})
    assert loaded(llama) == ["demo"]


def test_requests_for_several_models_at_once_are_all_answered(client):
    expected = ask(client, "demo")[1]
    models = ["demo", "second", "third"] * 4
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda model: ask(client, model), models))
    assert answers == [(model, expected) for model in models]


def test_what_is_used_longest_ago_makes_room_and_what_is_kept_is_named(client, llama, appliance):
    appliance.breaks(kind="memory", mib=TAKEN_MIB, now=True, heals_at="never")
    renew_worker(appliance)
    incidents = appliance.status()["counters"]["incidents"]
    try:
        assert loaded(llama) == ["demo"]
        ask(client, "second")
        assert loaded(llama) == ["demo", "second"]
        # No room for three: what is not kept leaves, then what stays is in the way.
        ask(client, "third")
        assert loaded(llama) == ["demo", "third"]
        with pytest.raises(openai.InternalServerError) as refused:
            ask(client, "second")
        assert refused.value.status_code == 503
        message = refused.value.body["message"]
        assert "E-CARD-MEMORY" in message and "MiB are missing; always loaded: demo, third" in message
        assert ask(client, "demo")[0] == "demo"
        assert loaded(llama) == ["demo", "third"]
        assert appliance.status()["counters"]["incidents"] == incidents
    finally:
        appliance.heal()
        renew_worker(appliance)


def test_an_answer_of_another_model_survives_its_worker(client, appliance):
    expected = client.chat.completions.create(
        model="second", messages=QUESTION, temperature=0, max_tokens=60, logit_bias={"2": -100}
    )
    stream = client.chat.completions.create(
        model="second", messages=QUESTION, temperature=0, max_tokens=60, logit_bias={"2": -100}, stream=True
    )
    text, killed = "", False
    for piece in stream:
        text += piece.choices[0].delta.content or ""
        if text and not killed:
            appliance.signal_worker(9)
            killed = True
    assert killed and text == expected.choices[0].message.content
