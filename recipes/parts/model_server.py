"""A SavedModel behind Ray Serve. Needs the extra `serving`."""

import asyncio
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any

import numpy as np
from ray import serve
from starlette.requests import Request
from starlette.responses import JSONResponse

from recipes.parts.rest_api import Question, RequestError, read_path, read_question, status, write_answer

BATCH = 32
"""How many requests are answered at once, at most."""

Answer = Mapping[str, np.ndarray] | RequestError


class ModelServer:
    """Answers requests to one version of a model, in the manner of TensorFlow Serving.

    While the model is busy requests gather, and those that can be are put to it as one batch.

    Args:
        folder: Of the SavedModel.
        name: What clients call it.
        version: Its number.
    """

    def __init__(self, folder: Path, name: str, version: int) -> None:
        import tensorflow as tf  # here, as the process that starts the server does without it

        self.name, self.version = name, version
        self.loaded = tf.saved_model.load(str(folder))  # kept, as it holds the weights
        self.inputs = {
            signature: {
                spec.name: (np.dtype(spec.dtype.as_numpy_dtype), tuple(spec.shape.as_list()))
                for spec in function.structured_input_signature[1].values()
            }
            for signature, function in self.loaded.signatures.items()
        }

    async def __call__(self, request: Request) -> JSONResponse:
        """Answer a request over HTTP."""
        try:
            what = read_path(request.scope["path"], name=self.name, version=self.version)
            if request.method != ("POST" if what else "GET"):
                raise RequestError(f"Malformed request: {request.method} {request.scope['path']}")
            if not what:
                return JSONResponse(status(self.version))
            question = read_question(await request.body(), self.inputs)
            answer = await self.ask(question)
            if isinstance(answer, RequestError):
                raise answer
        except RequestError as error:
            return JSONResponse({"error": str(error)}, error.status)
        return JSONResponse(write_answer(question, answer))

    @serve.batch(max_batch_size=BATCH, batch_wait_timeout_s=0)
    async def ask(self, questions: list[Question]) -> list[Answer]:
        """Ask the model; not in the thread that talks to clients."""
        return await asyncio.to_thread(self.answers, questions)

    def answers(self, questions: Sequence[Question]) -> list[Answer]:
        """The answer to each question; those that fit together are put as one."""
        together: dict[tuple[Any, ...], list[int]] = {}
        for place, each in enumerate(questions):
            shapes = [(name, array.shape[1:]) for name, array in each.inputs.items()]
            together.setdefault((each.signature, *shapes), []).append(place)
        found: dict[int, Answer] = {}
        for places in together.values():
            group = [questions[place] for place in places]
            answers = self.answer_group(group)
            if any(isinstance(answer, RequestError) for answer in answers) and len(group) > 1:
                # One image that cannot be decoded spoils the batch, but not the answers to others.
                answers = [self.answer_group([each])[0] for each in group]
            found |= dict(zip(places, answers, strict=True))
        return [found[place] for place in range(len(questions))]

    def answer_group(self, group: Sequence[Question]) -> Sequence[Answer]:
        """The answers to questions of one signature, whose inputs have the same shapes but for their number."""
        import tensorflow as tf

        names = group[0].inputs
        ends = np.cumsum([len(next(iter(each.inputs.values()))) for each in group])
        inputs = {name: tf.constant(np.concatenate([each.inputs[name] for each in group])) for name in names}
        try:
            outputs = self.loaded.signatures[group[0].signature](**inputs)
        except tf.errors.OpError as error:
            wrong = isinstance(error, tf.errors.InvalidArgumentError)
            code = HTTPStatus.BAD_REQUEST if wrong else HTTPStatus.INTERNAL_SERVER_ERROR
            return [RequestError(reason(error.message), code)] * len(group)
        parts = {name: np.split(value.numpy(), ends[:-1]) for name, value in outputs.items()}
        return [{name: part[place] for name, part in parts.items()} for place in range(len(group))]


def reason(message: str) -> str:
    """What went wrong, out of TensorFlow's message, which also says where in the graph."""
    lines = message.split("\n\t [[")[0].splitlines()
    return lines[-1] if lines else "The model cannot answer"
