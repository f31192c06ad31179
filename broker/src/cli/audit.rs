//! `warden audit`: is the log the one that was written, and what is in it.
//!
//! Runs in the broker's process before there is a session: nothing is started. It trusts nothing that it reads: a log may
//! have been forged, and what it shows is escaped (T-09, T-14).

mod records;
mod task_id;
mod verify;

use super::Answer;
use super::policy::reading;
use crate::failure::Failure;
use crate::places::Places;
use clap::{Args, Subcommand};
use std::path::{Path, PathBuf};

/// `warden audit`
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  warden audit verify\n  warden audit show --denied")]
pub struct AuditArgs {
    #[command(subcommand)]
    command: AuditCommand,
}

#[derive(Debug, Subcommand)]
enum AuditCommand {
    /// Say whether the log is the one that was written, and name the first bad record if not
    #[command(
        after_help = "Examples:\n  warden audit verify\n  warden audit verify /var/log/wasi-warden --head 3f0c…\n\n\
Exit status: 0 intact, 1 not. Who may write the log can rewrite all of it so that it verifies.\n\
--head finds that: keep the head of a result (its last line; `audit.head` with --json) where they\n\
cannot write. Root verifies the folders of all users it has run tasks as."
    )]
    Verify(VerifyArgs),
    /// Print records in the order of time
    #[command(after_help = "Example:\n  warden audit show --denied --capability 'fs.*'\n\n\
It shows and does not judge; `warden audit verify` does. Exit status: 1 where the log has no record of the task.")]
    Show(ShowArgs),
    /// Print the last records, and with -f those that follow
    #[command(after_help = "Example:\n  warden audit tail -f --denied")]
    Tail(TailArgs),
}

/// What is read.
#[derive(Debug, Args)]
struct PlaceArgs {
    /// A folder of segments or one segment; the usual folder where none is named
    #[arg(value_name = "DIR|SEGMENT")]
    path: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct VerifyArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// This hash must be that of a record, so that a rewritten or cut log is found
    #[arg(long, value_name = "HASH")]
    head: Option<String>,
}

/// Which records.
#[derive(Debug, Args)]
struct FilterArgs {
    /// Of this task only: its id, or the first digits of it, as they are printed
    #[arg(long, value_name = "ID")]
    task: Option<String>,
    /// Of this capability only; `*` stands for any characters
    #[arg(long, value_name = "GLOB")]
    capability: Option<String>,
    /// Denied and rejected calls only
    #[arg(long)]
    denied: bool,
}

#[derive(Debug, Args)]
struct ShowArgs {
    #[command(flatten)]
    place: PlaceArgs,
    #[command(flatten)]
    filter: FilterArgs,
    /// Print at most N records, the newest
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    limit: u32,
}

#[derive(Debug, Args)]
struct TailArgs {
    #[command(flatten)]
    place: PlaceArgs,
    #[command(flatten)]
    filter: FilterArgs,
    /// Go on with what is added, until interrupted
    #[arg(short = 'f', long)]
    follow: bool,
    /// Begin with the last N records
    #[arg(short = 'n', long = "lines", value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    lines: u32,
}

/// Runs the command.
pub fn run(args: AuditArgs, json: bool) -> Result<Answer, Failure> {
    match args.command {
        AuditCommand::Verify(args) => verify::run(&places(args.place)?, args.head.as_deref()),
        AuditCommand::Show(args) => records::show(&places(args.place)?, args.filter, args.limit, "--limit"),
        AuditCommand::Tail(args) if args.follow => {
            if json {
                let message = "tail -f never ends and --json prints exactly one object; leave one of them out";
                return Err(Failure::usage(message));
            }
            records::follow(&places(args.place)?, args.filter, args.lines)
        }
        AuditCommand::Tail(args) => records::show(&places(args.place)?, args.filter, args.lines, "-n"),
    }
}

/// A folder of segments, or one of its segments.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    folder: PathBuf,
    segment: Option<String>,
}

impl Place {
    fn of(path: &Path) -> Result<Self, Failure> {
        let facts = path.metadata().map_err(|e| {
            let message = format!("{}: {e}; name a folder of audit segments, or one segment", path.display());
            Failure::usage(message)
        })?;
        if facts.is_dir() {
            return Ok(Self { folder: path.to_owned(), segment: None });
        }
        let segment = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Ok(Self { folder: parent.to_owned(), segment: Some(segment) })
    }

    fn shown(&self) -> PathBuf {
        self.segment.as_ref().map_or_else(|| self.folder.clone(), |name| self.folder.join(name))
    }
}

/// What was named; else the folder of the caller's own policy or the usual one, and for root those of the users it ran
/// tasks as.
fn places(args: PlaceArgs) -> Result<Vec<Place>, Failure> {
    if let Some(path) = args.path {
        return Ok(vec![Place::of(&path)?]);
    }
    let own = reading::read(None)?.policy.audit().dir.clone();
    let folder = own.unwrap_or_else(|| Places::of_caller().audit);
    if !folder.is_dir() {
        let message = format!("there is no audit log at {}; name its folder if it lies elsewhere", folder.display());
        return Err(Failure::usage(message));
    }
    let mut places = Vec::new();
    if nix::unistd::getuid().is_root() {
        places = of_users(&folder)?;
    }
    places.insert(0, Place { folder, segment: None });
    Ok(places)
}

/// The `uid-N` folders that root made beneath its own. A link in their place is not followed (T-02).
fn of_users(folder: &Path) -> Result<Vec<Place>, Failure> {
    let unreadable = |e: std::io::Error| Failure::internal(format!("{} could not be listed: {e}", folder.display()));
    let mut found = Vec::new();
    for entry in folder.read_dir().map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let name = entry.file_name();
        let uid =
            name.to_str().and_then(|name| name.strip_prefix("uid-")).is_some_and(|uid| uid.parse::<u32>().is_ok());
        if uid && entry.file_type().map_err(unreadable)?.is_dir() {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found.into_iter().map(|folder| Place { folder, segment: None }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_folders_of_users_are_found_and_no_links() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["uid-65534", "uid-7", "uid-x", "other"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        std::os::unix::fs::symlink("/", dir.path().join("uid-8")).unwrap();
        let found = of_users(dir.path()).unwrap();
        let names: Vec<_> = found.iter().map(|place| place.folder.file_name().unwrap().to_owned()).collect();
        assert_eq!(names, ["uid-65534", "uid-7"]);
    }

    #[test]
    fn what_does_not_exist_is_a_usage_error_and_what_does_is_a_place() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Place::of(&dir.path().join("gone")).is_err());
        assert_eq!(Place::of(dir.path()).unwrap().segment, None);
        let file = dir.path().join("x.jsonl");
        std::fs::write(&file, "").unwrap();
        assert_eq!(Place::of(&file).unwrap().segment.as_deref(), Some("x.jsonl"));
    }
}
