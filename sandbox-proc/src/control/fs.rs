//! `osagent:fs/fs`.

#![forbid(unsafe_code)]

use super::bindings::osagent::fs::fs::{self, DirEntry, EntryMetadata, FileOpenOptions};
use super::{closed, text, wrong_reply};
use crate::worker::call::{Fault, Halt};
use crate::worker::guest::Guest;
use warden_proto::Bytes;
use warden_proto::limits::INLINE_MAX_BYTES;
use warden_proto::msg::error::ErrorCode;
use warden_proto::msg::fs::{Entry, EntryKind, FsCall, FsReply, GuestTarget, OpenFlags};
use warden_proto::msg::worker::Origin;
use wasmtime::component::Resource;

/// Bytes that one `read` gives at most; a shorter answer than asked for is no end of file.
const READ_MAX_BYTES: u64 = 16 << 20;

/// An open directory.
#[derive(Debug)]
pub struct Dir {
    handle: Option<u32>,
    /// The workspace's root, in which a path may begin with the label of any of the task's workspaces, as in actions.
    root: bool,
}

/// An open regular file.
#[derive(Debug)]
pub struct File {
    handle: Option<u32>,
}

type DirResource = Resource<Dir>;
type FileResource = Resource<File>;

impl Guest {
    fn files(&mut self, call: FsCall<GuestTarget>) -> Result<FsReply, Fault> {
        self.link.fs(Origin::Import, call)
    }

    fn files_done(&mut self, call: FsCall<GuestTarget>) -> Result<(), Fault> {
        match self.files(call)? {
            FsReply::Done => Ok(()),
            _ => Err(wrong_reply()),
        }
    }

    fn target(&self, parent: &DirResource, path: String) -> Result<GuestTarget, Fault> {
        let dir = self.table.get(parent)?;
        let handle = dir.handle.ok_or_else(|| closed("directory"))?;
        let path = text("a path", path)?;
        Ok(if dir.root { GuestTarget::Path { path } } else { GuestTarget::At { dir: handle, path } })
    }

    fn file(&self, file: &FileResource) -> Result<u32, Fault> {
        self.table.get(file)?.handle.ok_or_else(|| closed("file"))
    }

    fn open_handle(&mut self, call: FsCall<GuestTarget>) -> Result<u32, Fault> {
        match self.files(call)? {
            FsReply::Opened { handle, .. } => Ok(handle),
            _ => Err(wrong_reply()),
        }
    }

    /// Ends a handle at the broker. That it is gone already is no error: a guest's close has no answer.
    fn close_handle(&mut self, handle: Option<u32>) -> wasmtime::Result<()> {
        let Some(handle) = handle else { return Ok(()) };
        match self.files(FsCall::Close { handle }) {
            Err(Fault::Halt(halt)) => Err(halt.into()),
            Ok(_) | Err(Fault::Answer(_)) => Ok(()),
        }
    }

    fn read_up_to(&mut self, file: u32, max_bytes: u64) -> Result<Vec<u8>, Fault> {
        let mut all = Vec::new();
        loop {
            let left = max_bytes.saturating_sub(u64::try_from(all.len()).unwrap_or(u64::MAX));
            let part = u32::try_from(left).unwrap_or(u32::MAX).min(u32::try_from(INLINE_MAX_BYTES).unwrap_or(u32::MAX));
            if part == 0 {
                return Ok(all);
            }
            match self.files(FsCall::Read { file, max_bytes: part })? {
                FsReply::Data { bytes } if bytes.is_empty() => return Ok(all),
                FsReply::Data { bytes } => all.extend_from_slice(&bytes),
                _ => return Err(wrong_reply()),
            }
        }
    }

    fn write_all(&mut self, file: u32, bytes: &[u8]) -> Result<u64, Fault> {
        let mut done: u64 = 0;
        for chunk in bytes.chunks(INLINE_MAX_BYTES) {
            let chunk = Bytes::new(chunk).map_err(|e| Halt::Broken(e.to_string()))?;
            match self.files(FsCall::Write { file, bytes: chunk }) {
                Ok(FsReply::Written { bytes, .. }) => done = done.saturating_add(bytes),
                Ok(_) => return Err(wrong_reply()),
                // What is written is written: the next write meets the reason again.
                Err(Fault::Answer(_)) if done > 0 => return Ok(done),
                Err(fault) => return Err(fault),
            }
        }
        Ok(done)
    }
}

impl fs::HostDirHandle for Guest {
    fn close(&mut self, dir: DirResource) -> wasmtime::Result<()> {
        let handle = self.table.get_mut(&dir)?.handle.take();
        self.close_handle(handle)
    }

    fn drop(&mut self, dir: DirResource) -> wasmtime::Result<()> {
        let dir = self.table.delete(dir)?;
        self.close_handle(dir.handle)
    }
}

impl fs::HostFileHandle for Guest {
    fn read(&mut self, file: FileResource, max_bytes: u64) -> Result<Vec<u8>, Fault> {
        let file = self.file(&file)?;
        self.read_up_to(file, max_bytes.min(READ_MAX_BYTES))
    }

    fn read_to_string(&mut self, file: FileResource, max_bytes: u64) -> Result<String, Fault> {
        let file = self.file(&file)?;
        let bytes = self.read_up_to(file, max_bytes.min(READ_MAX_BYTES))?;
        String::from_utf8(bytes)
            .map_err(|_| Fault::answer(ErrorCode::InvalidArgument, "the file is not UTF-8 text: use read"))
    }

