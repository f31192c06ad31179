//! Tests of what `warden_beneath` judges, by calls as a guest makes them.

mod folded_case;
mod other_names;
