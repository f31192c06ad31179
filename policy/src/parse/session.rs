//! `[approval]`, `[audit]` and `[isolation]`: how a task is watched.

use super::Reader;
use crate::capability::{CAPABILITIES, pattern_matches};
use crate::marks::Marks;
use crate::model::{Approval, ApprovalVia, Audit, AuditSink, Durability, Feature, Isolation};
use crate::source::{SourceError, Table, nearest};

impl<'a> Reader<'a> {
    pub(super) fn approval(&self, table: &Table<'a>, marks: &mut Marks) -> Result<Approval, SourceError> {
        const VIA: &[(&str, ApprovalVia)] =
            &[("tty", ApprovalVia::Tty), ("queue", ApprovalVia::Queue), ("deny", ApprovalVia::Deny)];
        let Some(node) = table.node("approval") else {
            return Ok(Approval::default());
        };
        let table = Table::open(self.file, "[approval]", node, &["ask", "via", "timeout"])?;
        let mut ask = Vec::new();
        for (pattern, at) in table.texts("ask")? {
            // A pattern that names nothing would never ask, and nobody would notice (T-10).
            if !CAPABILITIES.iter().any(|capability| pattern_matches(pattern, capability)) {
                let shown: String = pattern.chars().take(80).flat_map(char::escape_debug).collect();
                let message = format!("`{shown}` in `ask` names no capability");
                return Err(table.wrong_at(at, message).suggesting(nearest(pattern, CAPABILITIES)));
            }
            ask.push(pattern.to_owned());
        }
        marks.add_stated("approval", &table, "via");
        marks.add_stated("approval", &table, "timeout");
        Ok(Approval { ask, via: table.choice("via", VIA)?, timeout: table.duration("timeout")? })
    }

    pub(super) fn audit(&self, table: &Table<'a>) -> Result<Audit, SourceError> {
        const DURABILITY: &[(&str, Durability)] = &[("flush", Durability::Flush), ("sync", Durability::Sync)];
        let Some(node) = table.node("audit") else {
            return Ok(Audit::default());
        };
        let table = Table::open(self.file, "[audit]", node, &["dir", "durability", "sink"])?;
        let dir = table.text("dir")?.map(|text| self.path(&table, "dir", text)).transpose()?;
        let sink = match table.text("sink")? {
            None => None,
            Some("journald") => Some(AuditSink::Journald),
            Some(text) => {
                let number = text.strip_prefix("fd:").and_then(|digits| digits.parse::<u32>().ok());
                // Standard input, output and error are the caller's own.
                let number = number.filter(|number| *number > 2);
                let message = "`sink` is \"journald\" or an inherited descriptor such as \"fd:5\"";
                Some(AuditSink::Descriptor(number.ok_or_else(|| table.wrong("sink", message))?))
            }
        };
        Ok(Audit { dir, durability: table.choice("durability", DURABILITY)?, sink })
    }

    pub(super) fn isolation(&self, table: &Table<'a>) -> Result<Isolation, SourceError> {
        const FEATURE: &[(&str, Feature)] =
            &[("auto", Feature::Auto), ("require", Feature::Require), ("off", Feature::Off)];
        let Some(node) = table.node("isolation") else {
            return Ok(Isolation::default());
        };
        let table = Table::open(self.file, "[isolation]", node, &["namespaces", "cgroups", "allow_root"])?;
        Ok(Isolation {
            namespaces: table.choice("namespaces", FEATURE)?,
            cgroups: table.choice("cgroups", FEATURE)?,
            allow_root: table.flag("allow_root")?,
        })
    }
}
