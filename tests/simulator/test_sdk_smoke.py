from __future__ import annotations

import asyncio
from typing import Any

import pytest

from claude_force.simulator import Fault, FaultKind, Simulator


def test_sdk_reads_whole_and_streamed_answers_errors_counts_models_and_batches() -> None:
    # One test for all: importing the SDK takes seconds.
    anthropic = pytest.importorskip("anthropic")

    async def main() -> None:
        async with Simulator() as sim:
            client = anthropic.AsyncAnthropic(base_url=sim.base_url, api_key="x", max_retries=0)
            async with client:
                question = {
                    "model": "claude-sonnet-5-5",
                    "max_tokens": 500,
                    "messages": [{"role": "user", "content": "Hello."}],
                }
                whole = await client.messages.create(**question)
                async with client.messages.stream(**question) as stream:
                    streamed = await stream.get_final_message()
                assert [b.text for b in whole.content] == [b.text for b in streamed.content]
                assert whole.stop_reason == streamed.stop_reason == "end_turn"
                assert whole.usage.output_tokens == streamed.usage.output_tokens
                counted = await client.messages.count_tokens(
                    model=question["model"], messages=question["messages"]
                )
                assert counted.input_tokens == whole.usage.input_tokens
                models = await client.models.list()
                assert models.data[0].id == "claude-fable-5-2"
                await refused(sim, client, question)
                await batched(client, question)

    async def refused(sim: Simulator, client: Any, question: Any) -> None:
        sim.queue_fault(Fault(kind=FaultKind.RATE_LIMIT))
        with pytest.raises(anthropic.RateLimitError) as limited:
            await client.messages.create(**question)
        assert limited.value.request_id.startswith("req_")
        sim.queue_fault(Fault(kind=FaultKind.ERROR_OVERLOADED))
        with pytest.raises(anthropic.APIStatusError, match="overloaded_error"):
            async with client.messages.stream(**question) as stream:
                await stream.get_final_message()

    async def batched(client: Any, question: Any) -> None:
        batch = await client.messages.batches.create(
            requests=[{"custom_id": "one", "params": question}]
        )
        assert batch.processing_status == "ended"
        results = [r async for r in await client.messages.batches.results(batch.id)]
        assert [(r.custom_id, r.result.type) for r in results] == [("one", "succeeded")]

    asyncio.run(main())
