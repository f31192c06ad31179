//! The broker: policy, grants, budgets, approvals and audit for jailed tasks.

pub mod audit;
