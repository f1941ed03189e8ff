//! Builds again when a migration is added: `sqlx::migrate!` sees changes of known files only.

#[allow(clippy::print_stdout)]
fn main() {
    println!("cargo:rerun-if-changed=../migrations/postgres");
    println!("cargo:rerun-if-changed=../migrations/sqlite");
}
