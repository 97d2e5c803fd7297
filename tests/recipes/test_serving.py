"""Exports behind a real server, over HTTP, and read by TensorFlow's own tools; and the protocol of the server."""

import base64
import contextlib
import io
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from recipes import serve
from recipes.cli import main
from recipes.parts.check_images import awkward_images, encode, photo
from recipes.parts.rest_api import RequestError, read_path, read_question, status, write_answer
from zoo.errors import InputError

README = Path(__file__).parents[2] / "README.md"
SIGNATURES = {
    "serving_default": {"image_bytes": (np.dtype(object), (None,))},
    "pixels": {"pixels": (np.dtype(np.uint8), (None, None, None, 3))},
    "two": {"a": (np.dtype(np.float32), (None,)), "b": (np.dtype(object), (None, 2))},
}


def zoo(*words):
    """A command in a process of its own; what it printed."""
    command = [sys.executable, "-m", "recipes.cli", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr
    return done.stdout


def in_base64(content):
    return {"b64": base64.b64encode(content).decode()}


# The protocol


def read(asked):
    return read_question(json.dumps(asked).encode(), SIGNATURES)


@pytest.mark.parametrize(
    ("asked", "rows"),
    [
        ({"instances": [{"image_bytes": in_base64(b"\xff1")}, {"image_bytes": in_base64(b"2")}]}, True),
        ({"instances": [in_base64(b"\xff1"), in_base64(b"2")]}, True),
        ({"instances": [{"b64": "/zE"}, "2"], "signature_name": "serving_default"}, True),
        ({"inputs": {"image_bytes": [in_base64(b"\xff1"), in_base64(b"2")]}}, False),
        ({"inputs": [in_base64(b"\xff1"), in_base64(b"2")]}, False),
    ],
)
def test_all_ways_to_send_files(asked, rows):
    question = read(asked)
    assert (question.signature, question.rows) == ("serving_default", rows)
    assert question.inputs["image_bytes"].tolist() == [b"\xff1", b"2"]


@pytest.mark.parametrize("key", ["instances", "inputs"])
def test_pixels(key):
    pixels = np.arange(24).reshape(2, 2, 2, 3)
    found = read({"signature_name": "pixels", key: pixels.tolist()}).inputs["pixels"]
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, pixels)


