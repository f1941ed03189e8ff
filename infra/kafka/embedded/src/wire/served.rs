//! The one list of what is served, in which versions, and of which shape.

use kafka_protocol::messages::ApiKey;

use super::shape::Field::{self, Blob, Fixed, List, Structs, Text};
use super::shape::{Api, Spec};

const LAST: i16 = i16::MAX;

const fn always(field: Field) -> Spec {
    Spec {
        from: 0,
        to: LAST,
        field,
    }
}

const fn since(from: i16, field: Field) -> Spec {
    Spec {
        from,
        to: LAST,
        field,
    }
}

const fn until(to: i16, field: Field) -> Spec {
    Spec { from: 0, to, field }
}

const fn api(
    key: ApiKey,
    versions: (i16, i16),
    flexible_from: i16,
    fields: &'static [Spec],
) -> Api {
    Api {
        key,
        from: versions.0,
        to: versions.1,
        flexible_from,
        fields,
    }
}

const TOPIC_WITH_PARTITIONS: &[Spec] = &[always(Text), always(List(&Fixed(4)))];

const FETCH_PARTITION: &[Spec] = &[
    always(Fixed(4)),
    since(9, Fixed(4)),
    always(Fixed(8)),
    since(12, Fixed(4)),
    since(5, Fixed(8)),
    always(Fixed(4)),
];

const COMMITTED_OFFSET_FROM_6: &[Spec] = &[
    always(Fixed(4)),
    always(Fixed(8)),
    since(6, Fixed(4)),
    always(Text),
];
const COMMITTED_OFFSET_FROM_2: &[Spec] = &[
    always(Fixed(4)),
    always(Fixed(8)),
    since(2, Fixed(4)),
    always(Text),
];

