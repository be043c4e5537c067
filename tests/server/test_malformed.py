"""Every invalid request gets an error with a reason, and the next request is served."""

import json

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

INFER = "/v2/models/model/infer"
TEXT = {"name": "text", "shape": [1], "datatype": "BYTES", "data": ["red shoe"]}


async def answers(client, body: bytes) -> tuple[int, str]:
    answer = await client.post(INFER, content=body)
    return answer.status_code, answer.json().get("error", "")


@pytest.mark.survives(
    "Requests",
    "tensors of wrong shape, type, name or number",
    "400 with the path and the bound",
)
@pytest.mark.parametrize(
    ("inputs", "reason"),
    [
        ([TEXT | {"shape": [2]}], "inputs[0].shape is [2], but data has 1 elements"),
        ([TEXT | {"shape": [1, 1]}], "inputs[0].shape has 2 dimensions; text has one, [rows]"),
        ([TEXT | {"shape": []}], "inputs[0].shape has 0 dimensions; text has one, [rows]"),
        ([TEXT | {"shape": [-1]}], "inputs[0].shape is [-1]; rows must be 1 to 4096"),
        ([TEXT | {"shape": [True]}], "inputs[0].shape[0]: Input should be a valid integer"),
        ([TEXT | {"shape": [0], "data": []}], "inputs[0].shape is [0]; rows must be 1 to 4096"),
        (
            [TEXT | {"shape": [4097], "data": ["a"] * 4097}],
            "inputs[0].shape is [4097]; rows must be 1 to 4096",
        ),
        ([TEXT | {"datatype": "FP32"}], "inputs[0].datatype is 'FP32'; text must be BYTES"),
        ([TEXT | {"data": [1.5]}], "inputs[0].data[0] must be a string, not float"),
        ([TEXT | {"data": [None]}], "inputs[0].data[0] must be a string, not NoneType"),
        ([TEXT | {"data": [["a"]]}], "inputs[0].data[0] must be a string, not list"),
        ([TEXT | {"data": "a"}], "inputs[0].data: Input should be a valid list"),
        ([TEXT | {"name": "words"}], "inputs[0].name 'words' is unknown; this model reads text"),
        ([TEXT, TEXT], "inputs[1].name 'text' is duplicated; this model reads text"),
        ([], "inputs: List should have at least 1 item"),
        ([TEXT] * 65, "inputs: List should have at most 64 items"),
        ([{"name": "text"}], "inputs[0].shape: Field required"),
        (["text"], "inputs[0]: Input should be"),
        (None, "inputs: Input should be a valid list"),
    ],
    ids=lambda value: value[:60] if isinstance(value, str) else "",
)
async def test_an_invalid_tensor_is_refused_with_path_and_limit(texts, serve, inputs, reason):
    async with serve(texts.settings) as client:
        status, error = await answers(client, json.dumps({"inputs": inputs}).encode())

    assert status == 400
    assert error.startswith(reason)


async def test_a_missing_tensor_is_refused_with_its_name(pairs, serve, ask):
    async with serve(pairs.settings) as client:
        answer = await client.post(INFER, json=ask(text=["red"]))

    assert answer.status_code == 400
    assert answer.json() == {"error": "inputs lacks text_pair; this model reads text, text_pair"}


async def test_unequal_numbers_of_rows_are_refused_with_both_counts(pairs, serve, ask):
    async with serve(pairs.settings) as client:
        answer = await client.post(INFER, json=ask(text=["red"], text_pair=["a", "b"]))

    assert answer.status_code == 400
    assert answer.json() == {
        "error": "inputs differ in their number of rows: text has 1, text_pair has 2"
    }


async def test_an_unknown_output_is_refused_with_its_name(texts, serve, ask):
    async with serve(texts.settings) as client:
        answer = await client.post(INFER, json={**ask(text=["red"]), "outputs": [{"name": "x"}]})

    assert answer.status_code == 400
    assert answer.json() == {
        "error": "outputs[0].name is 'x'; this model has probabilities and label"
    }


@pytest.mark.parametrize(
    ("task", "outputs"),
    [("prices", "value"), ("ranker", "score"), ("topics", "probabilities and labels")],
)
async def test_models_of_every_task_refuse_invalid_requests_alike(
    request, serve, ask, task, outputs
):
    made = request.getfixturevalue(task)
    rows = {"text": ["red shoe"]} | ({"text_pair": ["a lamp"]} if task == "ranker" else {})
    whole = ask(**rows)
    refused = [
        (whole | {"outputs": [{"name": "label"}]}, f"this model has {outputs}"),
        (ask(**{name: [] for name in rows}), "rows must be 1 to 4096"),
        (ask(price=[1.5]), "inputs[0].name 'price' is unknown; this model reads text"),
        (ask(**{name: [12.5] for name in rows}), "must be a string, not float"),
        (whole | {"inputs": None}, "inputs: Input should be a valid list"),
    ]
    async with serve(made.settings) as client:
        for body, reason in refused:
            status, error = await answers(client, json.dumps(body).encode())
            assert (status, reason in error) == (400, True), error
        assert (await client.post(INFER, json=whole)).status_code == 200


