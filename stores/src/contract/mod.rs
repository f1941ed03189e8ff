//! What every adapter of a port must do, as tests. An adapter's own tests name a place where it can be opened, and expand
//! [`blobs_contract`](crate::blobs_contract), [`sweep_contract`](crate::sweep_contract), [`cache_contract`](crate::cache_contract) or [`ledger_contract`](crate::ledger_contract); each clause becomes a test.
//!
//! Invariant: the clauses use nothing but the port, so that a new adapter is held to the same promises.

// These are tests that live in the library so that other crates can run them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::missing_panics_doc)]

pub mod blobs;
pub mod cache;
pub mod ledger;
pub mod sweep;

use std::{future::Future, sync::Arc};

use crate::{Blobs, Cache, Ledger, SweepableBlobs};

/// A place of its own, empty at first, where blobs can be opened again and again. Dropping it leaves nothing behind.
pub trait BlobsPlace: Send + Sync + 'static {
    /// A new, empty place.
    fn fresh() -> impl Future<Output = Self> + Send;
    /// Opens what is there.
    fn open(&self) -> impl Future<Output = Arc<dyn Blobs>> + Send;
}

/// A place whose blobs can be swept.
pub trait SweepablePlace: BlobsPlace {
    /// Opens what is there.
    fn open_to_sweep(&self) -> impl Future<Output = Arc<dyn SweepableBlobs>> + Send;
}

/// A place of its own, empty at first, where a ledger can be opened again and again. Dropping it leaves nothing behind.
pub trait LedgerPlace: Send + Sync + 'static {
    /// A new, empty place.
    fn fresh() -> impl Future<Output = Self> + Send;
    /// Opens what is there.
    fn open(&self) -> impl Future<Output = Arc<dyn Ledger>> + Send;
}

/// A place of its own, empty at first, where a cache can be opened. Dropping it leaves nothing behind.
pub trait CachePlace: Send + Sync + 'static {
    /// A new, empty place.
    fn fresh() -> impl Future<Output = Self> + Send;
    /// Opens what is there.
    fn open(&self) -> Arc<dyn Cache>;
}

/// One test per clause of a contract.
#[doc(hidden)]
#[macro_export]
macro_rules! contract_tests {
    ($place:ty, $is_there:expr, $suite:ident, $($clause:ident),+ $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $clause() {
                if $is_there {
                    $crate::contract::$suite::$clause::<$place>().await;
                }
            }
        )+
    };
}

/// Holds the blobs of a [`BlobsPlace`] to the contract; with `if`, only where their server is there.
#[macro_export]
macro_rules! blobs_contract {
    ($place:ty) => {
        $crate::blobs_contract!($place, if true);
    };
    ($place:ty, if $is_there:expr) => {
        $crate::contract_tests!(
            $place,
            $is_there,
            blobs,
            what_is_put_is_got,
            a_reader_is_stored_as_its_bytes,
            ranges_are_cut_at_the_end,
            unknown_keys_are_not_found,
            what_is_too_large_is_not_kept,
            a_source_that_breaks_off_is_not_kept,
            racing_writers_of_one_blob_agree,
            racing_writers_of_many_blobs_keep_them_apart,
            an_abandoned_write_leaves_nothing,
            a_store_in_order_says_so,
        );
    };
}

/// Holds the blobs of a [`SweepablePlace`] to the contract of those that can be swept; with `if`, only where their server
/// is there.
#[macro_export]
macro_rules! sweep_contract {
    ($place:ty) => {
        $crate::sweep_contract!($place, if true);
    };
    ($place:ty, if $is_there:expr) => {
        $crate::contract_tests!(
            $place,
            $is_there,
            sweep,
            what_is_old_is_found_and_nothing_else,
            what_is_set_aside_comes_back_when_asked_for,
            what_has_come_back_is_not_set_aside_again,
            what_is_erased_is_gone_and_can_be_put_again,
            a_sweep_goes_by_the_ledger,
            a_class_may_be_kept_shorter_than_intermediates,
            a_dry_run_does_nothing,
            a_sweep_races_those_who_put_and_get,
            a_sweep_races_those_who_repeat,
        );
    };
}

/// Holds the cache of a [`CachePlace`] to the contract; with `if`, only where its server is there.
#[macro_export]
macro_rules! cache_contract {
    ($place:ty) => {
        $crate::cache_contract!($place, if true);
    };
    ($place:ty, if $is_there:expr) => {
        $crate::contract_tests!(
            $place,
            $is_there,
            cache,
            what_is_put_is_got_as_it_is,
            what_was_put_last_counts,
            a_value_has_its_time,
            racing_writers_leave_one_of_their_values,
        );
    };
}

/// Holds the ledger of a [`LedgerPlace`] to the contract.
#[macro_export]
macro_rules! ledger_contract {
    ($place:ty) => {
        $crate::contract_tests!(
            $place,
            true,
            ledger,
            a_task_is_created_once,
            racing_creators_of_one_task_agree,
            the_outbox_keeps_its_order,
            a_task_goes_from_pending_to_completed,
            a_repeat_is_answered_as_the_first_time,
            a_failed_image_does_not_fail_its_neighbours,
            a_task_without_any_result_has_failed,
            a_task_that_fails_as_a_whole_ends_its_open_images,
            a_refused_task_by_topic_ends_at_once,
            an_early_failure_ends_its_image_when_the_task_is_known,
            a_result_after_a_failure_is_a_repair,
            the_first_end_stands,
            contradictions_leave_no_trace,
            the_first_description_of_a_task_stands,
            a_task_by_topic_and_one_by_request_do_not_mix,
            pages_are_stable_under_inserts,
            unknown_keys_are_none,
            a_cancelled_task_ends_its_open_images,
            a_cancel_that_comes_too_late_changes_nothing,
            a_cancel_may_overtake_its_task,
            a_cancel_is_asked_for_once,
            a_cancel_in_any_order_ends_everything_once,
            any_order_of_arrival_ends_in_the_same_state,
            racing_appliers_of_the_same_events_agree,
            an_abandoned_batch_is_applied_wholly_or_not_at_all,
            the_largest_task_is_kept,
            blobs_are_in_use_as_long_as_their_class_says,
            a_duty_is_taken_once,
            repeats_are_versions_of_the_first,
            racing_repeats_are_different_versions,
            a_repeat_by_topic_is_a_version_once_both_are_known,
            a_claim_that_does_not_hold_makes_no_version,
            a_repeat_keeps_its_original,
            the_largest_task_is_repeated,
            originals_are_known_as_soon_as_they_are_there,
            a_ledger_in_order_says_so,
        );
    };
}