/// Every request that is served. Version 2 of transactions (KIP-890), sessions of `ConsumerGroupHeartbeat` (KIP-848) and
/// whatever else has no row here is neither advertised nor answered.
pub const SERVED: &[Api] = &[
    api(
        ApiKey::Produce,
        (3, 11),
        9,
        &[
            always(Text),
            always(Fixed(2)),
            always(Fixed(4)),
            always(Structs(&[
                always(Text),
                always(Structs(&[always(Fixed(4)), always(Blob)])),
            ])),
        ],
    ),
    api(
        ApiKey::Fetch,
        (4, 16),
        12,
        &[
            until(14, Fixed(4)),
            always(Fixed(4)),
            always(Fixed(4)),
            always(Fixed(4)),
            always(Fixed(1)),
            since(7, Fixed(4)),
            since(7, Fixed(4)),
            always(Structs(&[
                until(12, Text),
                since(13, Fixed(16)),
                always(Structs(FETCH_PARTITION)),
            ])),
            since(
                7,
                Structs(&[
                    until(12, Text),
                    since(13, Fixed(16)),
                    always(List(&Fixed(4))),
                ]),
            ),
            since(11, Text),
        ],
    ),
    api(
        ApiKey::ListOffsets,
        (1, 7),
        6,
        &[
            always(Fixed(4)),
            since(2, Fixed(1)),
            always(Structs(&[
                always(Text),
                always(Structs(&[
                    always(Fixed(4)),
                    since(4, Fixed(4)),
                    always(Fixed(8)),
                ])),
            ])),
        ],
    ),
    api(
        ApiKey::Metadata,
        (0, 12),
        9,
        &[
            always(Structs(&[since(10, Fixed(16)), always(Text)])),
            since(4, Fixed(1)),
            Spec {
                from: 8,
                to: 10,
                field: Fixed(1),
            },
            since(8, Fixed(1)),
        ],
    ),
    api(
        ApiKey::OffsetCommit,
        (2, 8),
        8,
        &[
            always(Text),
            always(Fixed(4)),
            always(Text),
            since(7, Text),
            until(4, Fixed(8)),
            always(Structs(&[
                always(Text),
                always(Structs(COMMITTED_OFFSET_FROM_6)),
            ])),
        ],
    ),
    api(
        ApiKey::OffsetFetch,
        (1, 8),
        6,
        &[
            until(7, Text),
            until(7, Structs(TOPIC_WITH_PARTITIONS)),
            since(
                8,
                Structs(&[always(Text), always(Structs(TOPIC_WITH_PARTITIONS))]),
            ),
            since(7, Fixed(1)),
        ],
    ),
    api(
        ApiKey::FindCoordinator,
        (0, 4),
        3,
        &[until(3, Text), since(1, Fixed(1)), since(4, List(&Text))],
    ),
    api(
        ApiKey::JoinGroup,
        (0, 9),
        6,
        &[
            always(Text),
            always(Fixed(4)),
            since(1, Fixed(4)),
            always(Text),
            since(5, Text),
            always(Text),
            always(Structs(&[always(Text), always(Blob)])),
            since(8, Text),
        ],
    ),
    api(
        ApiKey::Heartbeat,
        (0, 4),
        4,
        &[always(Text), always(Fixed(4)), always(Text), since(3, Text)],
    ),
    api(
        ApiKey::LeaveGroup,
        (0, 5),
        4,
        &[
            always(Text),
            until(2, Text),
            since(3, Structs(&[always(Text), always(Text), since(5, Text)])),
        ],
    ),
    api(
        ApiKey::SyncGroup,
        (0, 5),
        4,
        &[
            always(Text),
            always(Fixed(4)),
            always(Text),
            since(3, Text),
            since(5, Text),
            since(5, Text),
            always(Structs(&[always(Text), always(Blob)])),
        ],
    ),
    api(
        ApiKey::DescribeGroups,
        (0, 5),
        5,
        &[always(List(&Text)), since(3, Fixed(1))],
    ),
    api(
        ApiKey::ListGroups,
        (0, 5),
        3,
        &[since(4, List(&Text)), since(5, List(&Text))],
    ),
    api(
        ApiKey::ApiVersions,
        (0, 4),
        3,
        &[since(3, Text), since(3, Text)],
    ),
    api(
        ApiKey::CreateTopics,
        (2, 7),
        5,
        &[
            always(Structs(&[
                always(Text),
                always(Fixed(4)),
                always(Fixed(2)),
                always(Structs(&[always(Fixed(4)), always(List(&Fixed(4)))])),
                always(Structs(&[always(Text), always(Text)])),
            ])),
            always(Fixed(4)),
            always(Fixed(1)),
        ],
    ),
    api(
        ApiKey::DeleteTopics,
        (1, 6),
        4,
        &[
            since(6, Structs(&[always(Text), always(Fixed(16))])),
            until(5, List(&Text)),
            always(Fixed(4)),
        ],
    ),
    api(
        ApiKey::DeleteRecords,
        (0, 2),
        2,
        &[
            always(Structs(&[
                always(Text),
                always(Structs(&[always(Fixed(4)), always(Fixed(8))])),
            ])),
            always(Fixed(4)),
        ],
    ),
    api(
        ApiKey::InitProducerId,
        (0, 5),
        2,
        &[
            always(Text),
            always(Fixed(4)),
            since(3, Fixed(8)),
            since(3, Fixed(2)),
        ],
    ),
    api(
        ApiKey::OffsetForLeaderEpoch,
        (2, 4),
        4,
        &[
            since(3, Fixed(4)),
            always(Structs(&[
                always(Text),
                always(Structs(&[
                    always(Fixed(4)),
                    always(Fixed(4)),
                    always(Fixed(4)),
                ])),
            ])),
        ],
    ),
    api(
        ApiKey::AddPartitionsToTxn,
        (0, 3),
        3,
        &[
            always(Text),
            always(Fixed(8)),
            always(Fixed(2)),
            always(Structs(TOPIC_WITH_PARTITIONS)),
        ],
    ),
    api(
        ApiKey::AddOffsetsToTxn,
        (0, 3),
        3,
        &[
            always(Text),
            always(Fixed(8)),
            always(Fixed(2)),
            always(Text),
        ],
    ),
    api(
        ApiKey::EndTxn,
        (0, 3),
        3,
        &[
            always(Text),
            always(Fixed(8)),
            always(Fixed(2)),
            always(Fixed(1)),
        ],
    ),
    api(
        ApiKey::TxnOffsetCommit,
        (0, 3),
        3,
        &[
            always(Text),
            always(Text),
            always(Fixed(8)),
            always(Fixed(2)),
            since(3, Fixed(4)),
            since(3, Text),
            since(3, Text),
            always(Structs(&[
                always(Text),
                always(Structs(COMMITTED_OFFSET_FROM_2)),
            ])),
        ],
    ),
    api(
        ApiKey::DescribeConfigs,
        (1, 4),
        4,
        &[
            always(Structs(&[
                always(Fixed(1)),
                always(Text),
                always(List(&Text)),
            ])),
            always(Fixed(1)),
            since(3, Fixed(1)),
        ],
    ),
    api(
        ApiKey::AlterConfigs,
        (0, 2),
        2,
        &[
            always(Structs(&[
                always(Fixed(1)),
                always(Text),
                always(Structs(&[always(Text), always(Text)])),
            ])),
            always(Fixed(1)),
        ],
    ),
    api(
        ApiKey::DescribeLogDirs,
        (1, 4),
        2,
        &[always(Structs(TOPIC_WITH_PARTITIONS))],
    ),
    api(
        ApiKey::CreatePartitions,
        (0, 3),
        2,
        &[
            always(Structs(&[
                always(Text),
                always(Fixed(4)),
                always(Structs(&[always(List(&Fixed(4)))])),
            ])),
            always(Fixed(4)),
            always(Fixed(1)),
        ],
    ),
    api(ApiKey::DeleteGroups, (0, 2), 2, &[always(List(&Text))]),
    api(
        ApiKey::IncrementalAlterConfigs,
        (0, 1),
        1,
        &[
            always(Structs(&[
                always(Fixed(1)),
                always(Text),
                always(Structs(&[always(Text), always(Fixed(1)), always(Text)])),
            ])),
            always(Fixed(1)),
        ],
    ),
    api(
        ApiKey::OffsetDelete,
        (0, 0),
        LAST,
        &[
            always(Text),
            always(Structs(&[
                always(Text),
                always(Structs(&[always(Fixed(4))])),
            ])),
        ],
    ),
    api(
        ApiKey::DescribeCluster,
        (0, 1),
        0,
        &[always(Fixed(1)), since(1, Fixed(1))],
    ),
    api(
        ApiKey::DescribeProducers,
        (0, 0),
        0,
        &[always(Structs(TOPIC_WITH_PARTITIONS))],
    ),
    api(
        ApiKey::DescribeTransactions,
        (0, 0),
        0,
        &[always(List(&Text))],
    ),
    api(
        ApiKey::ListTransactions,
        (0, 1),
        0,
        &[
            always(List(&Text)),
            always(List(&Fixed(8))),
            since(1, Fixed(8)),
        ],
    ),
];

