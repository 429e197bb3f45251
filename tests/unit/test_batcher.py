from __future__ import annotations

import asyncio
from dataclasses import replace

import numpy as np
import pytest

from rs_embed_core.embedding import EncoderInfo
from rs_embed_core.errors import ForwardError
from rs_embed_core.sample import Batch, View
from rs_embed_core.tokens import Tokens
from serve_app.deployments.batcher import Batcher
from serve_app.deployments.waiting import Done

INFO = EncoderInfo("cpu", "float32", None, ())


def batch(values: list[float], width: int = 2) -> Batch:
    image = np.repeat(np.array(values, np.float32)[:, None], width, axis=1)
    return Batch({"image": image}, (), (View(),) * len(values))


class Device:
    """Doubles its input; remembers every batch; fails on what it is told to."""

    def __init__(
        self, *, poison: float | None = None, hold: bool = False, fault: type[Exception] = ForwardError
    ) -> None:
        self.sizes: list[int] = []
        self.forwards: list[list[float]] = []
        self._poison, self._fault = poison, fault
        self.gate = asyncio.Event()
        if not hold:
            self.gate.set()

    async def __call__(self, given: Batch, needs: str) -> tuple[list[Tokens], EncoderInfo]:
        self.sizes.append(len(given))
        image = given.arrays["image"]
        self.forwards.append(image[:, 0].tolist())
        await self.gate.wait()
        if self._poison is not None and (image == self._poison).any():
            raise self._fault("poison")
        return [Tokens(row * 2, (1, 1)) for row in image], INFO


def first(done: Done) -> list[float | str]:
    return [float(entry.data[0]) if isinstance(entry, Tokens) else type(entry).__name__ for entry in done.outcomes]


async def test_a_lone_sample_goes_at_once() -> None:
    device = Device()
    batcher: Batcher[str] = Batcher(device, max_batch=8)
    assert first(await batcher.submit(batch([3]), "m")) == [6]
    assert device.sizes == [1]


async def test_what_arrives_while_the_device_is_busy_shares_the_next_batch() -> None:
    device = Device(hold=True)
    batcher: Batcher[str] = Batcher(device, max_batch=8)
    jobs = [asyncio.create_task(batcher.submit(batch([i, i + 0.5]), "m")) for i in range(6)]
    await asyncio.sleep(0.01)
    assert batcher.waiting == 10
    device.gate.set()
    results = await asyncio.gather(*jobs)
    assert [first(result) for result in results] == [[2 * i, 2 * i + 1] for i in range(6)]
    assert device.sizes == [2, 8, 2]


async def test_a_large_group_is_cut_and_put_together_again() -> None:
    device = Device()
    batcher: Batcher[str] = Batcher(device, max_batch=4)
    assert first(await batcher.submit(batch(list(range(10))), "m")) == [2 * i for i in range(10)]
    assert device.sizes == [4, 4, 2]


async def test_unequal_signatures_never_share_a_batch() -> None:
    device = Device(hold=True)
    batcher: Batcher[str] = Batcher(device, max_batch=8)
    jobs = [asyncio.create_task(batcher.submit(batch([i], width=2 + i % 2), "m")) for i in range(5)]
    await asyncio.sleep(0.01)
    device.gate.set()
    await asyncio.gather(*jobs)
    assert sorted(device.sizes) == [1, 2, 2]


async def test_unequal_needs_never_share_a_batch_and_each_hears_what_computed_it() -> None:
    forwards: list[tuple[str, int]] = []

    async def run(given: Batch, needs: str) -> tuple[list[Tokens], EncoderInfo]:
        forwards.append((needs, len(given)))
        return [Tokens(row, (1, 1)) for row in given.arrays["image"]], replace(INFO, device=needs)

    batcher: Batcher[str] = Batcher(run, max_batch=4)
    jobs = [asyncio.create_task(batcher.submit(batch([i, i]), "ab"[i % 2])) for i in range(5)]
    infos = [done.info for done in await asyncio.gather(*jobs)]
    assert sorted(forwards) == [("a", 2), ("a", 4), ("b", 4)]
    assert [info and info.device for info in infos] == ["a", "b", "a", "b", "a"]


