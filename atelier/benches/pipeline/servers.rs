//! The whole pipeline on real servers and on what it brings along.

use std::path::PathBuf;

use atelier_servers::{Kafka, Postgres, S3};

use crate::{
    median, run_pipeline,
    support::{Installation, WORK_ON_EVERY_PICTURE},
};

const ACCESS_KEY: &str = "bench";
/// Of a server on loopback that lives as long as the bench.
const SECRET_KEY: &str = "only-for-this-run";

/// Images per second, in turn. Kafka, PostgreSQL and S3 run on the same processors as the pipeline.
pub fn beside_embedded(pictures: &[PathBuf], rounds: usize) {
    let (Some(kafka), Some(postgres)) = (Kafka::start(""), Postgres::start()) else {
        return;
    };
    if !S3::is_installed() {
        return;
    }
    let s3 = S3::start(ACCESS_KEY, SECRET_KEY, None);
    let mut on_servers = Installation::new(&format!(
        "embedded = false\n{WORK_ON_EVERY_PICTURE}[kafka]\nbootstrap_servers = \"{}\"\n[stores]\nledger_url = \"postgres://atelier@127.0.0.1:{}/atelier\"\nblobs_url = \"s3://{}\"\n[stores.blobs.s3]\nendpoint = \"{}\"\n",
        kafka.bootstrap_servers(),
        postgres.port(),
        S3::BUCKET,
        s3.endpoint()
    ));
    on_servers.environment = vec![
        ("PGPASSWORD", postgres.password()),
        ("AWS_ACCESS_KEY_ID", ACCESS_KEY.to_owned()),
        ("AWS_SECRET_ACCESS_KEY", SECRET_KEY.to_owned()),
        ("AWS_REGION", "us-east-1".to_owned()),
    ];
    let mut embedded = Installation::new(WORK_ON_EVERY_PICTURE);
    on_servers.start_up();
    embedded.start_up();
    let warm_up = &pictures[..pictures.len().min(10)];
    run_pipeline(&on_servers, warm_up);
    run_pipeline(&embedded, warm_up);
    let mut ratios = Vec::new();
    for round in 1..=rounds {
        let rate = |installation: &Installation| {
            pictures.len() as f64 / run_pipeline(installation, pictures).as_secs_f64()
        };
        let (real, own) = (rate(&on_servers), rate(&embedded));
        println!("round {round}: real servers {real:.2} images/s, embedded {own:.2} images/s");
        ratios.push(real / own);
    }
    println!(
        "=> whole pipeline, real servers / embedded, images/s: {:.2}\n",
        median(ratios)
    );
}