def test_several_inputs():
    rows = read(
        {"signature_name": "two", "instances": [{"a": 1, "b": ["x", in_base64(b"y")]}, {"a": 2.5, "b": ["", ""]}]}
    )
    columns = read({"signature_name": "two", "inputs": {"a": [1, 2.5], "b": [["x", "y"], ["", ""]]}})
    for question in (rows, columns):
        np.testing.assert_array_equal(question.inputs["a"], np.array([1, 2.5], np.float32))
        assert question.inputs["b"].tolist() == [[b"x", b"y"], [b"", b""]]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ([1], "is a JSON object"),
        ({}, "one of 'instances' and 'inputs'"),
        ({"instances": ["a"], "inputs": ["a"]}, "one of 'instances' and 'inputs'"),
        ({"instances": []}, "an item or more"),
        ({"instances": {"image_bytes": "a"}}, "an item or more"),
        ({"instances": ["a"], "signature_name": "pixel"}, '"pixel" not found. There are: serving_default, pixels, two'),
        ({"instances": ["a"], "signature_name": None}, "null not found"),
        ({"instances": [{"b64": "?"}]}, "base64"),
        ({"instances": [{"b64": "a"}]}, "base64"),
        ({"instances": [{"b64": "ä"}]}, "base64"),
        ({"instances": [{"image": "a"}]}, "The inputs are: image_bytes. Received: image"),
        ({"instances": [{"image_bytes": "a", "more": 1}]}, "Received: image_bytes, more"),
        ({"instances": [3]}, "image_bytes is bytes of shape [null]"),
        ({"instances": [None]}, "image_bytes is bytes of shape [null]"),
        ({"instances": [["a"]]}, "image_bytes is bytes of shape [null]"),
        ({"inputs": "a"}, "image_bytes is bytes of shape [null]"),
        ({"signature_name": "pixels", "instances": [[[[1, 2]]]]}, "uint8 of shape [null, null, null, 3]"),
        ({"signature_name": "pixels", "instances": [[[[1, 2, 256]]]]}, "uint8"),
        ({"signature_name": "pixels", "instances": [[[[1, 2, -1]]]]}, "uint8"),
        ({"signature_name": "pixels", "instances": [[[[1, 2, 1.5]]]]}, "uint8"),
        ({"signature_name": "pixels", "instances": [[[[1, 2, True]]], [[[1, 2]]]]}, "uint8"),
        ({"signature_name": "pixels", "instances": [[[[1, 2, 10**30]]]]}, "uint8"),
        ({"signature_name": "pixels", "instances": [in_base64(b"abc")]}, "uint8"),
        ({"signature_name": "two", "instances": [1]}, "by its name: a, b"),
        ({"signature_name": "two", "inputs": {"a": [1], "b": [["x", "y"], ["x", "y"]]}}, "not equally many"),
        ({"signature_name": "two", "inputs": {"a": [1], "b": [["x"]]}}, "b is bytes of shape [null, 2]"),
    ],
)
def test_questions_that_make_no_sense(asked, message):
    with pytest.raises(RequestError, match=re.escape(message)) as error:
        read(asked)
    assert error.value.status == 400


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe{", b"[" * 100_000])
def test_what_is_not_json(body):
    with pytest.raises(RequestError, match="JSON"):
        read_question(body, SIGNATURES)


def test_answers_by_image_and_by_output():
    outputs = {
        "scores": np.array([[0.75, 0.25], [0.5, 0.5]], np.float32),
        "classes": np.array([["ä".encode(), b"b"], [b"b", b"c"]], object),
    }
    assert write_answer(read({"instances": ["1", "2"]}), outputs) == {
        "predictions": [{"classes": ["ä", "b"], "scores": [0.75, 0.25]}, {"classes": ["b", "c"], "scores": [0.5, 0.5]}]
    }
    assert write_answer(read({"inputs": ["1", "2"]}), outputs) == {
        "outputs": {"classes": [["ä", "b"], ["b", "c"]], "scores": [[0.75, 0.25], [0.5, 0.5]]}
    }


def test_one_output_has_no_name():
    features = {"features": np.array([[1.5], [2]], np.float32)}
    assert write_answer(read({"instances": ["1", "2"]}), features) == {"predictions": [[1.5], [2.0]]}
    assert write_answer(read({"inputs": ["1", "2"]}), features) == {"outputs": [[1.5], [2.0]]}
    raw = {"raw_bytes": np.array([b"\xff", b"a"], object)}
    assert write_answer(read({"inputs": ["1", "2"]}), raw) == {"outputs": [{"b64": "/w=="}, {"b64": "YQ=="}]}


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/v1/models/a b", ""),
        ("/v1/models/a b:predict", ":predict"),
        ("/v1/models/a b/versions/3:predict", ":predict"),
        ("/v1/models/a b/versions/3", ""),
        ("/v1/models/a b/versions/2", 404),
        ("/v1/models/a:predict", 404),
        ("/v1/models/a b:classify", 404),
        ("/v1/models/a b/labels/x", 400),
        ("/v1/models/", 400),
        ("/", 400),
    ],
)
def test_addresses(path, found):
    if isinstance(found, str):
        assert read_path(path, name="a b", version=3) == found
    else:
        with pytest.raises(RequestError) as error:
            read_path(path, name="a b", version=3)
        assert error.value.status == found


def test_the_status_is_what_the_protocol_buffer_says():
    messages = pytest.importorskip("tensorflow_serving.apis.get_model_status_pb2", exc_type=ImportError)
    from google.protobuf import json_format

    found = json_format.ParseDict(status(3), messages.GetModelStatusResponse()).model_version_status
    assert [(each.version, each.state, each.status.error_code) for each in found] == [
        (3, messages.ModelVersionStatus.AVAILABLE, 0)
    ]


# What cannot be served


def test_an_address_that_is_taken():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=rf"Cannot listen on 127\.0\.0\.1, port {port}: Address already in use"):
            serve.check_address("127.0.0.1", port)


@pytest.mark.parametrize(("host", "port"), [("127.0.0.1", 65536), ("127.0.0.1", -1), ("not an address", 8501)])
def test_an_address_that_cannot_be(host, port):
    with pytest.raises(InputError, match="Cannot listen on"):
        serve.check_address(host, port)


@pytest.fixture
def export_without_content(tmp_path):
    folder = tmp_path / "flowers" / "1"
    folder.mkdir(parents=True)
    (folder / "saved_model.pb").touch()
    return folder.parent


