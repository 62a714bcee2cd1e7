//! placeholder
use super::Family;
use crate::demo::{DemoOptions, Environment};
pub(super) async fn set_up(_: DemoOptions, _: Family) -> anyhow::Result<Environment> {
    anyhow::bail!("x")
}
