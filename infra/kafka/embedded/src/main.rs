//! The broker as a program: flags, logging, signals.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use atelier_broker::{Broker, BrokerOptions, Durability};
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

/// A single-node, durable broker that speaks the Kafka protocol.
#[derive(Parser)]
#[command(name = "atelier-broker", version)]
struct Flags {
    /// Where everything is kept; made if it is not there
    #[arg(long)]
    data_dir: PathBuf,
    /// Where clients connect; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:9092")]
    listen: SocketAddr,
    /// HOST:PORT that clients are told to connect to, where it is not the address listened on
    #[arg(long, value_parser = parse_host_and_port)]
    advertise: Option<(String, u16)>,
    /// What an acknowledgement promises: fsync outlives a power cut, os only the death of the broker
    #[arg(long, value_enum, default_value = "fsync")]
    durability: Durability,
    /// Listen beyond loopback although there is no authentication
    #[arg(long)]
    allow_remote: bool,
    /// Create topics that clients ask about
    #[arg(long)]
    auto_create_topics: bool,
    /// Partitions of a topic whose creator leaves it to the broker
    #[arg(long, default_value_t = 1)]
    default_partitions: i32,
    /// How long the first rebalance of an empty group waits for more members, in milliseconds
    #[arg(long, default_value_t = 50)]
    initial_rebalance_delay_ms: u64,
    /// How often retention and compaction are looked after, in milliseconds
    #[arg(long, default_value_t = 30_000)]
    maintenance_interval_ms: u64,
    /// Written with the address, once clients can connect
    #[arg(long)]
    ready_file: Option<PathBuf>,
    /// Stop when standard input ends: whoever holds the other end of the pipe has died
    #[arg(long)]
    stop_on_stdin_end: bool,
    /// What to log, as in RUST_LOG
    #[arg(long, env = "RUST_LOG", default_value = "info")]
    log: String,
}

fn parse_host_and_port(text: &str) -> Result<(String, u16), String> {
    let (host, port) = text.rsplit_once(':').ok_or("write it as HOST:PORT")?;
    let port = port
        .parse()
        .map_err(|_| format!("{port:?} is not a port"))?;
    if host.is_empty() {
        Err("the host is missing".to_owned())
    } else {
        Ok((host.to_owned(), port))
    }
}

fn main() -> ExitCode {
    let flags = Flags::parse();
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::new(&flags.log))
        .with_writer(std::io::stderr)
        .init();
    match serve(&flags) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            tracing::error!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn serve(flags: &Flags) -> Result<(), String> {
    let options = BrokerOptions {
        listen: flags.listen,
        advertise: flags.advertise.clone(),
        durability: flags.durability,
        allow_remote: flags.allow_remote,
        auto_create_topics: flags.auto_create_topics,
        default_partitions: flags.default_partitions,
        initial_rebalance_delay: Duration::from_millis(flags.initial_rebalance_delay_ms),
        maintenance_interval: Duration::from_millis(flags.maintenance_interval_ms.max(1)),
        ..BrokerOptions::new(flags.data_dir.clone())
    };
    // Signals are caught before the recovery, which they then do not cut short in the middle of a repair.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    let signals = runtime.block_on(async {
        Ok((
            signal(SignalKind::terminate())?,
            signal(SignalKind::interrupt())?,
        ))
    });
    let (mut terminate, mut interrupt) =
        signals.map_err(|error: std::io::Error| error.to_string())?;
    let broker = Broker::start(options).map_err(|error| error.to_string())?;
    announce(broker.address(), flags.ready_file.as_deref())?;
    runtime.block_on(async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            () = stdin_end(), if flags.stop_on_stdin_end => {}
        }
    });
    // The thread that may still wait for standard input must not hold up the end.
    runtime.shutdown_background();
    tracing::info!("stopping");
    broker.stop();
    if let Some(ready_file) = &flags.ready_file {
        // A file that says "ready" must not outlive the broker; somebody may have removed it already.
        let _ = std::fs::remove_file(ready_file);
    }
    Ok(())
}

async fn stdin_end() {
    let read_to_end = || {
        // An error is an end too.
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
    };
    // The thread cannot panic, and is not cancelled before the end of the process.
    let _ = tokio::task::spawn_blocking(read_to_end).await;
}

#[expect(
    clippy::print_stdout,
    reason = "the one line that whoever starts the broker waits for"
)]
fn announce(address: SocketAddr, ready_file: Option<&std::path::Path>) -> Result<(), String> {
    println!("listening on {address}");
    if let Some(path) = ready_file {
        let temporary = path.with_extension("new");
        let written = std::fs::write(&temporary, format!("{address}\n"))
            .and_then(|()| std::fs::rename(&temporary, path));
        written.map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    }
    Ok(())
}
