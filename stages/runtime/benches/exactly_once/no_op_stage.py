"""A stage that does nothing, exactly once, as one would write it by hand in Python: what the runtime's is measured against.

    python no_op_stage.py BOOTSTRAP_SERVERS MESSAGES event|bytes

`event` does what the runtime's no-op `preprocess` does: reads the CloudEvent of `images-ingested`, writes the event that follows
from it to `images-preprocessed` and the report to `task-events`, with ids that a repeat would make again. `bytes` hands value
and headers on as they came, to one topic, without looking at them. Outputs and offsets are one transaction for each batch.
Prints, when so many messages are committed, the processor time that the process took in seconds, and the wall time from the
first batch to the last commit.
"""

import json
import random
import sys
import time
import uuid
from datetime import datetime, timezone

from confluent_kafka import Consumer, KafkaException, Producer

BATCH = 500
STAGE = "preprocess"
BLOB = {"key": "0" * 64, "mediaType": "image/png", "bytes": 1, "width": 1, "height": 1}
MEASUREMENTS = {
    "sharpness": 0.0,
    "noise": 0.0,
    "hasAlpha": False,
    "orientation": 0,
    "colorModel": "",
    "profileConverted": False,
    "frames": 0,
}


def headers_of(parent, event_type, ordinal, timings, task, image, now, traceparent):
    return [
        ("content-type", "application/json"),
        ("ce_specversion", "1.0"),
        ("ce_id", str(uuid.uuid5(parent, f"{STAGE}/{ordinal}"))),
        ("ce_source", "/atelier/" + STAGE),
        ("ce_type", event_type),
        ("ce_time", now),
        ("ce_subject", image),
        ("ce_correlationid", task),
        ("ce_causationid", str(parent)),
        ("traceparent", traceparent),
        ("ce_stagetimings", timings),
    ]


def answer_event(producer, message):
    headers = dict(message.headers())
    event = json.loads(message.value())
    if headers["ce_type"] != b"atelier.image.ingested.v1":
        raise ValueError(f"unexpected event {headers['ce_type']}")
    parent, image = uuid.UUID(headers["ce_id"].decode()), event["image"]
    at = datetime.now(timezone.utc)
    queue_ms = (at - datetime.fromisoformat(headers["ce_time"].decode().replace("Z", "+00:00"))).total_seconds() * 1000
    now = at.isoformat().replace("+00:00", "Z")
    trace = f"00-{random.getrandbits(128):032x}-{random.getrandbits(64):016x}-00"
    timing = {"stage": STAGE, "queueMs": queue_ms, "processingTimeMs": 0.0}
    timings = json.dumps([*json.loads(headers.get("ce_stagetimings", b"[]")), timing])
    task, name = image["taskId"], image["imageId"]
    following = {"image": image, "original": event["original"], "pixels": BLOB, "measurements": MEASUREMENTS}
    producer.produce(
        "images-preprocessed",
        json.dumps(following).encode(),
        name,
        headers=headers_of(parent, "atelier.image.preprocessed.v1", "0", timings, task, name, now, trace),
    )
    report = {"taskId": task, "imageId": name, **timing}
    producer.produce(
        "task-events",
        json.dumps(report).encode(),
        task,
        headers=headers_of(parent, "atelier.stage.completed.v1", "completed", timings, task, name, now, trace),
    )


def answer_bytes(producer, message):
    producer.produce("images-preprocessed", message.value(), message.key(), headers=message.headers())


def main():
    bootstrap_servers, wanted, answer = sys.argv[1], int(sys.argv[2]), {"event": answer_event, "bytes": answer_bytes}[sys.argv[3]]
    group = f"no-op-{sys.argv[3]}-in-python"
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap_servers,
            "group.id": group,
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
        }
    )
    producer = Producer(
        {
            "bootstrap.servers": bootstrap_servers,
            "transactional.id": group,
            "linger.ms": 5,
            "queue.buffering.max.messages": 1000000,
        }
    )
    producer.init_transactions()
    consumer.subscribe(["images-ingested"])
    done, started = 0, None
    while done < wanted:
        batch = consumer.consume(BATCH, 0.1)
        if not batch:
            continue
        started = started or time.monotonic()
        producer.begin_transaction()
        for message in batch:
            if message.error():
                raise KafkaException(message.error())
            answer(producer, message)
        producer.send_offsets_to_transaction(consumer.position(consumer.assignment()), consumer.consumer_group_metadata())
        producer.commit_transaction()
        done += len(batch)
    wall_s = time.monotonic() - started
    consumer.close()
    print(time.process_time(), wall_s)


main()