/// The row of a request, if it is served at all.
pub fn served(key: i16) -> Option<&'static Api> {
    SERVED.iter().find(|api| api.key as i16 == key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::shape::ShapeError;

    #[test]
    fn a_count_that_the_bytes_do_not_bear_out_is_refused() {
        let metadata = served(ApiKey::Metadata as i16).unwrap();
        let mut body = i32::MAX.to_be_bytes().to_vec();
        assert_eq!(metadata.check(0, &body), Err(ShapeError::TooManyElements));
        body = 1_000_i32.to_be_bytes().to_vec();
        assert_eq!(metadata.check(0, &body), Err(ShapeError::Truncated));
        body = (-7_i32).to_be_bytes().to_vec();
        assert_eq!(metadata.check(0, &body), Err(ShapeError::BadLength));
        assert_eq!(metadata.check(0, &[0, 0, 0, 0, 9]), Ok(()));
        assert_eq!(metadata.check(1, &(-1_i32).to_be_bytes()), Ok(()));
    }

    #[test]
    fn every_row_is_within_what_the_decoder_knows() {
        for api in SERVED {
            let known = api.key.valid_versions();
            assert!(
                api.from >= known.min && api.to <= known.max,
                "{:?}",
                api.key
            );
            for version in api.from..=api.to {
                let flexible = api.key.request_header_version(version) >= 2;
                assert_eq!(
                    flexible,
                    version >= api.flexible_from,
                    "{:?} v{version}",
                    api.key
                );
            }
        }
    }
}