@pytest.mark.parametrize(
    ("words", "message"),
    [(["NOWHERE"], "holds no SavedModel"), (["EXPORT", "--port", "99999"], "port"), (["EXPORT", "--name", ""], "name")],
)
def test_what_is_not_served(words, message, export_without_content, capsys):
    words = [str(export_without_content) if word == "EXPORT" else word for word in words]
    assert main(["serve", *words]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_without_ray_the_command_that_installs_it(export_without_content, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setattr(os, "environ", {**os.environ})
    assert main(["serve", str(export_without_content), "--port", str(free_port())]) == 2
    assert "pip install" in capsys.readouterr().err


# Served


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run, made as a user makes it."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    zoo("finetune", "--preset", "smoke", "--out", folder)
    return folder


@pytest.fixture(scope="module")
def exported(finished, tmp_path_factory):
    return Path(
        zoo("export", finished, "--to", tmp_path_factory.mktemp("exported"), "--name", "digits").splitlines()[-1]
    )


@pytest.fixture(scope="module")
def server(exported, tmp_path_factory):
    """The address of the model on a server that runs while the tests do."""
    pytest.importorskip("ray.serve")
    psutil = pytest.importorskip("psutil")
    log = tmp_path_factory.mktemp("server") / "log"
    command = [sys.executable, "-m", "recipes.cli", "serve", str(exported.parent), "--port", str(free_port())]
    with log.open("w") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
    children = []
    try:
        address = process.stdout.readline().strip()  # printed when it is ready; nothing if it has died
        assert address, log.read_text()
        children = psutil.Process(process.pid).children(recursive=True)
        yield address
        process.terminate()
        assert process.wait(60) == 0
        assert log.read_text() == ""
        assert not psutil.wait_procs(children, 10)[1]
    finally:
        if process.poll() is None:
            children += psutil.Process(process.pid).children(recursive=True)
            process.kill()
            process.wait()
        for child in children:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        process.stdout.close()


def ask(address, body=None):
    """The status of HTTP and the answer."""
    data = None if body is None else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(address, data=data, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def digit(index):
    """A picture of a digit, large and small, in one of several formats."""
    pixels = np.kron(np.random.default_rng(index).integers(0, 256, (8, 8)), np.ones((5 + index % 7,) * 2))
    return encode(Image.fromarray(pixels.astype(np.uint8)), ("PNG", "JPEG", "BMP")[index % 3])


@pytest.fixture(scope="module")
def predicted(finished, tmp_path_factory):
    """Images, and what `zoo predict` says of each."""
    folder = tmp_path_factory.mktemp("images")
    images = [*awkward_images(32), *map(digit, range(200))]
    for index, image in enumerate(images):
        (folder / f"{index}").write_bytes(image)
    rows = json.loads(zoo("predict", finished, *(folder / f"{index}" for index in range(len(images))), "--json"))
    assert len(rows) == len(images)
    return list(zip(images, rows, strict=True))


def differs(answer, expected):
    """The largest difference of a score."""
    scores = dict(zip(answer["classes"], answer["scores"], strict=True))
    return max(abs(scores[name] - score) for name, score in zip(expected["classes"], expected["scores"], strict=True))


@pytest.mark.slow
def test_a_model_that_cannot_be_loaded(export_without_content):
    pytest.importorskip("ray.serve")
    command = [sys.executable, "-m", "recipes.cli", "serve", str(export_without_content), "--port", str(free_port())]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch("stopped: The server did not start: ValueError: .*SavedModel.*\n", done.stderr)


@pytest.mark.slow
def test_it_says_that_it_is_there(server):
    assert ask(server) == (200, status(1))
    assert ask(f"{server}/versions/1") == (200, status(1))
    assert ask(f"{server}/versions/2")[0] == 404
    assert ask(server.replace("digits", "digit"))[0] == 404
    assert ask(server, {})[0] == 400
    assert ask(f"{server}:predict")[0] == 400


@pytest.mark.slow
def test_scores_are_those_of_predict(server, predicted):
    for start in range(0, len(predicted), 32):
        part = predicted[start : start + 32]
        code, answer = ask(f"{server}:predict", {"instances": [{"image_bytes": in_base64(image)} for image, _ in part]})
        assert code == 200
        for found, (_, expected) in zip(answer["predictions"], part, strict=True):
            assert differs(found, expected) < 1e-5


@pytest.mark.slow
def test_other_signatures(server):
    pixels = np.asarray(photo(3, 5, 0))[np.newaxis].tolist()
    _, answer = ask(f"{server}:predict", {"signature_name": "pixels", "inputs": {"pixels": pixels}})
    assert {name: np.shape(values) for name, values in answer["outputs"].items()} == dict.fromkeys(
        ("classes", "scores", "logits"), (1, 10)
    )
    _, answer = ask(f"{server}:predict", {"signature_name": "features", "instances": pixels})
    assert np.shape(answer["predictions"]) == (1, 1280)


@pytest.mark.slow
def test_a_corrupt_image_is_the_fault_of_its_sender_alone(server, predicted):
    image, expected = predicted[20]
    for corrupt in (b"", b"no image", image[: len(image) // 2]):
        code, answer = ask(f"{server}:predict", {"instances": [in_base64(image), in_base64(corrupt)]})
        assert code == 400
        assert answer.keys() == {"error"}
        assert answer["error"].count("\n") == 0 < len(answer["error"])
        code, answer = ask(f"{server}:predict", {"instances": [in_base64(image)]})
        assert code == 200
        assert differs(answer["predictions"][0], expected) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("corrupt", [False, True])
def test_eight_clients_lose_no_answer(server, predicted, corrupt):
    """The server answers what comes in together as one batch, of which a corrupt image must spoil nothing."""

    def client(index):
        if corrupt and index % 5 == 0:
            return ask(f"{server}:predict", {"instances": [in_base64(b"no image")]})
        return ask(f"{server}:predict", {"instances": [in_base64(predicted[17 + index][0])]})

    with ThreadPoolExecutor(8) as clients:
        answers = list(clients.map(client, range(200)))
    for index, (code, answer) in enumerate(answers):
        if corrupt and index % 5 == 0:
            assert (code, answer.keys()) == (400, {"error"})
        else:
            assert code == 200
            assert differs(answer["predictions"][0], predicted[17 + index][1]) < 1e-5


def blocks_of_readme(language, text):
    """The blocks of code in the README that hold a text."""
    blocks = re.findall(rf"```{language}\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    return [block for block in blocks if text in block]


@pytest.mark.slow
def test_the_clients_of_the_readme(server, predicted, tmp_path, monkeypatch):
    image, expected = predicted[18]
    (tmp_path / "photo.jpg").write_bytes(image)
    monkeypatch.chdir(tmp_path)
    there = "http://127.0.0.1:8501/v1/models/digits"
    (code,) = blocks_of_readme("python", "urlopen")
    assert there in code
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code.replace(there, server), "README.md", "exec"), {})
    name, score = re.search(r"'(.+)', ([\d.e-]+)", printed.getvalue()).groups()
    assert name == expected["classes"][0]
    assert float(score) == pytest.approx(expected["scores"][0], abs=1e-5)

    (code,) = blocks_of_readme("sh", "curl")
    assert there in code
    if shutil.which("curl"):
        done = subprocess.run(["sh", "-c", code.replace(there, server)], capture_output=True, text=True, check=True)
        assert differs(json.loads(done.stdout)["predictions"][0], expected) < 1e-5


# TensorFlow's own tools


@pytest.mark.slow
def test_warm_up_requests_are_what_the_server_reads(exported):
    messages = pytest.importorskip("tensorflow_serving.apis.prediction_log_pb2", exc_type=ImportError)
    loaded = tf.saved_model.load(str(exported))
    answered = {}
    for record in tf.data.TFRecordDataset(str(exported / "assets.extra" / "tf_serving_warmup_requests")):
        log = messages.PredictionLog.FromString(record.numpy())
        assert log.WhichOneof("log_type") == "predict_log"
        request = log.predict_log.request
        assert request.model_spec.name == "digits"
        inputs = {name: tf.constant(tf.make_ndarray(value)) for name, value in request.inputs.items()}
        answered[request.model_spec.signature_name] = set(
            loaded.signatures[request.model_spec.signature_name](**inputs)
        )
    assert answered == {
        "serving_default": {"classes", "scores"},
        "pixels": {"classes", "scores", "logits"},
        "features": {"features"},
    }


@pytest.mark.slow
def test_tensorflows_own_command_reads_it(exported, predicted, tmp_path):
    command = [sys.executable, "-m", "tensorflow.python.tools.saved_model_cli"]

    def run(*words):
        return subprocess.run([*command, *map(str, words)], capture_output=True, text=True, check=True).stdout

    shown = run("show", "--dir", exported, "--all")
    for signature in ("serving_default", "pixels", "features"):
        assert f"signature_def['{signature}']" in shown
    image, expected = predicted[0]
    np.save(tmp_path / "files.npy", np.array([image], object).astype(bytes))
    which = ("--dir", exported, "--tag_set", "serve", "--signature_def", "serving_default")
    run("run", *which, "--inputs", f"image_bytes={tmp_path / 'files.npy'}", "--outdir", tmp_path)
    np.testing.assert_allclose(np.load(tmp_path / "scores.npy")[0], expected["scores"], atol=1e-5)
