//! A disk that fills up while tasks are under way: new ones are refused with 507, nothing that was accepted is lost.
#![allow(clippy::unwrap_used)]

mod support;

use std::{fs, io::Write as _, path::Path, process::Command, time::Duration};

use atelier_schemas::TaskStatus;
use serde_json::{Value, json};
use support::{Installation, samples};
use uuid::Uuid;

/// A small disk of its own; `None` where this user may not mount one.
struct SmallDisk<'a>(&'a Path);

impl<'a> SmallDisk<'a> {
    fn mount(folder: &'a Path) -> Option<Self> {
        fs::create_dir_all(folder).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=192m", "tmpfs"])
            .arg(folder)
            .output()
            .ok()?;
        mounted.status.success().then_some(Self(folder))
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

fn fill(path: &Path) {
    let mut file = fs::File::create(path).unwrap();
    let block = vec![0_u8; 1 << 16];
    while file.write_all(&block).is_ok() {}
    while file.write_all(&[0]).is_ok() {}
}

#[test]
fn a_full_disk_refuses_new_tasks_and_loses_none() {
    let mut installation = Installation::new(
        "[stores.blobs]\nmin_free_bytes = 16777216\n[stores.ledger]\nmin_free_bytes = 16777216\n",
    );
    let data = installation.folder.path().join("data");
    let Some(_disk) = SmallDisk::mount(&data) else {
        println!("skipped: mounting a small disk needs root");
        return;
    };
    installation.start_up();
    let picture = fs::read(samples().join("dress.jpg")).unwrap();
    let accepted: Vec<Uuid> = (0..6)
        .map(|_| {
            installation
                .upload(
                    &[("dress.jpg", picture.clone())],
                    &json!({ "quality": "low" }),
                )
                .task_id
        })
        .collect();

    fill(&data.join("filler"));
    let (status, body) = installation.try_upload(picture.clone());
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(
        (status, body["error"]["code"].as_str()),
        (507, Some("storageFull")),
        "{body}"
    );
    std::thread::sleep(Duration::from_secs(3));
    let alive = installation
        .client()
        .get(installation.url("/health/live"))
        .send()
        .unwrap();
    assert_eq!(alive.status(), 200, "the process must outlive a full disk");

    fs::remove_file(data.join("filler")).unwrap();
    for task in &accepted {
        assert_eq!(
            installation.wait_for_end(*task).status,
            TaskStatus::Completed
        );
    }
    support::assert_ended_once(&installation, &accepted, 1);
    let again = installation.upload(&[("dress.jpg", picture)], &json!({ "quality": "low" }));
    assert_eq!(
        installation.wait_for_end(again.task_id).status,
        TaskStatus::Completed
    );
    assert!(installation.terminate("up"));
}
