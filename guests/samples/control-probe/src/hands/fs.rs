//! `osagent:fs`, call by call.

use super::{Hands, Held, Outcome, bytes};
use crate::component::osagent::fs::fs::{self, EntryKind, FileOpenOptions};
use crate::script::FsOp;
use serde_json::{Value, json};

pub fn run(hands: &mut Hands, op: FsOp) -> Result<Value, Outcome> {
    Ok(match op {
        FsOp::OpenWorkspace { name } => hands.hold(&name, Held::Dir(fs::open_workspace()?)),
        FsOp::OpenDir { dir, path, name } => {
            let opened = fs::open_dir(hands.dir(&dir)?, &path)?;
            hands.hold(&name, Held::Dir(opened))
        }
        FsOp::EnsureDir { dir, path, name } => {
            let opened = fs::ensure_dir(hands.dir(&dir)?, &path)?;
            hands.hold(&name, Held::Dir(opened))
        }
        FsOp::OpenFile { dir, path, options, name } => {
            let options = FileOpenOptions {
                read: options.read,
                write: options.write,
                append: options.append,
                create: options.create,
                truncate: options.truncate,
            };
            let opened = fs::open_file(hands.dir(&dir)?, &path, options)?;
            hands.hold(&name, Held::File(opened))
        }
        FsOp::RemoveDir { dir, path, recursive } => done(fs::remove_dir(hands.dir(&dir)?, &path, recursive)?),
        FsOp::RemoveFile { dir, path } => done(fs::remove_file(hands.dir(&dir)?, &path)?),
        FsOp::Rename { dir, from, to } => done(fs::rename(hands.dir(&dir)?, &from, &to)?),
        FsOp::List { dir } => fs::list_dir(hands.dir(&dir)?)?
            .into_iter()
            .map(|entry| json!({"name": entry.name, "kind": kind(entry.kind), "size_bytes": entry.size_bytes, "modified_ms": entry.modified_ms}))
            .collect(),
        FsOp::Metadata { dir, path } => {
            let entry = fs::metadata(hands.dir(&dir)?, path.as_deref())?;
            json!({"name": entry.name, "kind": kind(entry.kind), "size_bytes": entry.size_bytes, "modified_ms": entry.modified_ms,
                "readonly": entry.readonly})
        }
        file_op => on_file(hands, file_op)?,
    })
}

fn on_file(hands: &Hands, op: FsOp) -> Result<Value, Outcome> {
    Ok(match op {
        FsOp::Read { file, max_bytes, discard } => bytes(hands.file(&file)?.read(max_bytes)?, discard),
        FsOp::ReadString { file, max_bytes } => json!(hands.file(&file)?.read_to_string(max_bytes)?),
        FsOp::Write { file, bytes } => {
            let bytes = bytes.into_vec().ok_or_else(|| "no hex".to_owned())?;
            json!(hands.file(&file)?.write(&bytes)?)
        }
        FsOp::WriteString { file, text, newline } => json!(hands.file(&file)?.write_string(&text, newline)?),
        FsOp::SetLen { file, len } => done(hands.file(&file)?.set_len(len)?),
        FsOp::Flush { file } => done(hands.file(&file)?.flush()?),
        FsOp::CloseFile { file } => {
            hands.file(&file)?.close();
            Value::Null
        }
        FsOp::CloseDir { dir } => {
            hands.dir(&dir)?.close();
            Value::Null
        }
        other => return Err(Outcome::Script(format!("no operation on a file: {other:?}"))),
    })
}

fn done((): ()) -> Value {
    Value::Null
}

fn kind(kind: EntryKind) -> &'static str {
    match kind {
        EntryKind::File => "file",
        EntryKind::Directory => "directory",
        EntryKind::Symlink => "symlink",
        EntryKind::Other => "other",
    }
}