@pytest.mark.survives(
    "Requests",
    "a body that is not JSON, not UTF-8, truncated or nested without limit",
    "400 with the reason",
)
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b'{"inputs": NaN}',
        b'{"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["\xff"]}]}',
        b'{"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["\\ud800"]}]}',
        b'{"id": ' + b"9" * 5000 + b"}",
        b"[" * 1_000_000,
        b'{"parameters":' + b'{"a":' * 5000 + b"1" + b"}" * 5001,
    ],
    ids=["empty", "cut", "utf16", "nan", "not utf-8", "surrogate", "digits", "deep", "deep object"],
)
async def test_a_body_that_is_not_json_in_utf8_is_refused(texts, serve, body):
    async with serve(texts.settings) as client:
        status, error = await answers(client, body)

    assert status == 400
    assert error.startswith("the body is not JSON in UTF-8: ")


@pytest.mark.survives(
    "Requests",
    "private texts in a refused request",
    "never repeated in the answer",
)
async def test_an_error_response_does_not_contain_texts_of_the_request(texts, serve, ask):
    async with serve(texts.settings) as client:
        asked = {**ask(text=["my secret"]), "outputs": "my secret"}
        answer = await client.post(INFER, json=asked)

    assert answer.status_code == 400
    assert "secret" not in answer.text


async def test_an_unknown_model_path_or_method_gets_an_error_with_a_reason(texts, serve, ask):
    async with serve(texts.settings) as client:
        model = await client.post("/v2/models/other/infer", json=ask(text=["red"]))
        path = await client.get("/v3")
        method = await client.get(INFER)

    assert (model.status_code, path.status_code, method.status_code) == (404, 404, 405)
    assert model.json() == {"error": "model 'other' is not served here; use 'model'"}
    assert path.json() == {"error": "Not Found"}
    assert method.json() == {"error": "Method Not Allowed"}
    assert method.headers["allow"] == "POST"


@pytest.mark.survives(
    "Requests",
    "a body that is compressed, or has tensors in binary form",
    "415 with the header and what to do",
)
@pytest.mark.parametrize(
    ("header", "value", "error"),
    [
        ("Content-Encoding", "gzip", "Content-Encoding is 'gzip'; send the body uncompressed"),
        (
            "Inference-Header-Content-Length",
            "120",
            "inference-header-content-length is set, but tensors in binary form are not read; send "
            "data as JSON",
        ),
    ],
)
async def test_an_encoded_body_is_refused_with_its_header(texts, serve, ask, header, value, error):
    async with serve(texts.settings) as client:
        encoded = await client.post(INFER, content=b"\x1f\x8b\x08", headers={header: value})
        plain = {"Content-Encoding": "Identity"}
        answered = await client.post(INFER, json=ask(text=["red"]), headers=plain)

    assert (encoded.status_code, encoded.json()) == (415, {"error": error})
    assert answered.status_code == 200


@pytest.mark.survives("Requests", "a body of 10 MB", "413 with the bound and what to do")
async def test_a_body_of_10_mb_is_refused(texts, serve):
    async with serve(texts.settings) as client:
        status, error = await answers(client, b"[" + b" " * 10_000_000)

    assert (status, error) == (413, "the body is larger than 4194304 bytes; send fewer rows")


@pytest.mark.survives(
    "Requests",
    "an endless body",
    "413 with the bound; no more is read",
)
async def test_an_endless_body_is_refused_at_the_limit(texts, serve):
    sent = 0

    async def endless():
        nonlocal sent
        while True:
            sent += 65536
            yield b" " * 65536

    async with serve(texts.settings) as client:
        answer = await client.post(INFER, content=endless())

    assert answer.status_code == 413
    assert sent <= (4 << 20) + 2 * 65536


@pytest_asyncio.fixture
async def fuzzed(texts, serve):
    async with serve(texts.settings, max_delay=0.0) as client:
        yield client


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=20,
)
TENSOR = st.fixed_dictionaries(
    {},
    optional={
        "name": st.just("text") | JSON,
        "shape": st.lists(st.integers(-2, 3), max_size=3) | JSON,
        "datatype": st.just("BYTES") | JSON,
        "data": st.lists(st.text(max_size=200), max_size=3) | JSON,
        "parameters": JSON,
    },
)
REQUEST = st.fixed_dictionaries(
    {},
    optional={
        "id": JSON,
        "inputs": st.lists(TENSOR, max_size=2) | JSON,
        "outputs": st.lists(st.fixed_dictionaries({"name": st.just("label") | JSON})) | JSON,
        "parameters": JSON,
    },
)


@pytest.mark.survives(
    "Requests",
    "any bytes at all",
    "an answer, or 400 with a reason; the next client is served",
)
@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    body=st.binary(max_size=200) | st.builds(lambda made: json.dumps(made).encode(), REQUEST | JSON)
)
@example(body=json.dumps({"inputs": [TEXT]}).encode())
@example(body=json.dumps({"inputs": [TEXT | {"data": ["\0\u200b\x1b[2J"]}]}).encode())
@example(body=json.dumps({"inputs": [TEXT | {"data": [""]}]}).encode())
async def test_any_body_gets_a_response_or_an_error_with_a_reason(fuzzed, body):
    answer = await fuzzed.post(INFER, content=body)

    assert answer.status_code in {200, 400}, answer.text
    assert ("error" in answer.json()) == (answer.status_code == 400)