async def test_short_requests_go_before_long_jobs_and_these_fill_what_room_they_leave() -> None:
    device = Device(hold=True)
    batcher: Batcher[str] = Batcher(device, max_batch=4)
    jobs = [asyncio.create_task(batcher.submit(batch([0] * 10), "m"))]
    await asyncio.sleep(0.01)
    jobs += [asyncio.create_task(batcher.submit(batch([i]), "m", bulk=False)) for i in (1, 2)]
    await asyncio.sleep(0.01)
    device.gate.set()
    await asyncio.gather(*jobs)
    assert device.forwards == [[0] * 4, [1, 2, 0, 0], [0] * 4]


async def test_short_requests_of_another_shape_go_first_and_long_jobs_have_every_fourth_forward() -> None:
    device = Device(hold=True)
    batcher: Batcher[str] = Batcher(device, max_batch=2)
    jobs = [asyncio.create_task(batcher.submit(batch([0] * 6), "m"))]
    await asyncio.sleep(0.01)
    jobs += [asyncio.create_task(batcher.submit(batch([1] * 10, width=3), "m", bulk=False))]
    await asyncio.sleep(0.01)
    device.gate.set()
    await asyncio.gather(*jobs)
    assert [values[0] for values in device.forwards] == [0, 1, 1, 1, 0, 1, 1, 0]


async def test_long_jobs_take_turns_while_short_requests_fill_every_forward() -> None:
    device = Device(hold=True)
    batcher: Batcher[str] = Batcher(device, max_batch=2)
    jobs = [asyncio.create_task(batcher.submit(batch([1] * 26), "m", bulk=False))]
    await asyncio.sleep(0.01)
    jobs += [asyncio.create_task(batcher.submit(batch([0] * 4), "m"))]
    jobs += [asyncio.create_task(batcher.submit(batch([2] * 4, width=3), "m"))]
    await asyncio.sleep(0.01)
    device.gate.set()
    await asyncio.gather(*jobs)
    assert [values[0] for values in device.forwards if values[0] != 1] == [0, 2, 0, 2]


async def test_what_failed_was_computed_by_nothing() -> None:
    batcher: Batcher[str] = Batcher(Device(poison=5), max_batch=8)
    assert (await batcher.submit(batch([5]), "m")).info is None
    assert (await batcher.submit(batch([5, 6]), "m")).info == INFO


@pytest.mark.parametrize("fault", [ForwardError, IndexError])
async def test_one_bad_sample_fails_alone(fault: type[Exception]) -> None:
    batcher: Batcher[str] = Batcher(Device(poison=5, fault=fault), max_batch=8)
    done = await asyncio.gather(*(batcher.submit(batch([4 * i, 4 * i + 1]), "m") for i in range(3)))
    outcomes = [outcome for one in done for outcome in first(one)]
    assert outcomes == [0, 2, 8, "ForwardError", 16, 18]
    assert "poison" in str(done[1].outcomes[1])


async def test_a_cancelled_submit_takes_its_samples_back() -> None:
    device = Device(hold=True)
    batcher: Batcher[str] = Batcher(device, max_batch=2)
    running = asyncio.create_task(batcher.submit(batch([1]), "m"))
    await asyncio.sleep(0.01)
    cancelled = asyncio.create_task(batcher.submit(batch([2, 3]), "m"))
    kept = asyncio.create_task(batcher.submit(batch([4]), "m"))
    await asyncio.sleep(0.01)
    cancelled.cancel()
    await asyncio.sleep(0.01)
    device.gate.set()
    assert first(await running) == [2]
    assert first(await kept) == [8]
    assert device.sizes == [1, 1]


async def test_a_second_lane_only_takes_full_batches() -> None:
    device = Device(hold=True)
    batcher: Batcher[str] = Batcher(device, max_batch=4, lanes=2)
    jobs = [asyncio.create_task(batcher.submit(batch([i]), "m")) for i in range(3)]
    await asyncio.sleep(0.01)
    assert device.sizes == [1]
    jobs += [asyncio.create_task(batcher.submit(batch([i]), "m")) for i in range(3)]
    await asyncio.sleep(0.01)
    assert device.sizes == [1, 4]
    device.gate.set()
    await asyncio.gather(*jobs)
