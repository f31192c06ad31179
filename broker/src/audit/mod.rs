//! The audit log: what every task asked for, what was decided, and what came of it.
