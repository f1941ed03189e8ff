//! The cache on a Redis server, which several processes share.
//!
//! Invariant: nobody waits for a server that is away. A request that fails, or takes longer than
//! `stores.cache.timeout_ms`, is the last for `stores.cache.pause_ms`; one of those that come after it asks again.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use redis::{
    Client, FromRedisValue, IntoConnectionInfo as _, RedisError,
    aio::{ConnectionManager, ConnectionManagerConfig},
};
use tokio::time::timeout;

use super::{Cache, Cached};
use crate::{options::CacheOptions, without_password};

/// Before every key, so that Atelier can share a server.
const PREFIX: &str = "atelier:";

/// Values on a Redis server. Clones share one connection.
#[derive(Clone)]
pub struct RedisCache {
    connection: ConnectionManager,
    place: Arc<str>,
    timeout: Duration,
    pause: Duration,
    state: Arc<Mutex<State>>,
}

/// What the server did last.
#[derive(Default)]
struct State {
    /// When it failed, where it has not answered since.
    away_since: Option<Instant>,
    ask_again_at: Option<Instant>,
    /// Whether it answered that it does not take a value, as one does that is full.
    refuses: bool,
}

impl RedisCache {
    /// The server at `url`: `redis://` or `rediss://` (TLS), `[user[:password]@]host[:port][/database]`. Does not connect yet: a
    /// server that is not there is one line of the log, and work goes on without it.
    ///
    /// # Errors
    /// What is wrong with the URL.
    pub fn open(url: &str, options: &CacheOptions) -> Result<Self, RedisError> {
        let wait = Duration::from_millis(options.timeout_ms.max(1));
        let settings = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(wait))
            .set_response_timeout(Some(wait))
            // Whether to try again is decided here, once for all who ask.
            .set_number_of_retries(0);
        let client = Client::open(url.into_connection_info()?)?;
        Ok(Self {
            connection: ConnectionManager::new_lazy_with_config(client, settings)?,
            place: without_password(url).into(),
            timeout: wait,
            pause: Duration::from_millis(options.pause_ms),
            state: Arc::default(),
        })
    }

    /// Asks the server whether it answers.
    ///
    /// # Errors
    /// What is wrong, without the password.
    pub async fn check(&self) -> Result<(), String> {
        let answer = self.ask::<String>(&redis::cmd("PING")).await;
        answer.map(drop).map_err(|error| error.to_string())
    }

    async fn ask<T: FromRedisValue>(&self, command: &redis::Cmd) -> Result<T, RedisError> {
        let mut connection = self.connection.clone();
        // The connection's own time-outs leave out the time that a request waits for one that is being made.
        timeout(2 * self.timeout, command.query_async(&mut connection))
            .await
            .unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut).into()))
    }

    /// Asks unless the server failed a moment ago; `None` where it is away.
    async fn try_to_ask<T: FromRedisValue>(
        &self,
        command: &redis::Cmd,
    ) -> Option<Result<T, RedisError>> {
        if !self.state.lock().may_ask(self.pause) {
            return None;
        }
        let answer = self.ask(command).await;
        match &answer {
            Err(error) if !is_refusal(error) => {
                if self.state.lock().failed(self.pause) {
                    tracing::warn!(cache = %self.place, %error, "the cache is away: work goes on without it");
                }
                return None;
            }
            _ => {
                if let Some(since) = self.state.lock().answered() {
                    let away_s = since.elapsed().as_secs_f64();
                    tracing::info!(cache = %self.place, away_s, "the cache answers again");
                }
            }
        }
        Some(answer)
    }
}

/// Whether the server is well and does not want this: it is full, read-only, or has a rule against it.
fn is_refusal(error: &RedisError) -> bool {
    let code = error.code();
    code.is_some_and(|code| !["NOAUTH", "WRONGPASS", "LOADING", "MASTERDOWN"].contains(&code))
}

impl State {
    /// Whether the one who asks may; while the server is away, one in each pause.
    fn may_ask(&mut self, pause: Duration) -> bool {
        match self.ask_again_at {
            None => true,
            Some(at) if Instant::now() < at => false,
            Some(_) => {
                self.ask_again_at = Some(Instant::now() + pause);
                true
            }
        }
    }

    /// Since when it had been away.
    fn answered(&mut self) -> Option<Instant> {
        self.ask_again_at = None;
        self.away_since.take()
    }

    /// Whether that is news.
    fn failed(&mut self, pause: Duration) -> bool {
        let now = Instant::now();
        self.ask_again_at = Some(now + pause);
        self.away_since
            .replace(self.away_since.unwrap_or(now))
            .is_none()
    }
}

#[async_trait]
impl Cache for RedisCache {
    async fn get(&self, key: &str) -> Cached {
        let mut command = redis::cmd("GET");
        command.arg(format!("{PREFIX}{key}"));
        match self.try_to_ask::<Option<Vec<u8>>>(&command).await {
            Some(Ok(Some(value))) => Cached::Hit(value.into()),
            Some(Ok(None)) => Cached::Miss,
            Some(Err(_)) | None => Cached::Away,
        }
    }

    async fn put(&self, key: &str, value: Bytes, time: Duration) {
        let mut command = redis::cmd("SET");
        command
            .arg(format!("{PREFIX}{key}"))
            .arg(&value[..])
            .arg("EX")
            .arg(time.as_secs().max(1));
        let Some(answer) = self.try_to_ask::<()>(&command).await else {
            return;
        };
        let refused_before = std::mem::replace(&mut self.state.lock().refuses, answer.is_err());
        match answer {
            Err(error) if !refused_before => {
                tracing::warn!(cache = %self.place, %error, "the cache takes no values: work goes on without it");
            }
            Ok(()) if refused_before => {
                tracing::info!(cache = %self.place, "the cache takes values again");
            }
            _ => {}
        }
    }
}
