"""Drives a running broker with confluent-kafka: admin, idempotence, transactions, groups, compression, fencing.

Usage: check_broker.py HOST:PORT. Prints one line per check; the exit status is 0 only if all hold.
"""

import sys
import time
import uuid

from confluent_kafka import (
    Consumer,
    ConsumerGroupTopicPartitions,
    IsolationLevel,
    KafkaException,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    OffsetSpec,
    ResourceType,
)

ADDRESS = sys.argv[1]
PATIENCE_SECONDS = 60
BASE = {"bootstrap.servers": ADDRESS, "broker.address.family": "v4"}


def new_topic(admin, partitions=1, **config):
    name = f"py-{uuid.uuid4().hex[:8]}"
    settings = {key.replace("_", "."): value for key, value in config.items()}
    admin.create_topics([NewTopic(name, partitions, 1, config=settings)])[name].result(PATIENCE_SECONDS)
    return name


def consumer(group, **settings):
    return Consumer(BASE | {
        "group.id": group,
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
        "session.timeout.ms": 6000,
        "heartbeat.interval.ms": 300,
    } | {key.replace("_", "."): value for key, value in settings.items()})


def read(topic, count, isolation="read_committed", partition=0):
    reader = consumer("py-reader", isolation_level=isolation)
    reader.assign([TopicPartition(topic, partition, 0)])
    values = []
    deadline = time.monotonic() + PATIENCE_SECONDS
    while len(values) < count and time.monotonic() < deadline:
        message = reader.poll(0.2)
        if message is not None and message.error() is None:
            values.append((message.value() or b"").decode())
    extra = reader.poll(0.3)
    reader.close()
    assert extra is None or extra.error() is not None, f"more than {count} records: {extra.value()}"
    assert len(values) == count, f"{len(values)} of {count} records came"
    return values


def check_compression(admin):
    topic = new_topic(admin)
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"]:
        producer = Producer(BASE | {"compression.type": codec, "linger.ms": 20, "enable.idempotence": True})
        for _ in range(50):
            producer.produce(topic, key="k", value=codec * 100)
        assert producer.flush(PATIENCE_SECONDS) == 0
    values = read(topic, 250)
    assert values[-1] == "zstd" * 100
    latest = admin.list_offsets({TopicPartition(topic, 0): OffsetSpec.latest()})
    assert next(iter(latest.values())).result(PATIENCE_SECONDS).offset == 250
    newest = admin.list_offsets({TopicPartition(topic, 0): OffsetSpec.max_timestamp()})
    assert next(iter(newest.values())).result(PATIENCE_SECONDS).offset >= 200


def check_zstd_in_a_compacted_topic(admin):
    topic = new_topic(admin, cleanup_policy="compact", segment_ms="200", min_cleanable_dirty_ratio="0")
    producer = Producer(BASE | {"compression.type": "zstd", "linger.ms": 5})
    for number in range(200):
        producer.produce(topic, key=f"k{number % 3}", value=f"{number}-" + "x" * 300)
    assert producer.flush(PATIENCE_SECONDS) == 0
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        reader = consumer("py-compacted", enable_partition_eof=True)
        reader.assign([TopicPartition(topic, 0, 0)])
        seen = []
        while True:
            message = reader.poll(PATIENCE_SECONDS)
            if message.error():
                break
            seen.append(message.value().decode().split("-")[0])
        reader.close()
        if seen == ["197", "198", "199"]:
            return
        assert time.monotonic() < deadline, f"not compacted: {len(seen)} records"
        time.sleep(0.2)


def check_transactions(admin):
    source, target = new_topic(admin), new_topic(admin)
    member = consumer("py-tx-group")
    member.subscribe([source])
    while not member.assignment():
        member.poll(0.1)
    producer = Producer(BASE | {"transactional.id": f"py-{uuid.uuid4()}"})
    producer.init_transactions(PATIENCE_SECONDS)
    for value, offset, commits in [("one", 1, True), ("two", 2, False), ("three", 3, True)]:
        producer.begin_transaction()
        producer.produce(target, value=value)
        producer.send_offsets_to_transaction(
            [TopicPartition(source, 0, offset)], member.consumer_group_metadata(), PATIENCE_SECONDS
        )
        if commits:
            producer.commit_transaction(PATIENCE_SECONDS)
        else:
            producer.flush(PATIENCE_SECONDS)
            producer.abort_transaction(PATIENCE_SECONDS)
    assert read(target, 2) == ["one", "three"]
    assert read(target, 3, isolation="read_uncommitted") == ["one", "two", "three"]
    assert member.committed([TopicPartition(source, 0)], PATIENCE_SECONDS)[0].offset == 3
    member.close()
    wanted = [ConsumerGroupTopicPartitions("py-tx-group", [TopicPartition(source, 0)])]
    listed = admin.list_consumer_group_offsets(wanted)["py-tx-group"].result(PATIENCE_SECONDS)
    assert listed.topic_partitions[0].offset == 3


