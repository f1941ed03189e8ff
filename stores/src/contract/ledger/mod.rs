//! What every ledger does.

mod cancelling;
mod events;
mod orders;
pub(in crate::contract) mod samples;
mod tasks;
mod uses;
mod versions;

pub use cancelling::{
    a_cancel_in_any_order_ends_everything_once, a_cancel_is_asked_for_once,
    a_cancel_may_overtake_its_task, a_cancel_that_comes_too_late_changes_nothing,
    a_cancelled_task_ends_its_open_images,
};
pub use events::{
    a_failed_image_does_not_fail_its_neighbours, a_refused_task_by_topic_ends_at_once,
    a_repeat_is_answered_as_the_first_time, a_result_after_a_failure_is_a_repair,
    a_task_goes_from_pending_to_completed, a_task_that_fails_as_a_whole_ends_its_open_images,
    a_task_without_any_result_has_failed, an_early_failure_ends_its_image_when_the_task_is_known,
    contradictions_leave_no_trace, the_first_description_of_a_task_stands, the_first_end_stands,
};
pub use orders::{
    an_abandoned_batch_is_applied_wholly_or_not_at_all,
    any_order_of_arrival_ends_in_the_same_state, racing_appliers_of_the_same_events_agree,
};
pub use tasks::{
    a_ledger_in_order_says_so, a_task_by_topic_and_one_by_request_do_not_mix,
    a_task_is_created_once, pages_are_stable_under_inserts, racing_creators_of_one_task_agree,
    the_largest_task_is_kept, the_outbox_keeps_its_order, unknown_keys_are_none,
};

pub use uses::{a_duty_is_taken_once, blobs_are_in_use_as_long_as_their_class_says};
pub use versions::{
    a_claim_that_does_not_hold_makes_no_version,
    a_repeat_by_topic_is_a_version_once_both_are_known, a_repeat_keeps_its_original,
    originals_are_known_as_soon_as_they_are_there, racing_repeats_are_different_versions,
    repeats_are_versions_of_the_first, the_largest_task_is_repeated,
};

use proptest::{
    strategy::Strategy,
    test_runner::{Config, TestCaseError, TestRunner},
};

use super::LedgerPlace;
use crate::Ledger;

/// Checks 300 values of `strategy` on one ledger, off the async threads.
async fn for_many<P: LedgerPlace, S: Strategy + Send + 'static>(
    strategy: S,
    check: impl Fn(&dyn Ledger, &S::Value) -> Result<(), TestCaseError> + Send + 'static,
) {
    let place = P::fresh().await;
    let ledger = place.open().await;
    let checked = tokio::task::spawn_blocking(move || {
        let config = Config {
            cases: 300,
            failure_persistence: None,
            ..Config::default()
        };
        TestRunner::new(config)
            .run(&strategy, |value| check(&*ledger, &value))
            .map_err(|error| error.to_string())
    });
    checked.await.unwrap().unwrap();
}
