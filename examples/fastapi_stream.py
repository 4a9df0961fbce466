"""OpenAI's streaming chat over HTTP, in a service that embeds the model.

    pip install "motet[examples]" && python examples/fastapi_stream.py [MODEL]

    curl -N localhost:8000/v1/chat/completions -H "content-type: application/json" \\
        -d '{"messages": [{"role": "user", "content": "What is 17 + 25?"}]}'

A client that hangs up cancels its request. /metrics is for Prometheus.
"""

from __future__ import annotations

import json
import sys
import time
import uuid
from collections.abc import AsyncIterator
from typing import Any

import uvicorn
from fastapi import FastAPI, HTTPException
from fastapi.responses import PlainTextResponse, StreamingResponse
from pydantic import BaseModel

from motet import LLM, AsyncStream, Delta, InvalidRequestError, QueueFullError


class ChatRequest(BaseModel):
    messages: list[dict[str, Any]]
    max_tokens: int | None = None
    temperature: float = 1.0
    seed: int | None = None
    user: str | None = None


def make_app(llm: LLM) -> FastAPI:
    """The service; the caller closes the model."""
    app = FastAPI()

    @app.post("/v1/chat/completions")
    async def chat(request: ChatRequest) -> StreamingResponse:
        options = request.model_dump(exclude={"messages", "user"}, exclude_none=True)
        try:
            # Users share cached prompts with nobody else.
            stream = llm.achat_stream(request.messages, cache_salt=request.user, **options)
        except QueueFullError as error:
            raise HTTPException(429, str(error), {"retry-after": "1"}) from error
        except InvalidRequestError as error:
            raise HTTPException(400, str(error)) from error
        return StreamingResponse(_events(stream, llm.info.name), media_type="text/event-stream")

    @app.get("/metrics")
    async def metrics() -> PlainTextResponse:
        text = llm.metrics().prometheus({"model": llm.info.name})
        return PlainTextResponse(text, media_type="text/plain; version=0.0.4")

    return app


async def _events(stream: AsyncStream, model: str) -> AsyncIterator[str]:
    """Server-sent events. When the client has left, the framework cancels this generator's task,
    and leaving `async with` cancels the request."""
    head = {
        "id": f"chatcmpl-{uuid.uuid4().hex}",
        "object": "chat.completion.chunk",
        "created": int(time.time()),
        "model": model,
    }
    async with stream:
        async for delta in stream:
            yield f"data: {json.dumps(head | {'choices': [_choice(delta)]})}\n\n"
    yield "data: [DONE]\n\n"


def _choice(delta: Delta) -> dict[str, Any]:
    content: dict[str, Any] = {}
    if delta.kind in ("text", "reasoning"):
        content = {"content" if delta.kind == "text" else "reasoning": delta.text}
    finish = delta.result.finish_reason if delta.result is not None else None
    return {"index": delta.index, "delta": content, "finish_reason": finish}


if __name__ == "__main__":
    with LLM(*sys.argv[1:2], max_queue=64) as model:
        uvicorn.run(make_app(model), port=8000)
