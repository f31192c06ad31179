
pub mod audit;
