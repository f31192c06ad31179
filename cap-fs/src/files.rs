//! What the helper holds for its task, and the table of what it does for which call.
//!
//! Runs in cap-fs, locked. The operations lie in `ops_*.rs` and `check.rs`, by kind.

use crate::handles::Handles;
use crate::ops_list::Listing;
use warden_beneath::bounds::GrowthBound;
use warden_beneath::errors::OpError;
use warden_beneath::links::DeniedInodes;
use warden_beneath::pulse::Pulse;
use warden_beneath::world::World;
use warden_proto::msg::fs::{FsCall, FsOrder, FsReply};

/// The state of the helper.
#[derive(Debug)]
pub struct Files {
    pub(crate) world: World,
    pub(crate) handles: Handles,
    pub(crate) links: DeniedInodes,
    pub(crate) listing: Option<Listing>,
    pub(crate) growth: GrowthBound,
}

/// An operation's answer; file content is sent apart from the reply where it is long.
#[derive(Debug, PartialEq, Eq)]
pub enum Done {
    /// The reply.
    Reply(FsReply),
    /// Bytes for an `FsReply::Content`.
    Content {
        /// The bytes.
        bytes: Vec<u8>,
        /// Whether the file goes on after them.
        truncated: bool,
    },
}

impl Files {
    /// Begins, by finding out which files are denied under other names.
    pub fn new(world: World) -> Self {
        let links = DeniedInodes::collect(&world);
        let growth = GrowthBound { left_bytes: 0, rule: world.growth_rule.clone() };
        Self { world, handles: Handles::default(), links, listing: None, growth }
    }

    /// Does what an order asks. `contents` are the bytes that a `WriteFile` named.
    pub fn perform(&mut self, order: FsOrder, contents: &[u8], pulse: &mut dyn Pulse) -> Result<Done, OpError> {
        self.growth.left_bytes = order.growth_max;
        let reply = match order.call {
            FsCall::ReadFile { target, offset, max_bytes } => return self.read_file(&target, offset, max_bytes, pulse),
            FsCall::OpenDir { target } => self.open_dir(&target),
            FsCall::EnsureDir { target } => self.ensure_dir(&target),
            FsCall::RemoveDir { target, recursive: false } => self.remove_dir(&target),
            FsCall::RemoveDir { target, recursive: true } => self.remove_tree(&target, pulse),
            FsCall::RemoveFile { target } => self.remove_file(&target),
            FsCall::Rename { target, to } => self.rename(&target, &to, pulse),
            FsCall::ListDir { target, after } => self.list_dir(&target, after, pulse),
            FsCall::Metadata { target } => self.metadata(&target),
            FsCall::OpenFile { target, flags } => self.open_file(&target, flags),
            FsCall::WriteFile { target, append, parents, contents: _ } => {
                self.write_file(&target, contents, append, parents)
            }
            FsCall::Read { file, max_bytes } => self.read(file, max_bytes),
            FsCall::Write { file, bytes } => self.write(file, &bytes),
            FsCall::SetLen { file, len } => self.set_len(file, len),
            FsCall::Flush { file } => self.flush(file),
            FsCall::Close { handle } => self.close(handle, pulse),
            FsCall::Check { target, check } => self.check(&target, &check, pulse),
        };
        reply.map(Done::Reply)
    }
}