def check_fencing(admin):
    topic = new_topic(admin)
    name = f"py-{uuid.uuid4()}"
    zombie = Producer(BASE | {"transactional.id": name})
    zombie.init_transactions(PATIENCE_SECONDS)
    zombie.begin_transaction()
    zombie.produce(topic, value="zombie")
    zombie.flush(PATIENCE_SECONDS)
    successor = Producer(BASE | {"transactional.id": name})
    successor.init_transactions(PATIENCE_SECONDS)
    try:
        zombie.commit_transaction(PATIENCE_SECONDS)
    except KafkaException as refused:
        assert refused.args[0].fatal(), refused
    else:
        raise AssertionError("the zombie committed")
    successor.begin_transaction()
    successor.produce(topic, value="successor")
    successor.commit_transaction(PATIENCE_SECONDS)
    assert read(topic, 1) == ["successor"]


def check_administration(admin):
    topic = new_topic(admin)
    admin.create_partitions([NewPartitions(topic, 3)])[topic].result(PATIENCE_SECONDS)
    assert len(admin.list_topics(topic, PATIENCE_SECONDS).topics[topic].partitions) == 3
    resource = ConfigResource(
        ResourceType.TOPIC,
        topic,
        incremental_configs=[ConfigEntry("cleanup.policy", "compact", incremental_operation=AlterConfigOpType.APPEND)],
    )
    admin.incremental_alter_configs([resource])[resource].result(PATIENCE_SECONDS)
    resource = ConfigResource(ResourceType.TOPIC, topic)
    described = admin.describe_configs([resource])[resource].result(PATIENCE_SECONDS)
    assert described["cleanup.policy"].value == "delete,compact", described["cleanup.policy"].value
    resource = ConfigResource(
        ResourceType.TOPIC,
        topic,
        incremental_configs=[ConfigEntry("segment.bytes", "many", incremental_operation=AlterConfigOpType.SET)],
    )
    try:
        admin.incremental_alter_configs([resource])[resource].result(PATIENCE_SECONDS)
    except KafkaException as refused:
        assert refused.args[0].name() == "INVALID_CONFIG", refused
    else:
        raise AssertionError("a setting that makes no sense was accepted")
    cluster = admin.describe_cluster().result(PATIENCE_SECONDS)
    assert len(cluster.nodes) == 1 and cluster.cluster_id
    topics = admin.delete_topics([topic])
    topics[topic].result(PATIENCE_SECONDS)
    try:
        admin.create_topics([NewTopic("py-replicated", 1, 3)])["py-replicated"].result(PATIENCE_SECONDS)
    except KafkaException as refused:
        assert refused.args[0].name() == "INVALID_REPLICATION_FACTOR", refused
    else:
        raise AssertionError("a replication factor of 3 was accepted")


def check_groups(admin):
    topic = new_topic(admin, partitions=4)
    members = [
        consumer("py-group", partition_assignment_strategy="cooperative-sticky", client_id=f"m{number}")
        for number in range(2)
    ]
    for member in members:
        member.subscribe([topic])
    deadline = time.monotonic() + PATIENCE_SECONDS
    while sorted(len(member.assignment()) for member in members) != [2, 2]:
        for member in members:
            member.poll(0.05)
        assert time.monotonic() < deadline, "the group does not settle"
    described = admin.describe_consumer_groups(["py-group"])["py-group"].result(PATIENCE_SECONDS)
    assert described.state.name == "STABLE" and len(described.members) == 2
    assert sorted(len(member.assignment.topic_partitions) for member in described.members) == [2, 2]
    listed = admin.list_consumer_groups().result(PATIENCE_SECONDS)
    assert "py-group" in [group.group_id for group in listed.valid]
    members[0].commit(offsets=[TopicPartition(topic, 0, 1)], asynchronous=False)
    for member in members:
        member.close()
    moved = ConsumerGroupTopicPartitions("py-group", [TopicPartition(topic, 0, 7)])
    admin.alter_consumer_group_offsets([moved])["py-group"].result(PATIENCE_SECONDS)
    admin.delete_consumer_groups(["py-group"])["py-group"].result(PATIENCE_SECONDS)


def check_isolated_offsets(admin):
    topic = new_topic(admin)
    producer = Producer(BASE | {"transactional.id": f"py-{uuid.uuid4()}"})
    producer.init_transactions(PATIENCE_SECONDS)
    producer.begin_transaction()
    producer.produce(topic, value="open")
    producer.flush(PATIENCE_SECONDS)
    ends = {}
    for level in [IsolationLevel.READ_COMMITTED, IsolationLevel.READ_UNCOMMITTED]:
        found = admin.list_offsets({TopicPartition(topic, 0): OffsetSpec.latest()}, isolation_level=level)
        ends[level] = next(iter(found.values())).result(PATIENCE_SECONDS).offset
    assert ends == {IsolationLevel.READ_COMMITTED: 0, IsolationLevel.READ_UNCOMMITTED: 1}, ends
    producer.abort_transaction(PATIENCE_SECONDS)


def main():
    admin = AdminClient(BASE)
    checks = [
        check_compression,
        check_zstd_in_a_compacted_topic,
        check_transactions,
        check_fencing,
        check_administration,
        check_groups,
        check_isolated_offsets,
    ]
    for check in checks:
        check(admin)
        print(f"{check.__name__}: holds")


if __name__ == "__main__":
    main()