    fn write(&mut self, file: FileResource, bytes: Vec<u8>) -> Result<u64, Fault> {
        let file = self.file(&file)?;
        self.write_all(file, &bytes)
    }

    fn write_string(&mut self, file: FileResource, contents: String, newline: bool) -> Result<u64, Fault> {
        let file = self.file(&file)?;
        let mut bytes = contents.into_bytes();
        if newline {
            bytes.push(b'\n');
        }
        self.write_all(file, &bytes)
    }

    fn set_len(&mut self, file: FileResource, len: u64) -> Result<(), Fault> {
        let file = self.file(&file)?;
        self.files_done(FsCall::SetLen { file, len })
    }

    fn flush(&mut self, file: FileResource) -> Result<(), Fault> {
        let file = self.file(&file)?;
        self.files_done(FsCall::Flush { file })
    }

    fn close(&mut self, file: FileResource) -> wasmtime::Result<()> {
        let handle = self.table.get_mut(&file)?.handle.take();
        self.close_handle(handle)
    }

    fn drop(&mut self, file: FileResource) -> wasmtime::Result<()> {
        let file = self.table.delete(file)?;
        self.close_handle(file.handle)
    }
}

impl fs::Host for Guest {
    fn open_workspace(&mut self) -> Result<DirResource, Fault> {
        let target = GuestTarget::Path { path: text("a path", String::new())? };
        let handle = self.open_handle(FsCall::OpenDir { target })?;
        Ok(self.table.push(Dir { handle: Some(handle), root: true })?)
    }

    fn open_dir(&mut self, parent: DirResource, path: String) -> Result<DirResource, Fault> {
        let target = self.target(&parent, path)?;
        let handle = self.open_handle(FsCall::OpenDir { target })?;
        Ok(self.table.push(Dir { handle: Some(handle), root: false })?)
    }

    fn ensure_dir(&mut self, parent: DirResource, path: String) -> Result<DirResource, Fault> {
        let target = self.target(&parent, path)?;
        self.files_done(FsCall::EnsureDir { target: target.clone() })?;
        let handle = self.open_handle(FsCall::OpenDir { target })?;
        Ok(self.table.push(Dir { handle: Some(handle), root: false })?)
    }

    fn remove_dir(&mut self, parent: DirResource, path: String, recursive: bool) -> Result<(), Fault> {
        let target = self.target(&parent, path)?;
        self.files_done(FsCall::RemoveDir { target, recursive })
    }

    fn remove_file(&mut self, parent: DirResource, path: String) -> Result<(), Fault> {
        let target = self.target(&parent, path)?;
        self.files_done(FsCall::RemoveFile { target })
    }

    fn rename(&mut self, parent: DirResource, old: String, new: String) -> Result<(), Fault> {
        let target = self.target(&parent, old)?;
        let to = self.target(&parent, new)?;
        self.files_done(FsCall::Rename { target, to })
    }

    fn list_dir(&mut self, dir: DirResource) -> Result<Vec<DirEntry>, Fault> {
        let target = self.target(&dir, String::new())?;
        let mut all = Vec::new();
        let mut after = 0;
        loop {
            match self.files(FsCall::ListDir { target: target.clone(), after })? {
                FsReply::Entries { entries, next, .. } => {
                    all.extend(entries.into_vec().into_iter().map(dir_entry));
                    match next {
                        0 => return Ok(all),
                        next if next > after => after = next,
                        _ => return Err(wrong_reply()),
                    }
                }
                _ => return Err(wrong_reply()),
            }
        }
    }

    fn metadata(&mut self, parent: DirResource, path: Option<String>) -> Result<EntryMetadata, Fault> {
        let target = self.target(&parent, path.unwrap_or_default())?;
        match self.files(FsCall::Metadata { target })? {
            FsReply::Metadata { entry } => Ok(metadata(entry)),
            _ => Err(wrong_reply()),
        }
    }

    fn open_file(
        &mut self,
        parent: DirResource,
        path: String,
        options: FileOpenOptions,
    ) -> Result<FileResource, Fault> {
        let target = self.target(&parent, path)?;
        let FileOpenOptions { read, write, append, create, truncate } = options;
        let flags = OpenFlags { read, write, append, create, truncate, exclusive: false };
        let handle = self.open_handle(FsCall::OpenFile { target, flags })?;
        Ok(self.table.push(File { handle: Some(handle) })?)
    }
}

fn kind(kind: EntryKind) -> fs::EntryKind {
    match kind {
        EntryKind::File => fs::EntryKind::File,
        EntryKind::Directory => fs::EntryKind::Directory,
        EntryKind::Symlink => fs::EntryKind::Symlink,
        EntryKind::Other => fs::EntryKind::Other,
    }
}

fn dir_entry(entry: Entry) -> DirEntry {
    let Entry { name, kind: what, size_bytes, modified_ms, .. } = entry;
    DirEntry { name: name.into_string(), kind: kind(what), size_bytes, modified_ms }
}

fn metadata(entry: Entry) -> EntryMetadata {
    let Entry { name, kind: what, size_bytes, modified_ms, readonly } = entry;
    EntryMetadata { name: name.into_string(), kind: kind(what), size_bytes, modified_ms, readonly }
}
