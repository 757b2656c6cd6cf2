"""A topic that was deleted and made again without `topics apply` is refused, never taken for what was processed."""

import asyncio
import contextlib
import subprocess
import time

from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from tests.integration.worker.conftest import PARTITIONS, WITHIN, Deployment, until

NORMAL = "notifications.normal"


def make_again(deployment: Deployment) -> None:
    async def again() -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=deployment.kafka)
        await admin.start()
        name = deployment.prefix + NORMAL
        await admin.delete_topics([name])
        new = NewTopic(name, PARTITIONS, 1, topic_configs={"message.timestamp.type": "LogAppendTime"})
        deadline = time.monotonic() + 20
        while (await admin.create_topics([new])).to_object()["topic_errors"][0]["error_code"]:  # deleted a moment later
            assert time.monotonic() < deadline
            await asyncio.sleep(0.2)
        await admin.close()

    asyncio.run(again())


def ends_with_the_reason(deployment: Deployment) -> None:
    assert deployment.process is not None
    with contextlib.suppress(subprocess.TimeoutExpired):
        deployment.process.wait(WITHIN)
    assert deployment.process.returncode == 1, deployment.said()
    lines = [line for line in deployment.said().splitlines() if " CRITICAL " in line]
    expected = (
        f"{deployment.prefix}{NORMAL} was deleted and made again outside `tocsin topics apply`",
        f"Kafka has no topic {deployment.prefix}{NORMAL}",  # it was looked for just then
    )
    assert any(text in line for line in lines for text in expected), deployment.said()


def test_one_that_is_made_again_while_no_worker_runs_is_refused(deployment: Deployment) -> None:
    deployment.start()
    deployment.wait_until_ready()
    for number in range(5):
        deployment.send_note("ann", title=f"old {number}")
    deployment.expect_rows("ann", 5)
    assert deployment.stop() == 0
    make_again(deployment)
    deployment.send_note("ann", title="new")
    deployment.start()
    ends_with_the_reason(deployment)
    assert len(deployment.rows("ann")) == 5
    deployment.start()  # and again, for as long as nobody has put it right
    ends_with_the_reason(deployment)


def test_one_that_is_made_again_under_a_worker_ends_it(deployment: Deployment) -> None:
    deployment.start()
    deployment.wait_until_ready()
    for number in range(5):
        deployment.send_note("ann", title=f"old {number}")
    deployment.expect_rows("ann", 5)
    until(lambda: any(deployment.committed(NORMAL, partition) == 5 for partition in range(PARTITIONS)))
    make_again(deployment)
    deployment.send_note("ann", title="new")
    ends_with_the_reason(deployment)
